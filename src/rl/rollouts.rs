//! Samples for many prompts, scored by the program.

use std::error::Error as StdError;
use std::fmt;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, unbounded};

use super::trajectory::Trajectory;
use super::turn::Turn;
use crate::error::{Error, ErrorKind, Result};
use crate::sampling::{SampleOptions, SamplingClient};
use crate::threads::panic_text;
use crate::types::{ModelInput, SampledSequence, SamplingParams};

/// Samples a group for each of many prompts, and has the program score each sample.
///
/// The samples of a prompt are one request, and as many requests are in flight as the client allows. A sample is scored on one of
/// several threads as soon as it is there, while others are still being sampled. The results are in the order of the prompts and
/// samples, whatever became ready first.
///
/// A rollout fails if its sample does, or if the program's function returns an error, panics, or gives a reward that is not finite.
/// Up to [`max_failures`](Rollouts::max_failures) rollouts may fail; they are missing in the groups, and listed beside them.
///
/// ```no_run
/// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>, answers: Vec<Vec<u32>>) -> tinkex::Result<()> {
/// use std::convert::Infallible;
///
/// use tinkex::rl::Rollouts;
/// use tinkex::types::SamplingParams;
///
/// let rollouts = Rollouts::new(&sampler).group_size(8).sampling_params(SamplingParams::new().max_tokens(64)).max_failures(16);
/// let rollouts = rollouts.on_progress(|progress| eprint!("\r{} of {}", progress.done, progress.total));
/// let scored = rollouts.score(&prompts, |prompt, sequence| {
///     Ok::<_, Infallible>(if sequence.tokens == answers[prompt] { 1.0 } else { 0.0 })
/// })?;
/// println!("mean reward {}, {} failed", scored.mean_reward(), scored.failed.len());
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is sampled before score or run"]
pub struct Rollouts<'a> {
    client: &'a SamplingClient,
    group_size: u32,
    sampling_params: SamplingParams,
    max_failures: usize,
    max_in_flight: Option<usize>,
    threads: usize,
    on_progress: Option<Box<dyn FnMut(RolloutProgress) + 'a>>,
}

/// How far [`Rollouts`] have come. [`Rollouts`] has an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolloutProgress {
    /// The number of rollouts that are scored or have failed.
    pub done: usize,
    /// The number of those that have failed.
    pub failed: usize,
    /// The number of rollouts whose sample is there, or has failed.
    pub sampled: usize,
    /// The number of all rollouts: prompts × samples.
    pub total: usize,
}

/// The result of [`Rollouts`], which has an example.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScoredRollouts {
    /// One group for each prompt, in their order: its trajectories in the order of the samples, without those that failed.
    pub groups: Vec<Vec<Trajectory>>,
    /// The rollouts that failed, in the same order.
    pub failed: Vec<FailedRollout>,
}

impl ScoredRollouts {
    /// The mean reward of all trajectories; NaN without any.
    #[must_use]
    pub fn mean_reward(&self) -> f64 {
        let rewards = self.groups.iter().flatten().map(|trajectory| trajectory.reward);
        rewards.clone().sum::<f64>() / rewards.count() as f64
    }
}

/// A rollout that failed.
///
/// ```no_run
/// # fn f(scored: tinkex::rl::ScoredRollouts) {
/// for failed in &scored.failed {
///     eprintln!("sample {} of prompt {}: {}", failed.sample, failed.prompt, failed.error);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedRollout {
    /// The index of the prompt.
    pub prompt: usize,
    /// The index of the sample within its group.
    pub sample: usize,
    /// Why it failed. Of kind [`Callback`](ErrorKind::Callback), with the program's own error as the
    /// [`source`](std::error::Error::source), or [`Panicked`](ErrorKind::Panicked) if the program's function failed. The samples of
    /// a request that failed have the same error.
    pub error: Error,
}

/// A sample to be scored, and its place.
type Job = (usize, usize, Turn);

/// What became of a rollout, and its place.
type Outcome<T> = (usize, usize, Result<T>);

impl<'a> Rollouts<'a> {
    /// Rollouts with this client: one sample for each prompt with the default parameters, and no failures tolerated.
    pub fn new(client: &'a SamplingClient) -> Self {
        Rollouts {
            client,
            group_size: 1,
            sampling_params: SamplingParams::default(),
            max_failures: 0,
            max_in_flight: None,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            on_progress: None,
        }
    }

    /// Sets the number of samples for each prompt, at least 1. Defaults to 1, which has no signal: see
    /// [`advantages`](super::advantages()).
    pub fn group_size(mut self, samples: u32) -> Self {
        self.group_size = samples.max(1);
        self
    }

    /// Sets temperature, limits, seed and stop sequences. Defaults to [`SamplingParams::default`].
    pub fn sampling_params(mut self, params: SamplingParams) -> Self {
        self.sampling_params = params;
        self
    }

    /// Sets how many rollouts may fail. Defaults to 0.
    pub fn max_failures(mut self, rollouts: usize) -> Self {
        self.max_failures = rollouts;
        self
    }

    /// Sets how many requests are in flight at most, at least 1. Defaults to
    /// [`max_sampling_in_flight`](crate::ConfigBuilder::max_sampling_in_flight).
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = Some(requests);
        self
    }

    /// Sets how many threads run the program's function, at least 1. Defaults to the number of processors. Raise it for functions
    /// that wait, such as for a command or for further samples.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Sets a function to call when samples arrive and after each rollout, on the calling thread. Defaults to none.
    pub fn on_progress(mut self, report: impl FnMut(RolloutProgress) + 'a) -> Self {
        self.on_progress = Some(Box::new(report));
        self
    }

    /// Samples, and lets the function give the reward of each sample; it gets the index of the prompt and the sample. Blocks until
    /// all rollouts are done.
    ///
    /// # Errors
    ///
    /// The error of the rollout that was one too many to fail, which also says how many have; samples in flight are then abandoned.
    /// [`Io`](ErrorKind::Io) if no thread can be started.
    pub fn score<E>(
        self,
        prompts: &[ModelInput],
        reward: impl Fn(usize, &SampledSequence) -> Result<f64, E> + Sync,
    ) -> Result<ScoredRollouts>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.run(prompts, |prompt, turn| reward(prompt, &turn.sequence).map(|reward| turn.scored(reward)))
    }

    /// Samples, and lets the function make a trajectory of each sample: it gets the index of the prompt and the first turn, may sample
    /// further turns with any client, and gives the reward. Blocks until all rollouts are done.
    ///
    /// # Errors
    ///
    /// As [`score`](Rollouts::score).
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>, results: Vec<u32>) -> tinkex::Result<()> {
    /// use tinkex::rl::{Rollouts, Trajectory, Turn};
    /// use tinkex::types::SamplingParams;
    ///
    /// let params = SamplingParams::new().max_tokens(64);
    /// let rollouts = Rollouts::new(&sampler).group_size(8).sampling_params(params.clone());
    /// // The first sample calls a tool. The second one, after the tool's result, is the answer.
    /// let scored = rollouts.run(&prompts, |_, call| {
    ///     let second = call.prompt.clone().append(&call.sequence.tokens).append(&results);
    ///     let answer = sampler.sample(&second, 1, &params)?.sequences.remove(0);
    ///     let reward = if answer.tokens.contains(&42) { 1.0 } else { 0.0 };
    ///     Ok::<_, tinkex::Error>(Trajectory::new([call, Turn::new(second, answer)], reward))
    /// })?;
    /// println!("{}", scored.mean_reward());
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<E>(
        self,
        prompts: &[ModelInput],
        finish: impl Fn(usize, Turn) -> Result<Trajectory, E> + Sync,
    ) -> Result<ScoredRollouts>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let outcomes = self.each(prompts, |prompt, turn| scored(finish(prompt, turn)))?;
        let mut scored = ScoredRollouts { groups: vec![Vec::new(); prompts.len()], failed: Vec::new() };
        for (prompt, sample, outcome) in outcomes {
            match outcome {
                Ok(trajectory) => scored.groups[prompt].push(trajectory),
                Err(error) => scored.failed.push(FailedRollout { prompt, sample, error }),
            }
        }
        Ok(scored)
    }

    /// Samples, and lets the function make anything of each sample. The outcomes are in the order of the prompts and samples.
    pub(crate) fn each<T: Send>(
        self,
        prompts: &[ModelInput],
        finish: impl Fn(usize, Turn) -> Result<T> + Sync,
    ) -> Result<Vec<Outcome<T>>> {
        let total = prompts.len() * self.group_size as usize;
        let progress = RolloutProgress { total, ..RolloutProgress::default() };
        let mut tally =
            Tally { max_failures: self.max_failures, progress, on_progress: self.on_progress, outcomes: Vec::new() };
        let request = |prompt| {
            SampleOptions::new(prompt).num_samples(self.group_size).sampling_params(self.sampling_params.clone())
        };
        let mut samples = self.client.sample_many(prompts.iter().map(request));
        if let Some(requests) = self.max_in_flight {
            samples = samples.max_in_flight(requests);
        }
        let (to_score, jobs) = unbounded::<Job>();
        let (to_caller, scored) = unbounded::<Outcome<T>>();
        let waker = samples.waker();
        let work = || {
            for (prompt, sample, turn) in &jobs {
                let outcome = caught(|| finish(prompt, turn));
                if to_caller.send((prompt, sample, outcome)).is_err() {
                    break;
                }
                waker.wake();
            }
        };
        thread::scope(|scope| {
            // Dropped first, also by an error: the threads then end after the function they are in.
            let (to_score, scored) = (to_score, scored);
            for _ in 0..self.threads.min(total) {
                thread::Builder::new()
                    .name("tinkex-rollout".to_owned())
                    .spawn_scoped(scope, work)
                    .map_err(not_started)?;
            }
            loop {
                tally.add_scored(&scored)?;
                match samples.next_or_woken() {
                    Some(Some((prompt, Ok(response)))) => {
                        tally.sampled(response.sequences.len());
                        for (sample, sequence) in response.sequences.into_iter().enumerate() {
                            // The threads live as long as the jobs.
                            let _ = to_score.send((prompt, sample, Turn::new(&prompts[prompt], sequence)));
                        }
                    }
                    Some(Some((prompt, Err(error)))) => {
                        tally.sampled(self.group_size as usize);
                        (0..self.group_size as usize)
                            .try_for_each(|sample| tally.add((prompt, sample, Err(error.clone()))))?;
                    }
                    Some(None) => {}
                    None => break,
                }
            }
            drop(to_score);
            while tally.progress.done < total {
                let Ok(outcome) = scored.recv() else { break };
                tally.add(outcome)?;
            }
            tally.outcomes.sort_unstable_by_key(|(prompt, sample, _)| (*prompt, *sample));
            Ok(tally.outcomes)
        })
    }
}

impl fmt::Debug for Rollouts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollouts")
            .field("group_size", &self.group_size)
            .field("max_failures", &self.max_failures)
            .finish_non_exhaustive()
    }
}

/// What the program's function made of a sample.
fn scored<E>(trajectory: Result<Trajectory, E>) -> Result<Trajectory>
where
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    match trajectory {
        Ok(trajectory) if trajectory.reward.is_finite() => Ok(trajectory),
        Ok(trajectory) => Err(Error::invalid_input(format!("the reward of a sample is {}", trajectory.reward))
            .with_hint("give a finite reward, or an error")),
        Err(error) => Err(Error::callback("the function that scores a sample", error.into())),
    }
}

/// The result of the program's function, or the error of its panic.
fn caught<T>(finish: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(finish)).unwrap_or_else(|panic| {
        let message = format!("the function that scores a sample panicked: {}", panic_text(&*panic));
        Err(Error::new(ErrorKind::Panicked, message))
    })
}

fn not_started(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "a thread for scoring samples could not be started")
        .with_hint("lower Rollouts::threads, or raise the limit of threads (ulimit -u)")
        .with_source(error)
}

/// What has become of the rollouts so far.
struct Tally<'a, T> {
    max_failures: usize,
    progress: RolloutProgress,
    on_progress: Option<Box<dyn FnMut(RolloutProgress) + 'a>>,
    outcomes: Vec<Outcome<T>>,
}

impl<T> Tally<'_, T> {
    fn sampled(&mut self, rollouts: usize) {
        self.progress.sampled += rollouts;
        self.report();
    }

    /// Adds an outcome. Returns its error if it is one failure too many.
    fn add(&mut self, outcome: Outcome<T>) -> Result<()> {
        self.progress.done += 1;
        self.progress.failed += usize::from(outcome.2.is_err());
        self.report();
        let RolloutProgress { failed, total, .. } = self.progress;
        match outcome {
            (prompt, sample, Err(error)) if failed > self.max_failures => Err(error.with_detail(format_args!(
                "sample {sample} of prompt {prompt}; {failed} of {total} rollouts failed, and {} may",
                self.max_failures
            ))),
            outcome => {
                self.outcomes.push(outcome);
                Ok(())
            }
        }
    }

    /// Adds what has been scored up to now. Does not block.
    fn add_scored(&mut self, scored: &Receiver<Outcome<T>>) -> Result<()> {
        loop {
            match scored.try_recv() {
                Ok(outcome) => self.add(outcome)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn report(&mut self) {
        if let Some(report) = &mut self.on_progress {
            report(self.progress);
        }
    }
}
