//! Constructors of errors, and setters with which each layer adds what it knows.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::text::line;
use super::{ConnectionFault, Error, ErrorKind, Inner, Limit, Outlook, RequestErrorCategory, Rounded, Tries, system};

/// Maximum size of a response body in an error, in bytes.
const MAX_BODY: usize = 8 * 1024;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            kind,
            operation: None,
            message: line(message),
            hint: None,
            status: None,
            category: None,
            connection: None,
            request_id: None,
            retry_after: None,
            headers: Arc::new([]),
            body: None,
            reason: None,
            has_tries: false,
            may_have_taken_effect: false,
            source: None,
        }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    pub(crate) fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn timeout(limit: Limit) -> Self {
        Error::new(ErrorKind::Timeout(limit), limit.to_string())
    }

    /// The error of a function that the program passed in, with the original error as the source.
    pub(crate) fn callback(what: &str, source: Box<dyn StdError + Send + Sync>) -> Self {
        let mut error = Error::new(ErrorKind::Callback, format!("{what} failed"));
        error.0.source = Some(source.into());
        error
    }

    pub(crate) fn closed() -> Self {
        Error::new(ErrorKind::Closed, "the client is closed").with_hint("connect again with ServiceClient::connect")
    }

    /// Sets the operation, unless an inner layer already has.
    pub(crate) fn with_operation(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.0.operation.get_or_insert_with(|| line(operation));
        self
    }

    /// Sets the operation, replacing one that an inner layer set.
    pub(crate) fn replace_operation(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.0.operation = Some(line(operation));
        self
    }

    /// Appends to the message, in parentheses.
    pub(crate) fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.0.message = line(format!("{} ({detail})", self.0.message));
        self
    }

    /// Sets the reason: why, in a few words.
    pub(crate) fn with_reason(mut self, reason: impl Into<Arc<str>>) -> Self {
        self.0.reason = Some(line(&*reason.into()).into());
        self
    }

    /// Why, in a few words, such as `503 no GPU free`: the reason that was set, else the message, and for a lost connection its
    /// cause.
    pub(crate) fn reason(&self) -> Arc<str> {
        if let Some(reason) = &self.0.reason {
            return Arc::clone(reason);
        }
        // The message of a fault with a name has the cause in its own words.
        let is_bare = self.0.kind == ErrorKind::Connect && self.connection_fault().is_none();
        let cause = self.0.source.as_ref().filter(|_| is_bare).map(ToString::to_string);
        match cause.filter(|cause| !self.0.message.contains(&**cause)) {
            Some(cause) => line(format!("{}: {cause}", self.0.message)).into(),
            None => self.0.message.as_ref().into(),
        }
    }

    /// Says after how many tries this was the last failure, and how long they took, unless an inner layer already has. A single
    /// try needs no mention, unless a setting is the reason that no other follows.
    pub(crate) fn with_tries(mut self, tries: u32, elapsed: Duration, given_up_by: Option<&'static str>) -> Self {
        if self.0.has_tries || (tries < 2 && given_up_by.is_none()) {
            return self;
        }
        let setting = given_up_by.map(|setting| format!(" ({setting})")).unwrap_or_default();
        self.0.message = format!("{}, {} in {}{setting}", self.0.message, Tries(tries), Rounded(elapsed)).into();
        self.0.has_tries = true;
        self
    }

    /// For an error of a time limit: the last failure, or that there was no response, the number of tries and how long they took.
    pub(crate) fn with_tries_in_time(
        mut self,
        limit: Limit,
        last_failure: Option<Error>,
        tries: u32,
        elapsed: Duration,
    ) -> Self {
        if self.0.has_tries {
            return self;
        }
        let reason = last_failure.as_ref().map_or_else(|| "no response".into(), Error::reason);
        self = self.with_last_word(limit, &reason, tries, elapsed);
        match last_failure {
            Some(failure) => self.with_source(failure),
            None => self,
        }
    }

    /// For an error of a time limit: what was heard last, the number of tries (0 if they are not counted) and how long they took.
    pub(crate) fn with_last_word(mut self, limit: Limit, reason: &str, tries: u32, elapsed: Duration) -> Self {
        let tries = if tries > 0 { format!(", {}", Tries(tries)) } else { String::new() };
        self.0.message =
            line(format!("{}: {reason}{tries} in {} ({})", limit.what(), Rounded(elapsed), limit.setting()));
        self.0.reason = Some(line(reason).into());
        self.0.has_tries = true;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(line(hint));
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_category(mut self, category: RequestErrorCategory) -> Self {
        self.0.category = Some(category);
        self
    }

    pub(crate) fn with_connection_fault(mut self, fault: ConnectionFault, outlook: Outlook) -> Self {
        self.0.connection = Some((fault, outlook));
        self
    }

    pub(crate) fn with_request_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.0.request_id.get_or_insert_with(|| id.into());
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn with_headers(mut self, headers: impl IntoIterator<Item = (String, String)>) -> Self {
        self.0.headers = headers.into_iter().collect();
        self
    }

    /// Keeps the first bytes of the response body, as text.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        let kept = &body[..body.len().min(MAX_BODY)];
        self.0.body = Some(String::from_utf8_lossy(kept).into());
        self
    }

    /// Passes the texts that it shows of a response through `hide`, which masks secrets.
    pub(crate) fn hiding(mut self, hide: impl Fn(String) -> String) -> Self {
        let inner = &mut *self.0;
        inner.message = hide(std::mem::take(&mut inner.message).into_owned()).into();
        inner.reason = inner.reason.take().map(|reason| hide(reason.as_ref().to_owned()).into());
        inner.body = inner.body.take().map(|body| hide(body.into()).into());
        self
    }

    pub(crate) fn with_effect(mut self, may_have_taken_effect: bool) -> Self {
        self.0.may_have_taken_effect = may_have_taken_effect;
        self
    }

    /// An error of the system that says what to do gives the hint, if there is no other.
    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.with_shared_source(Arc::new(source))
    }

    fn with_shared_source(mut self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        if self.0.kind == ErrorKind::Io && self.0.hint.is_none() {
            let system = source.downcast_ref::<io::Error>();
            self.0.hint = system.and_then(system::hint).map(Cow::Borrowed);
        }
        self.0.source = Some(source);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_truncated() {
        let error = Error::new(ErrorKind::Status, "refused").with_body(&vec![b'x'; 2 * MAX_BODY]);
        assert_eq!(error.body().unwrap().len(), MAX_BODY);
    }

    #[test]
    fn a_reason_has_each_cause_once() {
        let lost = || Error::new(ErrorKind::Connect, "lost").with_source(std::io::Error::other("broken pipe"));
        assert_eq!(&*lost().reason(), "lost: broken pipe");
        let refused = lost().with_connection_fault(ConnectionFault::Route, Outlook::Temporary);
        assert_eq!(&*refused.reason(), "lost");
        assert_eq!(&*Error::new(ErrorKind::Status, "x").with_reason("503 busy").reason(), "503 busy");
    }
}
