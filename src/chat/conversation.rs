//! A conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::message::{Message, or_default};
use super::tools::Tool;

/// A conversation, as a line of a data set has it.
///
/// ```
/// use tinkex::chat::{Conversation, Message};
///
/// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello!")]);
/// let line = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}"#;
/// assert_eq!(serde_json::from_str::<Conversation>(line)?, conversation);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conversation {
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub tools: Vec<Tool>,
    /// Variables of the template, such as `enable_thinking`.
    #[serde(
        default,
        rename = "chat_template_kwargs",
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "or_default"
    )]
    pub template_args: Map<String, Value>,
}

impl Conversation {
    /// A conversation of these messages.
    ///
    /// ```
    /// use tinkex::chat::{Conversation, Message};
    ///
    /// let questions = ["What is 2 + 2?", "And 3 + 3?"];
    /// let conversation = Conversation::new(questions.into_iter().map(Message::user));
    /// assert_eq!(conversation.messages.len(), 2);
    /// ```
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Conversation { messages: messages.into_iter().collect(), ..Conversation::default() }
    }

    /// Sets the tools.
    ///
    /// ```
    /// use tinkex::chat::{Conversation, Message, Tool};
    /// use tinkex::serde_json::json;
    ///
    /// let time = Tool::function("time", "The time now", json!({"type": "object", "properties": {}}));
    /// let conversation = Conversation::from([Message::user("How late is it?")]).tools([time]);
    /// assert_eq!(conversation.tools[0].name(), Some("time"));
    /// ```
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools = tools.into_iter().collect();
        self
    }

    /// Sets a variable of the template.
    ///
    /// ```
    /// use tinkex::chat::{Conversation, Message};
    ///
    /// let conversation = Conversation::from([Message::user("Hi")]).template_arg("enable_thinking", false);
    /// assert_eq!(conversation.template_args["enable_thinking"], false);
    /// ```
    #[must_use]
    pub fn template_arg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.template_args.insert(name.into(), value.into());
        self
    }
}

impl<const N: usize> From<[Message; N]> for Conversation {
    fn from(messages: [Message; N]) -> Self {
        Conversation::new(messages)
    }
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Conversation::new(messages)
    }
}
