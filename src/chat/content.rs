//! The content of a message.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::types::ImageChunk;

/// The content of a message: a text, or parts.
///
/// ```
/// use tinkex::chat::{Content, Message, Part};
///
/// let parts = Content::Parts(vec![Part::Text("What is ".to_owned()), Part::Text("this?".to_owned())]);
/// assert_eq!(Message::user(parts).text(), "What is this?");
/// assert_eq!(serde_json::from_str::<Content>(r#""Hi""#)?, Content::Text("Hi".to_owned()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Content {
    /// A text.
    Text(String),
    /// Texts and images, in order.
    Parts(Vec<Part>),
    /// JSON's `null`: no content, for example in a message that only calls tools.
    Null,
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Content::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Content::Text(text)
    }
}

impl From<Vec<Part>> for Content {
    fn from(parts: Vec<Part>) -> Self {
        Content::Parts(parts)
    }
}

/// A part of a message's content.
///
/// ```
/// use tinkex::chat::Part;
///
/// let part: Part = serde_json::from_str(r#"{"type": "text", "text": "Hi"}"#)?;
/// assert_eq!(part, Part::Text("Hi".to_owned()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// A text.
    Text(String),
    /// An image; `None` for one that is named, but not given, as templates see it.
    Image(Option<Box<ImageChunk>>),
    /// Any other part, unchanged.
    Other(Map<String, Value>),
}

impl Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Part::Text(text) => serde_json::json!({"type": "text", "text": text}).serialize(serializer),
            Part::Image(_) => serde_json::json!({"type": "image"}).serialize(serializer),
            Part::Other(part) => part.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = Map::<String, Value>::deserialize(deserializer)?;
        Ok(match (part.get("type").and_then(Value::as_str), part.get("text")) {
            (Some("text"), Some(Value::String(text))) => Part::Text(text.clone()),
            (Some("image"), _) if part.len() == 1 => Part::Image(None),
            _ => Part::Other(part),
        })
    }
}
