//! Runs the command that prints a credential.

use std::io::Read as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::clock::{Deadline, Monitor};
use crate::config::{Secret, checked_key};
use crate::error::{Error, ErrorKind, Result, system};
use crate::threads::{OwnedThread, ThreadOptions};

/// How long the command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The most that the command may print, in bytes. Keys and tokens are much shorter.
const MAX_OUTPUT: u64 = 64 * 1024;

const HINT: &str =
    "run the command in TINKER_CREDENTIAL_CMD in a shell; it must print the key or token, and nothing else";

/// Runs the command in the system's shell, and returns what it prints, without the white space around it. It reads nothing; what it
/// writes to stderr is the program's. Blocks until it has ended, for 60 s at most, until the deadline, or until `check` fails with
/// the value of the monitor, which is notified of a change.
pub(super) fn run(
    command: &Secret,
    options: &ThreadOptions,
    deadline: Option<Deadline>,
    monitor: &Arc<Monitor<bool>>,
    check: impl Fn(bool) -> Result<()>,
) -> Result<Secret> {
    let failed = |why: String| Error::config(format!("the command that prints the credential {why}")).with_hint(HINT);
    let io_failed = |error| {
        let hint = system::start_hint(&error).unwrap_or(HINT);
        let failed = Error::new(ErrorKind::Io, "the command that prints the credential cannot be run");
        failed.with_hint(hint).with_source(error)
    };
    let (shell, argument) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut child = Command::new(shell)
        .args([argument, command.expose()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io_failed)?;
    let mut stdout = child.stdout.take();
    let child = Arc::new(Mutex::new(child));
    let (send, ended) = bounded(1);
    let (reading, notified) = (Arc::clone(&child), Arc::clone(monitor));
    let _thread = OwnedThread::spawn(options, "credential", move || {
        let mut output = Vec::new();
        let read = stdout.take().map_or(Ok(0), |stdout| stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output));
        send.send(read.and_then(|_| Ok((output, end(&reading)?)))).ok();
        notified.wake_all();
    })?;
    let clock = &options.clock;
    let limit = clock.now() + TIMEOUT;
    let until = deadline.map_or(limit, |deadline| deadline.at.min(limit));
    let mut state = monitor.lock();
    let outcome = loop {
        if let Ok(outcome) = ended.try_recv() {
            break Ok(outcome);
        }
        if let Err(error) = check(*state) {
            break Err(error);
        }
        if clock.wait_until(monitor, &mut state, Some(until)) {
            break Err(match deadline.filter(|deadline| deadline.at <= limit) {
                Some(deadline) => Error::timeout(deadline.limit).with_hint(HINT),
                None => failed(format!("has not ended within {TIMEOUT:?}")),
            });
        }
    };
    drop(state);
    let (output, status) = outcome
        .inspect_err(|_| {
            // If the thread waits for its end, the command has closed its output, and is left alone.
            if let Some(mut child) = child.try_lock() {
                child.kill().ok();
            }
        })?
        .map_err(io_failed)?;
    if output.len() as u64 > MAX_OUTPUT {
        return Err(failed(format!("printed more than {MAX_OUTPUT} bytes")));
    }
    if !status.success() {
        return Err(failed(format!("failed: {status}")));
    }
    let output = String::from_utf8(output).map_err(|_| failed("printed something that is not text".to_owned()))?;
    if output.trim().is_empty() {
        return Err(failed("printed nothing".to_owned()));
    }
    checked_key(&output, "what the command in TINKER_CREDENTIAL_CMD printed").map_err(|error| error.with_hint(HINT))
}

/// Waits for the end of a command that has closed its output.
fn end(child: &Mutex<Child>) -> std::io::Result<ExitStatus> {
    child.lock().wait()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::error::Limit;

    fn options(clock: Clock) -> ThreadOptions {
        ThreadOptions { clock, stack_size: 256 * 1024, idle_retention: Duration::from_secs(15) }
    }

    fn run_command(command: &str) -> Result<Secret> {
        run(&Secret::new(command), &options(Clock::system()), None, &Monitor::new(false), |_| Ok(()))
    }

    #[test]
    fn the_output_is_the_credential() {
        assert_eq!(run_command("printf ' tml-%s \\n\\n' key").unwrap().expose(), "tml-key");
        assert_eq!(run_command("cat; echo tml-no-input").unwrap().expose(), "tml-no-input");
    }

    #[test]
    fn a_useless_command_is_a_clear_error() {
        for (command, expected) in [
            ("echo tml-hidden; exit 3", "failed: exit status: 3"),
            ("true", "printed nothing"),
            ("echo tml-hidden; echo tml-hidden", "not allowed in an HTTP header"),
            ("printf '\\377'", "not text"),
            ("head -c 70000 /dev/zero", "more than 65536 bytes"),
        ] {
            let error = run_command(command).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expected) && !shown.contains("hidden"), "{shown}");
            assert!(error.hint().unwrap().contains("TINKER_CREDENTIAL_CMD"), "{error}");
        }
    }

    #[test]
    fn a_command_has_a_minute() {
        let manual = ManualClock::new();
        let ten = Duration::from_secs(10);
        for (is_limited, wait, expected) in
            [(false, TIMEOUT, "has not ended within 60s"), (true, ten, "timeout_operation")]
        {
            let deadline = Deadline { at: manual.clock().now() + ten, limit: Limit::Operation };
            let deadline = is_limited.then_some(deadline);
            std::thread::scope(|scope| {
                let running = scope.spawn(|| {
                    let (command, options) = (Secret::new("exec sleep 1000"), options(manual.clock()));
                    run(&command, &options, deadline, &Monitor::new(false), |_| Ok(()))
                });
                manual.until_waiting(|waits| waits == [wait]);
                manual.advance(wait);
                let error = running.join().unwrap().unwrap_err();
                assert!(error.to_string().contains(expected), "{error}");
            });
        }
    }
}
