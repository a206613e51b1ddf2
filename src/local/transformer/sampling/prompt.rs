//! Running a prompt, as far as its blocks are not known.

use std::sync::{Arc, Weak};

use ndarray::Axis;

use super::super::Transformer;
use super::super::ops::log_softmax;
use super::super::views::rows;
use super::kv::{BLOCK, KvShape, SequenceKv};
use super::prompt_cache::{KeptPath, PromptBlock, PromptCache};
use super::step::{Segment, logits, outputs};
use crate::local::model::{Adapter, SamplingContext};

/// Tokens that are computed in one call of the network: so many that reading the weights is a small part of the work, and so few
/// that the other sequences need not wait long. Their number changes no bit.
const PIECE: usize = 4 * BLOCK;

/// A prompt, as far as it has run.
#[derive(Debug)]
pub(super) struct PromptRun {
    tokens: Vec<u32>,
    /// The weights that compute it, from its first block on.
    pub(super) adapter: Option<Arc<Adapter>>,
    /// The first token whose output is that of these weights, not of earlier ones.
    needed: usize,
    /// Where its blocks are kept, if they are.
    path: Option<KeptPath>,
    pub(super) blocks: Vec<Arc<PromptBlock>>,
    /// The number of tokens that were known.
    pub(super) cached_tokens: usize,
}

impl PromptRun {
    /// A run that has not begun. The output of `needed` and later tokens will be that of the weights with which it begins.
    pub(super) fn new(context: &SamplingContext, tokens: Vec<u32>, needed: usize) -> Self {
        // Keys and values of earlier weights serve only weights that are replaced now and then.
        let needed = if context.is_replaceable() { needed } else { 0 };
        PromptRun { tokens, adapter: None, needed, path: None, blocks: Vec::new(), cached_tokens: 0 }
    }

    /// Takes the latest weights of a context.
    fn begin(&mut self, context: &SamplingContext) {
        self.adapter = context.adapter();
        let namespace = context.kv_namespace();
        let is_kept = namespace.is_some() || self.adapter.is_none();
        self.path = is_kept.then(|| KeptPath::new(namespace));
    }

    pub(super) fn is_done(&self) -> bool {
        self.blocks.len() * BLOCK >= self.tokens.len()
    }

    /// How many tokens it has.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The log-probabilities of the token after it, once it is done. Empty after no tokens at all.
    pub(super) fn next_logprobs(&self, model: &Transformer) -> Vec<f32> {
        let Some(block) = self.blocks.last() else { return Vec::new() };
        let count = block.output.nrows();
        let last = rows(block.output.view(), count.saturating_sub(1)..count);
        let mut logits = logits(model, last, self.adapter.as_deref());
        logits.rows_mut().into_iter().for_each(log_softmax);
        logits.into_iter().collect()
    }

    /// The keys and values so far, for a sequence that continues them.
    pub(super) fn kv(&self, shape: KvShape) -> SequenceKv {
        SequenceKv::after(shape, self.blocks.iter().map(|block| block.kv.clone()).collect())
    }

    /// Takes the blocks that are known, and computes the next ones, with the weights that the context had at the first call. Whether
    /// there were any to compute.
    pub(super) fn advance(&mut self, model: &Transformer, cache: &PromptCache, context: &SamplingContext) -> bool {
        if self.blocks.is_empty() {
            self.begin(context);
        }
        self.take_known(cache);
        let start = self.blocks.len() * BLOCK;
        let Some(tokens) = self.tokens.get(start..).and_then(|rest| rest.chunks(PIECE).next()) else { return false };
        let mut kv = self.kv(KvShape::new(&model.config));
        let segment = Segment { tokens, position: start, adapter: self.adapter.as_deref(), kv: &mut kv };
        let output = outputs(model, &mut [segment]);
        let outputs = output.axis_chunks_iter(Axis(0), BLOCK);
        for ((tokens, kv), output) in tokens.chunks(BLOCK).zip(kv.into_own()).zip(outputs) {
            let adapter = self.adapter.as_ref().map(Arc::downgrade);
            let block = Arc::new(PromptBlock { kv: Arc::new(kv), output: output.to_owned(), adapter });
            if let Some(path) = &mut self.path {
                cache.keep(path, tokens, &block);
            }
            self.blocks.push(block);
        }
        true
    }

    fn take_known(&mut self, cache: &PromptCache) {
        let Some(path) = &mut self.path else { return };
        let known = self.blocks.len();
        for tokens in self.tokens.chunks(BLOCK).skip(known) {
            let is_needed = (self.blocks.len() + 1) * BLOCK > self.needed;
            let own = self.adapter.as_ref().map(Arc::as_ptr);
            let is_own = |block: &PromptBlock| block.adapter.as_ref().map(Weak::as_ptr) == own;
            let Some(block) = cache.find(path, tokens, |block| !is_needed || is_own(block)) else { break };
            self.cached_tokens += tokens.len();
            self.blocks.push(block);
        }
        if self.blocks.len() > known {
            cache.mark_used(path);
        }
    }
}
