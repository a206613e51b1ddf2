//! Paths with ids in them.

use std::fmt;

use crate::http::encode_segment;

/// A path below the base URL of the service, for instance `/api/v1/training_runs`.
///
/// # Examples
///
/// ```
/// use tinkex::api::Path;
///
/// let path = Path::new("/api/v1/training_runs").segment("my run/1").segment("checkpoints");
/// assert_eq!(path.to_string(), "/api/v1/training_runs/my%20run%2F1/checkpoints");
/// assert_eq!(Path::new("/api/v1/samplers").segment("..").to_string(), "/api/v1/samplers/%2E%2E");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: String,
    has_empty_segment: bool,
}

impl Path {
    /// A path, optionally with a query. Characters that no URL may have, such as spaces and anything beyond ASCII, are
    /// percent-encoded; percent codes stay, and a fragment (`#…`) is removed. The leading slash is optional.
    pub fn new(path: impl Into<String>) -> Self {
        Path { text: path.into(), has_empty_segment: false }
    }

    /// Adds a text as one segment, percent-encoded, so that an id may contain any characters. An empty one is an error when
    /// the request is sent, since it would name something else.
    #[must_use]
    pub fn segment(mut self, id: impl AsRef<str>) -> Self {
        let id = id.as_ref();
        self.has_empty_segment |= id.is_empty();
        if !self.text.ends_with('/') {
            self.text.push('/');
        }
        self.text.push_str(&encode_segment(id));
        self
    }

    pub(super) fn has_empty_segment(&self) -> bool {
        self.has_empty_segment
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&str> for Path {
    fn from(path: &str) -> Self {
        Path::new(path)
    }
}

impl From<String> for Path {
    fn from(path: String) -> Self {
        Path::new(path)
    }
}
