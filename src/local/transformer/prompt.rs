//! Prompts: what the samples of a prompt continue from, and what the model says about its tokens.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis};

use super::Transformer;
use super::decoding::{candidates, draw, top_k};
use super::kv_cache::{CachedAttention, KvCache};
use super::lora::AdaptedRows;
use super::ops::log_softmax;
use super::prompt_cache::{BLOCK, PromptBlock};
use super::sampling_weights::SamplingWeights;
use super::splitmix::SplitMix64;
use crate::local::model::{GenerationOptions, PromptLogprobs, PromptOptions, SamplingContext};
use crate::types::TokenLogprob;

/// A prompt that the network has run.
#[derive(Debug)]
pub(super) struct Prompt {
    blocks: Vec<Arc<PromptBlock<f32>>>,
    pub(super) caches: Vec<KvCache<f32>>,
    /// The number of tokens that were known before.
    pub(super) cached_tokens: usize,
}

impl Transformer {
    /// One empty cache per layer.
    fn empty_caches(&self) -> Vec<KvCache<f32>> {
        (0..self.config.num_layers).map(|_| KvCache::empty(self.config.key_size())).collect()
    }

    /// Runs further tokens of one sequence, whose earlier tokens are in the caches. Returns the normalized output of the last
    /// layer: one row per token.
    pub(super) fn extend(&self, weights: &SamplingWeights, caches: &mut [KvCache<f32>], tokens: &[u32]) -> Array2<f32> {
        let cached = caches.first().map_or(0, KvCache::len);
        let positions: Vec<usize> = (cached..cached + tokens.len()).collect();
        let lora = weights.lora(self);
        let adapters: Vec<_> = lora.iter().map(|lora| AdaptedRows { rows: 0..tokens.len(), lora }).collect();
        let mut attention = CachedAttention { config: &self.config, caches };
        self.network().step(tokens, &positions, &adapters, &mut attention)
    }

    /// The logits of the token after each row of an output.
    pub(super) fn logits(&self, weights: &SamplingWeights, output: ArrayView2<'_, f32>) -> Array2<f32> {
        let lora = weights.lora(self);
        let adapters: Vec<_> = lora.iter().map(|lora| AdaptedRows { rows: 0..output.nrows(), lora }).collect();
        self.network().logits(output, &adapters)
    }

    /// Runs a prompt, as far as it is not in the prefix cache. The output of `needed` and later tokens is that of these weights.
    /// `None` if it is cancelled.
    pub(super) fn run_prompt(
        &self,
        weights: &SamplingWeights,
        context: &SamplingContext,
        tokens: &[u32],
        needed: usize,
    ) -> Option<Prompt> {
        let namespace = context.kv_namespace();
        let is_kept = namespace.is_some() || weights.is_base();
        let mut blocks = if is_kept { self.prompts.find(namespace, tokens) } else { Vec::new() };
        // Keys and values of earlier weights serve only weights that are replaced now and then.
        let first_needed = if context.is_replaceable() { needed } else { 0 };
        let is_stale =
            |index: usize| (index + 1) * BLOCK > first_needed && !weights.are(blocks[index].adapter.as_ref());
        let known = (0..blocks.len()).find(|&index| is_stale(index)).unwrap_or(blocks.len());
        blocks.truncate(known);
        let mut caches = self.empty_caches();
        for block in &blocks {
            caches.iter_mut().zip(&block.caches).for_each(|(cache, block)| cache.extend(block));
        }
        let cached_tokens = caches.first().map_or(0, KvCache::len);
        for (index, tokens) in tokens.chunks(BLOCK).enumerate().skip(known) {
            if context.is_cancelled() {
                return None;
            }
            let output = self.extend(weights, &mut caches, tokens);
            let caches = caches.iter().map(|cache| cache.copy_from(index * BLOCK)).collect();
            blocks.push(Arc::new(PromptBlock { caches, output, adapter: weights.identity() }));
        }
        if is_kept && blocks.len() > known {
            self.prompts.insert(namespace, tokens, &blocks);
        }
        Some(Prompt { blocks, caches, cached_tokens })
    }

    /// The logits of the token after a prompt: 1 × vocabulary, or 0 × vocabulary after no tokens at all.
    pub(super) fn logits_after(&self, weights: &SamplingWeights, prompt: &Prompt) -> Array2<f32> {
        let Some(block) = prompt.blocks.last() else { return Array2::zeros((0, self.config.vocab_size)) };
        let (_, last) = block.output.view().split_at(Axis(0), block.output.nrows().saturating_sub(1));
        self.logits(weights, last)
    }

    /// What the options ask for about the tokens of a prompt, or the part of it until it is cancelled.
    pub(super) fn describe_prompt(
        &self,
        weights: &SamplingWeights,
        context: &SamplingContext,
        tokens: &[u32],
        options: &PromptOptions,
    ) -> PromptLogprobs {
        let mut report = Report::new(tokens, options);
        // Each row of the output has the next token.
        let first = (1..tokens.len()).find(|&position| report.needs(position)).unwrap_or(tokens.len() + 1);
        let Some(prompt) = self.run_prompt(weights, context, tokens, first - 1) else {
            return PromptLogprobs::default();
        };
        report.prompt.cached_tokens = prompt.cached_tokens;
        for (index, block) in prompt.blocks.iter().enumerate() {
            if context.is_cancelled() {
                break;
            }
            let start = index * BLOCK + 1;
            let positions = start..tokens.len().min(start + block.output.nrows());
            if positions.clone().any(|position| report.needs(position)) {
                let mut logits = self.logits(weights, block.output.view());
                for (row, position) in logits.rows_mut().into_iter().zip(positions) {
                    report.add(position, row, self.config.clamp_token(tokens[position]), |token| {
                        self.config.clamp_token(token)
                    });
                }
            }
        }
        report.prompt
    }
}

/// The results about a prompt, position by position.
struct Report<'a> {
    options: &'a PromptOptions,
    draws: GenerationOptions,
    seed: u64,
    length: usize,
    prompt: PromptLogprobs,
}

impl<'a> Report<'a> {
    fn new(tokens: &[u32], options: &'a PromptOptions) -> Self {
        let length = tokens.len();
        let length_if = |is_requested: bool| if is_requested { length } else { 0 };
        let prompt = PromptLogprobs {
            logprobs: vec![None; length],
            top_k: vec![None; length_if(options.top_k > 0)],
            targets: vec![Vec::new(); length_if(!options.targets.is_empty())],
            alternatives: vec![Vec::new(); length_if(options.alternatives > 0)],
            cached_tokens: 0,
        };
        let draws = GenerationOptions::new().temperature(options.temperature);
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        Report { options, draws, seed, length, prompt }
    }

    fn targets(&self, position: usize) -> &'a [u32] {
        self.options.targets.get(position).map(Vec::as_slice).unwrap_or_default()
    }

    fn needs(&self, position: usize) -> bool {
        let is_scored = self.options.scores(position, self.length);
        is_scored || self.options.alternatives > 0 || !self.targets(position).is_empty()
    }

    /// Adds what a row of logits says about the token at a position.
    fn add(&mut self, position: usize, mut row: ArrayViewMut1<'_, f32>, token: usize, clamp: impl Fn(u32) -> usize) {
        log_softmax(row.view_mut());
        if self.options.scores(position, self.length) {
            self.prompt.logprobs[position] = Some(row[token]);
            if self.options.top_k > 0 {
                self.prompt.top_k[position] = Some(top_k(row.view(), self.options.top_k));
            }
        }
        let targets = self.targets(position);
        if !targets.is_empty() {
            self.prompt.targets[position] = targets.iter().map(|&target| row[clamp(target)]).collect();
        }
        if self.options.alternatives > 0 {
            let candidates = candidates(row.view(), &self.draws);
            // A stream for each position, none of which belongs to a sample of the same seed.
            let mut random = SplitMix64::stream(self.seed, usize::MAX - position);
            let draws = (0..self.options.alternatives).map(|_| draw(&candidates, &mut random));
            self.prompt.alternatives[position] =
                draws.map(|token| TokenLogprob { token, logprob: row[token as usize] }).collect();
        }
    }
}
