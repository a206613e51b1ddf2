//! The submission of one sample: through the limiter, with one sequence number and idempotency key for all attempts.

use std::sync::Arc;
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use log::{Level, debug};
use parking_lot::Mutex;

use super::numbers::SampleNumbers;
use super::retry_config::RetryConfig;
use super::sample_options::SampleSettings;
use crate::clock::Deadline;
use crate::config::MAX_DURATION;
use crate::error::Result;
use crate::http::{Http, Limits, Purpose, Request, RetryDecision, RetryMode, idempotency_key, to_json};
use crate::pending::{Completer, PollClient, PollerHandle, PollingSession, Resubmission, TrackedPromise};
use crate::rules::sample_admission::{estimate, pause_after_refusal};
use crate::rules::wait_log::Doing;
use crate::session::{SamplingLimiter, Task};
use crate::threads::{Pool, Reservation, Slots};
use crate::types::wire::Promise;
use crate::types::{ModelInput, RequestKind, TokenizerPackage};

/// What all submissions of a sampling client share. Threads hold it, so it does not hold the session.
pub(super) struct Sampler {
    pub(super) sampling_session_id: String,
    http: Arc<Http>,
    limiter: Arc<SamplingLimiter>,
    poller: PollerHandle,
    submitters: Weak<Pool<Task>>,
    client: Arc<PollClient>,
    /// The client that opened the sampling session starts with 0, each other one with a number of its own.
    numbers: SampleNumbers,
    /// What the last sample is of, while such a sample is pending.
    last_asked: Mutex<Weak<Asked>>,
    /// One for each sample from its submission to its result, if the service limits them.
    slots: Option<Arc<Slots<SampleJob>>>,
    base_model: OnceLock<String>,
    tokenizer_package: OnceLock<Option<TokenizerPackage>>,
}

/// What is asked for. Samples keep it, to be submitted again; thousands of them may be of the same.
pub(super) struct Asked {
    prompt: Arc<ModelInput>,
    settings: SampleSettings,
}

/// One sample to submit.
pub(super) struct SampleJob {
    pub(super) sampler: Arc<Sampler>,
    pub(super) asked: Arc<Asked>,
    pub(super) completer: Completer,
    pub(super) deadline: Option<Deadline>,
    pub(super) retry: Arc<RetryConfig>,
    /// Its place in the queue, until it is its turn.
    pub(super) reservation: Option<Reservation>,
    /// How many times its promise has expired.
    pub(super) expired: u32,
}

impl Sampler {
    /// `first_seq_id` is the number of the first sample.
    pub(super) fn new(session: &PollingSession, sampling_session_id: String, first_seq_id: u64) -> Self {
        let service = session.http().client_config();
        let is_limited = session.http().has_client_config() && !service.sample_use_retrieve_futures;
        let slots = is_limited.then(|| Slots::new(service.sample_max_concurrent_requests, SampleJob::run_in_pool));
        let client = match service.sample_use_retrieve_futures {
            true => session.poller().new_sampler(&sampling_session_id, first_seq_id),
            false => session.poller().new_client(false),
        };
        Sampler {
            slots,
            sampling_session_id,
            client,
            http: Arc::clone(session.http()),
            limiter: Arc::clone(session.inner().limiter()),
            poller: session.poller().clone(),
            submitters: Arc::downgrade(session.inner().submitters()),
            numbers: SampleNumbers::new(first_seq_id),
            last_asked: Mutex::default(),
            base_model: OnceLock::new(),
            tokenizer_package: OnceLock::new(),
        }
    }

    /// The base model, if it is known.
    pub(super) fn base_model(&self) -> Option<&str> {
        self.base_model.get().map(String::as_str)
    }

    pub(super) fn know_base_model(&self, name: String) {
        self.base_model.get_or_init(|| name);
    }

    /// What the service has said of the tokenizer's files, if it was asked.
    pub(super) fn tokenizer_package(&self) -> Option<&Option<TokenizerPackage>> {
        self.tokenizer_package.get()
    }

    pub(super) fn know_tokenizer_package(&self, package: Option<TokenizerPackage>) {
        self.tokenizer_package.get_or_init(|| package);
    }

    /// Consecutive samples of one prompt share a copy of it, and all that is asked for if that is the same. Comparing two prompts
    /// takes no longer than copying one.
    pub(super) fn keep(&self, prompt: &ModelInput, settings: SampleSettings) -> Arc<Asked> {
        let last = self.last_asked.lock().upgrade().filter(|last| *last.prompt == *prompt);
        let prompt = match last {
            Some(last) if last.settings == settings => return last,
            Some(last) => Arc::clone(&last.prompt),
            None => Arc::new(prompt.clone()),
        };
        let asked = Arc::new(Asked { prompt, settings });
        *self.last_asked.lock() = Arc::downgrade(&asked);
        asked
    }
}

impl SampleJob {
    /// Submits the sample on the calling thread and hands its promise to the poller. Blocks at the limiter and during the
    /// request. If too many samples of the client are in flight, it waits without a thread until it is its turn.
    pub(super) fn run(self) {
        let slots = self.sampler.slots.clone().filter(|_| !self.completer.is_holding());
        let Some(slots) = slots else { return self.run_now() };
        if let Some((mut job, slot)) = slots.take(self) {
            job.completer.hold(slot);
            job.run_now();
        }
    }

    fn run_now(mut self) {
        drop(self.reservation.take());
        let clock = self.sampler.http.config().clock();
        let submitted_at = clock.now();
        match self.submit() {
            Ok(promise) => {
                let sampler = Arc::clone(&self.sampler);
                let config = sampler.http.config();
                let SampleJob { sampler: own, asked, completer, deadline, retry, expired, .. } = self;
                completer.name_parts(promise.sample_sequence_ids.unwrap_or_default().into());
                let service = sampler.http.client_config();
                let timeout_progress = retry.progress().unwrap_or(match service.sample_enable_stuck_detection {
                    true => config.timeout_progress(),
                    false => MAX_DURATION,
                });
                let wait = retry.wait(expired, fastrand::f64()).filter(|_| !service.sample_no_retries);
                let resubmission = wait.map(|wait| {
                    Resubmission::after(wait, move |completer| {
                        let (sampler, expired, reservation) = (own, expired + 1, None);
                        SampleJob { sampler, asked, completer, deadline, retry, reservation, expired }.run_in_pool();
                    })
                });
                let (id, kind) = (promise.request_id, RequestKind::Sample);
                let promise =
                    TrackedPromise::new(id, kind, Arc::clone(&sampler.client), completer, config, submitted_at)
                        .timeout_progress(timeout_progress)
                        .resubmission(resubmission);
                sampler.poller.track(promise);
            }
            Err(error) => self.completer.complete(Err(error)),
        }
    }

    /// Submits the sample on a thread of the pool. Returns false if there is none any more.
    fn run_in_pool(self) -> bool {
        let Some(submitters) = self.sampler.submitters.upgrade() else { return false };
        // If the pool refuses the task, it is dropped, and its completer completes itself.
        submitters.submit(Box::new(move || self.run())).is_ok()
    }

    fn submit(&self) -> Result<Promise> {
        let (http, limiter, operation) = (&self.sampler.http, &self.sampler.limiter, self.completer.operation());
        let key = idempotency_key();
        let limits = http.waiting(&Limits { deadline: self.deadline, ..http.limits(operation, Purpose::Sampling) });
        self.completer.set_submission(&limits.handle);
        let (mut number, mut body) = (None, None::<Vec<u8>>);
        let Asked { prompt, settings } = &*self.asked;
        let estimate = estimate(prompt);
        let pause = pause_after_refusal(estimate);
        // Only a 429 is retried here, without a wait: the limiter makes all samples of the key wait together. Other failures are
        // retried by `Http::send`, within the submit window and while the permit is held.
        let promise = http.with_retries(
            &limits,
            |_, _| {},
            || {
                self.completer.check_wanted()?;
                let queued = Doing::Queued("the client's own limits of sampling");
                let permit = limits.during(queued, || limiter.acquire(estimate, || http.is_closed(), self.deadline))?;
                self.completer.check_wanted()?;
                let body = match &mut body {
                    Some(body) => body,
                    None => {
                        self.completer.begin_write()?;
                        // Taken here and not when the call is made, so that a sample that is never sent leaves no gap. A
                        // resubmission takes a new one: the server responds to a repeated number with the promise that it made
                        // for that number before.
                        let seq_id = *number.insert(self.sampler.numbers.take());
                        let sampling_session_id = &self.sampler.sampling_session_id;
                        body.insert(to_json(operation, &settings.request(prompt, sampling_session_id, seq_id))?)
                    }
                };
                let request = Request {
                    headers: vec![("x-tinker-sampling-backpressure", "1".into())],
                    idempotency_key: Some(&key),
                    retry: RetryMode::SubmitSample { billing_wait: pause },
                    ..Request::post("asample", body)
                };
                match http.send_for(&request, &limits) {
                    Ok(promise) => Ok(promise),
                    Err(error) if error.status() == Some(429) => {
                        let wait = error.retry_after().unwrap_or(pause);
                        debug!("{operation}: all sampling with this key waits for {wait:?}, as the service requests");
                        permit.pause(wait);
                        // Already logged, with the wait that the limiter enforces.
                        Err(RetryDecision { level: Level::Trace, ..RetryDecision::new(error, Some(Duration::ZERO)) })
                    }
                    Err(error) => Err(error.into()),
                }
            },
        );
        if let Some(number) = number.filter(|_| promise.is_err() && !limits.handle.was_written()) {
            self.sampler.numbers.give_back(number);
        }
        promise
    }
}
