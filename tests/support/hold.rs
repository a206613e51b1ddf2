//! A service that holds the polls of thousands of results, and keeps nothing of them in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::{PATIENCE, RecordedRequest, Reply, Service};

/// How long the service holds the poll of a result that is not ready, in real time.
const HOLD: Duration = Duration::from_secs(1);

/// The results of a service that promises samples (`sample SAMPLER NUMBER`) and steps (`step NUMBER`) and holds their polls.
///
/// It refuses samples of two sequences and the unloading of a model, so that a test learns when the queue before them is sent.
/// The result of the promise `ready` is always ready.
#[derive(Default)]
pub struct Hold {
    state: Mutex<State>,
    changed: Condvar,
    submitted: AtomicUsize,
    /// Whether the samples of a session are polled together, and the settings say so.
    together: bool,
}

#[derive(Default)]
pub struct State {
    /// Whether every result is ready.
    pub open: bool,
    /// The promise whose result is ready before.
    pub ready: String,
    /// How many polls are held.
    pub held: usize,
    /// The number of samples of each sampling session.
    pub samples: HashMap<String, u64>,
    /// The results that were delivered since all are ready, in order.
    pub delivered: Vec<String>,
}

impl Hold {
    pub fn start() -> (Service, Arc<Self>) {
        let hold = Arc::<Hold>::default();
        let script = Arc::clone(&hold);
        (Service::start_unrecorded(move |request| script.reply(request)), hold)
    }

    /// A service of 2026 that polls the samples of a session together.
    pub fn start_together() -> (Service, Arc<Self>) {
        let hold = Arc::new(Hold { together: true, ..Hold::default() });
        let script = Arc::clone(&hold);
        (Service::start_unrecorded_current(move |request| script.reply(request)), hold)
    }

    fn reply(&self, request: &RecordedRequest) -> Reply {
        let body = &request.body;
        Reply::ok(match request.path.as_str() {
            "create_session" => json!({"session_id": "session"}),
            "create_model" => json!({"request_id": "model"}),
            "create_sampling_session" => {
                json!({"sampling_session_id": body["sampling_session_seq_id"].to_string()})
            }
            "asample" if body["num_samples"] == 2 => return Reply::Json(400, json!({})),
            "unload_model" => return Reply::Json(400, json!({})),
            "asample" => {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                let sampler = body["sampling_session_id"].as_str().unwrap_or_default();
                if self.together {
                    *self.state.lock().unwrap().samples.entry(sampler.to_owned()).or_default() += 1;
                }
                json!({"request_id": format!("sample {sampler} {}", body["seq_id"])})
            }
            "optim_step" => {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                json!({"request_id": format!("step {}", body["seq_id"])})
            }
            "retrieve_future" => return self.poll(request.request_id()),
            "retrieve_futures" => return self.poll_session(body),
            "client/config" => json!({"sample_use_retrieve_futures": self.together}),
            _ => json!({}),
        })
    }

    fn poll(&self, id: &str) -> Reply {
        match id {
            "model" => return Reply::ok(json!({"model_id": "model"})),
            "ready" => return Reply::ok(json!({})),
            _ => {}
        }
        let mut state = self.state.lock().unwrap();
        let is_ready = |state: &State| state.open || state.ready == id;
        if !is_ready(&state) {
            state.held += 1;
            self.changed.notify_all();
            state = self.changed.wait_timeout_while(state, HOLD, |state| !is_ready(state)).unwrap().0;
            state.held -= 1;
        }
        if !is_ready(&state) {
            return Reply::Json(408, json!({"queue_state": "active"}));
        }
        if state.open {
            state.delivered.push(id.to_owned());
        }
        Reply::ok(if id.starts_with("step") {
            json!({"metrics": {}})
        } else {
            json!({"sequences": [{"stop_reason": "stop", "tokens": [1]}]})
        })
    }

    /// All samples of a session are finished at once, and told of a thousand at a time.
    fn poll_session(&self, body: &Value) -> Reply {
        let session = body["target"]["sampling_session_id"].as_str().unwrap_or_default();
        let cursor = body["prev_cursor"].as_u64().unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        let finished =
            |state: &State| if state.open { state.samples.get(session).copied().unwrap_or(0) } else { cursor };
        if body["timeout"].is_null() && finished(&state) == cursor {
            state.held += 1;
            self.changed.notify_all();
            state = self.changed.wait_timeout_while(state, HOLD, |state| finished(state) == cursor).unwrap().0;
            state.held -= 1;
        }
        let end = finished(&state).min(cursor + 1000);
        let completion = |number| json!({"state": "finished", "request_id": format!("sample {session} {number}")});
        let completions: Vec<_> = (cursor..end).map(completion).collect();
        Reply::ok(json!({"completions": completions, "cursor": end}))
    }

    /// How many promises were given.
    pub fn submitted(&self) -> usize {
        self.submitted.load(Ordering::Relaxed)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes which results are ready.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Blocks until the state is as expected. Submissions do not notify, so this looks again every 5 ms.
    pub fn wait_until(&self, mut expected: impl FnMut(&State) -> bool) {
        let mut state = self.state.lock().unwrap();
        while !expected(&state) {
            state = self.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
        }
    }
}
