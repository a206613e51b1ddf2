//! Whose fault a failed request is.

/// Whose fault a failed request is, as the server says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RequestErrorCategory {
    /// Not said, or a word that this version does not know.
    #[default]
    Unknown,
    /// The server's.
    Server,
    /// The caller's.
    User,
}

impl RequestErrorCategory {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        *self != RequestErrorCategory::User
    }
}
