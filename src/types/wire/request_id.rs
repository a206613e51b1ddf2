//! Ids of requests, which some servers send as numbers.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer};

/// Reads the id of a request, a text or a whole number, as text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "a request id, which is a text or a whole number")]
    enum Id {
        Text(String),
        Number(i64),
        Large(u64),
    }

    Ok(match Id::deserialize(deserializer)? {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
        Id::Large(number) => number.to_string(),
    })
}

/// The same, for a request.
pub(crate) fn deserialize_cow<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    deserialize(deserializer).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use crate::types::wire::{Promise, TryAgainResponse};

    #[test]
    fn numbers_are_read_as_text() {
        for (json, id) in [
            (r#"{"request_id":"r-1"}"#, "r-1"),
            (r#"{"request_id":17}"#, "17"),
            (r#"{"request_id":-1}"#, "-1"),
            (r#"{"request_id":18446744073709551615}"#, "18446744073709551615"),
        ] {
            assert_eq!(serde_json::from_str::<Promise>(json).unwrap(), Promise::new(id));
            let again = json.replacen('{', r#"{"type":"try_again","#, 1);
            assert_eq!(serde_json::from_str::<TryAgainResponse>(&again).unwrap().request_id, id);
        }
        for json in [r#"{"request_id":null}"#, r#"{"request_id":1.5}"#, r#"{"request_id":[]}"#, "{}"] {
            assert!(serde_json::from_str::<Promise>(json).is_err(), "{json}");
        }
    }
}
