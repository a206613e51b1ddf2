//! Steps through a gateway that loses, replaces and damages responses at random: no call gets the result of another one, and no step
//! runs twice, or out of order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::AdamParams;

use super::trainer;
use crate::support::double::Numbers;
use crate::support::pass_server::lost;
use crate::support::{RecordedRequest, Reply, Service, healthy_service};

/// A server that knows a step by its number, and takes its learning rate for what is asked.
struct Steps {
    numbers: Numbers,
    /// The learning rate of each number.
    runs: Mutex<BTreeMap<u64, u64>>,
    random: Mutex<fastrand::Rng>,
}

impl Steps {
    fn run(&self, request: &RecordedRequest) -> Reply {
        let number = request.seq_id().unwrap();
        let rate = request.body["adam_params"]["learning_rate"].as_f64().unwrap() as u64;
        let mut runs = self.runs.lock().unwrap();
        let next = runs.len() as u64 + 1;
        if self.numbers == Numbers::Contiguous && number != next {
            return Reply::Json(409, json!({"detail": format!("Sequence conflict: expected {next}, got {number}")}));
        }
        runs.entry(number).or_insert(rate);
        Reply::ok(json!({"request_id": format!("run-{number}")}))
    }

    fn knows(&self, request: &RecordedRequest) -> bool {
        self.runs.lock().unwrap().contains_key(&request.seq_id().unwrap())
    }

    fn reply(&self, request: &RecordedRequest) -> Reply {
        if let Some(number) = request.request_id().strip_prefix("run-") {
            let rate = self.runs.lock().unwrap()[&number.parse().unwrap()];
            return Reply::ok(json!({"metrics": {"rate": rate}}));
        }
        if request.path != "optim_step" {
            return healthy_service(request);
        }
        let (may_run, mishap) = {
            let mut random = self.random.lock().unwrap();
            (random.bool(), random.u8(..24))
        };
        // What a gateway refuses has not got through.
        let is_run = may_run && !matches!(mishap, 1 | 4 | 5);
        let page = |status| Reply::Full { status, headers: Vec::new(), body: b"<html>".to_vec() };
        let refused = |status| Reply::Json(status, json!({"detail": "the service says no"}));
        let reply = match mishap {
            0 => lost(),
            1 => page(404),
            2 => page(200),
            3 => page(502),
            4 => Reply::Json(403, json!({"message": "Forbidden"})),
            5 => Reply::Json(404, json!({"detail": "Not Found"})),
            6 => refused(503),
            7 => refused(500),
            8 => Reply::typed("application/json", b"{\"request_id\": \"ru".to_vec()),
            // The service's own word: it would have said it the first time.
            9 if !self.knows(request) => return refused(400),
            10 => return refused(429),
            _ => return self.run(request),
        };
        if is_run {
            self.run(request);
        }
        reply
    }
}

/// Takes steps of the learning rates 1, 2, …, some of them before the results of others have come.
fn take_steps(numbers: Numbers, ahead: usize, seed: u64) {
    let steps = Arc::new(Steps { numbers, runs: Mutex::default(), random: fastrand::Rng::with_seed(seed).into() });
    let server = Arc::clone(&steps);
    let service = Service::start(move |request| server.reply(request));
    let manual = ManualClock::new();
    let config = service.manual_config(&manual).max_retries(0).timeout_submit(Duration::from_millis(999));
    let trainer = trainer(config);
    let rates: Vec<u64> = (1..=48).collect();
    let mut without_effect = Vec::new();
    for rates in rates.chunks(ahead) {
        let submit = |rate: &u64| trainer.submit_optim_step(AdamParams::new().learning_rate(*rate as f64)).unwrap();
        let pending: Vec<_> = rates.iter().map(submit).collect();
        for (rate, pending) in rates.iter().zip(pending) {
            match pending.wait() {
                Ok(response) => assert_eq!(response.metrics.unwrap()["rate"], *rate as f64, "{ahead} {seed}"),
                Err(error) if !error.may_have_taken_effect() => without_effect.push(*rate),
                Err(_) => {}
            }
        }
    }
    let runs: Vec<u64> = steps.runs.lock().unwrap().values().copied().collect();
    assert!(runs.is_sorted_by(|one, next| one < next), "{ahead} {seed}: {runs:?}");
    assert!(without_effect.iter().all(|rate| !runs.contains(rate)), "{ahead} {seed}: {runs:?} {without_effect:?}");
    assert!(runs.len() > 16, "{ahead} {seed}: {runs:?}");
}

#[test]
fn no_step_gets_the_result_of_another() {
    for seed in 0..5 {
        for ahead in [1, 4] {
            take_steps(Numbers::Keyed, ahead, seed);
            take_steps(Numbers::Contiguous, ahead, seed);
        }
    }
}
