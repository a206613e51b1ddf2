//! Who is told what becomes of promises: the log of paused queues, and whoever hears the client's events.

use std::sync::Arc;
use std::time::Duration;

use log::warn;
use parking_lot::Mutex;

use crate::error::Error;
use crate::http::Http;
use crate::observer::{Event, QueueStateUpdate};
use crate::rules::queue_log::QueueLog;
use crate::rules::seats::GroupId;
use crate::types::RequestKind;

/// Tells the log and the observers.
pub(super) struct QueueWatch {
    log: Mutex<QueueLog>,
    http: Arc<Http>,
}

impl QueueWatch {
    pub(super) fn new(http: &Arc<Http>) -> Self {
        QueueWatch { log: Mutex::default(), http: Arc::clone(http) }
    }

    /// A server named the state of a queue. Called without any lock, since a logger may be the program's and use the client.
    pub(super) fn heard(&self, client: GroupId, kind: RequestKind, update: QueueStateUpdate) {
        let now = self.http.config().clock().now();
        let line = self.log.lock().line(client, kind, &update.queue_state, update.reason.as_deref(), now);
        if let Some(line) = line {
            warn!("{line}");
            self.http.events().emit_paused_queue(&update, kind);
        }
        self.http.events().emit(Event::QueueState(update));
    }

    /// A promise is no longer asked for: its result is there, or will not come.
    pub(super) fn resolved(
        &self,
        operation: &'static str,
        request_id: &Arc<str>,
        kind: RequestKind,
        error: Option<&Error>,
        duration: Duration,
    ) {
        let events = self.http.events();
        if events.is_observed() || (error.is_some() && events.wants_failures()) {
            let error = error.map(|e| e.clone().with_operation(operation).with_request_id(Arc::clone(request_id)));
            events.emit(Event::Resolved { operation, request_id: Arc::clone(request_id), kind, duration, error });
        }
    }
}
