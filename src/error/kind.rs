//! What failed, and which time limit ran out.

use std::fmt;

/// What failed, to match on; the details are methods of [`Error`](crate::Error).
///
/// ```
/// use tinkex::types::SamplingParams;
/// use tinkex::{ErrorKind, Limit};
///
/// let error = SamplingParams::default().temperature(-1.0).validate().unwrap_err();
/// match error.kind() {
///     ErrorKind::InvalidInput => println!("nothing was sent: {error}"),
///     ErrorKind::Timeout(Limit::Operation) => println!("still running: {:?}", error.request_id()),
///     kind => println!("{kind:?}"),
/// }
/// # assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing or makes no sense. Nothing was sent.
    Config,
    /// An argument makes no sense. Nothing was sent.
    InvalidInput,
    /// No connection, or the connection was lost.
    Connect,
    /// A time limit ran out; the [`Limit`] says which.
    Timeout(Limit),
    /// The server answered with an HTTP status that means failure: [`Error::status`](crate::Error::status).
    Status,
    /// The server accepted the request and then failed to carry it out: [`Error::category`](crate::Error::category).
    RequestFailed,
    /// The server no longer knows the promise, so the outcome of the request is unknown.
    Expired,
    /// The server's answer could not be understood.
    Decode,
    /// The client was closed, or its last handle dropped.
    Closed,
    /// A function that the program passed in returned an error, which is the
    /// [`source`](std::error::Error::source) and can be downcast: a
    /// [custom loss](crate::TrainingClient::forward_backward_custom).
    Callback,
    /// A thread of the client, or a callback of the program, panicked.
    Panicked,
    /// A bounded queue is full.
    QueueFull,
    /// The caller cancelled the operation.
    Cancelled,
    /// A local file or a thread could not be had.
    Io,
}

/// The time limit behind an [`ErrorKind::Timeout`]. Each is a setting of [`Config`](crate::Config).
///
/// ```
/// use tinkex::Limit;
///
/// assert_eq!(Limit::Read.setting(), "timeout_idle");
/// assert_eq!(Limit::Connect.to_string(), "connecting took too long (timeout_connect)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// `timeout_connect`: resolving the name, or TCP and TLS.
    Connect,
    /// `timeout_idle`, while sending: no byte could be written.
    Write,
    /// `timeout_idle`, while waiting for the head of the answer.
    Wait,
    /// `timeout_idle`, while reading the answer: no byte arrived.
    Read,
    /// `timeout_submit`: the window in which a submission is sent again.
    Submit,
    /// `timeout_progress`: nothing was heard of a promise, not even "not yet".
    Progress,
    /// `timeout_operation`: the whole call.
    Operation,
}

impl Limit {
    /// The name of the setting that this limit comes from.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Limit::Connect => "timeout_connect",
            Limit::Write | Limit::Wait | Limit::Read => "timeout_idle",
            Limit::Submit => "timeout_submit",
            Limit::Progress => "timeout_progress",
            Limit::Operation => "timeout_operation",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Connect => "connecting took too long",
            Limit::Write => "nothing could be sent for too long",
            Limit::Wait => "the server did not begin to answer in time",
            Limit::Read => "the answer stopped in the middle for too long",
            Limit::Submit => "the request was not accepted within the submit window",
            Limit::Progress => "nothing was heard of the request for too long",
            Limit::Operation => "the operation did not finish within its time limit",
        })?;
        write!(f, " ({})", self.setting())
    }
}
