//! The id of a promise, and why the work behind it failed.

use std::fmt;

use crate::types::RequestErrorCategory;

/// Why the work behind a promise failed.
#[derive(Debug)]
pub(crate) struct TaskError {
    pub(super) category: RequestErrorCategory,
    pub(super) message: String,
}

impl TaskError {
    /// The client's mistake.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        TaskError { category: RequestErrorCategory::User, message: message.into() }
    }

    /// The server's mistake.
    pub(crate) fn server(message: impl Into<String>) -> Self {
        TaskError { category: RequestErrorCategory::Server, message: message.into() }
    }

    /// Whether it is the client's mistake, and what it is.
    #[cfg(feature = "pretrained")]
    pub(crate) fn parts(&self) -> (bool, &str) {
        (self.category == RequestErrorCategory::User, &self.message)
    }
}

/// The id of a promise: a number, in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PromiseId(u64);

impl PromiseId {
    pub(super) fn new(number: u64) -> Self {
        PromiseId(number)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("request-")?;
        // Each id has one spelling: neither "+1" nor "01".
        number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number).map(PromiseId)
    }
}

impl fmt::Display for PromiseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request-{}", self.0)
    }
}
