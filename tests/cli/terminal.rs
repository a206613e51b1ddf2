//! What only a person at a terminal sees: progress, questions, colours.

use std::sync::Arc;

use serde_json::json;

use crate::download::{self, Folder};
use crate::program::{Program, tinkex};
use crate::pty::Terminal;
use crate::support::{Gate, Reply, Service};

fn at_terminal(program: Program) -> Terminal {
    Terminal::start(program.command)
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
    terminal.interrupt();
    let (code, stdout, _) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
}

#[test]
fn ctrl_c_ends_a_download_and_leaves_nothing() {
    let (service, folder) = (download::endless(), Folder::new("interrupted"));
    let mut program = tinkex("checkpoint download tinker://run/weights/a -o here").at(&service.url());
    program.command.current_dir(&folder.0);
    let mut terminal = at_terminal(program);
    terminal.until_shown("1.00 KiB/4.00 KiB");
    terminal.interrupt();
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
    assert!(shown.contains("the download was interrupted; nothing of it is left"), "{shown:?}");
    assert!(folder.names().is_empty(), "{:?}", folder.names());
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
