//! Arguments that are written as plain text: what their types are.

use serde_json::Value;

use crate::chat::tools::Tool;

/// The schema of a function's parameter, if the tools have it.
pub(super) fn schema<'a>(tools: &'a [Tool], name: &str, key: &str) -> Option<&'a Value> {
    let tool = tools.iter().find(|tool| tool.name() == Some(name))?.as_json();
    let function = tool.get("function").and_then(Value::as_object).unwrap_or(tool);
    function.get("parameters")?.get("properties")?.get(key)
}

/// The value that a text stands for: of a type that the schema allows; without one, JSON is taken as JSON, except for a string.
pub(super) fn value(text: &str, schema: Option<&Value>) -> Value {
    let types = schema.map(types).unwrap_or_default();
    let allows = |name: &str| types.is_empty() || types.contains(&name);
    let found = match serde_json::from_str::<Value>(text) {
        Ok(value) => Some(value),
        // Some templates write them as Python does.
        Err(_) if types.is_empty() => None,
        Err(_) => match text {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            _ => None,
        },
    };
    let fits = |value: &Value| match value {
        // What can be no text is left out.
        Value::Null => allows("null") || !allows("string"),
        Value::Bool(_) => allows("boolean"),
        Value::Number(number) => allows("number") || (allows("integer") && (number.is_i64() || number.is_u64())),
        Value::Array(_) => allows("array"),
        Value::Object(_) => allows("object"),
        Value::String(_) => false,
    };
    found.filter(fits).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The types that a schema allows; empty if it does not say.
fn types(schema: &Value) -> Vec<&str> {
    if let Some(Value::Array(values)) = schema.get("enum") {
        if schema.get("type").is_none() {
            return values.iter().map(type_of).collect();
        }
    }
    match (schema.get("type"), schema.get("anyOf").or_else(|| schema.get("oneOf"))) {
        (Some(Value::String(name)), _) => vec![name],
        (Some(Value::Array(names)), _) => names.iter().filter_map(Value::as_str).collect(),
        (_, Some(Value::Array(schemas))) => {
            let each: Vec<Vec<&str>> =
                schemas.iter().map(|schema| schema.get("type").map_or(vec![], |_| types(schema))).collect();
            if each.iter().any(Vec::is_empty) { vec![] } else { each.concat() }
        }
        _ => vec![],
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_has_the_type_of_its_schema() {
        let string = json!({"type": "string"});
        let either = json!({"type": ["integer", "null"]});
        let any_of = json!({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {}}]});
        let names = json!({"enum": ["1", "2"]});
        for (text, schema, expected) in [
            ("1.5", None, json!(1.5)),
            ("celsius", None, json!("celsius")),
            ("\"quoted\"", None, json!("\"quoted\"")),
            ("None", None, json!("None")),
            ("true", Some(&string), json!("true")),
            ("7", Some(&either), json!(7)),
            ("7.5", Some(&either), json!("7.5")),
            ("None", Some(&either), json!(null)),
            ("null", Some(&json!({"type": "number"})), json!(null)),
            ("null", Some(&string), json!("null")),
            ("False", Some(&any_of), json!(false)),
            ("[1, \"a\"]", Some(&any_of), json!([1, "a"])),
            ("1", Some(&any_of), json!("1")),
            ("1", Some(&names), json!("1")),
            ("{\"a\": 1}", Some(&json!({})), json!({"a": 1})),
        ] {
            assert_eq!(value(text, schema), expected, "{text} {schema:?}");
        }
    }

    #[test]
    fn both_forms_of_tools_have_schemas() {
        let parameters = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let tools = [
            Tool::function("f", "", parameters.clone()),
            serde_json::from_value(json!({"name": "g", "parameters": parameters})).unwrap(),
        ];
        assert!(schema(&tools, "f", "a").is_some() && schema(&tools, "g", "a").is_some());
        assert!(schema(&tools, "f", "b").is_none() && schema(&tools, "h", "a").is_none());
    }
}
