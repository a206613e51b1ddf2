//! Sampling: prompts, and the tokens after them.
//!
//! All samples of a model run in one [`batch`], on the threads that asked for them: one of these does the work for all, in rounds
//! ([`running`]). A round computes a few blocks of one prompt ([`prompt`], [`prompt_cache`]), then the next token of every sequence
//! in one call of the network ([`step`], [`kept_attention`]), so that the weights are read once for all. What is too much at once
//! waits in order ([`admission`]). The keys and values lie in blocks ([`kv`]): those of a prompt are shared by its sequences.
//!
//! A sequence draws its tokens from a [`distribution`], with random numbers of its own, until its [`ending`]. No bit of it depends on
//! what else is in the batch: no row of a product depends on the other rows, and attention is summed sequence by sequence.

mod admission;
mod batch;
#[cfg(test)]
mod batch_tests;
mod distribution;
mod ending;
mod job;
mod kept_attention;
mod kv;
mod prompt;
mod prompt_cache;
mod prompt_report;
mod ranking;
mod running;
mod sequence;
mod step;
#[cfg(test)]
mod tests;

use self::admission::Limits;
use self::batch::Batch;
use self::ending::Ending;
use self::job::{Job, Plan};
use self::kv::KvShape;
use self::prompt::PromptRun;
use self::prompt_cache::PromptCache;
use self::prompt_report::PromptReport;
use super::Transformer;
use super::config::ModelConfig;
use crate::local::kernel::Threads;
use crate::local::model::{GenerationOptions, PromptLogprobs, PromptOptions, Samples, SamplingContext};
use crate::tokenizer::Tokenizer;

/// More sequences than this wait. With about 16, the products take as long as reading the weights; more gain little, and each
/// waits longer for its next token.
pub(super) const MAX_SEQUENCES: usize = 64;

/// While the keys and values have this many bytes or more, those of the prefix cache aside, no further sequence begins: 1 GiB. It
/// limits admission alone: those that run continue, also beyond it.
const MAX_KV_BYTES: usize = 1 << 30;

/// What a model keeps for sampling.
#[derive(Debug)]
pub(super) struct Sampler {
    prompts: PromptCache,
    batch: Batch,
    /// Its own: a thread that waits for others takes their next work, and a step should not wait for a whole pass of training.
    threads: Threads,
}

impl Sampler {
    /// One whose prefix cache has up to this number of bytes, with as many threads as `training` has.
    pub(super) fn new(max_prompt_bytes: usize, training: &Threads) -> Self {
        let limits = Limits { sequences: MAX_SEQUENCES, bytes: MAX_KV_BYTES };
        let threads = Threads::new(Some(training.count()));
        Sampler { prompts: PromptCache::new(max_prompt_bytes), batch: Batch::new(limits), threads }
    }

    /// Continuations of a prompt.
    pub(super) fn sample(
        &self,
        model: &Transformer,
        context: &SamplingContext,
        prompt: &[u32],
        count: usize,
        options: &GenerationOptions,
    ) -> Samples {
        let ModelConfig { context_length, end_tokens, .. } = &model.config;
        let start = [end_tokens.first().copied().unwrap_or_default()];
        let tokens = if prompt.is_empty() { &start } else { prompt };
        let tokenizer = model.text.as_ref().map_or_else(Tokenizer::bytes, |text| text.tokenizer().clone());
        let plan = Plan {
            count,
            options: options.clone(),
            seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
            max_tokens: options.max_tokens.unwrap_or(usize::MAX).min(context_length.saturating_sub(tokens.len())),
            ending: Ending::new(options, end_tokens, &tokenizer),
        };
        let run = PromptRun::new(context, tokens.to_vec(), tokens.len() - 1);
        let job = Job::new(context, run, plan, KvShape::new(&model.config));
        let finished = self.batch.run(model, &self.prompts, job);
        if !finished.prompt.is_done() {
            return Samples::default();
        }
        let cached_tokens = finished.prompt.cached_tokens.min(prompt.len());
        Samples { sequences: finished.samples, cached_tokens }
    }

    /// What the options ask for about the tokens of a prompt, or the part of it until it is cancelled.
    pub(super) fn describe(
        &self,
        model: &Transformer,
        context: &SamplingContext,
        tokens: &[u32],
        options: &PromptOptions,
    ) -> PromptLogprobs {
        let report = PromptReport::new(tokens, options);
        let run = PromptRun::new(context, tokens.to_vec(), report.first_row());
        let job = Job::new(context, run, Plan::default(), KvShape::new(&model.config));
        let finished = self.batch.run(model, &self.prompts, job);
        if !finished.prompt.is_done() {
            return PromptLogprobs::default();
        }
        report.fill(model, context, &finished.prompt)
    }
}
