//! Who caused the failure of a request.

use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde::{Serialize, Serializer};

/// Who caused the failure of a request, as reported by the server.
///
/// Parsed case-insensitively. A missing or unknown word becomes [`Unknown`](RequestErrorCategory::Unknown): a server's new
/// word must not hide the failure behind a parse error.
///
/// ```
/// use tinkex::types::RequestErrorCategory;
///
/// assert_eq!(RequestErrorCategory::from("USER"), RequestErrorCategory::User);
/// assert!(!RequestErrorCategory::User.is_retryable());
/// assert!(RequestErrorCategory::from("something new").is_retryable());
/// assert_eq!(RequestErrorCategory::Server.to_string(), "server");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RequestErrorCategory {
    /// Not reported, or a word that this version does not know.
    #[default]
    Unknown,
    /// The server.
    Server,
    /// The caller.
    User,
}

impl RequestErrorCategory {
    /// The word on the wire, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            RequestErrorCategory::Unknown => "unknown",
            RequestErrorCategory::Server => "server",
            RequestErrorCategory::User => "user",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        *self != RequestErrorCategory::User
    }
}

impl From<&str> for RequestErrorCategory {
    fn from(word: &str) -> Self {
        [RequestErrorCategory::Server, RequestErrorCategory::User]
            .into_iter()
            .find(|category| category.as_str().eq_ignore_ascii_case(word))
            .unwrap_or_default()
    }
}

impl std::fmt::Display for RequestErrorCategory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RequestErrorCategory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RequestErrorCategory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A category of any JSON type: only a string can name one.
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Word(String),
            Other(IgnoredAny),
        }
        Ok(match Raw::deserialize(deserializer)? {
            Raw::Word(word) => RequestErrorCategory::from(&*word),
            Raw::Other(_) => RequestErrorCategory::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_known_word_is_unknown() {
        for json in ["null", "1", "\"\"", "\"other\"", "{\"a\":[]}", "\"Unknown\""] {
            let category: RequestErrorCategory = serde_json::from_str(json).unwrap();
            assert_eq!(category, RequestErrorCategory::Unknown, "{json}");
        }
    }
}
