//! What is said while calls wait: what, why, until when, once a minute, and when it is over.

mod errors;
mod files;
mod requests;
mod results;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::{ConfigBuilder, Event, WaitEnded, WaitLimit, Waiting};

use crate::support::{RecordedRequest, Reply, Service, advance_past_wait, healthy_service};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than any wait in these tests.
const QUIET: Duration = Duration::from_secs(24 * 3600);

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service that refuses the requests to one path for a while, and what is said about it.
struct Scene {
    service: Service,
    manual: ManualClock,
    /// The status of the refusals; 200 for none.
    status: Arc<AtomicU16>,
    said: Receiver<Event>,
    sender: crossbeam_channel::Sender<Event>,
}

impl Scene {
    /// Refuses the requests to this path with this status and `no GPU free`.
    fn refusing(path: &'static str, status: u16) -> Self {
        Scene::with(status, move |request, status| {
            let is_refused = request.path.starts_with(path) && status != 200;
            is_refused.then(|| Reply::Json(status, json!({"detail": "no GPU free"})))
        })
    }

    /// The script may respond in place of a healthy service.
    fn with(status: u16, script: impl Fn(&RecordedRequest, u16) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let (manual, status, (sender, said)) = (ManualClock::new(), Arc::new(AtomicU16::new(status)), unbounded());
        let now = Arc::clone(&status);
        let service = Service::start(move |request| {
            script(request, now.load(Ordering::SeqCst)).unwrap_or_else(|| healthy_service(request))
        });
        Scene { service, manual, status, said, sender }
    }

    /// Every failure is followed by the next wait of the submit window: 1, 2, 4 … seconds.
    fn config(&self) -> ConfigBuilder {
        let sender = self.sender.clone();
        self.service.manual_config(&self.manual).idle_retention(QUIET).max_retries(0).observer(move |event: &Event| {
            if matches!(event, Event::Waiting(_) | Event::WaitEnded(_)) {
                sender.send(event.clone()).unwrap();
            }
        })
    }

    fn recover(&self) {
        self.status.store(200, Ordering::SeqCst);
    }

    /// Recovers while the client waits for the next try, and advances past that wait.
    fn recover_before_next(&self) {
        self.respond_to_next(200);
    }

    /// Changes the status while the client waits for the next try, and advances past that wait.
    fn respond_to_next(&self, status: u16) {
        let mut next = Duration::ZERO;
        self.manual.until_waiting(|waits| {
            next = waits.iter().copied().find(|wait| !wait.is_zero()).unwrap_or(QUIET);
            next < QUIET / 2
        });
        self.status.store(status, Ordering::SeqCst);
        self.manual.advance(next);
    }

    fn waiting(&self) -> Waiting {
        match self.said.recv_timeout(PATIENCE).expect("nothing is said") {
            Event::Waiting(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn ended(&self) -> WaitEnded {
        match self.said.recv_timeout(PATIENCE).expect("nothing is said") {
            Event::WaitEnded(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    /// Advances past the waits with these lengths in milliseconds.
    fn past(&self, waits: impl IntoIterator<Item = RangeInclusive<u128>>) {
        waits.into_iter().for_each(|wait| advance_past_wait(&self.manual, wait));
    }

    /// Advances into the wait with this length in milliseconds.
    fn midway(&self, wait: u64, by: Duration) {
        let wait = Duration::from_millis(wait);
        self.manual.until_waiting(|waits| waits.first() == Some(&wait));
        self.manual.advance(by);
    }
}

/// This many seconds of a setting are left.
fn left(seconds: u64, setting: &'static str) -> WaitLimit {
    WaitLimit::Time { left: Duration::from_secs(seconds), setting }
}
