//! What a conversation begins with: the options that `sample --chat`, `eval --chat`, `chat` and `train` share.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use tinkex::chat::{Conversation, Message, Role, Tool};

use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct ConversationOptions {
    /// System message of a conversation that has none.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Tools that the model may call, if the conversation does not say: a file with a JSON array of tools, as in OpenAI's API.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Chat template to use instead of the model's own: a built-in one, such as chatml or plain, a file, or an ID on the Hugging
    /// Face Hub.
    #[arg(long, value_name = "NAME|PATH|ID")]
    pub(crate) template: Option<String>,
    /// Argument of the chat template, such as enable_thinking=false; can be repeated. VALUE is JSON, or else a text.
    #[arg(long = "template-arg", value_name = "NAME=VALUE", value_parser = argument)]
    template_args: Vec<(String, Value)>,
}

impl ConversationOptions {
    /// What the options say of a conversation. Reads the file of tools.
    pub(crate) fn read(&self) -> Result<Beginning, Failure> {
        Ok(Beginning {
            system: self.system.clone(),
            tools: self.tools.as_deref().map_or(Ok(Vec::new()), read_tools)?,
            template_args: self.template_args.iter().cloned().collect(),
        })
    }
}

/// What a conversation has that does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Beginning {
    system: Option<String>,
    tools: Vec<Tool>,
    template_args: Map<String, Value>,
}

impl Beginning {
    pub(crate) fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The names of the arguments of the template.
    pub(crate) fn template_args(&self) -> impl Iterator<Item = &str> {
        self.template_args.keys().map(String::as_str)
    }

    /// A conversation of these messages.
    pub(crate) fn conversation(&self, messages: Vec<Message>) -> Conversation {
        self.complete(Conversation::from(messages))
    }

    /// Adds what the conversation does not have.
    pub(crate) fn complete(&self, mut conversation: Conversation) -> Conversation {
        let has_system =
            conversation.messages.iter().any(|message| matches!(message.role, Role::System | Role::Developer));
        if let Some(system) = self.system.as_ref().filter(|_| !has_system) {
            conversation.messages.insert(0, Message::system(system.as_str()));
        }
        if conversation.tools.is_empty() {
            conversation.tools.clone_from(&self.tools);
        }
        for (name, value) in &self.template_args {
            conversation.template_args.entry(name).or_insert_with(|| value.clone());
        }
        conversation
    }
}

fn argument(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let parsed = serde_json::from_str(value);
            Ok((name.to_owned(), parsed.unwrap_or_else(|_| Value::String(value.to_owned()))))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads the file of `--tools`: an array of tools, or an object that has them as `tools`.
pub(crate) fn read_tools(path: &Path) -> Result<Vec<Tool>, Failure> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read the tools {shown}: {error}")))?;
    tools_of(&text).map_err(|why| {
        Failure::usage(format!("{shown} has no tools: {why}")).hint(
            r#"expected a JSON array such as [{"type": "function", "function": {"name": "add", "description": "…", "parameters": {…}}}]"#,
        )
    })
}

fn tools_of(text: &str) -> Result<Vec<Tool>, String> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let list = match &mut file {
        Value::Object(object) => object.get_mut("tools").map(Value::take).ok_or("the object has no key \"tools\"")?,
        list => list.take(),
    };
    let tools: Vec<Tool> = serde_json::from_value(list).map_err(|error| error.to_string())?;
    match tools.iter().position(|tool| tool.name().is_none()) {
        Some(index) => Err(format!("tool {} has no name", index + 1)),
        None if tools.is_empty() => Err("the list is empty".to_owned()),
        None => Ok(tools),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn template_arguments_are_json_or_text() {
        let value = |text| argument(text).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(value("enable_thinking=false").unwrap(), "enable_thinking: false");
        assert_eq!(value("effort=low").unwrap(), "effort: \"low\"");
        assert_eq!(value("a=b=c").unwrap(), "a: \"b=c\"");
        assert!(value("x").is_err() && value("=x").is_err());
    }

    #[test]
    fn a_conversation_keeps_what_it_has() {
        let tool = |name| Tool::function(name, "", json!({}));
        let beginning = Beginning {
            system: Some("Be brief.".to_owned()),
            tools: vec![tool("a")],
            template_args: Map::from_iter([("x".to_owned(), json!(1)), ("y".to_owned(), json!(2))]),
        };
        let bare = beginning.conversation(vec![Message::user("Hi")]);
        assert_eq!(bare.messages, [Message::system("Be brief."), Message::user("Hi")]);
        assert_eq!((bare.tools.len(), &bare.template_args), (1, &beginning.template_args));

        let own = Conversation::from([Message::system("Be long.")]).tools([tool("b")]).template_arg("x", 7);
        let kept = beginning.complete(own.clone());
        assert_eq!((&kept.messages, &kept.tools), (&own.messages, &own.tools));
        assert_eq!(Value::Object(kept.template_args), json!({"x": 7, "y": 2}));
    }

    #[test]
    fn tools_are_a_list_with_names() {
        let list = r#"[{"type": "function", "function": {"name": "add"}}]"#;
        for text in [list.to_owned(), format!("\u{FEFF}{{\"tools\": {list}}}")] {
            assert_eq!(tools_of(&text).unwrap()[0].name(), Some("add"));
        }
        for (text, why) in [
            ("[]", "the list is empty"),
            ("{}", "no key \"tools\""),
            ("[{}]", "tool 1 has no name"),
            ("[1]", "invalid type"),
            ("x", "expected value"),
        ] {
            let error = tools_of(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
