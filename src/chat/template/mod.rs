//! Chat templates: a model's own format, as the text of a conversation.

mod builtin;
mod context;
mod engine;
pub(crate) mod package;
mod sources;

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::conversation::Conversation;
use super::tools::Tool;
use crate::clock::Clock;
use crate::error::Result;
pub(super) use context::Rendering;
use context::Variables;
use engine::Engine;

/// The format of a model's conversations: a Jinja template, as its tokenizer's package has it. Parsed once; cheap to clone.
///
/// ```
/// use tinkex::chat::{ChatTemplate, Conversation, Message};
///
/// let template = ChatTemplate::builtin("chatml")?;
/// let text = template.render(&Conversation::from([Message::user("Hi")]), true)?;
/// assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    parsed: Arc<Parsed>,
    /// The template for conversations with tools, if it is another one.
    with_tools: Option<Arc<Parsed>>,
    /// `bos_token`, `eos_token` and the like.
    special_tokens: Map<String, Value>,
    /// The time of `strftime_now`, if it is not the clock's.
    now: Option<SystemTime>,
}

#[derive(Debug)]
struct Parsed {
    source: String,
    engine: Engine,
    /// The key in which it reads a message's reasoning.
    reasoning_key: &'static str,
}

impl ChatTemplate {
    /// A template from its Jinja source.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a source that is not valid.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::chat::ChatTemplate;
    ///
    /// let template = ChatTemplate::new("{% for message in messages %}{{ message.content }}{% endfor %}")?;
    /// assert_eq!(template.source().len(), 62);
    /// let error = ChatTemplate::new("{% for message in messages %}").unwrap_err();
    /// assert!(error.to_string().starts_with("the chat template is not valid Jinja"), "{error}");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn new(source: impl Into<String>) -> Result<Self> {
        let source = source.into();
        let parsed = Parsed { engine: Engine::new(&source)?, reasoning_key: context::reasoning_key(&source), source };
        Ok(ChatTemplate { parsed: Arc::new(parsed), with_tools: None, special_tokens: Map::new(), now: None })
    }

    /// The Jinja source.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(tinkex::chat::ChatTemplate::builtin("plain")?.source().contains("add_generation_prompt"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn source(&self) -> &str {
        &self.parsed.source
    }

    /// The Jinja source for conversations with tools.
    pub(super) fn source_with_tools(&self) -> &str {
        &self.with_tools.as_ref().unwrap_or(&self.parsed).source
    }

    /// Sets a special token that the template reads, such as `eos_token`. A conversation's template arguments go first.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::chat::{ChatTemplate, Conversation};
    ///
    /// let template = ChatTemplate::new("{{ bos_token }}")?.special_token("bos_token", "<s>");
    /// assert_eq!(template.render(&Conversation::default(), false)?, "<s>");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn special_token(mut self, name: impl Into<String>, token: impl Into<String>) -> Self {
        self.special_tokens.insert(name.into(), Value::String(token.into()));
        self
    }

    pub(super) fn has_special_token(&self, name: &str) -> bool {
        self.special_tokens.contains_key(name)
    }

    /// Sets the time that the template's dates are made of (`strftime_now`); the current time if it is not set. Dates are those of
    /// UTC, so that a conversation gives the same text everywhere.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use tinkex::chat::{ChatTemplate, Conversation};
    ///
    /// let template = ChatTemplate::new("Today is {{ strftime_now('%d %B %Y') }}.")?;
    /// let new_year = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    /// assert_eq!(template.now(new_year).render(&Conversation::default(), false)?, "Today is 01 January 2026.");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn now(mut self, now: SystemTime) -> Self {
        self.now = Some(now);
        self
    }

    /// The text of a conversation as the template has it: strings that look like special tokens are not marked, and arguments of
    /// tool calls are given as they are.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a conversation that the template refuses or fails on, and for a template
    /// that works without end: it is stopped after 20 million instructions (about a second), 64 MiB of
    /// text, 256 MiB of texts and lists that it makes on the way, or 2 GiB of them that its filters and methods read.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::chat::{ChatTemplate, Conversation, Message};
    ///
    /// let template = ChatTemplate::new(
    ///     "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}\
    ///      {% if add_generation_prompt %}<|assistant|>{% endif %}",
    /// )?;
    /// let conversation = Conversation::from([Message::user("Hi")]);
    /// assert_eq!(template.render(&conversation, true)?, "<|user|>Hi<|assistant|>");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[doc(alias = "apply_chat_template")]
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String> {
        let Conversation { messages, tools, template_args } = conversation;
        self.render_messages(Rendering { messages, tools, template_args, add_generation_prompt, now: self.time() })
    }

    /// Whether the template that a conversation is written with has this name in its expressions. If it has not, a variable with this
    /// name changes nothing.
    #[cfg(feature = "pretrained")]
    pub(crate) fn has_name(&self, conversation: &Conversation, name: &str) -> bool {
        engine::has_name(&self.parsed_for(&conversation.tools).source, name)
    }

    /// The template for conversations with these tools.
    fn parsed_for(&self, tools: &[Tool]) -> &Parsed {
        self.with_tools.as_ref().filter(|_| !tools.is_empty()).unwrap_or(&self.parsed)
    }

    /// The time that is set, or the current one.
    pub(super) fn time(&self) -> SystemTime {
        self.now.unwrap_or_else(|| Clock::system().wall())
    }

    pub(super) fn render_messages(&self, rendering: Rendering<'_>) -> Result<String> {
        let parsed = self.parsed_for(rendering.tools);
        let special_tokens = &self.special_tokens;
        let variables = Variables { special_tokens, reasoning_key: parsed.reasoning_key, rendering };
        parsed.engine.render(variables.value()?)
    }
}
