//! Conversations as prompts and training examples.

mod completions;
mod encoder;
mod examples;
mod habits;
mod script;
mod whole;

use completions::Spans;
use encoder::{Encoder, Images};
pub use examples::{Cut, ExampleNote, TrainingExample, TrainingExamples};
use habits::Habits;
use script::Script;
use whole::Frame;

use super::conversation::Conversation;
use super::literal::{Marker, without_marks};
use super::message::{Message, Role};
use super::reply::{Reply, ReplyFormat, ReplyParser, ReplyStart};
use super::syntax::ReplySyntax;
use super::template::ChatTemplate;
use super::tools::Tool;
use super::train_on::TrainOn;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::types::{ModelInput, Stop};

/// Makes prompts and training examples of conversations in a model's own format, and reads its replies. Cheap to clone.
///
/// What a message says is text: a special token that a user writes, such as `<|im_end|>`, is encoded as text, and so is one that
/// the tokenizer does not flag as special, such as `<think>`, except in the assistant's messages.
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
///
/// let tokenizer = Tokenizer::bytes();
/// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, tokenizer.clone())?;
/// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello!")]);
///
/// let examples = renderer.examples(&conversation, TrainOn::AllAssistantMessages)?.examples;
/// let tokens = examples[0].weighted_tokens();
/// assert_eq!(tokenizer.decode(tokens.tokens())?, "User: Hi\n\nAssistant: Hello!");
/// // The reply and the token that ends it.
/// assert_eq!(tokens.trained_len(), " Hello!".len() + 1);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Renderer {
    template: ChatTemplate,
    tokenizer: Tokenizer,
    syntax: ReplySyntax,
    replies: ReplyFormat,
    habits: Habits,
    encoder: Encoder,
    marker: Marker,
    special_tokens_in_text: bool,
    max_example_tokens: Option<usize>,
    frame: Frame,
}

/// A prompt for a model's next reply. [`Renderer::prompt`] makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prompt {
    /// The tokens and images.
    pub input: ModelInput,
    /// The text, where each image has the place that the template gives it.
    pub text: String,
    /// What the caller should know about it: the messages of which the template leaves out a call of a tool. Reasoning of earlier
    /// replies is left out by most templates, and is not noted.
    pub notes: Vec<ExampleNote>,
    prefill: String,
    tools: Vec<Tool>,
}

impl Renderer {
    /// A renderer for a model with this template and tokenizer. A template without `eos_token` gets the tokenizer's.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a template that does not fit the tokenizer.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// assert_eq!(renderer.tokenizer().id(), "bytes");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn new(mut template: ChatTemplate, tokenizer: Tokenizer) -> Result<Self> {
        let eos_token = tokenizer.eos_token().and_then(|id| tokenizer.id_to_token(id));
        if let Some(eos_token) = eos_token.filter(|_| !template.has_special_token("eos_token")) {
            template = template.special_token("eos_token", eos_token);
        }
        let syntax = ReplySyntax::of(&template);
        Ok(Renderer {
            replies: ReplyFormat::new(&template, &syntax, &tokenizer),
            syntax,
            habits: Habits::of(&template),
            encoder: Encoder::new(&tokenizer),
            marker: Marker::new(&tokenizer),
            special_tokens_in_text: false,
            max_example_tokens: None,
            frame: Frame::of(&template),
            template,
            tokenizer,
        })
    }

    /// Sets whether the text of a special token in a message becomes that token, as with Hugging Face's `apply_chat_template`.
    /// By default it stays text. Allow it for messages that you trust only.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("<|endoftext|>")]);
    /// assert!(!renderer.prompt(&conversation)?.input.to_tokens()?.contains(&256));
    /// let renderer = renderer.special_tokens_in_text(true);
    /// assert!(renderer.prompt(&conversation)?.input.to_tokens()?.contains(&256));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn special_tokens_in_text(mut self, allowed: bool) -> Self {
        self.special_tokens_in_text = allowed;
        self
    }

    /// Sets how many tokens of a training example matter, for conversations of any size. Of a longer example only the first
    /// `max_tokens + 1` tokens are encoded, and the last image whole: cut it with [`TrainingExample::truncate`]. By default all
    /// examples are whole.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?.max_example_tokens(100);
    /// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Ha".repeat(1_000_000))]);
    /// let mut example = renderer.examples(&conversation, TrainOn::default())?.examples.remove(0);
    /// assert_eq!(example.weighted_tokens().len(), 101);
    /// assert!(example.truncate(100).is_some_and(|cut| cut.is_at_least));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn max_example_tokens(mut self, max_tokens: usize) -> Self {
        self.max_example_tokens = Some(max_tokens);
        self
    }

    /// The template.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// assert!(renderer.template().source().contains("<|im_start|>"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The tokenizer.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// assert_eq!(renderer.tokenizer().encode("a")?, [97]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The prompt for the next reply.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("Hi")]);
    /// let prompt = renderer.prompt(&conversation)?;
    /// assert_eq!(prompt.text, "User: Hi\n\nAssistant:");
    /// assert_eq!(prompt.input.len(), prompt.text.len());
    /// assert_eq!(renderer.prompt_with_prefill(&conversation, " Well,")?.text, "User: Hi\n\nAssistant: Well,");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a conversation that the template refuses, and for an image that it has
    /// no place for.
    #[doc(alias = "build_generation_prompt")]
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt> {
        self.prompt_with_prefill(conversation, "")
    }

    /// The prompt for the rest of a reply that begins with this text. Special tokens in it, such as `<think>`, are tokens.
    ///
    /// # Errors
    ///
    /// As [`prompt`](Renderer::prompt).
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// let prompt = renderer.prompt_with_prefill(&Conversation::from([Message::user("Hi")]), "Hel")?;
    /// assert!(prompt.text.ends_with("<|im_start|>assistant\nHel"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn prompt_with_prefill(&self, conversation: &Conversation, prefill: &str) -> Result<Prompt> {
        let script = self.script(conversation)?;
        let len = script.messages().len();
        let text = script.render(len, true)?;
        let left_out = script.calls_left_out(len, true);
        let notes = left_out.into_iter().map(|message| ExampleNote::ToolCallsLeftOut { message }).collect();
        let mut images = Images::of(script.messages())?;
        let mut input = self.encoder.input(&text, &mut images)?;
        images.finish()?;
        let mut text = without_marks(&text);
        if !prefill.is_empty() {
            input = input.append(self.encoder.input(prefill, &mut Images::none())?);
            text.push_str(prefill);
        }
        Ok(Prompt { input, text, notes, prefill: prefill.to_owned(), tools: conversation.tools.clone() })
    }

    /// The training examples of a conversation: several where the template changes earlier messages later on.
    ///
    /// What a prompt supplies carries no loss, and the token that ends a reply does. Replies are trained exactly as they are
    /// sampled: each follows its prompt. The modes that also train other messages take the text of the whole conversation.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a conversation that the template refuses, a message that cannot be
    /// trained exactly, which it names, and a conversation without a message to train.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello!")]);
    /// let examples = renderer.examples(&conversation, TrainOn::LastAssistantMessage)?;
    /// assert_eq!(examples.examples[0].weighted_tokens().trained_len(), "Hello!<|im_end|>".len());
    /// assert!(examples.notes.is_empty());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[doc(alias = "build_supervised_example")]
    #[doc(alias = "build_supervised_examples")]
    pub fn examples(&self, conversation: &Conversation, train_on: TrainOn) -> Result<TrainingExamples> {
        let script = self.script(conversation)?;
        let messages = script.messages();
        let trained = trained(messages, train_on);
        if trained.is_empty() {
            return Err(nothing_to_train("message", train_on));
        }
        let stop = self.syntax.stop();
        let only_replies = trained.iter().all(|index| is_reply(messages, *index));
        let mut notes = Vec::new();
        let spans: Vec<Spans> = if only_replies && train_on != TrainOn::AllTokens && train_on != TrainOn::AllMessages {
            let mut examples = Vec::new();
            for message in trained {
                let completion = completions::completion(&script, message, stop)?;
                if !stop.iter().any(|stop| completion.text.trim_end().ends_with(stop.trim_end())) {
                    notes.push(ExampleNote::NoStop { message });
                }
                if let Some(of) = messages.get(message) {
                    let calls =
                        !of.tool_calls.is_empty() && script.calls_left_out(message + 1, false).contains(&message);
                    notes.extend(left_out(message, of, &completion.text, calls));
                }
                completions::add(&mut examples, completion, stop);
            }
            examples
        } else {
            let headers = train_on == TrainOn::AllTokens;
            let spans = whole::spans(&script, &trained, headers, stop, &self.frame)?;
            let calls = script.calls_left_out(messages.len(), false);
            for (index, message) in messages.iter().enumerate().filter(|(index, _)| trained.contains(index)) {
                notes.extend(left_out(index, message, &spans.text, calls.contains(&index)));
            }
            if spans.ends.iter().all(|(_, weight)| *weight == 0.0) {
                return Err(nothing_to_train("text", train_on));
            }
            vec![spans]
        };
        let examples = spans
            .into_iter()
            .map(|spans| TrainingExample::new(&spans, &self.encoder, messages, self.max_example_tokens));
        Ok(TrainingExamples { examples: examples.collect::<Result<_>>()?, notes })
    }

    /// Where a reply ends, for [`SamplingParams::stop`](crate::types::SamplingParams::stop): tokens, or texts for a format that the
    /// tokenizer has no tokens for.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Renderer};
    /// use tinkex::types::{SamplingParams, Stop};
    ///
    /// let stop = |name| Ok::<_, tinkex::Error>(Renderer::new(ChatTemplate::builtin(name)?, Tokenizer::bytes())?.stop());
    /// assert_eq!(stop("plain")?, Stop::Tokens(vec![256]));
    /// assert_eq!(stop("role_colon")?, Stop::from("\n\nUser:"));
    /// let params = SamplingParams::default().max_tokens(100).stop(stop("plain")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "get_stop_sequences")]
    pub fn stop(&self) -> Stop {
        self.replies.stop().clone()
    }

    /// Reads a reply to this prompt.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, ReplyEnd};
    ///
    /// let tokenizer = Tokenizer::bytes();
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, tokenizer.clone())?;
    /// let prompt = renderer.prompt(&Conversation::from([Message::user("3 + 4?")]))?;
    /// let call = r#"<tool_call>{"name": "add", "arguments": {"a": 3, "b": 4}}</tool_call>"#;
    ///
    /// let reply = renderer.parse_reply(&prompt, &tokenizer.encode(&format!("I add.\n{call}<|im_end|>"))?);
    /// assert_eq!(reply.end, ReplyEnd::Complete);
    /// assert_eq!(reply.message.text(), "I add.");
    /// assert_eq!(reply.message.tool_calls[0].arguments["b"], 4);
    ///
    /// let reply = renderer.parse_reply(&prompt, &tokenizer.encode(call)?);
    /// assert_eq!(reply.end, ReplyEnd::CutOff);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "parse_response")]
    pub fn parse_reply(&self, prompt: &Prompt, tokens: &[u32]) -> Reply {
        let mut parser = self.reply_parser(prompt);
        parser.push(tokens);
        parser.finish()
    }

    /// Reads a reply to this prompt token by token.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")]))?;
    /// let mut parser = renderer.reply_parser(&prompt);
    /// for token in renderer.tokenizer().encode("Hello!")? {
    ///     println!("{:?}", parser.push(&[token]));
    /// }
    /// println!("{:?}", parser.finish().end);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[doc(alias = "parse_response_streaming")]
    #[must_use]
    pub fn reply_parser(&self, prompt: &Prompt) -> ReplyParser {
        let Prompt { text, prefill, tools, .. } = prompt;
        let prompt = text.strip_suffix(prefill.as_str()).unwrap_or(text);
        ReplyParser::new(&self.replies, ReplyStart { prompt, prefill, tools })
    }

    fn script<'a>(&'a self, conversation: &'a Conversation) -> Result<Script<'a>> {
        let marker = if self.special_tokens_in_text { None } else { Some(&self.marker) };
        Script::new(&self.template, conversation, self.habits, marker)
    }
}

fn nothing_to_train(what: &str, train_on: TrainOn) -> Error {
    Error::invalid_input(format!("the conversation has no {what} to train on ({train_on})"))
        .with_hint("add a message of the assistant, or choose another way to train")
}

fn is_reply(messages: &[Message], index: usize) -> bool {
    messages.get(index).is_some_and(|message| message.role == Role::Assistant)
}

/// The indices of the messages that are trained, ascending.
fn trained(messages: &[Message], train_on: TrainOn) -> Vec<usize> {
    let replies = |from: usize| (from..messages.len()).filter(|index| is_reply(messages, *index)).collect::<Vec<_>>();
    let all = |wanted: &dyn Fn(&Message) -> bool| {
        let wanted = messages.iter().enumerate().filter(|(_, message)| wanted(message));
        wanted.map(|(index, _)| index).collect()
    };
    match train_on {
        TrainOn::LastAssistantMessage => replies(0).pop().into_iter().collect(),
        TrainOn::LastAssistantTurn => {
            let last = messages.iter().rposition(|message| message.role == Role::User);
            replies(last.map_or(0, |last| last + 1))
        }
        TrainOn::AllAssistantMessages => replies(0),
        TrainOn::AllMessages | TrainOn::AllTokens => all(&|_| true),
        TrainOn::AllUserAndSystemMessages => {
            all(&|message| matches!(message.role, Role::User | Role::System | Role::Developer))
        }
        TrainOn::Marked => all(&|message| message.trainable == Some(true)),
    }
}

/// What the template leaves out of a trained message; it is known of its calls, unless their names are missing, too.
fn left_out(message: usize, of: &Message, text: &str, calls: bool) -> Vec<ExampleNote> {
    let is_reply = of.role == Role::Assistant;
    let reasoning =
        (is_reply && completions::leaves_reasoning_out(of, text)).then_some(ExampleNote::ReasoningLeftOut { message });
    let calls = (is_reply && (calls || completions::leaves_calls_out(of, text)))
        .then_some(ExampleNote::ToolCallsLeftOut { message });
    reasoning.into_iter().chain(calls).collect()
}
