//! One long poll, on a thread of the pool. Classifies and decodes its response, and decides nothing else.

use std::sync::Arc;
use std::time::Instant;

use log::debug;

use super::call_state::{Decode, Decoded, ResultBody, WRONG_RESULT};
use super::messages::Reply;
use super::observe::PromiseObserver;
use super::reply_sender::ReplySender;
use super::trouble::Trouble;
use crate::config::Wire;
use crate::error::{Error, ErrorKind, Limit, Outlook, Result, shown_id};
use crate::http::{Http, Limits, Purpose, Request, RequestHandle, Response, RetryMode, to_json};
use crate::observer::{Event, QueueStateUpdate};
use crate::rules::billing::{BILLING_WAIT, Billed};
use crate::rules::json_numbers;
use crate::rules::poll_queue::ClientId;
use crate::rules::poll_response::{NotReady, PollFailure, PollOutcome, classify};
use crate::rules::poll_schedule::is_lasting_shortage;
use crate::rules::result_form::is_protobuf;
use crate::rules::retry::retry_after;
use crate::types::RequestKind;
use crate::types::wire::{RetrieveFutureRequest, protobuf};

/// One poll of a promise.
pub(super) struct PollJob {
    pub(super) operation: &'static str,
    pub(super) request_id: Arc<str>,
    pub(super) kind: RequestKind,
    pub(super) client: ClientId,
    /// In seconds.
    pub(super) round_trip: f64,
    pub(super) promised_at: Instant,
    /// The number of this poll, from 0.
    pub(super) iteration: u32,
    /// How many polls in a row did not reach the service.
    pub(super) unreachable: u32,
    /// How many of the last of those found no descriptor or thread.
    pub(super) shortages: u32,
    /// Whether a 400 may be a proxy's.
    pub(super) excuses_bad_request: bool,
    /// Since when all its polls were refused because of the account's billing, if they were.
    pub(super) unpaid_since: Option<Instant>,
    /// Whether the size of the result is known, and there is room for it.
    pub(super) is_measured: bool,
    pub(super) decode: Decode,
    pub(super) request: Arc<RequestHandle>,
    pub(super) reply: ReplySender,
}

impl PollJob {
    /// Polls, reports a failure and a queue state, and replies to the poller.
    pub(super) fn run(self, http: &Http, observer: &PromiseObserver) {
        let clock = http.config().clock();
        let began = clock.now();
        let response = self.send(http);
        let held = clock.now() - began;
        if response.is_err() && self.request.is_cancelled() {
            return self.reply.send(Reply::CutOff);
        }
        let (outcome, failure, trouble) = match response {
            Ok(response) => {
                let trouble = Trouble::in_response(&response);
                let (outcome, failure) = self.read(http, response);
                let trouble = match (&outcome, &failure) {
                    (PollOutcome::NotReady(NotReady::Pending { .. }), _) => Trouble::in_queue(self.kind, &outcome),
                    (_, Some(failure)) => Some(Trouble::in_error(failure)),
                    (_, None) => trouble,
                };
                (outcome, failure, trouble)
            }
            Err(error) => {
                debug!("{}: poll {} of {}: {error}", self.operation, self.iteration, shown_id(&self.request_id));
                let trouble = Trouble::in_error(&error);
                (outcome_of(&error, &self.request, self.shortages), Some(error), Some(trouble))
            }
        };
        if let Some(error) = failure.filter(|_| http.events().wants_failures()) {
            http.events().emit(Event::PollFailed {
                operation: self.operation,
                request_id: Arc::clone(&self.request_id),
                kind: self.kind,
                iteration: self.iteration,
                lost: self.unreachable,
                error: error.with_operation(self.operation).with_request_id(Arc::clone(&self.request_id)),
                elapsed: clock.now().saturating_duration_since(self.promised_at),
            });
        }
        if let PollOutcome::NotReady(NotReady::Pending { queue_state: Some(queue_state), reason }) = &outcome {
            // Before the reply, so that observers get the states of a queue before anyone gets the result.
            let (queue_state, reason) = (queue_state.clone(), reason.clone());
            let (operation, request_id) = (self.operation, self.request_id);
            let update = QueueStateUpdate { operation, request_id, queue_state, reason };
            observer.queue_state(self.client, self.kind, update);
        }
        self.reply.send(Reply::Polled { outcome, held, trouble });
    }

    fn send(&self, http: &Http) -> Result<Response> {
        let request_id = (&*self.request_id).into();
        // Services without settings are of 2025, and have no such thing.
        let allow_metadata_only = http.has_client_config().then_some(!self.is_measured);
        let body = to_json(self.operation, &RetrieveFutureRequest { request_id, allow_metadata_only })?;
        let mut headers = vec![
            ("x-tinker-request-iteration", self.iteration.to_string().into()),
            ("x-tinker-request-type", self.kind.as_str().into()),
        ];
        if http.config().wire() != Wire::Json {
            // Only a result can be protobuf; all else that a poll may bring is JSON.
            headers.push(("accept", format!("{}, application/json", protobuf::CONTENT_TYPE).into()));
        }
        if self.iteration == 0 {
            let seconds = self.round_trip.to_string();
            headers.push(("x-tinker-create-promise-roundtrip-time", seconds.into()));
        }
        let request = Request { headers, retry: RetryMode::Never, ..Request::post("retrieve_future", &body) };
        let limits = Limits {
            idle: http.config().timeout_poll(),
            head: Some(http.config().timeout_poll()),
            handle: Arc::clone(&self.request),
            ..http.limits(self.operation, Purpose::Futures)
        };
        http.send_once(&request, &limits)
    }

    /// What a response says about the promise, and the failure that observers get.
    fn read(&self, http: &Http, mut response: Response) -> (PollOutcome<Decoded>, Option<Error>) {
        let wall = http.config().clock().wall();
        let retry_after = retry_after(|name| response.header(name), wall);
        let is_protobuf = is_protobuf(response.status, response.header("content-type"));
        // A result in protobuf takes the body, to share its memory.
        let protobuf = is_protobuf.then(|| std::mem::take(&mut response.body));
        let into_error = |failure| match failure {
            PollFailure::Request { message, category } => {
                // The service accepted the request, and it failed there.
                let message = format!("the request failed on the server: {message}");
                response.hide_in(Error::new(ErrorKind::RequestFailed, message).with_category(category))
            }
            PollFailure::HttpStatus { .. } => response.clone().into_error(self.operation, wall),
            PollFailure::Undecodable { why } => response.decode_error(&why).with_hint(WRONG_RESULT),
        };
        let quoted;
        let outcome = match protobuf {
            Some(body) => PollOutcome::Ready(ResultBody::Protobuf(body)).resolve(self.decode, |failure| failure),
            None => {
                let mut outcome = classify(response.status, &response.body, retry_after);
                if matches!(outcome, PollOutcome::Failed(PollFailure::Undecodable { .. })) {
                    if let Some(json) = json_numbers::quoted(&response.body) {
                        quoted = json;
                        outcome = classify(response.status, &quoted, retry_after);
                    }
                }
                let decode = |result| (self.decode)(ResultBody::Json(result));
                outcome.resolve(decode, |failure| failure).unless_damaged(|| json_numbers::is_json(&response.body))
            }
        };
        let mut outcome = outcome.resolve(Ok, into_error);
        if let PollOutcome::NotReady(NotReady::Pending { reason: Some(reason), .. }) = &mut outcome {
            *reason = response.line(reason).unwrap_or_default();
        }
        let is_pass = matches!(self.kind, RequestKind::Forward | RequestKind::ForwardBackward);
        if is_protobuf && is_pass && matches!(outcome, PollOutcome::Ready(_)) {
            http.formats().lock().result_was_protobuf();
        }
        let outcome = excuse(http, response.status, self.excuses_bad_request, self.unpaid_since, outcome);
        let failure = match &outcome {
            PollOutcome::Failed(error) => Some(error.clone()),
            PollOutcome::NotReady(NotReady::Damaged) => {
                response.damage().map(|error| error.with_operation(self.operation))
            }
            // It is no failure, so nobody is told of one.
            PollOutcome::NotReady(NotReady::Unpaid { .. }) => None,
            _ if response.is_success() => None,
            _ => Some(response.into_error(self.operation, wall)),
        };
        (outcome, failure)
    }
}

/// Records what the outcome says about the bill, and takes a refusal for temporary, if it may be.
pub(super) fn excuse<T>(
    http: &Http,
    status: u16,
    excuses_bad_request: bool,
    unpaid_since: Option<Instant>,
    outcome: PollOutcome<T>,
) -> PollOutcome<T> {
    if outcome.is_taken() {
        http.end_billing_pause(Billed::Poll);
    }
    match (status, outcome) {
        (402, PollOutcome::Failed(error)) => {
            match http.pause_for_billing(Billed::Poll, BILLING_WAIT, unpaid_since, &error) {
                Some(wait) => PollOutcome::NotReady(NotReady::Unpaid { wait }),
                None => PollOutcome::Failed(error),
            }
        }
        (400, PollOutcome::Failed(_)) if excuses_bad_request => PollOutcome::NotReady(NotReady::BadRequest),
        (_, outcome) => outcome,
    }
}

/// What a poll without a response means, after `shortages` others in a row that found no descriptor or
/// thread.
pub(super) fn outcome_of<T>(error: &Error, request: &RequestHandle, shortages: u32) -> PollOutcome<T> {
    match error.kind() {
        _ if error.outlook() == Outlook::Shortage && is_lasting_shortage(shortages) => {
            PollOutcome::Failed(error.clone())
        }
        _ if error.outlook() == Outlook::Shortage || request.has_yielded() => PollOutcome::NotReady(NotReady::Shortage),
        // The response is too large, and would be again.
        ErrorKind::Decode => PollOutcome::Failed(error.clone()),
        ErrorKind::Timeout(Limit::Wait) if request.was_written() => PollOutcome::NotReady(NotReady::Silent),
        _ => PollOutcome::NotReady(NotReady::Unreachable),
    }
}
