//! The dispatcher: takes each request from the event loop through the log and the faults to its endpoint.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::activity::ActivityTracker;
use super::api::{ApiContext, handle};
use super::faults::FaultInjector;
use super::http1::{Request, Response, decode_content};
use super::net::{IncomingRequest, Responder};
use super::stub::Stub;
use super::time::now;

/// Shared by the handler threads.
pub(crate) struct Dispatcher {
    pub(crate) context: ApiContext,
    pub(crate) activity: Arc<ActivityTracker>,
    pub(crate) faults: Arc<FaultInjector>,
    /// Answers in place of some endpoints.
    pub(crate) stub: Option<Stub>,
    /// Maximum size of a decompressed body in bytes.
    pub(crate) max_body: usize,
    /// How often expired sessions, checkpoints and results are reaped while no request arrives.
    pub(crate) reap_interval: Duration,
}

impl Dispatcher {
    /// Handles requests until the event loop ends.
    pub(crate) fn run(&self, requests: &Receiver<IncomingRequest>) {
        loop {
            let received = requests.recv_timeout(self.reap_interval);
            // Before every request, so that none sees what has expired.
            self.context.state.reap(now());
            match received {
                Ok(incoming) => self.dispatch(incoming),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn dispatch(&self, IncomingRequest { mut request, mut responder }: IncomingRequest) {
        let decoded = decode_content(&mut request, self.max_body);
        self.activity.log(responder.to.connection, &request);
        let decision = self.faults.decide(&request.path, &request.body);
        responder.delivery = decision.delivery;
        if let Some(response) = decision.response {
            responder.respond(response);
        } else if let Err(refusal) = decoded {
            responder.respond(refusal);
        } else if catch_unwind(AssertUnwindSafe(|| self.answer(&mut request, &responder))).is_err() {
            responder.respond(Response::temporary(500, "internal server error"));
        }
    }

    fn answer(&self, request: &mut Request, responder: &Responder) {
        let is_answered = self.stub.as_ref().is_some_and(|stub| stub.answer(&self.activity, request, responder));
        if !is_answered {
            handle(&self.context, request, responder);
        }
    }
}
