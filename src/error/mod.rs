//! The error type: small and opaque.
//!
//! Every error says which operation failed, why, and what to do about it, if anything. `Display` prints this level
//! only; [`source`](std::error::Error::source) has the causes. `Debug` prints both, for a person: it is what a program with
//! `fn main() -> tinkex::Result<()>` ends with.
//!
//! ```
//! use std::error::Error as _;
//!
//! /// The whole chain of errors on one line.
//! fn report(error: &tinkex::Error) -> String {
//!     let causes = std::iter::successors(error.source(), |&cause| cause.source());
//!     causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
//! }
//!
//! let error = tinkex::types::ImageChunk::from_file("/no/such/file.png", 1).unwrap_err();
//! assert_eq!(error.kind(), tinkex::ErrorKind::Io);
//! assert!(report(&error).len() > error.to_string().len());
//! ```

mod build;
mod category;
mod connection;
mod debug;
mod figures;
mod kind;
pub(crate) mod system;
mod text;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use category::RequestErrorCategory;
pub use connection::ConnectionFault;
pub(crate) use connection::Outlook;
pub(crate) use figures::{Rounded, Tries};
pub use kind::{ErrorKind, Limit};
pub(crate) use text::{one_line, shown_id, truncated};

/// A `Result` with this crate's [`Error`].
///
/// ```
/// fn config() -> tinkex::Result<tinkex::Config> {
///     tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()
/// }
/// # assert!(config().is_ok());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of every fallible call in this crate.
///
/// [The crate's documentation](crate#errors-of-a-request) lists the errors that every request can end with.
///
/// # Examples
///
/// ```
/// use tinkex::{Config, ErrorKind};
///
/// let error = Config::builder().api_key("").build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(error.to_string().contains("TINKER_API_KEY"));
/// assert!(!error.is_retryable());
/// ```
///
/// `{:?}` adds a line for each cause, so that `fn main() -> tinkex::Result<()>`, `unwrap` and `expect` print what a person needs;
/// `{:#?}` shows the fields:
///
/// ```
/// let error = tinkex::types::ImageChunk::from_file("/no/such/file.png", 1).unwrap_err();
/// let text = format!("{error:?}");
/// assert!(text.starts_with(&error.to_string()));
/// assert_eq!(text.matches("No such file").count(), 1, "{text}");
/// assert!(format!("{error:#?}").contains("kind: Io"));
/// ```
///
/// The details of an error:
///
/// ```
/// use tinkex::{Error, ErrorKind};
///
/// fn advice(error: &Error) -> String {
///     match error.kind() {
///         ErrorKind::Status => match (error.status(), error.retry_after()) {
///             (Some(429), Some(wait)) => format!("retry in {wait:?}"),
///             (status, _) => format!("{status:?}: {}", error.body().unwrap_or_default()),
///         },
///         ErrorKind::Timeout(limit) => format!("raise {}", limit.setting()),
///         ErrorKind::RequestFailed => format!("failure of category {:?}", error.category()),
///         _ if error.is_user_error() => format!("check the arguments of {:?}", error.operation()),
///         _ => error.to_string(),
///     }
/// }
/// # assert_eq!(advice(&"x".parse::<tinkex::types::CheckpointPath>().unwrap_err()), "check the arguments of None");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: Option<Cow<'static, str>>,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    status: Option<u16>,
    category: Option<RequestErrorCategory>,
    connection: Option<(ConnectionFault, Outlook)>,
    request_id: Option<Arc<str>>,
    retry_after: Option<Duration>,
    headers: Arc<[(String, String)]>,
    body: Option<Box<str>>,
    /// Why, in a few words, if the message has more.
    reason: Option<Arc<str>>,
    /// Whether the message has the number of tries.
    has_tries: bool,
    may_have_taken_effect: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What failed.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// assert_eq!(error.kind(), tinkex::ErrorKind::InvalidInput);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong: the message without the [operation](Error::operation), the [request id](Error::request_id), the
    /// [effect](Error::may_have_taken_effect), the [hint](Error::hint) and the causes.
    ///
    /// For programs that format errors themselves. `Display` combines all of these except the causes.
    ///
    /// ```
    /// let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// assert!(error.message().contains("nonsense"));
    /// assert!(error.hint().is_some_and(|hint| hint.contains("tinker://RUN/weights/NAME")));
    /// assert_eq!(error.to_string(), format!("{}; {}", error.message(), error.hint().unwrap_or_default()));
    /// ```
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation that failed: the name of the method or of the request.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// println!("{} failed", error.operation().unwrap_or("the call"));
    /// ```
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// What to do about it, if anything.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// if let Some(hint) = error.hint() {
    ///     println!("what to do: {hint}");
    /// }
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The HTTP status of the response.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// if error.status() == Some(404) {
    ///     println!("there is no such model");
    /// }
    /// ```
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Who caused the failure of a request, as reported by the server.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// use tinkex::types::RequestErrorCategory;
    ///
    /// if error.category() == Some(&RequestErrorCategory::User) {
    ///     println!("the request itself was wrong");
    /// }
    /// ```
    #[must_use]
    pub fn category(&self) -> Option<&RequestErrorCategory> {
        self.0.category.as_ref()
    }

    /// Which part of the connection is at fault, if the server could not be reached and the reason is known.
    ///
    /// [`is_retryable`](Error::is_retryable) says whether the fault may pass by itself: a refused connection may, a certificate
    /// that is not trusted does not.
    ///
    /// ```
    /// use tinkex::{ConnectionFault, Error};
    ///
    /// fn setting_to_check(error: &Error) -> &'static str {
    ///     match error.connection_fault() {
    ///         Some(ConnectionFault::Name | ConnectionFault::Route | ConnectionFault::Protocol) => "TINKER_BASE_URL",
    ///         Some(ConnectionFault::Proxy) => "HTTPS_PROXY",
    ///         Some(ConnectionFault::Certificate) => "SSL_CERT_FILE",
    ///         _ => "the network",
    ///     }
    /// }
    /// # let error = "x".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// # assert_eq!(setting_to_check(&error), "the network");
    /// ```
    #[must_use]
    pub fn connection_fault(&self) -> Option<ConnectionFault> {
        self.0.connection.map(|(fault, _)| fault)
    }

    /// Whether a further attempt to connect can help.
    pub(crate) fn outlook(&self) -> Outlook {
        self.0.connection.map_or(Outlook::Temporary, |(_, outlook)| outlook)
    }

    /// The request id of the promise. With it, [`ServiceClient::pending`](crate::ServiceClient::pending) can wait for the
    /// result again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient, step: tinkex::Pending<tinkex::types::OptimStepResponse>) -> tinkex::Result<()> {
    /// use tinkex::types::{OptimStepResponse, RequestKind};
    ///
    /// if let Err(error) = step.wait() {
    ///     let id = error.request_id().ok_or_else(|| error.clone())?;
    ///     let again = service.pending::<OptimStepResponse>(id, RequestKind::OptimStep);
    ///     println!("{:?}", again.wait()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How long to wait before the next attempt, as requested by the server.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// if let Some(wait) = error.retry_after() {
    ///     println!("again in {} s", wait.as_secs());
    /// }
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The first value of a response header. The name is case-insensitive.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// println!("{}", error.header("x-request-id").unwrap_or("no id"));
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The response body, truncated to 8 KiB.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// println!("the service said: {}", error.body().unwrap_or("nothing"));
    /// ```
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        self.0.body.as_deref()
    }

    /// Whether the same call may succeed later.
    ///
    /// The failed call may still have taken effect: see [`may_have_taken_effect`](Error::may_have_taken_effect).
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// assert!(!error.is_retryable(), "the same call would fail again");
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Connect => matches!(self.outlook(), Outlook::Temporary | Outlook::Shortage),
            ErrorKind::Timeout(_) | ErrorKind::QueueFull => true,
            // Wider than `rules::retry`, which retries within one call: a conflict (409) may be over when the program calls
            // again.
            ErrorKind::Status => matches!(self.0.status, Some(408 | 409 | 429 | 500..=599)),
            ErrorKind::RequestFailed => self.0.category.as_ref().is_some_and(RequestErrorCategory::is_retryable),
            _ => false,
        }
    }

    /// Whether the program caused the error: an invalid setting or argument, an error from a callback, an unpaid account, a
    /// 4xx status other than 408 and 429, or a failure of category user. Any error in the chain of sources counts.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// assert!(error.is_user_error());
    /// ```
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        let here = match self.0.kind {
            ErrorKind::Config | ErrorKind::InvalidInput | ErrorKind::Billing | ErrorKind::Callback => true,
            ErrorKind::Status => {
                matches!(self.0.status, Some(status @ 400..=499) if status != 408 && status != 429)
            }
            ErrorKind::RequestFailed => self.0.category == Some(RequestErrorCategory::User),
            _ => false,
        };
        here || self.sources().filter_map(|error| error.downcast_ref::<Error>()).any(Error::is_user_error)
    }

    fn sources(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        std::iter::successors(StdError::source(self), |&error| error.source())
    }

    /// Whether a timeout expired.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// assert!(!error.is_timeout());
    /// ```
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Timeout(_))
    }

    /// Whether the request may have been executed although the call failed: it was sent and the response was lost or says nothing
    /// about it, or the wait for its result ended early. Calling again may then execute it twice.
    ///
    /// It is false if nothing was sent, if the request only reads, or if the service refused every attempt that was sent (most
    /// 4xx). A failure of the server or of a gateway (408, 5xx) may come after the work was done, and no later attempt undoes that: a
    /// deletion whose response was lost, and which is then not found, may have taken effect.
    ///
    /// # Examples
    ///
    /// ```
    /// # let error = "nonsense".parse::<tinkex::types::CheckpointPath>().unwrap_err();
    /// assert!(!error.may_have_taken_effect(), "no request was sent");
    /// ```
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        self.0.may_have_taken_effect
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = &self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(id) = &self.0.request_id {
            write!(f, " (request {})", shown_id(id))?;
        }
        if self.0.may_have_taken_effect {
            f.write_str("; the request may have taken effect")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests;
