//! Whose fault a failed request is.

use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde::{Serialize, Serializer};

/// Whose fault a failed request is, as the server says.
///
/// Parsed in any case; a missing or unknown word is [`Unknown`](RequestErrorCategory::Unknown), so that a server with
/// new words does not hide the failure behind a parse error.
///
/// ```
/// use tinkex::types::RequestErrorCategory;
///
/// assert_eq!(RequestErrorCategory::parse("USER"), RequestErrorCategory::User);
/// assert!(!RequestErrorCategory::User.is_retryable());
/// assert!(RequestErrorCategory::parse("who knows").is_retryable());
/// assert_eq!(RequestErrorCategory::Server.to_string(), "server");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
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
    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        [RequestErrorCategory::Server, RequestErrorCategory::User]
            .into_iter()
            .find(|category| category.as_str().eq_ignore_ascii_case(word))
            .unwrap_or_default()
    }

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
        /// A category of any JSON type: only text can say something.
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Said {
            Word(String),
            Nothing(IgnoredAny),
        }
        Ok(match Said::deserialize(deserializer)? {
            Said::Word(word) => RequestErrorCategory::parse(&word),
            Said::Nothing(_) => RequestErrorCategory::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_is_not_a_known_word_is_unknown() {
        for json in ["null", "1", "\"\"", "\"other\"", "{\"a\":[]}", "\"Unknown\""] {
            let category: RequestErrorCategory = serde_json::from_str(json).unwrap();
            assert_eq!(category, RequestErrorCategory::Unknown, "{json}");
        }
    }
}
