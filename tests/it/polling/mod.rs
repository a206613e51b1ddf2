//! How results are asked for and handed over, through the public API: the poller and `Pending`.

mod between;
mod given_up;
mod recovery;
mod responses;
mod together;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use serde::Deserialize;
use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, OptimStepResponse, PromiseResult, RequestErrorCategory, RequestKind};
use tinkex::{ErrorKind, Limit, Pending, ServiceClient};

use crate::support::{
    Gate, RecordedRequest, Reply, Service, advance_past_wait, connect, healthy_service, result, service_with_polls,
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
struct Output {
    value: u32,
}

impl PromiseResult for Output {}

fn pending(client: &ServiceClient, request_id: &str) -> Pending<Output> {
    client.pending(request_id, RequestKind::Sample)
}

fn done(value: u32) -> Reply {
    Reply::ok(json!({"status": "completed", "result": {"value": value}}))
}

fn polls_of(service: &Service, request_id: &str) -> Vec<RecordedRequest> {
    service.requests_to("retrieve_future").into_iter().filter(|request| request.request_id() == request_id).collect()
}

#[test]
fn only_two_promises_per_trainer_are_polled() {
    let gates: Arc<[Arc<Gate>; 5]> = Arc::default();
    let held = Arc::clone(&gates);
    let service = service_with_polls(move |request| match request.request_id().strip_prefix("optim_step:model-0:") {
        Some(number) => Reply::held(&held[number.parse::<usize>().unwrap() - 1], result(request.request_id())),
        None if request.request_id() == "marker" => done(1),
        None => result(request.request_id()),
    });
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let steps: Vec<_> = (0..5).map(|_| trainer.submit_optim_step(AdamParams::default()).unwrap()).collect();
    let until_polled = |count: usize| -> Vec<String> {
        let number =
            |request: &RecordedRequest| request.request_id().strip_prefix("optim_step:model-0:").map(str::to_owned);
        let seen = service.wait_until(|requests| requests.iter().filter_map(number).count() >= count);
        seen.iter().filter_map(number).collect()
    };
    // It is sent when the five have their promises, and the poller hears of things in order: when the marker is ready,
    // it has known of the five for long enough.
    let _last = trainer.submit_save_state("last").unwrap();
    service.wait_for_count("save_weights", 1);
    pending(&client, "marker").wait().unwrap();
    let mut first = until_polled(2);
    first.sort();
    assert_eq!(first, ["1", "2"]);
    for (index, step) in steps.into_iter().enumerate() {
        assert_eq!(until_polled((index + 2).min(5))[2..], ["3", "4", "5"][..index.min(3)]);
        gates[index].open();
        assert_eq!(step.wait().unwrap().metrics.unwrap()["step"], (index + 1) as f64);
    }
}

/// A service that holds the polls of `held`, and responds to all others at once.
fn holding(gate: &Arc<Gate>) -> Service {
    let gate = Arc::clone(gate);
    service_with_polls(
        move |request| if request.request_id() == "held" { Reply::held(&gate, done(1)) } else { done(2) },
    )
}

#[test]
fn a_timed_out_wait_can_be_repeated() {
    let manual = ManualClock::new();
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.manual_config(&manual));
    let pending = Arc::new(pending(&client, "held"));
    let waiting = {
        let pending = Arc::clone(&pending);
        thread::spawn(move || pending.wait_timeout(5 * SECOND).is_none())
    };
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    assert!(waiting.join().unwrap());
    assert!(pending.wait_timeout(Duration::ZERO).is_none() && pending.try_get().is_none() && !pending.is_ready());
    gate.open();
    assert_eq!(pending.wait_timeout(Duration::MAX).unwrap().unwrap().value, 1);
    assert!(pending.is_ready());
    let again = pending.try_get().unwrap().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidInput, "{again}");
    assert_eq!(polls_of(&service, "held").len(), 1);
}

#[test]
fn an_operation_timeout_says_how_to_resume() {
    let manual = ManualClock::new();
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.manual_config(&manual)).with_timeout_operation(Some(5 * SECOND));
    let waited = pending(&client, "held");
    service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "held"));
    let waiting = thread::spawn(move || waited.wait().unwrap_err());
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    let error = waiting.join().unwrap();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Timeout(Limit::Operation), Some("held")));
    assert!(error.may_have_taken_effect() && error.to_string().contains("ServiceClient::pending"), "{error}");
    gate.open();
    assert_eq!(pending(&client, "held").wait().unwrap().value, 1);
}

#[test]
fn select_takes_whichever_result_comes_first() {
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.config());
    let (slow, fast) = (pending(&client, "held"), pending(&client, "fast"));
    let first = crossbeam_channel::select! {
        recv(slow.ready()) -> _ => "slow",
        recv(fast.ready()) -> _ => "fast",
    };
    assert_eq!((first, fast.wait().unwrap().value), ("fast", 2));
    // A channel that is requested late receives immediately.
    gate.open();
    slow.ready().recv().unwrap();
    assert!(slow.ready().recv().is_err(), "the message is taken, and the channel is disconnected");
    assert_eq!(slow.try_get().unwrap().unwrap().value, 1);
}

#[test]
fn a_pending_keeps_its_session_alive() {
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let held = pending(&connect(service.config()), "held");
    service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "held"));
    gate.open();
    assert_eq!(held.wait().unwrap().value, 1);
}
