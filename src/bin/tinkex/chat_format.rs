//! `--template`: which chat template `train`, `sample`, `eval` and `chat` use.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinkex::chat::{ChatTemplate, Conversation, ExampleNote, Prompt, Renderer};
use tinkex::{Tokenizer, TokenizerSource};

use crate::conversation_options::Beginning;
use crate::failure::Failure;

/// The program's own format, for models whose tokenizer has no chat template.
const PLAIN: &str = "plain";

/// Begins the digest in the identity of a template.
const DIGEST: &str = "sha256:";

/// The format of a model's conversations.
#[derive(Clone, Debug)]
pub(crate) struct ChatFormat {
    pub(crate) template: ChatTemplate,
    pub(crate) origin: Origin,
}

/// Where a template comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--template` names one that the library brings along.
    Named(String),
    /// `--template` is a path.
    Path(String),
    /// The tokenizer with this ID or path has it.
    Tokenizer(String),
    /// The tokenizer with this ID or path has none.
    None(String),
}

/// What tells a template from others: `sha256:…`, or `chatml sha256:…` for a built-in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Identity(String);

impl Identity {
    /// The plain format, as earlier versions of the program recorded it.
    pub(crate) fn plain() -> Self {
        Identity(PLAIN.to_owned())
    }

    /// The name of a built-in template.
    pub(crate) fn name(&self) -> Option<&str> {
        let name = self.0.split(' ').next().unwrap_or_default();
        (!name.starts_with(DIGEST)).then_some(name)
    }

    /// Whether it is that of a template which is recorded as this. Earlier versions recorded the name of a built-in one only.
    pub(crate) fn is_recorded_as(&self, recorded: &Identity) -> bool {
        self == recorded || (self.name().is_some() && self.name() == Some(recorded.0.as_str()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Named(name) if name == PLAIN => f.write_str("the plain format (`User: …`)"),
            Origin::Named(name) => write!(f, "the built-in template {name}"),
            Origin::Path(path) => write!(f, "the template {path}"),
            Origin::Tokenizer(id) => write!(f, "the chat template of {id}"),
            Origin::None(id) => {
                write!(f, "the plain format (`User: …`), since the tokenizer {id} has no chat template")
            }
        }
    }
}

impl ChatFormat {
    /// Tells it from other templates: the digest of its source, after the name of a built-in one.
    pub(crate) fn identity(&self) -> Identity {
        let digest = Sha256::digest(self.template.source());
        let digest = format!("{DIGEST}{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Identity(match &self.origin {
            Origin::Named(name) => format!("{name} {digest}"),
            Origin::None(_) => format!("{PLAIN} {digest}"),
            Origin::Path(_) | Origin::Tokenizer(_) => digest,
        })
    }

    /// Whether the template may read this variable, or this key of a message.
    pub(crate) fn reads(&self, key: &str) -> bool {
        self.template.source().contains(key)
    }

    /// Checks that the template has a place for the tools of a conversation, and for its calls of them.
    pub(crate) fn check(&self, conversation: &Conversation) -> Result<(), String> {
        let has_calls = conversation.messages.iter().any(|message| !message.tool_calls.is_empty());
        let parts = [("tools", "tools", !conversation.tools.is_empty()), ("calls of tools", "tool_calls", has_calls)];
        match parts.into_iter().find(|(_, key, is_there)| *is_there && !self.reads(key)) {
            None => Ok(()),
            Some((what, ..)) => {
                let origin = &self.origin;
                Err(format!("the conversation has {what}, which {origin} leaves out; pass another --template"))
            }
        }
    }

    /// The messages of which the template leaves out a call of a tool in a prompt, in words.
    pub(crate) fn calls_left_out(&self, messages: impl IntoIterator<Item = usize>) -> Option<String> {
        let numbers: Vec<_> = messages.into_iter().map(|message| (message + 1).to_string()).collect();
        let noun = if numbers.len() == 1 { "message" } else { "messages" };
        let origin = &self.origin;
        (!numbers.is_empty()).then(|| format!("{origin} leaves out calls of tools of {noun} {}", numbers.join(", ")))
    }

    /// Checks that the options for conversations mean something to the template.
    pub(crate) fn check_options(&self, beginning: &Beginning) -> Result<(), Failure> {
        let has_unread_tools = !beginning.tools().is_empty() && !self.reads("tools");
        let option = match beginning.template_args().find(|name| !self.reads(name)) {
            _ if has_unread_tools => "--tools".to_owned(),
            Some(name) => format!("--template-arg {name}"),
            None => return Ok(()),
        };
        Err(Failure::usage(format!("{option} would change nothing: {} does not read it", self.origin))
            .hint("leave it out, or pass another --template"))
    }

    /// What makes prompts and examples in this format, and reads replies.
    pub(crate) fn renderer(&self, tokenizer: &Tokenizer) -> Result<Renderer, Failure> {
        Ok(Renderer::new(self.template.clone(), tokenizer.clone())?)
    }
}

/// The messages of which a prompt leaves out a call of a tool.
pub(crate) fn without_calls(prompt: &Prompt) -> impl Iterator<Item = usize> + '_ {
    prompt.notes.iter().filter_map(|note| match note {
        ExampleNote::ToolCallsLeftOut { message } => Some(*message),
        _ => None,
    })
}

/// Finds the template that `--template` names: one that the library brings along, a path, or the ID of a tokenizer that has one.
/// Without the option, that of the model's tokenizer, or the plain format if that has none. `source` is where the tokenizer is from.
pub(crate) fn find(
    choice: Option<&str>,
    tokenizer: &Tokenizer,
    source: &TokenizerSource,
) -> Result<ChatFormat, Failure> {
    let (template, origin) = match choice {
        Some(name) => chosen(name, source)?,
        None => match of_tokenizer(tokenizer.id(), source)? {
            Some(template) => (template, Origin::Tokenizer(tokenizer.id().to_owned())),
            None => (ChatTemplate::builtin(PLAIN)?, Origin::None(tokenizer.id().to_owned())),
        },
    };
    Ok(ChatFormat { template, origin })
}

fn chosen(name: &str, source: &TokenizerSource) -> Result<(ChatTemplate, Origin), Failure> {
    let unknown = match ChatTemplate::builtin(name) {
        Ok(template) => return Ok((template, Origin::Named(name.to_owned()))),
        Err(error) => error,
    };
    if Path::new(name).exists() {
        return Ok((ChatTemplate::from_path(name)?, Origin::Path(name.to_owned())));
    }
    if !name.contains('/') {
        return Err(Failure::from(unknown).add_hint("or pass an existing file, or an ID such as organization/name"));
    }
    let template =
        of_tokenizer(name, source).map_err(|failure| failure.subject(&format!("there is no file {name}")))?;
    match template {
        Some(template) => Ok((template, Origin::Tokenizer(name.to_owned()))),
        None => Err(Failure::usage(format!("{name} is no file, and no tokenizer with a chat template"))
            .hint("pass the path of a template, or the name of a built-in one, such as chatml or plain")),
    }
}

/// The template of a tokenizer's package.
fn of_tokenizer(id: &str, source: &TokenizerSource) -> Result<Option<ChatTemplate>, Failure> {
    let template = ChatTemplate::load(id, source);
    template.map_err(|error| Failure::from(error).add_hint("or pass a chat template with --template"))
}

#[cfg(test)]
mod tests {
    use tinkex::chat::{Conversation, Message};

    use super::*;

    fn source() -> TokenizerSource {
        TokenizerSource::from_env_with(|_| None).endpoint("http://127.0.0.1:1")
    }

    #[test]
    fn a_tokenizer_without_template_gets_plain() {
        let format = find(None, &Tokenizer::bytes(), &source()).unwrap();
        assert_eq!(format.identity().name(), Some(PLAIN));
        assert_eq!(
            format.origin.to_string(),
            "the plain format (`User: …`), since the tokenizer bytes has no chat template"
        );
        let chat = Conversation::from([Message::user("Hi"), Message::assistant("Hello"), Message::user("Bye")]);
        assert_eq!(
            format.renderer(&Tokenizer::bytes()).unwrap().prompt(&chat).unwrap().text,
            "User: Hi\n\nAssistant: Hello<|endoftext|>\n\nUser: Bye\n\nAssistant:"
        );
    }

    #[test]
    fn a_template_is_a_name_or_path() {
        let plain = find(Some("plain"), &Tokenizer::bytes(), &source()).unwrap();
        assert_eq!(
            (plain.identity().name(), plain.origin.to_string().as_str()),
            (Some(PLAIN), "the plain format (`User: …`)")
        );
        let unknown = find(Some("nope"), &Tokenizer::bytes(), &source()).unwrap_err();
        assert!(unknown.message().contains("\"nope\""), "{unknown:?}");
        assert!(unknown.hint_text().contains("pass an existing file"), "{unknown:?}");
        let missing = find(Some("not an/ID"), &Tokenizer::bytes(), &source()).unwrap_err();
        assert!(missing.message().contains("no file") && missing.message().contains("not an/ID"), "{missing:?}");
    }

    #[test]
    fn identities_tell_sources_apart() {
        let identity = |text: &str| Identity(text.to_owned());
        let chatml = find(Some("chatml"), &Tokenizer::bytes(), &source()).unwrap().identity();
        assert_eq!(chatml, find(Some("chatml"), &Tokenizer::bytes(), &source()).unwrap().identity());
        assert!(chatml.0.starts_with("chatml sha256:"), "{chatml:?}");
        for (now, recorded, is_same) in [
            ("plain sha256:ab", "plain sha256:ab", true),
            ("plain sha256:ab", "plain sha256:cd", false),
            // Of an earlier version.
            ("plain sha256:ab", "plain", true),
            ("plain sha256:ab", "chatml", false),
            ("sha256:ab", "sha256:ab", true),
            ("sha256:ab", "sha256:cd", false),
            ("sha256:ab", "plain sha256:ab", false),
        ] {
            assert_eq!(identity(now).is_recorded_as(&identity(recorded)), is_same, "{now} {recorded}");
        }
    }
}
