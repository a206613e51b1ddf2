//! What answers need of the program around them: a model, and the connection to the client.

use std::sync::Arc;

use super::error::ApiError;
use super::text_format::TextFormat;
use crate::local::model::{SampledToken, Samples};
use crate::types::SamplingParams;

/// The connection that a request came from. Nothing of it blocks.
pub(in crate::local) trait Exchange: Send + Sync {
    /// Sends a whole response in JSON. In the middle of a stream, ends it so that the client notices.
    fn respond(&self, status: u16, body: Vec<u8>);

    /// Sends an event of a stream; begins the stream with the first one.
    fn send_event(&self, event: Vec<u8>);

    /// Ends the stream.
    fn end(&self);

    /// Whether the client takes what is sent as fast as it is sent: a slow one should get more at a time.
    fn has_room(&self) -> bool;

    /// Calls `hook` once the client has gone, or has its response.
    fn when_unwanted(&self, hook: Box<dyn FnOnce() + Send>);
}

/// Is told of each token, on any thread. Must not block.
pub(in crate::local) type OnToken = Arc<dyn Fn(SampledToken<'_>) + Send + Sync>;

/// What to sample for a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::local) struct Generation {
    pub(in crate::local) prompt: Vec<u32>,
    pub(in crate::local) count: u32,
    /// `stop` has the tokens that end a reply of the format, if it has some.
    pub(in crate::local) params: SamplingParams,
    /// Texts that end a sample. The sample has them at its end.
    pub(in crate::local) stop_texts: Vec<String>,
    /// The number of most probable tokens to report in place of each.
    pub(in crate::local) top_logprobs: u32,
}

/// A model, or a checkpoint of one, that answers.
pub(in crate::local) trait AnsweringModel: Send + Sync {
    fn format(&self) -> &Arc<TextFormat>;

    /// Samples, and blocks until all samples are there. A model that can reports each token at once; the others are reported from
    /// the samples. Ends early once the exchange is unwanted.
    fn sample(&self, generation: Generation, exchange: &dyn Exchange, on_token: OnToken) -> Result<Samples, ApiError>;
}
