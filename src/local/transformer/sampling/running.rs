//! The jobs of a batch, and what is done for them between two looks at who has joined.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::prelude::*;

use super::super::Transformer;
use super::super::ops::log_softmax;
use super::admission::{Claim, Limits, admit};
use super::job::{Finished, Job, Panic};
use super::prompt_cache::PromptCache;
use super::sequence::{Choice, Sequence};
use super::step::{Segment, next_logits};
use crate::local::model::Adapter;
use crate::threads::panic_text;

/// The place of a job among all jobs of a model.
pub(super) type Ticket = u64;

/// Jobs that run together, or wait for room, in the order in which they joined.
#[derive(Debug, Default)]
pub(super) struct Running {
    jobs: Vec<(Ticket, Job)>,
    /// The job whose prompt ran last.
    last_prompt: Ticket,
}

/// A job with running sequences, and the adapter for their next tokens.
struct Turn<'a> {
    job: &'a mut Job,
    adapter: Option<Arc<Adapter>>,
}

impl Running {
    pub(super) fn join(&mut self, jobs: impl IntoIterator<Item = (Ticket, Job)>) {
        self.jobs.extend(jobs);
    }

    /// Does one round: at most a few blocks of one prompt, and one token of each running sequence. Returns the jobs that are over.
    pub(super) fn round(
        &mut self,
        model: &Transformer,
        cache: &PromptCache,
        limits: Limits,
    ) -> Vec<(Ticket, Result<Finished, Panic>)> {
        self.admit(limits);
        self.run_prompts(model, cache);
        for (_, job) in &mut self.jobs {
            job.guard(|job| job.begin_sequences(model));
        }
        self.step(model);
        let (over, jobs) = self.jobs.drain(..).partition(|(_, job)| job.is_over());
        self.jobs = jobs;
        let over: Vec<(Ticket, Job)> = over;
        over.into_iter().map(|(ticket, job)| (ticket, job.finish())).collect()
    }

    /// Gives up all jobs, after a round that panicked.
    pub(super) fn abandon(&mut self, panic: &Panic) -> Vec<(Ticket, Result<Finished, Panic>)> {
        let why = format!("the batch of samples panicked: {}", panic_text(&**panic));
        self.jobs.drain(..).map(|(ticket, _)| (ticket, Err(Box::new(why.clone()) as Panic))).collect()
    }

    fn admit(&mut self, limits: Limits) {
        let mut jobs: Vec<_> = self.jobs.iter_mut().map(|(_, job)| job).filter(|job| !job.is_over()).collect();
        let mut claims: Vec<Claim> = jobs.iter().map(|job| job.claim).collect();
        admit(&mut claims, limits);
        jobs.iter_mut().zip(claims).for_each(|(job, claim)| job.claim = claim);
    }

    /// Runs prompts in turn, until blocks of one had to be computed.
    fn run_prompts(&mut self, model: &Transformer, cache: &PromptCache) {
        let last = self.last_prompt;
        let mut jobs: Vec<_> = self.jobs.iter_mut().filter(|(_, job)| job.has_prompt_to_run()).collect();
        jobs.sort_by_key(|(ticket, _)| (*ticket <= last, *ticket));
        for (ticket, job) in jobs {
            self.last_prompt = *ticket;
            if job.guard(|job| job.prompt.advance(model, cache, &job.context)) == Some(true) {
                return;
            }
        }
    }

    /// Samples the next token of each running sequence.
    fn step(&mut self, model: &Transformer) {
        let mut turns = Vec::new();
        for (_, job) in &mut self.jobs {
            if job.is_over() || job.running.is_empty() {
                continue;
            }
            if let Some(adapter) = job.guard(|job| job.context.adapter()) {
                turns.push(Turn { job, adapter });
            }
        }
        // Rows of the same adapter next to each other.
        turns.sort_by_key(|turn| turn.adapter.as_ref().map(Arc::as_ptr));
        push_next(model, &mut turns);
    }
}

/// Appends the next token of each sequence. If that panics, each job is tried alone, so that only those end that panic alone.
fn push_next(model: &Transformer, turns: &mut [Turn<'_>]) {
    match (catch_unwind(AssertUnwindSafe(|| choose(model, turns))), turns) {
        (Ok(choices), turns) => {
            let mut choices = choices.into_iter();
            for turn in turns {
                let count = turn.job.running.len();
                let choices: Vec<_> = choices.by_ref().take(count).collect();
                turn.job.guard(|job| job.push(choices));
            }
        }
        (Err(panic), [turn]) => turn.job.panic = Some(panic),
        (Err(_), turns) => turns.chunks_mut(1).for_each(|turn| push_next(model, turn)),
    }
}

/// Draws the next token of each sequence.
fn choose(model: &Transformer, turns: &mut [Turn<'_>]) -> Vec<Choice> {
    let (mut segments, mut draws) = (Vec::new(), Vec::new());
    for Turn { job, adapter } in turns {
        let (options, prompt) = (&job.plan.options, job.prompt.len());
        for Sequence { kv, random, sample, .. } in &mut job.running {
            let last = sample.tokens.len().saturating_sub(1);
            let position = prompt + last;
            segments.push(Segment { tokens: &sample.tokens[last..], position, adapter: adapter.as_deref(), kv });
            draws.push((options, random.clone()));
        }
    }
    if segments.is_empty() {
        return Vec::new();
    }
    model.sampler.threads.run(|| {
        let mut logits = next_logits(model, &mut segments);
        let rows: Vec<_> = logits.rows_mut().into_iter().zip(draws).collect();
        let choices = rows.into_par_iter().map(|(mut row, (options, random))| {
            log_softmax(row.view_mut());
            Choice::new(row.view(), options, random)
        });
        choices.collect()
    })
}
