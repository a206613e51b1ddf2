//! What only a person at a terminal sees: progress, questions, colours.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::program::{Program, read_to_end, tinkex};
use crate::support::{Gate, Reply, Service};

const PATIENCE: Duration = Duration::from_secs(30);

/// The program with a terminal as stdin and stderr, and a pipe as stdout.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

fn at_terminal(mut program: Program) -> Terminal {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    program
        .command
        .env("TERM", "xterm")
        .stdin(pty.slave.try_clone().unwrap())
        .stderr(pty.slave)
        .stdout(std::process::Stdio::piped());
    let child = program.command.spawn().unwrap();
    // The command holds the slave's ends, which would keep the screen open.
    drop(program);
    let keyboard = File::from(pty.master.try_clone().unwrap());
    let (sender, screen) = channel();
    thread::spawn(move || read_all(pty.master, |bytes| drop(sender.send(bytes))));
    Terminal { child, keyboard, screen, shown: String::new() }
}

/// Reads until the last slave is closed, which Linux tells as an error.
fn read_all(master: OwnedFd, mut each: impl FnMut(Vec<u8>)) {
    let (mut master, mut bytes) = (File::from(master), [0; 4096]);
    while let Ok(read @ 1..) = master.read(&mut bytes) {
        each(bytes[..read].to_vec());
    }
}

impl Terminal {
    fn until_shown(&mut self, expected: &str) {
        while !self.shown.contains(expected) {
            let bytes = self.screen.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("{expected:?} is not shown, but {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn types(&mut self, line: &str) {
        self.keyboard.write_all(line.as_bytes()).unwrap();
    }

    /// The exit code, stdout, and all that was shown.
    fn end(mut self) -> (Option<i32>, String, String) {
        let stdout = read_to_end(self.child.stdout.take().unwrap());
        let code = self.child.wait().unwrap().code();
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        (code, stdout, self.shown)
    }
}

#[test]
fn delete_asks_first_and_goes_by_the_answer() {
    for (answer, deletes) in [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("\u{4}", false)] {
        let service = Service::start(|_| Reply::Full { status: 204, headers: Vec::new(), body: Vec::new() });
        let delete = tinkex("checkpoint delete tinker://run/weights/a tinker://run/weights/b");
        let mut terminal = at_terminal(delete.at(&service.url()));
        terminal.until_shown("Delete these 2 checkpoints for good? [y/N]: ");
        assert!(service.seen().is_empty());
        terminal.types(answer);
        let (code, stdout, shown) = terminal.end();
        assert!(shown.contains("tinker://run/weights/a\r\ntinker://run/weights/b\r\n"), "{shown:?}");
        if deletes {
            assert_eq!((code, service.seen().len()), (Some(0), 2), "{answer:?}");
            assert_eq!(stdout, "deleted tinker://run/weights/a\ndeleted tinker://run/weights/b\n");
        } else {
            assert_eq!((code, service.seen().len(), stdout.as_str()), (Some(1), 0, ""), "{answer:?}");
            assert!(shown.contains("nothing was deleted"), "{shown:?}");
        }
    }
}

/// A list of 150 sessions, whose second page comes when the gate is open.
fn slow_list(gate: &Arc<Gate>) -> Service {
    let gate = Arc::clone(gate);
    Service::start(move |seen| {
        let offset = if seen.path.contains("offset=100") { 100 } else { 0 };
        let page: Vec<_> = (offset..150).take(100).map(|number| format!("session-{number}")).collect();
        let page = Reply::ok(json!({ "sessions": page }));
        if offset == 0 { page } else { Reply::held(&gate, page) }
    })
}

#[test]
fn a_long_list_shows_how_far_it_is_and_clears_that_at_the_end() {
    let gate = Arc::<Gate>::default();
    let service = slow_list(&gate);
    let mut terminal = at_terminal(tinkex("session list --limit 0 -f json").at(&service.url()));
    terminal.until_shown("100/");
    gate.open();
    let (code, stdout, shown) = terminal.end();
    assert_eq!(code, Some(0));
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["sessions"].as_array().unwrap().len(), 150);
    // Back to the line's begin, and the line cleared.
    assert!(shown.trim_end_matches('\r').ends_with("\u{1b}[2K"), "{shown:?}");
}

#[test]
fn ctrl_c_ends_a_command_that_waits() {
    let gate = Arc::<Gate>::default();
    let service = slow_list(&gate);
    let mut terminal = at_terminal(tinkex("session list --limit 0").at(&service.url()));
    terminal.until_shown("100/");
    kill(Pid::from_raw(terminal.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let (code, stdout, _) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
}

#[test]
fn errors_are_coloured_on_a_terminal_unless_no_color_is_set() {
    for (name, is_coloured) in [("COLOUR", true), ("NO_COLOR", false)] {
        let list = || tinkex("run list").without_env("TINKER_API_KEY").env(name, "1");
        let (code, _, shown) = at_terminal(list()).end();
        assert_eq!(code, Some(2));
        assert_eq!(shown.contains("\u{1b}["), is_coloured, "{shown:?}");
        assert!(!list().run().stderr.contains('\u{1b}'), "no terminal, no colours");
        let (_, _, shown) = at_terminal(tinkex("nope").env(name, "1")).end();
        assert_eq!(shown.contains("\u{1b}["), is_coloured, "{shown:?}");
    }
}
