//! A program at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program with a terminal as stdin and stderr, and a pipe or the terminal as stdout.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// With a pipe as stdout.
    pub fn start(command: Command) -> Self {
        Terminal::open(command, 100, true)
    }

    /// With a terminal of this many columns, also as stdout.
    pub fn with_columns(command: Command, columns: u16) -> Self {
        Terminal::open(command, columns, false)
    }

    fn open(mut command: Command, columns: u16, stdout_is_piped: bool) -> Self {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        // Children of other tests must not inherit the terminal, which would keep its screen open.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        command.env("TERM", "xterm").stdin(pty.slave.try_clone().unwrap());
        let stdout = if stdout_is_piped { Stdio::piped() } else { pty.slave.try_clone().unwrap().into() };
        command.stdout(stdout).stderr(pty.slave);
        let child = command.spawn().unwrap();
        // The command owns the slave's ends, which would keep the screen open.
        drop(command);
        let keyboard = File::from(pty.master.try_clone().unwrap());
        let (sender, screen) = channel();
        thread::spawn(move || read_all(pty.master, |bytes| drop(sender.send(bytes))));
        Terminal { child, keyboard, screen, shown: String::new() }
    }

    pub fn until_shown(&mut self, expected: &str) {
        while !self.shown.contains(expected) {
            let bytes = self.screen.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("{expected:?} is not shown, but {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    pub fn types(&mut self, line: &str) {
        self.keyboard.write_all(line.as_bytes()).unwrap();
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// The exit code, stdout if it is a pipe, and all that was shown.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        let code = self.child.wait().unwrap().code();
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        (code, stdout, self.shown)
    }
}

/// Reads until the last slave is closed, which Linux reports as an error.
fn read_all(master: OwnedFd, mut each: impl FnMut(Vec<u8>)) {
    let (mut master, mut bytes) = (File::from(master), [0; 4096]);
    while let Ok(read @ 1..) = master.read(&mut bytes) {
        each(bytes[..read].to_vec());
    }
}
