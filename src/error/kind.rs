//! The kinds of errors, and the time limits.

use std::fmt;

/// What failed. The details are methods of [`Error`](crate::Error).
///
/// ```
/// use tinkex::types::SamplingParams;
/// use tinkex::{ErrorKind, Limit};
///
/// let error = SamplingParams::default().temperature(-1.0).validate().unwrap_err();
/// match error.kind() {
///     ErrorKind::InvalidInput => println!("no request was sent: {error}"),
///     ErrorKind::Timeout(Limit::Operation) => println!("still running: {:?}", error.request_id()),
///     kind => println!("{kind:?}"),
/// }
/// # assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing or invalid. No request was sent.
    Config,
    /// An argument is invalid. No request was sent.
    InvalidInput,
    /// Connecting failed, or the connection was lost.
    Connect,
    /// A timeout expired; the [`Limit`] says which one.
    Timeout(Limit),
    /// The server responded with an HTTP error status: [`Error::status`](crate::Error::status).
    Status,
    /// The service refused the request because of the account's billing (402), for as long as
    /// [`timeout_billing`](crate::ConfigBuilder::timeout_billing) lets requests wait for that to change.
    Billing,
    /// The server accepted the request, but its execution failed: [`Error::category`](crate::Error::category).
    RequestFailed,
    /// The server has dropped the promise of the request, so its outcome is unknown.
    Expired,
    /// The server's response could not be decoded, or has not what was asked for.
    Decode,
    /// The client was closed, its last handle was dropped, or it is used in a fork of the process that connected.
    Closed,
    /// A function that the program passed in returned an error. That error is the
    /// [`source`](std::error::Error::source) and can be downcast. See
    /// [custom losses](crate::TrainingClient#method.forward_backward_custom).
    Callback,
    /// A thread of the client or a callback panicked.
    Panicked,
    /// A bounded queue is full.
    QueueFull,
    /// The caller cancelled the operation.
    Cancelled,
    /// A local file could not be accessed, or a thread or socket could not be created.
    Io,
}

impl ErrorKind {
    /// Whether it says only that the call has ended, and nothing of the service.
    pub(crate) fn is_end_of_call(self) -> bool {
        matches!(self, ErrorKind::Closed | ErrorKind::Cancelled | ErrorKind::Timeout(Limit::Operation))
    }
}

/// Which timeout expired, in an [`ErrorKind::Timeout`]. Each belongs to a setting of [`Config`](crate::Config).
///
/// ```
/// use tinkex::Limit;
///
/// assert_eq!(Limit::Read.setting(), "timeout_idle");
/// assert_eq!(Limit::Connect.to_string(), "connecting timed out (timeout_connect)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// `timeout_connect`: resolving the host name, or connecting with TCP and TLS.
    Connect,
    /// `timeout_idle`, while sending the request: no byte could be written.
    Write,
    /// `timeout_idle`, while waiting for the response: no byte of it arrived.
    Wait,
    /// `timeout_idle`, while reading the response: no byte arrived.
    Read,
    /// `timeout_submit`: how long a submission is retried.
    Submit,
    /// `timeout_progress`: no word of the service about a result, not even "not ready yet". The source is the failure of the last
    /// poll, if it was one.
    Progress,
    /// `timeout_operation`: a whole blocking call.
    Operation,
}

impl Limit {
    /// The name of the setting.
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

impl Limit {
    /// What happens at its end.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Limit::Connect => "connecting timed out",
            Limit::Write => "sending the request timed out",
            Limit::Wait => "waiting for the response timed out",
            Limit::Read => "reading the response timed out",
            Limit::Submit => "the server did not accept the request in time",
            Limit::Progress => "the server did not report on the request in time",
            Limit::Operation => "the operation timed out",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what(), self.setting())
    }
}
