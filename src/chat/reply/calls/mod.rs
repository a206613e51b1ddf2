//! Calls of tools in a reply.

mod python;
mod tagged;
mod values;

use serde_json::Value;

use super::codes::Codes;
use crate::chat::syntax::Calls;
use crate::chat::tools::{Tool, ToolCall};

/// The calls in the coded text of a block. All or none: a block with a broken call has none.
pub(super) fn read(calls: Calls, coded: &str, codes: &Codes, tools: &[Tool]) -> Result<Vec<ToolCall>, String> {
    if let Some(token) = codes.structural_token(coded).filter(|token| !is_mark_of(calls, token)) {
        return Err(format!("{token} is not expected in a tool call"));
    }
    let found = match calls {
        Calls::Json => json_calls(&codes.plain(coded)),
        Calls::Bare => Ok(vec![call_of_json(&codes.plain(coded), &["parameters", "arguments"])?]),
        Calls::Python => python::calls(&codes.plain(coded)),
        Calls::Xml => tagged::xml(coded, codes, tools).map(|call| vec![call]),
        Calls::Glm => tagged::glm(coded, codes, tools).map(|call| vec![call]),
        Calls::Dsml => tagged::dsml(coded, codes),
        Calls::Kimi => tagged::kimi(coded, codes),
        Calls::DeepSeek => tagged::deepseek(coded, codes),
    }?;
    if found.is_empty() { Err("a block of tool calls has none".to_owned()) } else { Ok(found) }
}

/// Whether a special token is part of a block of this kind.
fn is_mark_of(calls: Calls, token: &str) -> bool {
    match calls {
        Calls::Kimi => token.starts_with("<|tool_call"),
        Calls::DeepSeek => token.starts_with("<｜tool"),
        Calls::Dsml => token == "｜DSML｜",
        Calls::Glm => token.contains("arg_"),
        Calls::Json | Calls::Xml | Calls::Python | Calls::Bare => false,
    }
}

/// Whether a token is part of calls alone, so that it has no place outside of a block. What begins a block has.
pub(super) fn is_in_block(calls: Calls, token: &str) -> bool {
    match calls {
        Calls::Json | Calls::Xml => token == "</tool_call>",
        Calls::Glm => token == "</tool_call>" || is_mark_of(calls, token),
        Calls::Python => token == "<|tool_call_end|>",
        Calls::Kimi | Calls::DeepSeek | Calls::Dsml | Calls::Bare => is_mark_of(calls, token),
    }
}

/// A call, or several in an array.
fn json_calls(text: &str) -> Result<Vec<ToolCall>, String> {
    match parsed(text)? {
        Value::Array(calls) => {
            calls.into_iter().map(|call| call_of_value(call, &["arguments", "parameters"])).collect()
        }
        call => Ok(vec![call_of_value(call, &["arguments", "parameters"])?]),
    }
}

/// The call `{"name": …, KEY: {…}}`, where the key is one of these.
pub(super) fn call_of_json(text: &str, keys: &[&str]) -> Result<ToolCall, String> {
    call_of_value(parsed(text)?, keys)
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("a tool call is not JSON: {error}"))
}

fn call_of_value(call: Value, keys: &[&str]) -> Result<ToolCall, String> {
    let Value::Object(mut call) = call else { return Err("a tool call is no JSON object".to_owned()) };
    let name = match call.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => return Err("a tool call has no name".to_owned()),
    };
    let arguments = keys.iter().find_map(|key| call.shift_remove(*key));
    // A call may have no arguments, but not some under another key.
    if let Some(key) = call.keys().find(|key| arguments.is_none() && !matches!(key.as_str(), "name" | "type" | "id")) {
        return Err(format!("the call of {name:?} has {key:?} and no arguments"));
    }
    match arguments.unwrap_or_else(|| Value::Object(serde_json::Map::new())) {
        arguments @ Value::Object(_) => Ok(ToolCall::new(name, arguments)),
        Value::String(text) => Ok(ToolCall::new(name.clone(), object(&text, &name)?)),
        _ => Err(format!("the arguments of the call of {name:?} are no JSON object")),
    }
}

/// The arguments of a call, as JSON.
fn object(text: &str, name: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(arguments @ Value::Object(_)) => Ok(arguments),
        Ok(_) => Err(format!("the arguments of the call of {name:?} are no JSON object")),
        Err(error) => Err(format!("the arguments of the call of {name:?} are not JSON: {error}")),
    }
}

/// A whole reply that is a call of one of the tools. Without such a tool, it is a text, and so is what says more than a call: the
/// declaration of a tool has a name and parameters, too.
pub(super) fn bare_call(text: &str, tools: &[Tool]) -> Option<ToolCall> {
    let value = parsed(text).ok()?;
    let is_of_call = |key: &String| matches!(key.as_str(), "type" | "name" | "parameters");
    if value.get("parameters").is_none() || !value.as_object()?.keys().all(is_of_call) {
        return None;
    }
    let call = call_of_value(value, &["parameters"]).ok()?;
    tools.iter().any(|tool| tool.name() == Some(&call.name)).then_some(call)
}
