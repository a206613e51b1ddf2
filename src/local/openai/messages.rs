//! The messages and tools of a chat request as a conversation.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::parameters::Parameters;
use crate::chat::{Conversation, Message, Role, Tool};

/// The conversation of these messages.
pub(super) fn conversation(messages: Vec<Map<String, Value>>) -> Result<Conversation, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "is an empty list: give at least one message"));
    }
    let messages = messages.into_iter().enumerate().map(|(index, message)| self::message(index, message));
    Ok(Conversation::new(messages.collect::<Result<Vec<_>, _>>()?))
}

fn message(index: usize, mut message: Map<String, Value>) -> Result<Message, ApiError> {
    let name = |field: &str| format!("messages[{index}]{field}");
    // Programs send back what they got, with a null for what a message does not have. No content stays: templates tell it from "".
    message.retain(|field, value| field == "content" || !value.is_null());
    if message.contains_key("function_call") {
        return Err(ApiError::unsupported(name(".function_call"), "functions are not supported: use tools"));
    }
    if let Some(Value::Array(parts)) = message.get("content") {
        for (part_index, part) in parts.iter().enumerate() {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("of no type");
            if kind != "text" || !part["text"].is_string() {
                let param = name(&format!(".content[{part_index}]"));
                return Err(ApiError::unsupported(param, format!("a part {kind} is not supported: send text alone")));
            }
        }
    }
    let message: Message = serde_json::from_value(Value::Object(message))
        .map_err(|error| ApiError::invalid(name(""), format!("is not a message: {error}")))?;
    if let Role::Other(role) = &message.role {
        let roles = "system, developer, user, assistant or tool";
        return Err(ApiError::invalid(name(".role"), format!("{role:?} is no role: use {roles}")));
    }
    Ok(message)
}

/// The tools that the model may call.
pub(super) fn tools(parameters: &mut Parameters) -> Result<Vec<Tool>, ApiError> {
    let tools = parameters.take::<Vec<Map<String, Value>>>("tools", "a list of tools")?.unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or("of no type");
        if kind != "function" {
            return Err(ApiError::unsupported(
                format!("tools[{index}]"),
                format!("{kind} is not supported: use functions"),
            ));
        }
        if !tool.get("function").is_some_and(|function| function["name"].is_string()) {
            return Err(ApiError::invalid(format!("tools[{index}].function.name"), "is missing: it must be a text"));
        }
    }
    let tools: Vec<Tool> = serde_json::from_value(tools.into_iter().map(Value::Object).collect())
        .map_err(|error| ApiError::invalid("tools", error.to_string()))?;
    match parameters.take::<Value>("tool_choice", "a text")? {
        None => Ok(tools),
        Some(Value::String(choice)) if choice == "auto" => Ok(tools),
        Some(Value::String(choice)) if choice == "none" => Ok(Vec::new()),
        Some(choice) => {
            Err(ApiError::unsupported("tool_choice", format!("{choice} is not supported: use \"auto\" or \"none\"")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Conversation, String> {
        let messages = serde_json::from_value(messages).unwrap();
        conversation(messages).map_err(|error| error.to_json()["error"]["param"].as_str().unwrap().to_owned())
    }

    #[test]
    fn messages_are_read_as_openai_writes_them() {
        let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } });
        let conversation = read(json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "Hi" }], "name": "ann" },
            { "role": "assistant", "content": null, "tool_calls": [call], "refusal": null, "audio": null },
            { "role": "tool", "tool_call_id": "c", "content": "7" },
        ]))
        .unwrap();
        assert_eq!(conversation.messages[1].text(), "Hi");
        let calling = &conversation.messages[2];
        assert_eq!((calling.tool_calls[0].name.as_str(), calling.others.len()), ("f", 0));
        assert_eq!(conversation.messages[3].tool_call_id.as_deref(), Some("c"));
    }

    #[test]
    fn what_is_no_text_is_refused_by_place() {
        let image = json!({ "type": "image_url", "image_url": { "url": "data:," } });
        let text = json!({ "type": "text", "text": "What is it?" });
        for (messages, param) in [
            (json!([]), "messages"),
            (json!([{ "content": "Hi" }]), "messages[0]"),
            (json!([{ "role": "user", "content": [text, image] }]), "messages[0].content[1]"),
            (json!([{ "role": "user", "content": [{ "type": "text" }] }]), "messages[0].content[0]"),
            (json!([{ "role": "user", "content": "Hi" }, { "role": "function", "content": "" }]), "messages[1].role"),
            (json!([{ "role": "assistant", "function_call": {} }]), "messages[0].function_call"),
        ] {
            assert_eq!(read(messages.clone()), Err(param.to_owned()), "{messages}");
        }
    }

    #[test]
    fn the_model_chooses_among_functions() {
        let read = |body: Value| {
            let tools = tools(&mut Parameters::parse(body.to_string().as_bytes()).unwrap());
            tools
                .map(|tools| tools.len())
                .map_err(|error| error.to_json()["error"]["param"].as_str().unwrap().to_owned())
        };
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": {} } });
        let specific = json!({ "type": "function", "function": { "name": "f" } });
        for (body, expected) in [
            (json!({}), Ok(0)),
            (json!({ "tools": [tool] }), Ok(1)),
            (json!({ "tools": [tool], "tool_choice": "auto" }), Ok(1)),
            (json!({ "tools": [tool], "tool_choice": "none" }), Ok(0)),
            (json!({ "tools": [tool], "tool_choice": "required" }), Err("tool_choice")),
            (json!({ "tools": [tool], "tool_choice": specific }), Err("tool_choice")),
            (json!({ "tools": [{ "type": "web_search" }] }), Err("tools[0]")),
            (json!({ "tools": [{ "type": "function", "function": {} }] }), Err("tools[0].function.name")),
        ] {
            assert_eq!(read(body.clone()), expected.map_err(str::to_owned), "{body}");
        }
    }
}
