//! A message of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::content::{Content, Part};
use super::tools::ToolCall;
use crate::types::open_enum::open_enum;

open_enum! {
    /// The author of a message. [`Conversation`](crate::chat::Conversation) has an example.
    pub enum Role {
        /// Instructions of the program to the model.
        System = "system",
        /// Instructions of the program to the model, in some newer formats.
        Developer = "developer",
        /// The user.
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// The result of a tool.
        Tool = "tool",
    }
}

/// A message of a conversation.
///
/// ```
/// use tinkex::chat::{Message, Role};
///
/// let message: Message = serde_json::from_str(r#"{"role": "assistant", "reasoning": "Two and two.", "content": "4"}"#)?;
/// assert_eq!(message.role, Role::Assistant);
/// assert_eq!(message.reasoning_content.as_deref(), Some("Two and two."));
/// assert_eq!(message.text(), "4");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The content; `None` if the key is absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    pub content: Option<Content>,
    /// What a reasoning model thought before its reply. Also read from the keys `reasoning` and `thinking`.
    #[serde(default, alias = "reasoning", alias = "thinking", skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The calls of tools that the assistant asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool's message is the result of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the author or the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the message is trained, for [`TrainOn::Marked`](crate::chat::TrainOn::Marked).
    #[serde(default, alias = "train", skip_serializing_if = "Option::is_none")]
    pub trainable: Option<bool>,
    /// All other keys, which a template may read.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// A key that is there, also with `null`.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Content>, D::Error> {
    Content::deserialize(deserializer).map(Some)
}

/// A value, or the default one for `null`: tables of data sets have a value for every key.
pub(super) fn or_default<'de, T: Deserialize<'de> + Default, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Message {
    /// A message with this content.
    ///
    /// ```
    /// use tinkex::chat::{Message, Role};
    ///
    /// assert_eq!(Message::new(Role::Developer, "Be brief.").text(), "Be brief.");
    /// ```
    #[must_use]
    pub fn new(role: Role, content: impl Into<Content>) -> Self {
        Message {
            role,
            content: Some(content.into()),
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            trainable: None,
            others: Map::new(),
        }
    }

    /// A message of the system.
    ///
    /// ```
    /// use tinkex::chat::{Message, Role};
    ///
    /// assert_eq!(Message::system("Be brief."), Message::new(Role::System, "Be brief."));
    /// ```
    #[must_use]
    pub fn system(content: impl Into<Content>) -> Self {
        Message::new(Role::System, content)
    }

    /// A message of the user.
    ///
    /// ```
    /// use tinkex::chat::{Message, Role};
    ///
    /// assert_eq!(Message::user("Hi"), Message::new(Role::User, "Hi"));
    /// ```
    #[must_use]
    pub fn user(content: impl Into<Content>) -> Self {
        Message::new(Role::User, content)
    }

    /// A message of the assistant.
    ///
    /// ```
    /// use tinkex::chat::{Message, Role};
    ///
    /// assert_eq!(Message::assistant("Hello!"), Message::new(Role::Assistant, "Hello!"));
    /// ```
    #[must_use]
    pub fn assistant(content: impl Into<Content>) -> Self {
        Message::new(Role::Assistant, content)
    }

    /// The result of the tool call with this ID.
    ///
    /// ```
    /// use tinkex::chat::Message;
    ///
    /// let result = Message::tool("call-1", r#"{"degrees": 21}"#);
    /// assert_eq!(result.tool_call_id.as_deref(), Some("call-1"));
    /// ```
    #[must_use]
    pub fn tool(tool_call_id: impl Into<String>, content: impl Into<Content>) -> Self {
        Message { tool_call_id: Some(tool_call_id.into()), ..Message::new(Role::Tool, content) }
    }

    /// The texts of the content together.
    ///
    /// ```
    /// use tinkex::chat::{Content, Message};
    ///
    /// assert_eq!(Message::user("Hi").text(), "Hi");
    /// assert_eq!(Message::assistant(Content::Null).text(), "");
    /// ```
    #[must_use]
    pub fn text(&self) -> String {
        match &self.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts
                .iter()
                .filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
                .collect(),
            Some(Content::Null) | None => String::new(),
        }
    }
}
