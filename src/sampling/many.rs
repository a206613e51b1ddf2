//! Many samples with a bounded number of them in flight.

use std::fmt;

use super::{SampleOptions, SamplingClient};
use crate::error::Result;
use crate::pending::{AsCompleted, Waker};
use crate::types::SampleResponse;

impl SamplingClient {
    /// Samples for many prompts, with a bounded number of samples in flight. A request is a prompt, or [`SampleOptions`].
    ///
    /// Nothing is sent until the results are asked for: the returned [`SampleMany`] is an iterator that yields each response with
    /// the index of its request, as they become ready; [`wait_all`](SampleMany::wait_all) and
    /// [`wait_each`](SampleMany::wait_each) block and return them in the order of the requests. Requests are taken only when
    /// there is room for them, so their iterator may be as long as you like.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>) -> tinkex::Result<()> {
    /// use tinkex::SampleOptions;
    /// use tinkex::types::SamplingParams;
    ///
    /// let params = SamplingParams::new().max_tokens(64).temperature(0.0);
    /// let requests = prompts.iter().map(|prompt| SampleOptions::new(prompt).sampling_params(params.clone()));
    /// let samples = sampler.sample_many(requests).max_in_flight(32);
    /// let samples = samples.on_progress(|progress| eprint!("\r{} of {:?}", progress.done, progress.total));
    /// for response in samples.wait_all()? {
    ///     println!("{:?}", response.sequences[0].tokens);
    /// }
    ///
    /// // In the order in which they become ready, with the failures of single ones:
    /// for (index, response) in sampler.sample_many(&prompts) {
    ///     match response {
    ///         Ok(response) => println!("prompt {index}: {:?}", response.sequences[0].tokens),
    ///         Err(error) => println!("prompt {index}: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn sample_many<'a, I>(&self, requests: I) -> SampleMany<'a, I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<SampleOptions<'a>>,
    {
        let requests = requests.into_iter();
        let total = match requests.size_hint() {
            (least, Some(most)) if least == most => Some(most),
            _ => None,
        };
        SampleMany {
            client: self.with_waiting_submits(true),
            requests,
            max_in_flight: self.session.config().max_sampling_in_flight(),
            in_flight: AsCompleted::new(),
            progress: SampleProgress { done: 0, failed: 0, submitted: 0, total },
            on_progress: None,
        }
    }
}

/// Samples for many prompts: see [`SamplingClient::sample_many`].
///
/// As an iterator it yields each response, or its error, with the index of its request, in the order in which they become ready.
/// Each `next` submits requests as long as there is room, and then blocks until a response is ready. Dropping it abandons the
/// samples in flight.
#[must_use = "nothing is sampled until the results are asked for"]
pub struct SampleMany<'a, I> {
    client: SamplingClient,
    requests: I,
    max_in_flight: usize,
    in_flight: AsCompleted<SampleResponse>,
    progress: SampleProgress,
    on_progress: Option<Box<dyn FnMut(SampleProgress) + 'a>>,
}

/// How far [`SamplingClient::sample_many`] has come.
///
/// ```no_run
/// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>) -> tinkex::Result<()> {
/// let samples = sampler.sample_many(&prompts).on_progress(|progress: tinkex::SampleProgress| {
///     eprintln!("{} done, {} of them failed, {} submitted", progress.done, progress.failed, progress.submitted);
/// });
/// samples.wait_all()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampleProgress {
    /// The number of requests whose response or error is ready.
    pub done: usize,
    /// The number of those with an error.
    pub failed: usize,
    /// The number of requests that were submitted or refused.
    pub submitted: usize,
    /// The number of all requests, if their iterator says so.
    pub total: Option<usize>,
}

impl<'a, I, R> SampleMany<'a, I>
where
    I: Iterator<Item = R>,
    R: Into<SampleOptions<'a>>,
{
    /// Sets how many samples are in flight at most, at least 1. Defaults to
    /// [`max_sampling_in_flight`](crate::ConfigBuilder::max_sampling_in_flight).
    pub fn max_in_flight(mut self, max: usize) -> Self {
        self.max_in_flight = max.max(1);
        self
    }

    /// Sets a function to call after each response, on the thread that waits. Defaults to none.
    pub fn on_progress(mut self, report: impl FnMut(SampleProgress) + 'a) -> Self {
        self.on_progress = Some(Box::new(report));
        self
    }

    /// All responses in the order of the requests. Blocks until all are ready.
    ///
    /// # Errors
    ///
    /// The first error of any request; the samples in flight are then abandoned, and no more are submitted.
    pub fn wait_all(self) -> Result<Vec<SampleResponse>> {
        let responses: Result<Vec<_>> = self.map(|(index, response)| Ok((index, response?))).collect();
        Ok(in_order(responses?))
    }

    /// The response or the error of each request, in the order of the requests. Blocks until all are ready.
    pub fn wait_each(self) -> Vec<Result<SampleResponse>> {
        in_order(self.collect())
    }

    /// What wakes [`next_or_woken`](SampleMany::next_or_woken).
    pub(crate) fn waker(&self) -> Waker {
        self.in_flight.waker()
    }

    /// As `next`, or `Some(None)` when it was woken.
    pub(crate) fn next_or_woken(&mut self) -> Option<Option<(usize, Result<SampleResponse>)>> {
        let next = match self.fill() {
            Some(refused) => refused,
            None => match self.in_flight.next_or_woken()? {
                Some(next) => next,
                None => return Some(None),
            },
        };
        self.progress.done += 1;
        self.progress.failed += usize::from(next.1.is_err());
        let progress = self.progress;
        if let Some(report) = &mut self.on_progress {
            report(progress);
        }
        Some(Some(next))
    }

    /// Submits requests as long as there is room. Returns the error of one that could not be submitted.
    fn fill(&mut self) -> Option<(usize, Result<SampleResponse>)> {
        while self.in_flight.len() < self.max_in_flight {
            let request = self.requests.next()?;
            let index = self.progress.submitted;
            self.progress.submitted += 1;
            match self.client.submit_sample_with(request) {
                Ok(pending) => self.in_flight.add_as(index, pending),
                Err(error) => return Some((index, Err(error))),
            }
        }
        None
    }
}

impl<'a, I, R> Iterator for SampleMany<'a, I>
where
    I: Iterator<Item = R>,
    R: Into<SampleOptions<'a>>,
{
    type Item = (usize, Result<SampleResponse>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.next_or_woken()? {
                return Some(next);
            }
        }
    }
}

impl<I> fmt::Debug for SampleMany<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleMany").field("progress", &self.progress).finish_non_exhaustive()
    }
}

fn in_order<T>(mut results: Vec<(usize, T)>) -> Vec<T> {
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
