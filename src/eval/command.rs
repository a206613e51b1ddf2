//! A command that grades answers.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::never;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result, system};

/// How long a command may take unless the task says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait before looking again whether the command has ended: at first, and at most. Waiting for its end without a limit of
/// time is all that the standard library offers.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A program with its arguments, and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct GradingCommand {
    pub(super) line: Vec<String>,
    pub(super) timeout: Duration,
}

impl GradingCommand {
    /// Whether the command, which gets the answer on stdin, ends with status 0. Blocks until it has ended, for `timeout` at most.
    pub(super) fn run(&self, answer: &str) -> Result<bool> {
        let (program, arguments) = self.line.split_first().ok_or_else(|| self.failed("is empty"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.not_started(error))?;
        let outcome = feed(&mut child, answer)
            .map_err(|error| self.not_started(error))
            .and_then(|()| wait(&mut child, self.timeout).map_err(|error| self.not_started(error)));
        match outcome {
            Ok(Some(status)) => match status.code() {
                Some(code) => Ok(code == 0),
                None => Err(self.failed(&format!("was ended by a signal ({status})"))),
            },
            outcome => {
                // Nothing is known of a child that can be neither killed nor waited for.
                child.kill().and_then(|()| child.wait()).ok();
                Err(outcome.err().unwrap_or_else(|| {
                    self.failed(&format!("has not ended within {:?}", self.timeout))
                        .with_hint("set a longer \"timeout\", in seconds, or make the command stop by itself")
                }))
            }
        }
    }

    fn failed(&self, why: &str) -> Error {
        Error::new(ErrorKind::Callback, format!("the command {:?} that grades answers {why}", self.line.join(" ")))
    }

    fn not_started(&self, error: std::io::Error) -> Error {
        let message = format!("the command {:?} that grades answers cannot be run: {error}", self.line.join(" "));
        let hint = system::start_hint(&error).unwrap_or("check its name and path, and that it is installed");
        Error::new(ErrorKind::Io, message).with_hint(hint).with_source(error)
    }
}

/// Has a thread write the answer to the command, which need not read it. The thread ends when all is read, or no process can read any
/// more: at the latest with the command and those that it has started.
fn feed(child: &mut Child, answer: &str) -> std::io::Result<()> {
    let (stdin, answer) = (child.stdin.take(), answer.as_bytes().to_vec());
    let write = move || {
        // A command that does not read has its own reasons, and its status says what it thinks of the answer.
        stdin.map(|mut stdin| stdin.write_all(&answer).ok());
    };
    thread::Builder::new().name("tinkex-grader".to_owned()).spawn(write).map(drop)
}

/// Waits for the end of a command. `None` if it has not ended in time.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let clock = Clock::system();
    let until = clock.now() + timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        // Looked at before the time, so that one that ended in the last pause has ended in time.
        let ended = child.try_wait()?;
        let now = clock.now();
        if ended.is_some() || now >= until {
            return Ok(ended);
        }
        clock.receive_until(&never::<()>(), Some((now + pause).min(until)));
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn run(line: &[&str], timeout: Duration, answer: &str) -> Result<bool> {
        GradingCommand { line: line.iter().map(|&word| word.to_owned()).collect(), timeout }.run(answer)
    }

    fn shell(script: &str, answer: &str) -> Result<bool> {
        run(&["sh", "-c", script], TIMEOUT, answer)
    }

    #[test]
    fn the_status_is_the_grade() {
        for (script, passed) in [("grep -q '^4$'", true), ("grep -q 5", false), ("true", true), ("exit 7", false)] {
            assert_eq!(shell(script, "4\n").unwrap(), passed, "{script}");
        }
    }

    #[test]
    fn an_answer_may_stay_unread() {
        // More than a pipe holds.
        let long = "x".repeat(1 << 20);
        assert!(shell("true", &long).unwrap());
        assert!(shell("exec <&-; true", &long).unwrap());
        assert!(shell("[ $(wc -c) = 1048576 ]", &long).unwrap());
    }

    #[test]
    fn what_it_prints_is_not_seen() {
        assert!(shell("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2", "").unwrap());
    }

    #[test]
    fn a_late_command_is_killed() {
        let error = run(&["sleep", "1000"], Duration::from_millis(20), "x").unwrap_err();
        assert_eq!(error.message(), "the command \"sleep 1000\" that grades answers has not ended within 20ms");
        assert!(error.hint().unwrap().contains("timeout"));
        // One that waits for more input than there is, too.
        assert!(run(&["sh", "-c", "kill -STOP $$"], Duration::from_millis(20), "x").is_err());
    }

    #[test]
    fn commands_that_cannot_judge_are_errors() {
        let error = run(&["/no/such/grader", "x"], TIMEOUT, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("\"/no/such/grader x\" that grades answers cannot be run"), "{error}");
        let error = shell("kill -KILL $$", "").unwrap_err();
        assert!(error.message().contains("was ended by a signal"), "{error}");
    }
}
