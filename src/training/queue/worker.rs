//! The thread that sends the requests of the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Receiver;
use log::{debug, info, warn};

use super::numbers::{Numbers, Unresolved};
use super::{Entry, Job, Message, Requests, Shared};
use crate::clock::{Deadline, Received};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Http, Limits, Purpose, Request, RetryMode, idempotency_key};
use crate::pending::{Completer, PollClient, PollerHandle, TrackedPromise};
use crate::rules::sequence_number::{FailedSubmission, NumberFate, Repetitions};
use crate::rules::wire_format::{
    AfterRefusal, Choice, FailedPass, FormatSettings, Lesson, Negotiation, Pass, WireFormat,
};
use crate::types::RequestKind;
use crate::types::wire::Promise;

/// The state of the thread.
pub(super) struct Worker {
    http: Arc<Http>,
    poller: PollerHandle,
    client: Arc<PollClient>,
    shared: Arc<Shared>,
    numbers: Numbers,
    /// The body of the last large request, for the next one.
    buffer: Vec<u8>,
}

/// One request on its way to a promise: in one format or the other, with one number or another.
struct Submission<'a> {
    requests: &'a mut dyn Requests,
    completer: &'a Completer,
    is_numbered: bool,
    /// Of the call. Each request that is sent has a submit window of its own.
    deadline: Option<Deadline>,
    idempotency_key: String,
    /// The same request may have been run already: for an earlier call, or in another format.
    may_have_run: bool,
    /// Finds the format of a pass.
    negotiation: Option<Negotiation>,
    /// The error of the first format, if it was refused.
    first_error: Option<Error>,
    /// The server has asked for another number once.
    is_renumbered: bool,
}

/// How one sending of a message failed.
struct Failure {
    error: Error,
    written: bool,
    written_last: bool,
    may_have_run: bool,
    /// The call has ended.
    is_cut_short: bool,
    /// Of the last response to the message.
    status: Option<u16>,
}

impl Worker {
    pub(super) fn new(http: &Arc<Http>, poller: &PollerHandle, shared: &Arc<Shared>) -> Self {
        let (client, numbers, buffer) = (poller.new_client(true), Numbers::default(), Vec::new());
        Worker { http: Arc::clone(http), poller: poller.clone(), client, shared: Arc::clone(shared), numbers, buffer }
    }

    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        let unsent = self.work_off(entries);
        if unsent > 0 {
            warn!("the training client was closed with {unsent} calls unsent");
        }
    }

    /// Works off a queue, or a place in it, until it is closed. Returns how many calls were not sent.
    fn work_off(&mut self, entries: &Receiver<Entry>) -> usize {
        let clock = self.http.config().clock().clone();
        let mut unsent = 0;
        while let Received::Message(entry) = clock.receive_until(entries, None) {
            match entry {
                Entry::Call { .. } if self.shared.stopping.load(Ordering::Acquire) => unsent += 1,
                Entry::Call { job, lost_before, reservation: _reservation } => self.execute(job, lost_before),
                Entry::Place(calls, _reservation) => unsent += self.work_off(&calls),
            }
            if entries.is_empty() {
                // An idle client keeps no megabytes.
                self.buffer = Vec::new();
            }
        }
        unsent
    }

    /// Sends the requests of a call. If one fails, the rest are not sent.
    fn execute(&mut self, job: Job, lost_before: u64) {
        let Job { kind, deadline, mut requests, mut completer, .. } = job;
        loop {
            match self.send(&mut *requests, kind, deadline, &completer, lost_before) {
                Ok((promise, submitted_at)) => {
                    // Before the poller can complete this request, so that the call does not end with it.
                    let next = requests.advance().then(|| completer.add_request());
                    let (id, config) = (promise.request_id, self.http.config());
                    self.poller.track(TrackedPromise::new(
                        id,
                        kind,
                        Arc::clone(&self.client),
                        completer,
                        config,
                        submitted_at,
                    ));
                    match next {
                        Some(next) => completer = next,
                        None => return,
                    }
                }
                Err(error) => return completer.complete(Err(error)),
            }
        }
    }

    /// Sends one request. Returns its promise, and when the submission began.
    fn send(
        &mut self,
        requests: &mut dyn Requests,
        kind: RequestKind,
        deadline: Option<Deadline>,
        completer: &Completer,
        lost_before: u64,
    ) -> Result<(Promise, Instant)> {
        completer.begin_write()?;
        let config = self.http.config();
        let submitted_at = config.clock().now();
        let negotiation = requests.pass().map(|pass| self.negotiation(pass));
        let mut submission = Submission {
            requests,
            completer,
            is_numbered: kind != RequestKind::UnloadModel,
            deadline,
            idempotency_key: idempotency_key(),
            may_have_run: false,
            negotiation,
            first_error: None,
            is_renumbered: false,
        };
        let promise = self
            .resolve(&mut submission, lost_before)
            .map_err(Failure::unsent)
            .and_then(|()| self.submit(&mut submission));
        promise.map(|promise| (promise, submitted_at)).map_err(|failure| {
            if !failure.written {
                completer.mark_unwritten();
            }
            failure.error
        })
    }

    fn negotiation(&self, pass: Pass) -> Negotiation {
        let (config, announced) = (self.http.config(), self.http.client_config());
        let settings = FormatSettings {
            fixed: config.wire().fixed(),
            first: if config.is_official() { WireFormat::Protobuf } else { WireFormat::Json },
            wants_protobuf: announced.proto_write_fwdbwd,
            knows_forward_only: announced.fwd_via_fwdbwd,
        };
        Negotiation::new(pass, settings)
    }

    /// Settles the number of an earlier request whose outcome is unknown, by sending that request once more. If this request is
    /// the same, and its call was made when the earlier one had failed, it takes the place of that one instead. A call that was
    /// queued before is a further step.
    fn resolve(&mut self, submission: &mut Submission<'_>, lost_before: u64) -> Result<()> {
        if !submission.is_numbered {
            return Ok(());
        }
        let Some(mut earlier) = self.numbers.take_unresolved() else { return Ok(()) };
        let (number, open) = (self.numbers.next(), NumberFate::Open);
        let message = self.write_as(submission, earlier.choice);
        let message = match message.or_else(|_| self.write(submission).map(|(message, _)| message)) {
            Ok(message) => message,
            Err(error) => {
                self.numbers.failed(open, earlier);
                return Err(error);
            }
        };
        if message == earlier.message && lost_before >= earlier.lost {
            (submission.may_have_run, submission.idempotency_key) = (true, earlier.idempotency_key);
            if let Some(negotiation) = &mut submission.negotiation {
                negotiation.keep(earlier.choice);
            }
            return Ok(());
        }
        let config = self.http.config();
        let began = config.clock().now();
        match self.post(&earlier.message, &earlier.idempotency_key, earlier.retry, submission) {
            Ok(_) => {
                warn!("the request {number} of this training client, whose call had failed, is now accepted");
                self.numbers.accepted();
            }
            Err(failure) => {
                let took = config.clock().now().saturating_duration_since(began);
                let fate = earlier.repetitions.failed(&failure.describe(number), took, config.timeout_submit());
                self.numbers.failed(fate, earlier);
                if fate == open {
                    return Err(failure.error.with_effect(false));
                }
            }
        }
        Ok(())
    }

    /// Sends a request until it is accepted, or refused for something else than its format or number.
    fn submit(&mut self, submission: &mut Submission<'_>) -> Result<Promise, Failure> {
        loop {
            let (message, sent) = self.write(submission).map_err(Failure::unsent)?;
            let retry = if sent.is_trial { RetryMode::SubmitTrial } else { RetryMode::Submit };
            let mut failure = match self.post(&message, &submission.idempotency_key, retry, submission) {
                Ok(promise) => {
                    self.accepted(submission, sent.format);
                    if message.body.capacity() > self.buffer.capacity() {
                        self.buffer = message.body;
                    }
                    return Ok(promise);
                }
                Err(failure) => failure,
            };
            submission.may_have_run |= failure.may_have_run;
            failure.may_have_run = submission.may_have_run;
            failure.written |= failure.may_have_run;
            if self.switches_format(submission, sent, &mut failure) {
                continue;
            }
            failure.error = failure.error.with_effect(failure.may_have_run);
            if !submission.is_numbered {
                return Err(failure);
            }
            let fate = failure.describe(self.numbers.next()).fate();
            let (message, choice) = self.settled(submission, message, sent);
            let idempotency_key = std::mem::replace(&mut submission.idempotency_key, idempotency_key());
            let lost = match fate {
                NumberFate::Open => self.shared.lost.fetch_add(1, Ordering::AcqRel) + 1,
                _ => 0,
            };
            let server_failed = matches!(failure.status, Some(408 | 500..));
            let retry = if server_failed { RetryMode::SubmitAgain } else { RetryMode::Submit };
            let request =
                Unresolved { message, choice, idempotency_key, retry, lost, repetitions: Repetitions::default() };
            self.numbers.failed(fate, request);
            let is_renumbered = std::mem::replace(&mut submission.is_renumbered, true);
            if is_renumbered || !matches!(fate, NumberFate::Expected(_)) {
                return Err(failure);
            }
            submission.may_have_run = false;
        }
    }

    /// Writes a request in the format that its service takes. A pass that protobuf cannot hold is JSON, if the service may take that.
    fn write(&mut self, submission: &mut Submission<'_>) -> Result<(Message, Choice)> {
        let (learned, json) = (*self.http.formats().lock(), Choice::only(WireFormat::Json));
        let (negotiation, choice) = match submission.negotiation {
            Some(negotiation) => (negotiation, negotiation.choice(learned)),
            None => return self.write_as(submission, json).map(|message| (message, json)),
        };
        match self.write_as(submission, choice) {
            Err(error)
                if error.kind() == ErrorKind::InvalidInput && negotiation.may_be_json(choice.format, learned) =>
            {
                self.write_as(submission, json).map(|message| (message, json))
            }
            message => message.map(|message| (message, choice)),
        }
    }

    fn write_as(&mut self, submission: &mut Submission<'_>, choice: Choice) -> Result<Message> {
        submission.requests.write(&self.http, choice, self.numbers.next(), &mut self.buffer)
    }

    /// A failed request as it is sent once more: in JSON if its format was a trial.
    fn settled(&mut self, submission: &mut Submission<'_>, message: Message, sent: Choice) -> (Message, Choice) {
        let json = sent.as_json();
        let written = sent.is_trial.then(|| self.write_as(submission, json).ok()).flatten();
        written.map_or((message, sent), |message| (message, json))
    }

    /// The server has accepted the request in this format.
    fn accepted(&mut self, submission: &Submission<'_>, format: WireFormat) {
        if submission.is_numbered {
            self.numbers.accepted();
        }
        let Some(negotiation) = &submission.negotiation else { return };
        let lesson = negotiation.accepted(format, &mut self.http.formats().lock());
        match lesson {
            Some(Lesson::Only(WireFormat::Json)) => info!("the service takes JSON only; passes are sent as JSON"),
            Some(Lesson::Only(WireFormat::Protobuf)) => {
                info!("the service takes protobuf only; passes are sent as protobuf");
            }
            Some(Lesson::NoForward) => {
                info!("the service has no `forward` for JSON; forward passes are sent as protobuf");
            }
            Some(Lesson::ProtobufToo) => info!("the service takes protobuf, too; forward_backward is sent as protobuf"),
            Some(Lesson::NoProtobuf) => info!("the service has not accepted protobuf; passes are sent as JSON"),
            None => {}
        }
    }

    /// Whether to send the same request, with the same number and idempotency key, in the other format. If not, sets the error
    /// to fail with.
    fn switches_format(&self, submission: &mut Submission<'_>, sent: Choice, failure: &mut Failure) -> bool {
        let Some(negotiation) = &mut submission.negotiation else { return false };
        let failed = FailedPass {
            status: failure.error.status(),
            body: failure.error.body().unwrap_or_default().as_bytes(),
            written: failure.written,
            is_cut_short: failure.is_cut_short,
        };
        let after = negotiation.failed(sent, &failed, &mut self.http.formats().lock());
        match after {
            AfterRefusal::Fail => {}
            AfterRefusal::OtherFormat => {
                if sent.is_trial {
                    debug!("{}; sending it as JSON", failure.error);
                }
                submission.first_error = Some(failure.error.clone());
            }
            AfterRefusal::FailAsFirst => {
                failure.error = submission.first_error.take().unwrap_or_else(|| failure.error.clone());
            }
            AfterRefusal::FailForFormat => {
                let (chosen, other) = match sent.format {
                    WireFormat::Json => ("JSON", "protobuf"),
                    WireFormat::Protobuf => ("protobuf", "JSON"),
                };
                let hint = format!(
                    "the service takes this as {other} only, and the client is set to {chosen}; set TINKER_WIRE or wire to auto"
                );
                failure.error = failure.error.clone().with_hint(hint);
            }
        }
        after == AfterRefusal::OtherFormat
    }

    /// Sends a message, with retries, until the server gives a promise or refuses it.
    fn post(
        &self,
        message: &Message,
        idempotency_key: &str,
        retry: RetryMode,
        submission: &Submission<'_>,
    ) -> Result<Promise, Failure> {
        let limits = self.http.limits(submission.completer.operation(), Purpose::Training);
        let limits = Limits { deadline: submission.deadline, ..limits };
        let request = Request {
            content_type: message.content_type,
            content_encoding: message.content_encoding,
            idempotency_key: Some(idempotency_key),
            retry,
            ..Request::post(message.path, &message.body)
        };
        submission.completer.watch_submission(&limits.handle).map_err(Failure::unsent)?;
        *self.shared.submission.lock() = Some(Arc::clone(&limits.handle));
        if self.shared.stopping.load(Ordering::Acquire) {
            // The close may have looked for a submission before there was one.
            limits.handle.cancel();
        }
        let promise = self.http.send_for::<Promise>(&request, &limits);
        self.shared.submission.lock().take();
        promise.map_err(|error| Failure {
            written: limits.handle.was_written(),
            written_last: limits.handle.was_written_now(),
            may_have_run: limits.handle.may_have_run(),
            is_cut_short: limits.handle.has_ended_retries() || error.kind().is_end_of_call(),
            status: limits.handle.status(),
            error,
        })
    }
}

impl Failure {
    /// Nothing was sent.
    fn unsent(error: Error) -> Self {
        Failure { error, written: false, written_last: false, may_have_run: false, is_cut_short: false, status: None }
    }

    /// What the rule needs, to decide what becomes of the number.
    fn describe(&self, number: u64) -> FailedSubmission<'_> {
        // An error of the deadline has the last response as its source.
        let source = std::error::Error::source(&self.error).and_then(|source| source.downcast_ref::<Error>());
        let answered = source.filter(|_| self.error.status().is_none()).unwrap_or(&self.error);
        let body = answered.body().unwrap_or_default().as_bytes();
        let Failure { written_last, may_have_run, is_cut_short, status, .. } = *self;
        FailedSubmission { number, written_last, may_have_run, is_cut_short, status, body }
    }
}
