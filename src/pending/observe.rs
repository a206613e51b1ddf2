//! Reports what happens to promises: paused queues to telemetry, and all to the client's observers.

use std::sync::Arc;
use std::time::Instant;

use log::debug;
use parking_lot::Mutex;

use super::messages::TrackedPromise;
use crate::error::Error;
use crate::http::Http;
use crate::observer::{Event, QueueStateUpdate};
use crate::rules::poll_queue::ClientId;
use crate::rules::queue_log::QueueLog;
use crate::session::Telemetry;
use crate::types::RequestKind;

/// Reports what happens to promises.
pub(super) struct PromiseObserver {
    log: Mutex<QueueLog>,
    http: Arc<Http>,
    telemetry: Telemetry,
}

impl PromiseObserver {
    pub(super) fn new(http: &Arc<Http>, telemetry: Telemetry) -> Self {
        PromiseObserver { log: Mutex::default(), http: Arc::clone(http), telemetry }
    }

    /// The server reported the state of a queue. Must be called without any lock: the program's logger may use the client.
    pub(super) fn queue_state(&self, client: ClientId, kind: RequestKind, update: QueueStateUpdate) {
        let now = self.http.config().clock().now();
        let line = self.log.lock().line(client, kind, &update.queue_state, update.reason.as_deref(), now);
        if let Some(line) = line {
            debug!("{line}");
            self.telemetry.paused_queue(&update, kind);
        }
        self.http.events().emit(Event::QueueState(update));
    }

    /// A promise is no longer polled: its result is ready, or there will be none.
    pub(super) fn resolved(&self, promise: &TrackedPromise, error: Option<&Error>, now: Instant) {
        let events = self.http.events();
        if events.is_observed() || (error.is_some() && events.wants_failures()) {
            let (operation, request_id) = (promise.completer.operation(), Arc::clone(&promise.request_id));
            let (kind, duration) = (promise.kind, now - promise.promised_at);
            let error = error.map(|e| e.clone().with_operation(operation).with_request_id(Arc::clone(&request_id)));
            events.emit(Event::Resolved { operation, request_id, kind, duration, error });
        }
    }
}
