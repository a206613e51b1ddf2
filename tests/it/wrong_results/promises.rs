//! One promise for two submissions: their calls would share one result.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, ModelInput, OptimStepResponse, RequestKind, SamplingParams};
use tinkex::{SamplingClient, ServiceClient};

use super::*;
use crate::support::pass_server::lost;
use crate::support::{Gate, result};

const STEP: &str = "optim_step:model-0:1";
const SAMPLE: &str = "asample:sampler-0:7";

/// A service that gives one promise for all steps and saves, and one for all samples. Their results come once the gate is open.
fn repeating(gate: &Arc<Gate>) -> Service {
    let held = Arc::clone(gate);
    let settings = json!({"sample_use_retrieve_futures": true});
    service_with_settings(settings, move |request| match &*request.path {
        "optim_step" | "save_weights" => Reply::ok(json!({"request_id": STEP})),
        "asample" => Reply::ok(json!({"request_id": SAMPLE})),
        "retrieve_futures" if request.body["prev_cursor"] == 0 => {
            let completion = json!({"state": "finished", "request_id": SAMPLE});
            Reply::held(&held, Reply::ok(json!({"completions": [completion], "cursor": 1})))
        }
        "retrieve_futures" => Reply::ok(json!({"completions": [], "cursor": 1})),
        "retrieve_future" => Reply::held(&held, result(request.request_id())),
        _ => healthy_service(request),
    })
}

fn trainer(client: &ServiceClient) -> TrainingClient {
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn sample(sampler: &SamplingClient) -> tinkex::Pending<SampleResponse> {
    sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap()
}

fn assert_shared(error: &Error, promise: &str, requests: [&str; 2]) {
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some(promise)), "{error}");
    let text = error.to_string();
    assert!(error.may_have_taken_effect() && requests.iter().all(|request| text.contains(request)), "{error}");
}

#[test]
fn two_steps_of_one_promise_share_no_result() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let service = repeating(&gate);
    let client = connect(service.config());
    let trainer = trainer(&client);
    trainer.optim_step(AdamParams::new()).unwrap();
    let error = trainer.optim_step(AdamParams::new()).unwrap_err();
    assert_shared(&error, STEP, ["optim_step 1", "optim_step 2"]);
    let error = trainer.save_state("a").unwrap_err();
    assert_shared(&error, STEP, ["optim_step 1", "save_state 3"]);
}

#[test]
fn a_settled_step_shares_no_result() {
    let steps = AtomicUsize::new(0);
    let service = Service::start(move |request| match &*request.path {
        "optim_step" if steps.fetch_add(1, Ordering::SeqCst) == 0 => lost(),
        "optim_step" | "save_weights" => Reply::ok(json!({"request_id": STEP})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).max_retries(0).timeout_submit(Duration::from_millis(999));
    let trainer = trainer(&connect(config));
    trainer.optim_step(AdamParams::new()).unwrap_err();
    // The lost step is accepted first, with the promise that the save gets, too.
    assert_shared(&trainer.save_state("a").unwrap_err(), STEP, ["optim_step 1", "save_state 2"]);
}

#[test]
fn steps_of_two_models_share_no_result() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let service = repeating(&gate);
    let client = connect(service.config());
    let (first, second) = (trainer(&client), trainer(&client));
    first.optim_step(AdamParams::new()).unwrap();
    let error = second.optim_step(AdamParams::new()).unwrap_err();
    assert_shared(&error, STEP, ["optim_step 1", "of another client"]);
}

#[test]
fn two_samples_of_one_promise_share_no_result() {
    let gate = Arc::<Gate>::default();
    let service = repeating(&gate);
    let sampler = connect(service.config()).create_sampling_client("base").unwrap();
    let first = sample(&sampler);
    while first.request_id().is_none() {
        std::thread::yield_now();
    }
    assert_shared(&sample(&sampler).wait().unwrap_err(), SAMPLE, ["sample 0", "sample 1"]);
    gate.open();
    // The other is told of as before.
    assert_eq!(first.wait().unwrap().sequences[0].tokens, [7]);
}

#[test]
fn a_promise_can_be_waited_for_twice() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let service = Service::start(move |request| match &*request.path {
        "retrieve_future" if request.request_id() == STEP => Reply::held(&held, result(STEP)),
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    let step = trainer(&client).submit_optim_step(AdamParams::new()).unwrap();
    service.wait_for_count("optim_step", 1);
    let again: Vec<_> = (0..2).map(|_| client.pending::<OptimStepResponse>(STEP, RequestKind::OptimStep)).collect();
    gate.open();
    step.wait().unwrap();
    again.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
}
