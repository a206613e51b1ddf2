//! What the model says about the tokens of a prompt.

use ndarray::ArrayViewMut1;

use super::super::Transformer;
use super::super::ops::log_softmax;
use super::super::splitmix::SplitMix64;
use super::distribution::Distribution;
use super::kv::BLOCK;
use super::prompt::PromptRun;
use super::ranking::Ranking;
use super::step::logits;
use crate::local::model::{GenerationOptions, PromptLogprobs, PromptOptions, SamplingContext};
use crate::types::TokenLogprob;

/// The results about a prompt, position by position.
#[derive(Debug)]
pub(super) struct PromptReport<'a> {
    tokens: &'a [u32],
    options: &'a PromptOptions,
    draws: GenerationOptions,
    seed: u64,
    prompt: PromptLogprobs,
}

impl<'a> PromptReport<'a> {
    pub(super) fn new(tokens: &'a [u32], options: &'a PromptOptions) -> Self {
        let length_if = |is_requested: bool| if is_requested { tokens.len() } else { 0 };
        let prompt = PromptLogprobs {
            logprobs: vec![None; tokens.len()],
            top_k: vec![None; length_if(options.top_k > 0)],
            targets: vec![Vec::new(); length_if(!options.targets.is_empty())],
            alternatives: vec![Vec::new(); length_if(options.alternatives > 0)],
            cached_tokens: 0,
        };
        let draws = GenerationOptions::new().temperature(options.temperature);
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        PromptReport { tokens, options, draws, seed, prompt }
    }

    /// The first token whose output the report needs: the one before the first that is described.
    pub(super) fn first_row(&self) -> usize {
        (1..self.tokens.len()).find(|&position| self.needs(position)).unwrap_or(self.tokens.len() + 1) - 1
    }

    /// Describes the tokens of a prompt that has run.
    pub(super) fn fill(mut self, model: &Transformer, context: &SamplingContext, run: &PromptRun) -> PromptLogprobs {
        self.prompt.cached_tokens = run.cached_tokens;
        for (index, block) in run.blocks.iter().enumerate() {
            if context.is_cancelled() {
                break;
            }
            // Each row of the output has the next token.
            let start = index * BLOCK + 1;
            let positions = start..self.tokens.len().min(start + block.output.nrows());
            if positions.clone().any(|position| self.needs(position)) {
                let mut logits = logits(model, block.output.view(), run.adapter.as_deref());
                for (row, position) in logits.rows_mut().into_iter().zip(positions) {
                    self.describe(model, position, row);
                }
            }
        }
        self.prompt
    }

    fn targets(&self, position: usize) -> &'a [u32] {
        self.options.targets.get(position).map(Vec::as_slice).unwrap_or_default()
    }

    fn needs(&self, position: usize) -> bool {
        let is_scored = self.options.scores(position, self.tokens.len());
        is_scored || self.options.alternatives > 0 || !self.targets(position).is_empty()
    }

    /// Adds what a row of logits says about the token at a position.
    fn describe(&mut self, model: &Transformer, position: usize, mut row: ArrayViewMut1<'_, f32>) {
        log_softmax(row.view_mut());
        let row = row.view();
        let logprob = |token: u32| row[model.config.clamp_token(token)];
        if self.options.scores(position, self.tokens.len()) {
            self.prompt.logprobs[position] = Some(logprob(self.tokens[position]));
            if self.options.top_k > 0 {
                self.prompt.top_k[position] = Some(Ranking::new(row).top(self.options.top_k));
            }
        }
        let targets = self.targets(position);
        if !targets.is_empty() {
            self.prompt.targets[position] = targets.iter().map(|&target| logprob(target)).collect();
        }
        if self.options.alternatives > 0 {
            let mut distribution = Distribution::new(row, &self.draws);
            // A stream for each position, none of which belongs to a sample of the same seed.
            let mut random = SplitMix64::stream(self.seed, usize::MAX - position);
            let draws = (0..self.options.alternatives).map(|_| distribution.draw(&mut random));
            let draws = draws.map(|token| TokenLogprob { token, logprob: logprob(token) });
            self.prompt.alternatives[position] = draws.collect();
        }
    }
}
