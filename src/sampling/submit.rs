//! The submission of one sample: through the gates, with one number and key over all its attempts.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::debug;
use parking_lot::Mutex;

use super::options::How;
use super::retry::RetryConfig;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::http::{AttemptFailed, Http, Limits, Purpose, Request, RetryMode, idempotency_key, to_json};
use crate::pending::{Part, PollGroup, PollerHandle, Promised, Resubmit};
use crate::rules::bucket::DEFAULT_PAUSE;
use crate::session::{Gate, Session, Task};
use crate::threads::Pool;
use crate::types::wire::Promise;
use crate::types::{ModelInput, RequestKind};

/// What the submissions of one sampling client share. Threads hold it; it does not hold the session.
pub(super) struct Sampler {
    pub(super) sampling_session_id: String,
    http: Arc<Http>,
    gate: Arc<Gate>,
    poller: PollerHandle,
    submitters: Weak<Pool<Task>>,
    group: PollGroup,
    /// The number of the next sample, from 0.
    next_seq_id: AtomicU64,
    /// The prompt of the last sample, while one of its samples is unresolved.
    last_prompt: Mutex<Weak<ModelInput>>,
}

/// One sample to submit.
pub(super) struct SampleJob {
    pub(super) sampler: Arc<Sampler>,
    pub(super) prompt: Arc<ModelInput>,
    pub(super) how: How,
    pub(super) part: Part,
    pub(super) deadline: Option<Deadline>,
    pub(super) retry: Arc<RetryConfig>,
    /// How often its promise has expired.
    pub(super) expired: u32,
}

impl Sampler {
    pub(super) fn new(session: &Session, sampling_session_id: String) -> Self {
        Sampler {
            sampling_session_id,
            http: Arc::clone(session.http()),
            gate: Arc::clone(session.gate()),
            poller: session.poller().clone(),
            submitters: Arc::downgrade(session.submitters()),
            group: PollGroup { client: session.next_client(), ordered: false },
            next_seq_id: AtomicU64::new(0),
            last_prompt: Mutex::default(),
        }
    }

    /// The prompt as a sample keeps it, to be submitted anew. Many samples are drawn from one prompt, one after the other:
    /// they share it, and to compare two takes no longer than to copy one.
    pub(super) fn keep(&self, prompt: &ModelInput) -> Arc<ModelInput> {
        let last = self.last_prompt.lock().upgrade();
        last.filter(|last| **last == *prompt).unwrap_or_else(|| {
            let kept = Arc::new(prompt.clone());
            *self.last_prompt.lock() = Arc::downgrade(&kept);
            kept
        })
    }
}

impl SampleJob {
    /// Submits the sample on the calling thread and hands its promise to the poller. Blocks at the gates and during the
    /// request.
    pub(super) fn run(self) {
        let clock = self.sampler.http.config().clock();
        let began = clock.now();
        match self.submit() {
            Ok(promise) => {
                let round_trip = clock.now() - began;
                let sampler = Arc::clone(&self.sampler);
                let SampleJob { sampler: again, prompt, how, part, deadline, retry, expired } = self;
                let timeout_progress = retry.progress();
                let resubmit = retry.after(expired, fastrand::f64()).map(|wait| {
                    let run = Box::new(move |part| {
                        let expired = expired + 1;
                        SampleJob { sampler: again, prompt, how, part, deadline, retry, expired }.run_in_pool();
                    });
                    Resubmit { wait, run }
                });
                sampler.poller.ask(Promised {
                    request_id: promise.request_id.into(),
                    kind: RequestKind::Sample,
                    round_trip,
                    group: sampler.group,
                    part,
                    resubmit,
                    timeout_progress,
                });
            }
            Err(error) => self.part.resolve(Err(error)),
        }
    }

    /// Submits the sample on a thread of the pool.
    fn run_in_pool(self) {
        let Some(submitters) = self.sampler.submitters.upgrade() else { return };
        // A refused task is dropped, and its part resolves itself.
        drop(submitters.submit(Box::new(move || self.run())));
    }

    fn submit(&self) -> Result<Promise> {
        let (http, gate, operation) = (&self.sampler.http, &self.sampler.gate, self.part.operation());
        let key = idempotency_key();
        let limits = Limits { deadline: self.deadline, ..http.limits(operation, Purpose::Sampling) };
        self.part.cancels(&limits.handle);
        let mut body: Option<Vec<u8>> = None;
        // Retried here: a 429, without a wait of its own, since the limiter makes all samples of the key wait together. Other
        // failures are retried below, within the submit window and while the permit is held.
        http.with_retries(
            &limits,
            |_, _| {},
            || {
                self.part.wanted()?;
                let pass = gate.pass(http, self.deadline)?;
                self.part.wanted()?;
                let body = match &mut body {
                    Some(body) => body,
                    None => {
                        self.part.begin()?;
                        // Taken here, so that a sample which never passes the gate leaves no hole.
                        let seq_id = self.sampler.next_seq_id.fetch_add(1, Ordering::Relaxed);
                        let request = self.how.request(&self.prompt, &self.sampler.sampling_session_id, seq_id);
                        body.insert(to_json(operation, &request)?)
                    }
                };
                let request = Request {
                    headers: vec![("x-tinker-sampling-backpressure", "1".into())],
                    idempotency_key: Some(&key),
                    retry: RetryMode::SubmitSample,
                    ..Request::post("asample", body)
                };
                match http.send(&request, &limits) {
                    Ok(response) => Ok(response.json(operation).map_err(|error: Error| error.with_effect(true))?),
                    Err(error) if error.status() == Some(429) => {
                        let wait = error.retry_after().unwrap_or(DEFAULT_PAUSE);
                        debug!("{operation}: all sampling with this key waits for {wait:?}, as the service asks");
                        pass.pause(wait);
                        Err(AttemptFailed::new(error, Some(Duration::ZERO)))
                    }
                    Err(error) => Err(error.into()),
                }
            },
        )
    }
}
