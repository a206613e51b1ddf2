//! A model that says what a test wants, token by token, as fast as the test lets it.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use tinkex::Tokenizer;
use tinkex::local::LocalServer;
use tinkex::local::model::{
    Adapter, AdapterOptions, Example, FinishReason, GenerationOptions, Model, PromptLogprobs, PromptOptions, Sample,
    SampledToken, Samples, SamplingContext, Tensors, TextPackage,
};
use tinkex::types::TokenLogprob;

/// The template of the model.
const CHATML: &str = include_str!("../../../src/chat/template/builtin/chatml.jinja");

/// Says the same to each prompt, with tokens of bytes.
#[derive(Debug)]
pub struct Speaker {
    text: TextPackage,
    reply: Vec<u32>,
    gate: Receiver<()>,
    sampled: Sender<usize>,
}

/// Lets one token pass per message, and all once it is dropped.
pub type Gate = Sender<()>;

/// Gets the number of tokens of each sample that ends.
pub type Counts = Receiver<usize>;

impl Speaker {
    /// Says this, and ends with the token that ends a text.
    pub fn new(reply: &str) -> (Arc<Speaker>, Gate, Counts) {
        let ((open, gate), (sampled, counts)) = (unbounded(), unbounded());
        let reply = reply.bytes().map(u32::from).chain([256]).collect();
        let text = TextPackage::new(Tokenizer::bytes()).file("chat_template.jinja", CHATML);
        (Arc::new(Speaker { text, reply, gate, sampled }), open, counts)
    }

    /// A server with a model that says this at once.
    pub fn serve(reply: &str) -> LocalServer {
        LocalServer::builder().model(Speaker::new(reply).0).start().unwrap()
    }

    /// Waits for the test; whether the sample goes on.
    fn may_go_on(&self, context: &SamplingContext) -> bool {
        loop {
            match self.gate.try_recv() {
                _ if context.is_cancelled() => return false,
                Ok(()) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => thread::yield_now(),
            }
        }
    }
}

impl Model for Speaker {
    fn name(&self) -> &'static str {
        "test/speaker"
    }

    fn text_package(&self) -> Option<&TextPackage> {
        Some(&self.text)
    }

    fn end_tokens(&self) -> &[u32] {
        &[256]
    }

    fn vocab_size(&self) -> usize {
        257
    }

    fn context_length(&self) -> usize {
        1 << 20
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        Adapter::new(options.clone(), Tensors::new())
    }

    fn forward_backward(&self, _: &Adapter, batch: &[Example], _: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        batch.iter().map(|example| vec![0.0; example.tokens.len()]).collect()
    }

    fn sample(&self, context: &SamplingContext, _: &[u32], count: usize, options: &GenerationOptions) -> Samples {
        let length = options.max_tokens.unwrap_or(usize::MAX).min(self.reply.len());
        let reason = if length < self.reply.len() { FinishReason::Length } else { FinishReason::Stop };
        let mut sample = Sample::new(Vec::new(), Vec::new(), reason);
        for (index, token) in self.reply[..length].iter().enumerate() {
            if !self.may_go_on(context) {
                break;
            }
            let top: Vec<TokenLogprob> =
                (0..options.topk_logprobs).map(|rank| TokenLogprob::new(*token, -0.5 - rank as f32)).collect();
            for sequence in 0..count {
                let mut said = SampledToken::new(sequence, *token, -0.5);
                said.topk_logprobs = &top;
                said.finish_reason = (index + 1 == length).then_some(reason);
                context.sampled(said);
            }
            sample.tokens.push(*token);
            sample.logprobs.push(-0.5);
            sample.topk_logprobs.push(top);
        }
        self.sampled.send(sample.tokens.len()).ok();
        Samples::new(vec![sample; count])
    }

    fn prompt_logprobs(&self, _: &SamplingContext, tokens: &[u32], _: &PromptOptions) -> PromptLogprobs {
        PromptLogprobs::new(vec![None; tokens.len()], vec![None; tokens.len()])
    }
}
