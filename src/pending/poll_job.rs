//! One long poll, on a thread of the pool, and the decoding of its answer. It decides nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::debug;

use super::ask::Command;
use super::queue_watch::QueueWatch;
use super::slots::{Decode, Decoded, Ticket};
use crate::error::{Error, ErrorKind, Limit};
use crate::http::{Http, Limits, Purpose, Request, RequestHandle, RetryMode};
use crate::observer::{Event, QueueStateUpdate};
use crate::rules::answer::{Meaning, PollReply};
use crate::rules::retry::retry_after;
use crate::rules::seats::GroupId;
use crate::types::wire::RetrieveFutureRequest;
use crate::types::{RequestErrorCategory, RequestKind};

/// What a poll brought.
pub(super) enum Reply {
    Heard {
        meaning: Meaning<Decoded>,
        /// Why it brought no result, for those meanings that end the request, and for those who hear of failures.
        error: Option<Error>,
        held: Duration,
    },
    /// The poller cut it off.
    CutOff,
    Panicked,
}

/// One poll, for a thread of the pool.
pub(super) struct PollJob {
    pub(super) request_id: Arc<str>,
    pub(super) kind: RequestKind,
    pub(super) iteration: u32,
    /// How many polls in a row have found no service.
    pub(super) lost: u32,
    /// When the promise was there.
    pub(super) asked: Instant,
    pub(super) round_trip: Duration,
    pub(super) operation: &'static str,
    pub(super) decode: Decode,
    pub(super) handle: Arc<RequestHandle>,
    pub(super) idle: Duration,
    pub(super) client: GroupId,
    pub(super) watch: Arc<QueueWatch>,
    pub(super) reply: ReplyTo,
}

impl PollJob {
    pub(super) fn run(self, http: &Http) {
        let clock = http.config().clock();
        let body = serde_json::to_vec(&RetrieveFutureRequest { request_id: (&*self.request_id).into() });
        // A struct of one text always becomes JSON.
        let body = body.unwrap_or_default();
        let mut headers = vec![
            ("x-tinker-request-iteration", self.iteration.to_string().into()),
            ("x-tinker-request-type", self.kind.as_str().into()),
        ];
        if self.iteration == 0 {
            let seconds = self.round_trip.as_secs_f64().to_string();
            headers.push(("x-tinker-create-promise-roundtrip-time", seconds.into()));
        }
        let request = Request { headers, retry: RetryMode::Never, ..Request::post("retrieve_future", &body) };
        let limits = Limits {
            idle: self.idle,
            handle: Arc::clone(&self.handle),
            ..http.limits(self.operation, Purpose::Futures)
        };
        let heard = http.events().wants_failures();
        let began = clock.now();
        let answer = http.send_once(&request, &limits);
        let held = clock.now() - began;
        let (meaning, error) = match answer {
            Ok(answer) => {
                let wish = retry_after(|name| answer.header(name), clock.wall());
                let reply = PollReply::Answer { status: answer.status, body: &answer.body, retry_after: wish };
                let meaning = reply.read().decode(|bytes| (self.decode)(bytes));
                let error = match &meaning {
                    Meaning::Done(_) => None,
                    Meaning::Undecodable { why } => Some(answer.decode_error(why)),
                    Meaning::Failed { message, category } => Some(request_failed(message, *category)),
                    Meaning::NotYet { .. } if answer.is_success() => None,
                    // The others do not end the request.
                    meaning if heard || matches!(meaning, Meaning::Fatal { .. }) => {
                        Some(answer.into_error(self.operation, clock.wall()))
                    }
                    _ => None,
                };
                (meaning, error)
            }
            Err(_) if self.handle.is_cancelled() => return self.reply.send(Reply::CutOff),
            Err(error) => {
                debug!("{}: poll {} of {}: {error}", self.operation, self.iteration, self.request_id);
                if error.kind() == ErrorKind::Decode {
                    // It would be the same again: too large.
                    let meaning = Meaning::Undecodable { why: error.to_string() };
                    return self.reply.send(Reply::Heard { meaning, error: Some(error), held });
                }
                let silent = error.kind() == ErrorKind::Timeout(Limit::Wait) && self.handle.was_written();
                let reply = if silent { PollReply::HeaderTimeout } else { PollReply::ConnectionFailed };
                (reply.read().decode(|bytes| (self.decode)(bytes)), Some(error))
            }
        };
        if let Some(error) = error.as_ref().filter(|_| heard) {
            http.events().emit(Event::PollFailed {
                operation: self.operation,
                request_id: Arc::clone(&self.request_id),
                kind: self.kind,
                iteration: self.iteration,
                lost: self.lost,
                error: error.clone().with_operation(self.operation).with_request_id(Arc::clone(&self.request_id)),
                elapsed: clock.now().saturating_duration_since(self.asked),
            });
        }
        if let Meaning::NotYet { queue_state: Some(queue_state), reason } = &meaning {
            // Before the reply, so that nobody has the result before its states were told.
            let (queue_state, reason) = (queue_state.clone(), reason.clone());
            let (operation, request_id) = (self.operation, self.request_id);
            let update = QueueStateUpdate { operation, request_id, queue_state, reason };
            self.watch.heard(self.client, self.kind, update);
        }
        self.reply.send(Reply::Heard { meaning, error, held });
    }
}

/// The service accepted the request and then failed to carry it out.
fn request_failed(message: &str, category: RequestErrorCategory) -> Error {
    Error::new(ErrorKind::RequestFailed, format!("the service could not carry it out: {message}"))
        .with_category(category)
}

/// Makes sure that each job replies once, also when it panics or is dropped in the queue.
pub(super) struct ReplyTo {
    pub(super) ticket: Ticket,
    pub(super) replies: Option<Sender<Command>>,
}

impl ReplyTo {
    fn send(mut self, reply: Reply) {
        if let Some(replies) = self.replies.take() {
            replies.send(Command::Replied(self.ticket, reply)).ok();
        }
    }

    pub(super) fn forget(mut self) {
        self.replies = None;
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(replies) = self.replies.take() {
            replies.send(Command::Replied(self.ticket, Reply::Panicked)).ok();
        }
    }
}
