//! One continuation of a prompt, while it is sampled.

use ndarray::ArrayView1;

use super::super::splitmix::SplitMix64;
use super::distribution::Distribution;
use super::ending::Ending;
use super::kv::SequenceKv;
use crate::local::model::{FinishReason, GenerationOptions, Sample, SampledToken, SamplingContext};
use crate::types::TokenLogprob;

/// A sequence that has its prompt, and gets its tokens one by one.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Which of its request's continuations it is.
    pub(super) index: usize,
    pub(super) kv: SequenceKv,
    pub(super) random: SplitMix64,
    pub(super) ending: Ending,
    pub(super) max_tokens: usize,
    pub(super) sample: Sample,
}

/// The next token of a sequence, drawn but not yet part of it.
#[derive(Debug)]
pub(super) struct Choice {
    token: u32,
    logprob: f32,
    top: Vec<TokenLogprob>,
    /// The state after the draw.
    random: SplitMix64,
}

impl Choice {
    /// Draws from the model's log-probabilities.
    pub(super) fn new(logprobs: ArrayView1<'_, f32>, options: &GenerationOptions, mut random: SplitMix64) -> Self {
        let mut distribution = Distribution::new(logprobs, options);
        let token = distribution.draw(&mut random);
        let logprob = logprobs.get(token as usize).copied().unwrap_or(f32::NAN);
        Choice { token, logprob, top: distribution.top(options.topk_logprobs), random }
    }
}

impl Sequence {
    /// Appends a token, and tells the listener. Whether the sequence has ended.
    pub(super) fn push(&mut self, choice: Choice, context: &SamplingContext) -> bool {
        let Choice { token, logprob, top, random } = choice;
        self.random = random;
        self.sample.tokens.push(token);
        self.sample.logprobs.push(logprob);
        let is_full = self.sample.tokens.len() >= self.max_tokens;
        let finish_reason = if self.ending.is_reached(&self.sample.tokens) {
            Some(FinishReason::Stop)
        } else {
            is_full.then_some(FinishReason::Length)
        };
        if let Some(reason) = finish_reason {
            self.sample.finish_reason = reason;
        }
        let sampled = SampledToken { sequence: self.index, token, logprob, topk_logprobs: &top, finish_reason };
        context.sampled(sampled);
        if !top.is_empty() {
            self.sample.topk_logprobs.push(top);
        }
        finish_reason.is_some()
    }
}
