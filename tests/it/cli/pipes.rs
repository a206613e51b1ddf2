//! A reader that closes the pipe is not an error.
#![cfg(unix)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use httpmock::Method::{DELETE, GET};
use httpmock::{Mock, MockServer};
use serde_json::json;

use super::program::{Program, read_to_end, tinkex};
use crate::support::mock::{anything, respond};

/// Runs it with a stdout that is already closed. Returns the exit code and stderr.
fn with_closed_stdout(mut program: Program) -> (Option<i32>, String) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    program.command.stdout(OwnedFd::from(theirs)).stderr(Stdio::piped());
    let mut child = program.command.spawn().unwrap();
    let stderr = read_to_end(child.stderr.take().unwrap());
    (child.wait().unwrap().code(), stderr)
}

#[test]
fn a_closed_pipe_is_success_for_every_output() {
    let server = MockServer::start();
    let list = respond(&server, GET, "sessions?limit=20&offset=0", |then| then.json_body(json!({ "sessions": ["a"] })));
    for words in
        ["--help", "--version", "version", "completions bash", "man", "session list", "session list -f json", "serve"]
    {
        assert_eq!(with_closed_stdout(tinkex(words).at(&server.base_url())), (Some(0), String::new()), "{words}");
    }
    list.assert_calls(2);
}

#[test]
fn a_closed_pipe_does_not_stop_deletions() {
    let server = MockServer::start();
    let deletions = ["a", "b", "c"].map(|id| {
        respond(&server, DELETE, &format!("training_runs/r/checkpoints/weights/{id}"), |then| then.status(204))
    });
    let others = anything(&server);
    let words = "checkpoint delete --yes tinker://r/weights/a tinker://r/weights/b tinker://r/weights/c";
    assert_eq!(with_closed_stdout(tinkex(words).at(&server.base_url())), (Some(0), String::new()));
    deletions.iter().for_each(Mock::assert);
    others.assert_calls(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let mut program = tinkex("version");
    program.command.stdout(std::fs::File::create("/dev/full").unwrap()).stderr(Stdio::piped());
    let output = program.command.spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: cannot write to stdout: "), "{stderr}");
}
