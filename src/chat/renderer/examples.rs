//! Training examples.

use super::completions::Spans;
use super::encoder::{Encoder, Images};
use crate::chat::message::Message;
use crate::error::Result;
use crate::toolkit::WeightedTokens;
use crate::types::Datum;

/// One example that a model is trained on. [`Renderer`](crate::chat::Renderer) shows one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainingExample {
    tokens: WeightedTokens,
    /// Whether it may have more tokens, which are not encoded.
    is_beginning: bool,
}

/// The training examples of a conversation.
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
///
/// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
/// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Yo")]);
/// let examples = renderer.examples(&conversation, TrainOn::AllAssistantMessages)?;
/// assert!(examples.notes.is_empty());
/// let data = examples.examples.iter().map(|example| example.datum()).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(data.len(), 1);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TrainingExamples {
    /// The examples, in order.
    pub examples: Vec<TrainingExample>,
    /// What the caller should know about them.
    pub notes: Vec<ExampleNote>,
}

/// What the caller should know about the examples of a conversation, or about a prompt.
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::chat::{ChatTemplate, Conversation, ExampleNote, Message, Renderer, TrainOn};
///
/// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
/// let mut reply = Message::assistant("51");
/// reply.reasoning_content = Some("17 * 3 = 51.".to_owned());
/// let conversation = Conversation::from([Message::user("17 * 3?"), reply]);
/// let notes = renderer.examples(&conversation, TrainOn::default())?.notes;
/// assert_eq!(notes, [ExampleNote::ReasoningLeftOut { message: 1 }]);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExampleNote {
    /// The template leaves out the reasoning of this message, which is trained.
    ReasoningLeftOut {
        /// The index of the message.
        message: usize,
    },
    /// The template ends this message, which is trained, with nothing that ends a reply: a model does not learn to stop there.
    NoStop {
        /// The index of the message.
        message: usize,
    },
    /// The template leaves out a tool call of this message, which is trained or is part of a prompt.
    ToolCallsLeftOut {
        /// The index of the message.
        message: usize,
    },
}

/// What was cut off an example. [`TrainingExample::truncate`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The number of tokens.
    pub tokens: usize,
    /// The number of those that carried loss.
    pub trained: usize,
    /// Whether more was cut, which was not encoded: [`Renderer::max_example_tokens`](crate::chat::Renderer::max_example_tokens).
    pub is_at_least: bool,
}

impl TrainingExamples {
    /// The datums of the examples, in order: [`TrainingExample::datum`] of each.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an example of fewer than two tokens.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
    /// use tinkex::types::Batch;
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello")]);
    /// let batch = Batch::from(renderer.examples(&conversation, TrainOn::default())?.datums()?);
    /// assert_eq!(batch.len(), 1);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn datums(&self) -> Result<Vec<Datum>> {
        self.examples.iter().map(TrainingExample::datum).collect()
    }
}

impl TrainingExample {
    /// Of an example with more than `max_tokens`, one token more is encoded.
    pub(super) fn new(
        spans: &Spans,
        encoder: &Encoder,
        messages: &[Message],
        max_tokens: Option<usize>,
    ) -> Result<Self> {
        let is_longer = |tokens: &WeightedTokens| max_tokens.is_some_and(|max_tokens| tokens.len() > max_tokens);
        let enough = max_tokens.map(|max_tokens| max_tokens.saturating_add(1));
        let mut images = Images::of(messages.get(..spans.messages).unwrap_or(messages))?;
        let mut tokens = WeightedTokens::new();
        let mut start = 0;
        for (end, weight) in &spans.ends {
            let text = spans.text.get(start..*end).unwrap_or_default();
            tokens = encoder.weighted(tokens, text, *weight, &mut images, enough)?;
            if is_longer(&tokens) {
                return Ok(TrainingExample { tokens, is_beginning: true });
            }
            start = *end;
        }
        images.finish()?;
        Ok(TrainingExample { tokens, is_beginning: false })
    }

    /// The tokens with the weight of each.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello")]);
    /// let examples = renderer.examples(&conversation, TrainOn::default())?.examples;
    /// let tokens = examples[0].weighted_tokens();
    /// assert_eq!(tokens.weights()[..3], [0.0; 3]);
    /// assert_eq!(tokens.weights().last(), Some(&1.0));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn weighted_tokens(&self) -> &WeightedTokens {
        &self.tokens
    }

    /// Keeps the first `max_tokens` tokens, and says what was cut off, if anything was.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello")]);
    /// let mut example = renderer.examples(&conversation, TrainOn::default())?.examples.remove(0);
    /// let len = example.weighted_tokens().len();
    /// let cut = example.truncate(len - 2).unwrap();
    /// assert_eq!((cut.tokens, cut.trained, example.weighted_tokens().len()), (2, 2, len - 2));
    /// assert_eq!(example.truncate(len), None);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn truncate(&mut self, max_tokens: usize) -> Option<Cut> {
        let (len, trained) = (self.tokens.len(), self.tokens.trained_len());
        self.tokens.truncate(max_tokens);
        let (left, trained_left) = (self.tokens.len(), self.tokens.trained_len());
        (left < len).then(|| Cut {
            tokens: len - left,
            trained: trained - trained_left,
            is_at_least: self.is_beginning,
        })
    }

    /// The datum for [`LossFn::CrossEntropy`](crate::types::LossFn::CrossEntropy): each token is the target of the one before it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an example of fewer than two tokens.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
    /// let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello")]);
    /// let examples = renderer.examples(&conversation, TrainOn::default())?.examples;
    /// assert_eq!(examples[0].datum()?.model_input.len(), examples[0].weighted_tokens().len() - 1);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[doc(alias = "datum_from_model_input_weights")]
    pub fn datum(&self) -> Result<Datum> {
        self.tokens.datum()
    }
}
