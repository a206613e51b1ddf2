//! Why a command failed: the exit code, and the message, a hint and the causes on stderr.
//!
//! Errors are text in both formats. With `--format json`, a failed command prints no document, except for commands that work
//! on several items and report which of them failed.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use anstream::stderr;
use clap::builder::styling::{AnsiColor, Style};
use tinkex::ErrorKind;
use tinkex::types::FinishReason;

use crate::screen;
use crate::text::{one_line, shown_id};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Yellow.on_default();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The reader of stdout closed the pipe.
    ClosedPipe,
    Failed,
    Usage,
    Interrupted,
    /// What a command documents itself.
    Own(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::ClosedPipe => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Interrupted => INTERRUPTED,
            Exit::Own(code) => code,
        }
    }
}

/// 128 plus the number of SIGINT, the shells' convention.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed, and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// None if there is nothing more to print.
    message: Option<String>,
    /// Further errors of the same kind.
    more: Vec<String>,
    hint: Option<String>,
    causes: Vec<String>,
}

impl Failure {
    fn new(exit: Exit, message: Option<String>) -> Self {
        Failure { exit, message, more: Vec::new(), hint: None, causes: Vec::new() }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Failure::new(Exit::Failed, Some(message.into()))
    }

    /// The operation failed, and its output has already reported that.
    pub(crate) fn reported() -> Self {
        Failure::new(Exit::Failed, None)
    }

    /// The operation failed with an exit code of its own, and its output has already reported that.
    pub(crate) fn reported_with(code: u8) -> Self {
        Failure::new(Exit::Own(code), None)
    }

    /// The arguments or settings are invalid, and nothing was done.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, Some(message.into()))
    }

    /// Ended by Ctrl-C or SIGTERM.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Failure::new(Exit::Interrupted, Some(message.into()))
    }

    /// Adds further errors, each of which is printed on a line of its own.
    pub(crate) fn and(mut self, messages: impl IntoIterator<Item = String>) -> Self {
        self.more.extend(messages);
        self
    }

    /// Sets the hint: what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the subject, such as a path, before the message.
    pub(crate) fn subject(mut self, subject: &str) -> Self {
        self.message = self.message.map(|message| format!("{subject}: {message}"));
        self
    }

    /// Adds to the hint.
    pub(crate) fn add_hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.hint = Some(self.hint.take().map_or(hint.clone(), |first| format!("{first}; {hint}")));
        self
    }

    /// Adds all of these to the hint.
    pub(crate) fn add_hints(self, hints: impl IntoIterator<Item = String>) -> Self {
        hints.into_iter().fold(self, Failure::add_hint)
    }

    /// Writing to stdout failed.
    pub(crate) fn stdout(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::ClosedPipe, None),
            _ => Failure::unwritable("to stdout", &error),
        }
    }

    /// Writing this failed: a file, or `to` somewhere.
    pub(crate) fn unwritable(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Failure::system(format_args!("cannot write {what}"), error)
    }

    /// The system refused something.
    pub(crate) fn system(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Failure::failed(format!("{what}: {error}")).add_hints(tinkex::fs::hint(error).map(str::to_owned))
    }

    /// Prints it and returns the exit code.
    pub(crate) fn report(self, verbose: bool) -> ExitCode {
        self.print(verbose);
        self.exit.code().into()
    }

    /// Prints `error: MESSAGE` for each message, `hint: HINT` and, if verbose, `cause: CAUSE`. Errors of stderr itself are ignored: there is
    /// nowhere left to report them.
    pub(crate) fn print(&self, verbose: bool) {
        screen::suspended(|| self.write(verbose));
    }

    fn write(&self, verbose: bool) {
        let mut err = stderr().lock();
        let mut line = |style: Style, name: &str, text: &str| {
            writeln!(err, "{style}{name}:{style:#} {}", one_line(text)).ok();
        };
        for message in self.message.iter().chain(&self.more) {
            line(ERROR, "error", message);
        }
        if let Some(hint) = &self.hint {
            line(HINT, "hint", hint);
        }
        for cause in self.causes.iter().filter(|_| verbose) {
            line(HINT, "cause", cause);
        }
    }

    /// What a service is told about the session in which it happened.
    pub(crate) fn finish_reason(&self) -> FinishReason {
        match self.exit {
            Exit::ClosedPipe => FinishReason::Success,
            Exit::Failed | Exit::Usage | Exit::Own(_) => FinishReason::Errored,
            Exit::Interrupted => FinishReason::Interrupted,
        }
    }

    /// The message, empty if there is none.
    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// The hint, empty if there is none.
    pub(crate) fn hint_text(&self) -> &str {
        self.hint.as_deref().unwrap_or_default()
    }
}

impl From<tinkex::Error> for Failure {
    /// Leaves the operation out: it is the name of a method, which means nothing to a user of the program.
    fn from(error: tinkex::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config | ErrorKind::InvalidInput => Exit::Usage,
            _ => Exit::Failed,
        };
        let mut message = error.message().to_owned();
        if let Some(id) = error.request_id() {
            message.push_str(&format!(" (request {})", shown_id(id)));
        }
        if error.may_have_taken_effect() {
            message.push_str("; the request may have taken effect");
        }
        // A file, or a connection that was lost: the message is of little use without the system's reason.
        let needs_reason = match error.kind() {
            ErrorKind::Io => true,
            ErrorKind::Connect => error.connection_fault().is_none(),
            _ => false,
        };
        let reason = error.source().filter(|_| needs_reason).map(ToString::to_string);
        let reason = reason.as_deref().map(|reason| reason.strip_prefix("io: ").unwrap_or(reason));
        if let Some(reason) = reason.filter(|reason| !message.contains(*reason)) {
            message.push_str(&format!(": {reason}"));
        }
        let sources = std::iter::successors(error.source(), |&cause| cause.source()).skip(usize::from(needs_reason));
        let response = error.body().map(|body| format!("the response body was {body}"));
        Failure {
            hint: error.hint().map(str::to_owned),
            causes: response.into_iter().chain(sources.map(ToString::to_string)).collect(),
            ..Failure::new(exit, Some(message))
        }
    }
}

/// Prints the outcome of clap when it does not lead to a command: help and version on stdout, help on stderr if the command is
/// missing, and errors like all others.
pub(crate) fn report_clap(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return usage_failure(&error.render().to_string()).report(false);
    }
    match error.print() {
        Err(io) if !error.use_stderr() => Failure::stdout(io).report(false),
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Reads clap's paragraphs: the message, then tips, the usage, and a pointer to the help. clap offers them only as one text.
fn usage_failure(text: &str) -> Failure {
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
    fn a_library_error_keeps_message_and_hint() {
        let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
        let failure = Failure::from(error.clone());
        assert_eq!(format!("{}; {}", failure.message(), failure.hint_text()), error.to_string());
        assert_eq!(failure.hint_text(), error.hint().unwrap());

        let error = tinkex::Config::builder().build_with(|_| None).unwrap_err();
        let failure = Failure::from(error);
        assert_eq!((failure.message(), failure.exit), ("no API key", Exit::Usage));
        assert!(failure.hint_text().starts_with("set TINKER_API_KEY"));
    }

    #[test]
    fn a_clap_error_becomes_message_and_hint() {
        let text = "error: the following were not provided:\n  <A>\n  <B>\n\n  tip: try x: y\n\nUsage: t run <A>\n\nFor more.\n";
        let failure = usage_failure(text);
        assert_eq!(failure.message(), "the following were not provided: <A> <B>");
        assert_eq!(failure.hint_text(), "try x: y; usage: t run <A>; for more information, try --help");
    }

    #[test]
    fn only_a_closed_pipe_is_success() {
        let exit = |kind: io::ErrorKind| Failure::stdout(kind.into()).exit.code();
        assert_eq!((exit(io::ErrorKind::BrokenPipe), exit(io::ErrorKind::StorageFull)), (0, 1));
    }
}
