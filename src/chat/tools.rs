//! Tools that a model may call, and its calls.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A tool that the model may call, as JSON: `{"type": "function", "function": {"name", "description", "parameters"}}`. It is
/// given to the template unchanged.
///
/// ```
/// use tinkex::chat::Tool;
///
/// let line = r#"{"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}"#;
/// let tool: Tool = serde_json::from_str(line)?;
/// assert_eq!(tool.name(), Some("time"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[doc(alias = "ToolSpec")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tool(Map<String, Value>);

impl Tool {
    /// A function with this name, description and JSON schema of its parameters.
    ///
    /// ```
    /// use tinkex::chat::Tool;
    /// use tinkex::serde_json::json;
    ///
    /// let city = json!({"type": "string", "description": "A city"});
    /// let parameters = json!({"type": "object", "properties": {"city": city}, "required": ["city"]});
    /// let tool = Tool::function("temperature", "The temperature now, in degrees Celsius", parameters);
    /// assert_eq!(tool.as_json()["type"], "function");
    /// ```
    #[must_use]
    pub fn function(name: &str, description: &str, parameters: Value) -> Self {
        let function = json!({"name": name, "description": description, "parameters": parameters});
        Tool(Map::from_iter([("type".to_owned(), "function".into()), ("function".to_owned(), function)]))
    }

    /// The name of the function.
    ///
    /// ```
    /// use tinkex::chat::Tool;
    ///
    /// assert_eq!(Tool::function("time", "The time now", serde_json::json!({})).name(), Some("time"));
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0
            .get("function")
            .unwrap_or(&Value::Null)
            .get("name")
            .or_else(|| self.0.get("name"))
            .and_then(Value::as_str)
    }

    /// The tool as JSON.
    ///
    /// ```
    /// use tinkex::chat::Tool;
    ///
    /// let tool = Tool::function("time", "The time now", serde_json::json!({}));
    /// assert_eq!(tool.as_json()["function"]["description"], "The time now");
    /// ```
    #[must_use]
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// A call of a tool.
///
/// ```
/// use tinkex::chat::ToolCall;
///
/// let line = r#"{"id": "call-1", "type": "function", "function": {"name": "temperature", "arguments": {"city": "Rome"}}}"#;
/// let call: ToolCall = serde_json::from_str(line)?;
/// assert_eq!(call.name, "temperature");
/// assert_eq!(call.arguments["city"], "Rome");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ToolCall {
    /// The ID that the tool's result refers to, if there is one.
    pub id: Option<String>,
    /// The name of the function.
    pub name: String,
    /// The arguments: an object, or the text that a data set or a service has for it.
    pub arguments: Value,
}

impl ToolCall {
    /// A call of this function.
    ///
    /// ```
    /// use tinkex::chat::ToolCall;
    /// use tinkex::serde_json::json;
    ///
    /// let call = ToolCall::new("temperature", json!({"city": "Rome"}));
    /// assert_eq!(call.arguments["city"], "Rome");
    /// ```
    #[must_use]
    pub fn new(name: impl Into<String>, arguments: impl Into<Value>) -> Self {
        ToolCall { id: None, name: name.into(), arguments: arguments.into() }
    }

    /// Sets the ID.
    ///
    /// ```
    /// use tinkex::chat::ToolCall;
    ///
    /// let call = ToolCall::new("time", serde_json::json!({})).id("call-1");
    /// assert_eq!(call.id.as_deref(), Some("call-1"));
    /// ```
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default = "function", rename = "type")]
    kind: String,
    function: Function,
}

#[derive(Serialize, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

fn function() -> String {
    "function".to_owned()
}

impl Serialize for ToolCall {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let function = Function { name: self.name.clone(), arguments: self.arguments.clone() };
        Wire { id: self.id.clone(), kind: self::function(), function }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { id, function: Function { name, arguments }, .. } = Wire::deserialize(deserializer)?;
        Ok(ToolCall { id, name, arguments })
    }
}
