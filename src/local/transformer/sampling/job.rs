//! A request in the batch: its prompt, then its sequences.

use std::any::Any;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::Transformer;
use super::super::splitmix::SplitMix64;
use super::admission::Claim;
use super::ending::Ending;
use super::kv::KvShape;
use super::prompt::PromptRun;
use super::sequence::{Choice, Sequence};
use crate::local::model::{FinishReason, GenerationOptions, Sample, SamplingContext};

/// What is sampled after a prompt; nothing by default.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Sequences.
    pub(super) count: usize,
    pub(super) options: GenerationOptions,
    pub(super) seed: u64,
    /// Of each sequence.
    pub(super) max_tokens: usize,
    pub(super) ending: Ending,
}

/// What a sequence claims at most before it has run: most end long before a limit that is as large as the context. A longer one claims
/// what it has.
const MAX_CLAIMED_TOKENS: usize = 512;

/// A request in the batch.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) context: SamplingContext,
    pub(super) plan: Plan,
    pub(super) prompt: PromptRun,
    pub(super) claim: Claim,
    /// The log-probabilities of the first token of every sequence.
    first: Vec<f32>,
    pub(super) running: Vec<Sequence>,
    /// Their indices, and what they sampled. Their keys and values are gone.
    ended: Vec<(usize, Sample)>,
    /// What a panic of this job was called with.
    pub(super) panic: Option<Panic>,
}

pub(super) type Panic = Box<dyn Any + Send>;

impl Job {
    pub(super) fn new(context: &SamplingContext, prompt: PromptRun, plan: Plan, shape: KvShape) -> Self {
        let claim = Claim {
            prompt_bytes: shape.bytes(prompt.len()),
            // The last token of a sequence is never run.
            sequence_bytes: shape.bytes(plan.max_tokens.saturating_sub(1).min(MAX_CLAIMED_TOKENS)),
            sequences: plan.count.max(1),
            admitted: 0,
            ended: 0,
        };
        let (first, running, ended) = (Vec::new(), Vec::new(), Vec::new());
        Job { context: context.clone(), plan, prompt, claim, first, running, ended, panic: None }
    }

    /// Does a part of the work. Its panic ends this job alone.
    pub(super) fn guard<R>(&mut self, part: impl FnOnce(&mut Job) -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(|| part(self)));
        result.map_err(|panic| self.panic = Some(panic)).ok()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        let is_done = self.prompt.is_done() && self.ended.len() == self.plan.count;
        is_done || self.panic.is_some() || self.context.is_cancelled()
    }

    /// Whether the next thing to do is to run the prompt.
    pub(super) fn has_prompt_to_run(&self) -> bool {
        self.claim.admitted > 0 && !self.prompt.is_done() && !self.is_over()
    }

    /// How many sequences have begun.
    fn begun(&self) -> usize {
        self.running.len() + self.ended.len()
    }

    /// Begins the sequences that are admitted, each with its first token, if the prompt is done.
    pub(super) fn begin_sequences(&mut self, model: &Transformer) {
        while self.prompt.is_done() && self.begun() < self.claim.admitted.min(self.plan.count) && !self.is_over() {
            if self.first.is_empty() {
                self.first = self.prompt.next_logprobs(model);
            }
            let Plan { seed, max_tokens, .. } = self.plan;
            let index = self.begun();
            let mut sequence = Sequence {
                index,
                kv: self.prompt.kv(KvShape::new(&model.config)),
                random: SplitMix64::stream(seed, index),
                ending: self.plan.ending.clone(),
                max_tokens,
                sample: Sample::new(Vec::new(), Vec::new(), FinishReason::Length),
            };
            let choice = Choice::new(self.first.as_slice().into(), &self.plan.options, sequence.random.clone());
            let has_ended = max_tokens == 0 || sequence.push(choice, &self.context);
            if has_ended { self.end(sequence) } else { self.running.push(sequence) }
        }
    }

    /// Appends the next token of each running sequence.
    pub(super) fn push(&mut self, choices: impl IntoIterator<Item = Choice>) {
        let running = take(&mut self.running);
        for (mut sequence, choice) in running.into_iter().zip(choices) {
            self.claim.sequence_bytes = self.claim.sequence_bytes.max(sequence.kv.own_bytes());
            if sequence.push(choice, &self.context) { self.end(sequence) } else { self.running.push(sequence) }
        }
    }

    fn end(&mut self, sequence: Sequence) {
        self.claim.ended += 1;
        self.ended.push((sequence.index, sequence.sample));
    }

    /// The prompt, and the samples in their order; those that were cancelled as far as they got.
    pub(super) fn finish(self) -> Result<Finished, Panic> {
        if let Some(panic) = self.panic {
            return Err(panic);
        }
        let mut samples = self.ended;
        samples.extend(self.running.into_iter().map(|sequence| (sequence.index, sequence.sample)));
        samples.sort_by_key(|(index, _)| *index);
        let samples = samples.into_iter().map(|(_, sample)| sample).collect();
        Ok(Finished { prompt: self.prompt, samples })
    }
}

/// What has become of a job.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) prompt: PromptRun,
    pub(super) samples: Vec<Sample>,
}
