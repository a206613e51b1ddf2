//! What a tokenizer's package says of a chat template.

use serde_json::{Map, Value};

use super::ChatTemplate;
use crate::error::{Error, ErrorKind, Result};

pub(super) const TEMPLATE: &str = "chat_template.jinja";
pub(super) const CONFIG: &str = "tokenizer_config.json";

/// The name of the template for conversations, and that of the one for conversations with tools.
const NAMES: [&str; 2] = ["default", "tool_use"];

/// The special tokens of a `tokenizer_config.json` that templates may read.
pub(super) fn special_tokens(config: &Map<String, Value>) -> Map<String, Value> {
    let extra = config.get("extra_special_tokens").and_then(Value::as_object);
    let tokens = config.iter().filter(|(name, _)| name.ends_with("_token")).chain(extra.into_iter().flatten());
    let mut tokens: Map<String, Value> =
        tokens.filter_map(|(name, token)| Some((name.clone(), token_text(token)?.into()))).collect();
    if let Some(additional) = config.get("additional_special_tokens").and_then(Value::as_array) {
        let additional: Vec<Value> = additional.iter().filter_map(token_text).map(Value::from).collect();
        tokens.insert("additional_special_tokens".to_owned(), additional.into());
    }
    tokens
}

/// A token: a text, or an object with its text as `content`.
fn token_text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// The sources of templates by name, as a `tokenizer_config.json` has them.
fn named_sources(config: &Map<String, Value>) -> Vec<(String, String)> {
    match config.get("chat_template") {
        Some(Value::String(source)) => vec![(NAMES[0].to_owned(), source.clone())],
        Some(Value::Array(named)) => {
            let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            named.iter().filter_map(|entry| Some((text(entry, "name")?, text(entry, "template")?))).collect()
        }
        _ => Vec::new(),
    }
}

/// The template of a package that has these files; `None` if it has none. `shown` says where they are.
pub(crate) fn template(shown: &str, template: Option<&[u8]>, config: Option<&[u8]>) -> Result<Option<ChatTemplate>> {
    let config = config.map(|config| object(shown, config)).transpose()?.unwrap_or_default();
    let sources = match template {
        Some(source) => vec![(NAMES[0].to_owned(), text(shown, source)?)],
        None => named_sources(&config),
    };
    of_sources(shown, &sources, special_tokens(&config))
}

/// The template for conversations among those with names, with the one for conversations with tools.
pub(super) fn of_sources(
    shown: &str,
    sources: &[(String, String)],
    special_tokens: Map<String, Value>,
) -> Result<Option<ChatTemplate>> {
    let [default, with_tools] = NAMES.map(|name| sources.iter().find(|(known, _)| known == name));
    let default = match (default, sources) {
        (_, []) => return Ok(None),
        (Some(default), _) => default,
        (None, [only]) => only,
        (None, _) => {
            let names: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
            let message =
                format!("{shown} has the chat templates {}, and none of them is its default", names.join(", "));
            return Err(Error::invalid_input(message).with_hint("save the one you want as a file, and use its path"));
        }
    };
    let parsed = |source: &str| ChatTemplate::new(source).map_err(|error| error.with_detail(format!("of {shown}")));
    let mut template = parsed(&default.1)?;
    template.special_tokens = special_tokens;
    if let Some((_, source)) = with_tools {
        template.with_tools = Some(parsed(source)?.parsed);
    }
    Ok(Some(template))
}

/// The text of a file.
pub(super) fn text(shown: &str, bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("the chat template of {shown} is not text in UTF-8");
        Error::new(ErrorKind::Decode, message).with_source(error)
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// The JSON object of a file.
pub(super) fn object(shown: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("the JSON of {shown} cannot be read: {error}");
        Error::new(ErrorKind::Decode, message).with_hint("download it again, or correct it").with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{of_sources, template};
    use crate::chat::{Conversation, Message, Tool};

    #[test]
    fn special_tokens_are_texts_or_objects() {
        let config = json!({
            "chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}|{{ additional_special_tokens }}",
            "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
            "extra_special_tokens": {"image_token": "<image>"}, "additional_special_tokens": ["<a>", {"content": "<b>"}],
        });
        let template = template("here", None, Some(config.to_string().as_bytes())).unwrap().unwrap();
        assert_eq!(template.render(&Conversation::default(), false).unwrap(), "<s>|</s>||<image>|['<a>', '<b>']");
    }

    #[test]
    fn tools_choose_the_template_for_them() {
        let config = json!({"chat_template": [
            {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools[0].function.name }}"},
            {"name": "rag", "template": "rag"},
        ]});
        let template = template("here", None, Some(config.to_string().as_bytes())).unwrap().unwrap();
        let conversation = Conversation::from([Message::user("Hi")]);
        assert_eq!(template.render(&conversation, true).unwrap(), "plain");
        assert_eq!(template.render(&conversation.tools([Tool::function("add", "", json!({}))]), true).unwrap(), "add");
    }

    #[test]
    fn file_wins_over_configuration() {
        let config = br#"{"chat_template": "config", "eos_token": "</s>"}"#;
        let template = template("here", Some("\u{feff}file{{ eos_token }}".as_bytes()), Some(config)).unwrap().unwrap();
        assert_eq!(template.source(), "file{{ eos_token }}");
        assert_eq!(template.render(&Conversation::default(), false).unwrap(), "file</s>");
    }

    #[test]
    fn bad_packages_are_refused_by_name() {
        assert!(template("here", None, None).unwrap().is_none());
        assert!(template("here", None, Some(b"{\"chat_template\": null}")).unwrap().is_none());
        let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), String::new())).collect::<Vec<_>>();
        assert!(of_sources("here", &named(&["only"]), serde_json::Map::new()).unwrap().is_some());
        let error = of_sources("here", &named(&["rag", "other"]), serde_json::Map::new()).unwrap_err();
        assert!(error.to_string().contains("here has the chat templates rag, other"), "{error}");
        for (template_file, config) in
            [(None, b"{".as_slice()), (Some(b"\xff".as_slice()), b"{}"), (Some(b"{% if".as_slice()), b"{}")]
        {
            let error = template("here", template_file, Some(config)).unwrap_err();
            assert!(error.to_string().contains("here"), "{error}");
        }
    }
}
