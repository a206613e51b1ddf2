//! What the threads of the poller's pool do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::messages::{Reply, SamplingTarget};
use super::observe::PromiseObserver;
use super::poll::{PollJob, excuse, outcome_of};
use super::reply_sender::ReplySender;
use super::trouble::Trouble;
use crate::error::Result;
use crate::http::{Http, Limits, Purpose, Request, RequestHandle, Response, RetryMode, to_json};
use crate::rules::poll_response::{PollFailure, PollOutcome};
use crate::rules::retry::retry_after;
use crate::rules::session_poll::{SessionPollRequest, Wanted, classify_completions};
use crate::types::wire::{CancelFutureRequest, FuturesTarget, RetrieveFuturesRequest, RetrieveFuturesResponse};

/// How long a request may be silent that the server must not hold: an acknowledgement (Python client: 5 s).
const TIMEOUT_ACKNOWLEDGEMENT: Duration = Duration::from_secs(5);

/// How long a cancellation may be silent (Python client: 30 s).
const TIMEOUT_CANCELLATION: Duration = Duration::from_secs(30);

/// One request of the poller.
pub(super) enum Job {
    /// The poll of one promise.
    Poll(Box<PollJob>),
    /// The poll of all samples of a session.
    Session(Box<SessionPollJob>),
    /// Tells the service that a sample is given up.
    Cancel(CancelJob),
}

impl Job {
    /// Sends the request and replies to the poller.
    pub(super) fn run(self, http: &Http, observer: &PromiseObserver) {
        match self {
            Job::Poll(job) => job.run(http, observer),
            Job::Session(job) => job.run(http),
            Job::Cancel(job) => job.run(http),
        }
    }

    /// Drops the job without a reply.
    pub(super) fn forget(self) {
        match self {
            Job::Poll(job) => job.reply.forget(),
            Job::Session(job) => job.reply.forget(),
            Job::Cancel(job) => job.reply.forget(),
        }
    }
}

/// One poll of all samples of a session.
pub(super) struct SessionPollJob {
    pub(super) target: Arc<SamplingTarget>,
    pub(super) content: SessionPollRequest,
    /// How many polls in a row found no descriptor or thread.
    pub(super) shortages: u32,
    /// Whether a 400 may be a proxy's.
    pub(super) excuses_bad_request: bool,
    /// Since when all its polls were refused because of the account's billing, if they were.
    pub(super) unpaid_since: Option<Instant>,
    pub(super) request: Arc<RequestHandle>,
    pub(super) reply: ReplySender,
}

impl SessionPollJob {
    const OPERATION: &'static str = "retrieve_futures";

    fn run(self, http: &Http) {
        let clock = http.config().clock();
        let began = clock.now();
        let response = self.send(http);
        let held = clock.now() - began;
        if response.is_err() && self.request.is_cancelled() {
            return self.reply.send(Reply::CutOff);
        }
        let (outcome, trouble) = match response {
            Ok(response) => (self.read(http, &response), Trouble::in_response(&response)),
            Err(error) => {
                debug!("{error}");
                (outcome_of(&error, &self.request, self.shortages), Some(Trouble::in_error(&error)))
            }
        };
        self.reply.send(Reply::SessionPolled { outcome, held, trouble });
    }

    fn send(&self, http: &Http) -> Result<Response> {
        let holds = self.content.wanted == Wanted::Completions;
        let target = FuturesTarget {
            sampling_session_id: (&*self.target.sampling_session_id).into(),
            cloned_sampler_id: self.target.clone_number,
        };
        let body = to_json(
            Self::OPERATION,
            &RetrieveFuturesRequest {
                target,
                prev_cursor: self.content.cursor,
                timeout: (!holds).then_some(0.0),
                retrieved_request_ids: self.content.retrieved.iter().map(|id| (&**id).into()).collect(),
            },
        )?;
        let request = Request { retry: RetryMode::Never, ..Request::post("retrieve_futures", &body) };
        let time = if holds { http.config().timeout_poll() } else { TIMEOUT_ACKNOWLEDGEMENT };
        let limits = Limits {
            idle: time,
            head: Some(time),
            handle: Arc::clone(&self.request),
            ..http.limits(Self::OPERATION, Purpose::Futures)
        };
        http.send_once(&request, &limits)
    }

    fn read(&self, http: &Http, response: &Response) -> PollOutcome<RetrieveFuturesResponse> {
        let wall = http.config().clock().wall();
        let retry_after = retry_after(|name| response.header(name), wall);
        let outcome = classify_completions(response.status, &response.body, retry_after);
        let outcome = outcome.resolve(Ok, |failure| match failure {
            PollFailure::Undecodable { why } => response.decode_error(&why).with_operation(Self::OPERATION),
            _ => response.clone().into_error(Self::OPERATION, wall),
        });
        excuse(http, response.status, self.excuses_bad_request, self.unpaid_since, outcome)
    }
}

/// Tells the service that nobody will take the result of a sample.
pub(super) struct CancelJob {
    pub(super) request_id: Arc<str>,
    pub(super) reply: ReplySender,
}

impl CancelJob {
    const OPERATION: &'static str = "cancel_future";

    /// Only an attempt: if it fails, the sample is made for nobody.
    fn run(self, http: &Http) {
        let sent = to_json(Self::OPERATION, &CancelFutureRequest { request_id: (&*self.request_id).into() }).and_then(
            |body| {
                let request = Request { retry: RetryMode::Never, ..Request::post("cancel_future", &body) };
                let limits = Limits { idle: TIMEOUT_CANCELLATION, ..http.limits(Self::OPERATION, Purpose::Futures) };
                http.send_once(&request, &limits)
            },
        );
        match sent {
            Ok(response) if response.is_success() => {}
            Ok(response) => debug!("{}: status {} for {}", Self::OPERATION, response.status, self.request_id),
            Err(error) => debug!("{error}"),
        }
        self.reply.send(Reply::Cancelled);
    }
}
