//! What ends a command early: the exit code, and one line, a hint and the causes on stderr.
//!
//! Errors are text whatever the format: with `--format json`, stdout then has no document, but for the commands that report on
//! several things and say which of them failed.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use anstream::stderr;
use clap::builder::styling::{AnsiColor, Style};
use tinkex::ErrorKind;

use crate::output::one_line;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Yellow.on_default();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The reader of stdout went away.
    ClosedPipe,
    Failed,
    Usage,
    Interrupted,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::ClosedPipe => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Interrupted => INTERRUPTED,
        }
    }
}

/// 128 and the number of SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// None when all has been said.
    message: Option<String>,
    hint: Option<String>,
    causes: Vec<String>,
}

impl Failure {
    fn new(exit: Exit, message: Option<String>) -> Self {
        Failure { exit, message, hint: None, causes: Vec::new() }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Failure::new(Exit::Failed, Some(message.into()))
    }

    /// The operation failed, and its output already says so.
    pub(crate) fn reported() -> Self {
        Failure::new(Exit::Failed, None)
    }

    /// The arguments or settings make no sense, and nothing was done.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, Some(message.into()))
    }

    /// Ended by Ctrl-C or SIGTERM.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Failure::new(Exit::Interrupted, Some(message.into()))
    }

    /// What to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says first what it is about.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = self.message.map(|message| format!("{what}: {message}"));
        self
    }

    /// What to do next, after what an inner layer advises.
    pub(crate) fn and_hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.hint = Some(self.hint.take().map_or(hint.clone(), |first| format!("{first}; {hint}")));
        self
    }

    /// What `-v` shows.
    pub(crate) fn cause(mut self, cause: impl ToString) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Stdout could not be written to.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::ClosedPipe, None),
            _ => Failure::failed(format!("the output could not be written: {error}")),
        }
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(self, verbose: bool) -> ExitCode {
        self.print(verbose);
        self.exit.code().into()
    }

    /// Prints it: `error: MESSAGE`, `hint: HINT` and, where asked for, `cause: CAUSE`. That stderr is closed is nobody's
    /// concern any more.
    pub(crate) fn print(&self, verbose: bool) {
        let mut err = stderr().lock();
        let mut line = |style: Style, name: &str, text: &str| {
            writeln!(err, "{style}{name}:{style:#} {}", one_line(text)).ok();
        };
        if let Some(message) = &self.message {
            line(ERROR, "error", message);
        }
        if let Some(hint) = &self.hint {
            line(HINT, "hint", hint);
        }
        for cause in self.causes.iter().filter(|_| verbose) {
            line(HINT, "cause", cause);
        }
    }

    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// The hint.
    pub(crate) fn what_to_do(&self) -> &str {
        self.hint.as_deref().unwrap_or_default()
    }
}

impl From<tinkex::Error> for Failure {
    /// Without the operation, which is a method's name and says nothing to a user of the program.
    fn from(error: tinkex::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config | ErrorKind::InvalidInput => Exit::Usage,
            _ => Exit::Failed,
        };
        let mut message = error.message().to_owned();
        if let Some(id) = error.request_id() {
            message.push_str(&format!(" (request {id})"));
        }
        if error.may_have_taken_effect() {
            message.push_str("; the request may have taken effect");
        }
        // Without the system's reason, an error of a file says too little to act on.
        let is_io = error.kind() == ErrorKind::Io;
        let reason = error.source().filter(|_| is_io).map(ToString::to_string);
        if let Some(reason) = reason.filter(|reason| !message.contains(reason.as_str())) {
            message.push_str(&format!(": {reason}"));
        }
        let sources = std::iter::successors(error.source(), |&cause| cause.source()).skip(usize::from(is_io));
        let answer = error.body().map(|body| format!("the service answered {body}"));
        Failure {
            hint: error.hint().map(str::to_owned),
            causes: answer.into_iter().chain(sources.map(ToString::to_string)).collect(),
            ..Failure::new(exit, Some(message))
        }
    }
}

/// Prints what clap has to say of the command line: help and version on stdout; on stderr help where a command is missing, and
/// errors as all others.
pub(crate) fn not_understood(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return misused(&error.render().to_string()).report(false);
    }
    match error.print() {
        Err(io) if !error.use_stderr() => Failure::output(io).report(false),
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// From clap's paragraphs: first what is wrong, then tips, the usage, and where to read more.
fn misused(text: &str) -> Failure {
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let hints: Vec<String> = paragraphs
        .filter(|paragraph| !paragraph.is_empty())
        .map(|paragraph| match paragraph.split_once(": ") {
            Some(("tip", tip)) => tip.to_owned(),
            Some(("Usage", usage)) => format!("usage: {usage}"),
            _ => "for more information, try --help".to_owned(),
        })
        .collect();
    Failure::usage(message.strip_prefix("error: ").unwrap_or(&message)).hint(hints.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_apart_into_what_is_wrong_and_what_to_do() {
        let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
        let failure = Failure::from(error.clone());
        assert_eq!(format!("{}; {}", failure.message(), failure.what_to_do()), error.to_string());
        assert_eq!(failure.what_to_do(), error.hint().unwrap());

        let error = tinkex::Config::builder().build_with(|_| None).unwrap_err();
        let failure = Failure::from(error);
        assert_eq!((failure.message(), failure.exit), ("no API key", Exit::Usage));
        assert!(failure.what_to_do().starts_with("set TINKER_API_KEY"));
    }

    #[test]
    fn what_clap_says_is_one_line_and_a_hint() {
        let text = "error: the following were not provided:\n  <A>\n  <B>\n\n  tip: try x: y\n\nUsage: t run <A>\n\nFor more.\n";
        let failure = misused(text);
        assert_eq!(failure.message(), "the following were not provided: <A> <B>");
        assert_eq!(failure.what_to_do(), "try x: y; usage: t run <A>; for more information, try --help");
    }

    #[test]
    fn a_closed_pipe_is_success_and_a_full_disk_is_not() {
        let exit = |kind: io::ErrorKind| Failure::output(kind.into()).exit.code();
        assert_eq!((exit(io::ErrorKind::BrokenPipe), exit(io::ErrorKind::StorageFull)), (0, 1));
    }
}
