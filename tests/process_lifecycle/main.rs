//! How clients start and end: connections, heartbeats, close, drops, lost responses.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

mod black_hole;
mod clock_jumps;
mod closing;
mod connections;
mod dropped;
mod exits;
mod heartbeats;
mod logger;
mod orders;
#[path = "../support/mod.rs"]
mod support;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use support::{Gate, RecordedRequest, Reply, Service, batch, healthy_service};
use tinkex::clock::ManualClock;
use tinkex::types::{
    AdamParams, LoraConfig, LossFn, ModelInput, OptimStepResponse, PromiseResult, RequestKind, SamplingParams,
};
use tinkex::{ConfigBuilder, Error, ErrorKind, Pending, ServiceClient, TrainingClient};

/// After this long a test counts as hung; nothing here takes nearly as long.
const HANG: Duration = Duration::from_secs(30);

/// A timeout that no test may reach: everything must end without it.
const FAR: Duration = Duration::from_secs(3600);

fn connect(builder: ConfigBuilder) -> ServiceClient {
    ServiceClient::connect(builder.timeout_drop(FAR).build_with(|_| None).unwrap()).unwrap()
}

fn train(client: &ServiceClient) -> TrainingClient {
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn adam() -> AdamParams {
    AdamParams::default()
}

fn prompt() -> ModelInput {
    ModelInput::from_tokens(vec![1, 2, 3])
}

fn params() -> SamplingParams {
    SamplingParams::default().max_tokens(1)
}

/// Accepts every request and never returns a result, except for the creation of models.
fn silent(request: &RecordedRequest) -> Reply {
    match request.path.as_str() {
        "retrieve_future" if !request.request_id().starts_with("create_model") => Reply::Silence,
        _ => healthy_service(request),
    }
}

fn polls(requests: &[RecordedRequest], of: &str) -> usize {
    requests.iter().filter(|request| request.path == "retrieve_future" && request.request_id().starts_with(of)).count()
}

/// Runs something that must return immediately, on its own thread.
fn promptly<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = bounded(1);
    thread::spawn(move || done.send(run()).ok());
    result.recv_timeout(HANG).expect("it did not return in time")
}

/// Runs a call that waits, on its own thread, and reports the kind of its error.
fn waiting<T: 'static>(call: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Receiver<ErrorKind> {
    let (done, result) = bounded(1);
    thread::spawn(move || done.send(call().map(drop).unwrap_err().kind()).ok());
    result
}

#[test]
fn close_ends_held_polls_immediately() {
    let service = Service::start(silent);
    let client = connect(service.config());
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let (pass, reply) = (
        trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap(),
        sampler.submit_sample(&prompt(), 1, &params()).unwrap(),
    );
    let waiters = [
        waiting({
            let trainer = trainer.clone();
            move || trainer.optim_step(adam())
        }),
        waiting({
            let sampler = sampler.clone();
            move || sampler.sample(&prompt(), 1, &params())
        }),
        waiting(move || pass.wait()),
        waiting(move || reply.wait_timeout(FAR).unwrap()),
    ];
    service.wait_until(|requests| polls(requests, "") - polls(requests, "create_model") == 4);
    let open: BTreeSet<_> = service.requests().iter().map(|request| request.connection).collect();
    promptly(move || client.close(FAR));
    for waiter in waiters {
        assert_eq!(waiter.recv_timeout(HANG).unwrap(), ErrorKind::Closed);
    }
    open.into_iter().for_each(|connection| service.wait_for_disconnect(connection));
}

#[test]
fn every_wait_of_a_client_ends_with_closed() {
    let service = Service::start(|request| match (request.path.as_str(), request.seq_id()) {
        ("optim_step" | "healthz", _) => Reply::Silence,
        ("get_info", _) => Reply::with_headers(503, &[("retry-after-ms", "33000")], &json!({})),
        ("asample", Some(1)) => Reply::Silence,
        _ => silent(request),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).max_queued(1).sampling_burst(2).sampling_rate(1);
    let client = connect(config.api_key("tml-every-wait"));
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let (for_room, for_promise, for_repeat) = (trainer.clone(), trainer.clone(), trainer.clone());
    let (samples, submits, gated, asks) = (sampler.clone(), sampler.clone(), sampler.clone(), client.clone());

    let sample = waiting(move || samples.sample(&prompt(), 1, &params()));
    service.wait_until(|requests| polls(requests, "asample") == 1);
    let sample_submission = waiting(move || submits.sample(&prompt(), 1, &params()));
    service.wait_for_count("asample", 2);
    // The burst is used up, and the next token comes after a second, but the clock stands still.
    let gate = waiting(move || gated.sample(&prompt(), 1, &params()));
    manual.until_waiting(|waits| waits.contains(&Duration::from_secs(1)));
    let submission = waiting(move || for_promise.optim_step(adam()));
    service.wait_for_count("optim_step", 1);
    // The only place in the queue is occupied until that submission has its promise.
    let limit = Duration::from_secs(77);
    let room = waiting(move || for_room.with_timeout_operation(Some(limit)).optim_step(adam()));
    manual.until_waiting(|waits| waits.contains(&limit));
    let repeat = waiting(move || for_repeat.get_info());
    manual.until_waiting(|waits| waits.contains(&Duration::from_secs(33)));
    let request = waiting(move || asks.health());
    service.wait_for_count("healthz", 1);

    promptly(move || client.close(FAR));
    for (name, waiter) in [
        ("a sample's result", sample),
        ("a sample's submission", sample_submission),
        ("the sampling gate", gate),
        ("a step's submission", submission),
        ("room in the queue", room),
        ("the next attempt", repeat),
        ("a short request", request),
    ] {
        assert_eq!(waiter.recv_timeout(HANG).expect(name), ErrorKind::Closed, "{name}");
    }
    assert_eq!(service.requests_to("asample").len(), 2);
    assert_eq!(service.requests_to("optim_step").len(), 1);
}

#[test]
fn close_fails_queued_requests_unsent() {
    let service = Service::start(|request| match request.path.as_str() {
        "optim_step" | "asample" => Reply::Silence,
        _ => silent(request),
    });
    let client = connect(service.config().max_sampling_threads(1).api_key("tml-queued"));
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let steps: Vec<_> = (0..3).map(|_| trainer.submit_optim_step(adam()).unwrap()).collect();
    let replies: Vec<_> = (0..3).map(|_| sampler.submit_sample(&prompt(), 1, &params()).unwrap()).collect();
    service.wait_until(|requests| {
        ["optim_step", "asample"].iter().all(|path| requests.iter().any(|request| request.path == *path))
    });
    promptly(move || client.close(FAR));
    let effects: Vec<_> = steps.into_iter().map(|step| closed(step).may_have_taken_effect()).collect();
    assert_eq!(effects, [true, false, false]);
    let effects: Vec<_> = replies.into_iter().map(|reply| closed(reply).may_have_taken_effect()).collect();
    assert_eq!(effects, [true, false, false]);
    assert_eq!((service.requests_to("optim_step").len(), service.requests_to("asample").len()), (1, 1));
}

/// The error of a call that the close of its client ended.
fn closed<T: Send + 'static>(pending: Pending<T>) -> Error {
    let error = promptly(move || pending.wait().map(drop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    error
}

#[test]
fn every_clone_may_close_repeatedly() {
    let service = Service::start(silent);
    let client = connect(service.config());
    for _ in 0..2 {
        let clone = client.clone();
        promptly(move || clone.close(FAR));
    }
    client.close(Duration::ZERO);
    assert_eq!(client.health().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_closed_client_refuses_everything() {
    let service = Service::start(silent);
    let client = connect(service.config());
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let clone = client.clone();
    promptly(move || clone.close(FAR));
    let before = service.requests().len();
    // The client cannot know the outcome of a promise.
    let promise = client.pending::<OptimStepResponse>("optim_step:model-0:1", RequestKind::OptimStep);
    assert!(closed(promise).may_have_taken_effect());
    let kinds = promptly({
        let client = client.clone();
        move || {
            [
                client.health().unwrap_err(),
                client.create_lora_training_client("base", LoraConfig::default()).unwrap_err(),
                client.training_client().lora("base").submit().and_then(Pending::wait).unwrap_err(),
                client.create_sampling_client("base").unwrap_err(),
                trainer.optim_step(adam()).unwrap_err(),
                trainer.submit_optim_step(adam()).and_then(Pending::wait).unwrap_err(),
                trainer.get_info().unwrap_err(),
                sampler.sample(&prompt(), 1, &params()).unwrap_err(),
                sampler.submit_sample(&prompt(), 1, &params()).and_then(Pending::wait).unwrap_err(),
            ]
            .map(|error| {
                assert!(!error.may_have_taken_effect(), "{error}");
                assert!(error.operation().is_some(), "{error}");
                error.kind()
            })
        }
    });
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Closed), "{kinds:?}");
    assert_eq!(service.requests().len(), before);
}

#[test]
fn a_pending_keeps_its_session_open() {
    let service = Service::start(silent);
    let (step, reply) = {
        let client = connect(service.config());
        let trainer = train(&client);
        let sampler = client.create_sampling_client("base").unwrap();
        (trainer.submit_optim_step(adam()).unwrap(), sampler.submit_sample(&prompt(), 1, &params()).unwrap())
    };
    let seen = service.wait_until(|requests| polls(requests, "optim_step") == 1 && polls(requests, "asample") == 1);
    promptly(move || drop(step));
    assert!(!reply.is_ready());
    promptly(move || drop(reply));
    let all: BTreeSet<_> = seen.iter().map(|request| request.connection).collect();
    all.into_iter().for_each(|connection| service.wait_for_disconnect(connection));
}
