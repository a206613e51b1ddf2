//! Samples the answers to tasks, and grades them.

use std::error::Error as StdError;
use std::fmt;

use parking_lot::Mutex;

use super::outcome::{Evaluated, GradedSample, TaskOutcome};
use super::task::Task;
use crate::error::{Error, Result};
use crate::rl::{RolloutProgress, Rollouts};
use crate::sampling::SamplingClient;
use crate::types::{ModelInput, SampledSequence, SamplingParams};

/// Samples the answers of a model to tasks, and grades them on several threads. [The module](super) has an example.
///
/// The samples of a task are one request, and as many requests are in flight as the client allows. An answer is graded as soon as it
/// is there. A sample that fails, and an answer that cannot be graded, is no error: it has no grade.
#[must_use = "nothing is sampled before run"]
pub struct Evaluation<'a> {
    rollouts: Rollouts<'a>,
    on_progress: Option<Box<dyn FnMut(EvaluationProgress) + 'a>>,
}

/// How far an [`Evaluation`] has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvaluationProgress {
    /// The number of samples that are graded or cannot be.
    pub done: usize,
    /// The number of those that passed.
    pub passed: usize,
    /// The number of those that have no grade.
    pub ungraded: usize,
    /// The number of all samples: tasks × samples.
    pub total: usize,
}

impl<'a> Evaluation<'a> {
    /// An evaluation with this client: one sample for each task, with the default parameters.
    pub fn new(client: &'a SamplingClient) -> Self {
        Evaluation { rollouts: Rollouts::new(client), on_progress: None }
    }

    /// Sets the number of samples for each task, at least 1. Defaults to 1.
    pub fn samples(mut self, samples: u32) -> Self {
        self.rollouts = self.rollouts.group_size(samples);
        self
    }

    /// Sets temperature, limits, seed and stop sequences. Defaults to [`SamplingParams::default`].
    pub fn sampling_params(mut self, params: SamplingParams) -> Self {
        self.rollouts = self.rollouts.sampling_params(params);
        self
    }

    /// Sets how many requests are in flight at most, at least 1. Defaults to
    /// [`max_sampling_in_flight`](crate::ConfigBuilder::max_sampling_in_flight).
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.rollouts = self.rollouts.max_in_flight(requests);
        self
    }

    /// Sets how many threads grade, at least 1. Defaults to the number of processors.
    pub fn threads(mut self, threads: usize) -> Self {
        self.rollouts = self.rollouts.threads(threads);
        self
    }

    /// Sets a function to call when samples arrive and after each grade, on the calling thread. Defaults to none.
    pub fn on_progress(mut self, report: impl FnMut(EvaluationProgress) + 'a) -> Self {
        self.on_progress = Some(Box::new(report));
        self
    }

    /// Samples the answers to these prompts, one for each task in their order, and grades them. The function makes the answer of a
    /// sample, usually by decoding its tokens; it gets the index of the task. Blocks until all answers are graded.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if there are not as many prompts as tasks, [`Io`](crate::ErrorKind::Io) if no
    /// thread can be started. What fails for one sample alone is its [`grade`](GradedSample::grade).
    pub fn run<E>(
        self,
        tasks: &[Task],
        prompts: &[ModelInput],
        answer: impl Fn(usize, &SampledSequence) -> Result<String, E> + Sync,
    ) -> Result<Evaluated>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        if tasks.len() != prompts.len() {
            return Err(Error::invalid_input(format!("there are {} tasks and {} prompts", tasks.len(), prompts.len()))
                .with_hint("give one prompt for each task"));
        }
        let counts = Mutex::new(EvaluationProgress::default());
        let mut rollouts = self.rollouts.max_failures(usize::MAX);
        if let Some(mut report) = self.on_progress {
            let counts = &counts;
            rollouts = rollouts.on_progress(move |RolloutProgress { failed, total, .. }| {
                // Those that failed have no answer, and are not counted yet.
                let EvaluationProgress { done, passed, ungraded, .. } = *counts.lock();
                report(EvaluationProgress { done: done + failed, passed, ungraded: ungraded + failed, total });
            });
        }
        let outcomes = rollouts.each(prompts, |task, turn| {
            let answer =
                answer(task, &turn.sequence).map_err(|error| Error::callback("reading an answer", error.into()))?;
            let grade = tasks[task].grader.grade(&answer);
            let mut counts = counts.lock();
            counts.done += 1;
            counts.passed += usize::from(matches!(grade, Ok(true)));
            counts.ungraded += usize::from(grade.is_err());
            Ok(GradedSample { answer: Some(answer), grade })
        })?;
        let outcome = |task: &Task| TaskOutcome { id: task.id.clone(), samples: Vec::new() };
        let mut evaluated = Evaluated { tasks: tasks.iter().map(outcome).collect() };
        for (task, _, sample) in outcomes {
            let sample = sample.unwrap_or_else(|error| GradedSample { answer: None, grade: Err(error) });
            evaluated.tasks[task].samples.push(sample);
        }
        Ok(evaluated)
    }
}

impl fmt::Debug for Evaluation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluation").field("rollouts", &self.rollouts).finish_non_exhaustive()
    }
}
