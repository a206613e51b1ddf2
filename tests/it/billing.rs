//! Requests that the service refuses because of the account's billing (402).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SamplingParams};
use tinkex::{ConfigBuilder, ErrorKind, Event, Limit};

use crate::support::{RecordedRequest, Reply, Service, advance_past_wait, after_waits, connect, healthy_service};

const SECOND: Duration = Duration::from_secs(1);

/// With no wait but those of the requests.
fn quiet(service: &Service, manual: &ManualClock) -> ConfigBuilder {
    service.manual_config(manual).idle_retention(24 * 3600 * SECOND)
}

fn pay() -> Reply {
    Reply::Json(402, json!({"detail": "pay"}))
}

/// A service that refuses the first `count` requests to this path.
fn refusing(path: &'static str, count: usize) -> Service {
    let seen = AtomicUsize::new(0);
    Service::start(move |request| {
        let is_refused = request.path == path && seen.fetch_add(1, Ordering::SeqCst) < count;
        if is_refused { pay() } else { healthy_service(request) }
    })
}

fn is_same(one: &RecordedRequest, other: &RecordedRequest) -> bool {
    let key = |request: &RecordedRequest| request.header("x-idempotency-key").map(str::to_owned);
    one.raw == other.raw && key(one) == key(other)
}

/// Takes an optimizer step, with this number of pauses of five seconds.
fn step_after(
    service: &Service,
    pauses: usize,
    settings: impl Fn(ConfigBuilder) -> ConfigBuilder,
) -> tinkex::Result<()> {
    let manual = ManualClock::new();
    let client = connect(settings(quiet(service, &manual)));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    after_waits(&manual, &vec![5000; pauses], || trainer.optim_step(AdamParams::default()).map(drop))
}

#[test]
fn scenario_99_a_refused_step_goes_on() {
    let polls = AtomicUsize::new(0);
    let submissions = AtomicUsize::new(0);
    let service =
        Service::start(move |request| match request.path.as_str() {
            "optim_step" if submissions.fetch_add(1, Ordering::SeqCst) == 0 => pay(),
            "retrieve_future" if request.request_id().starts_with("optim") => {
                if polls.fetch_add(1, Ordering::SeqCst) == 0 { pay() } else { healthy_service(request) }
            }
            _ => healthy_service(request),
        });
    step_after(&service, 2, |config| config).unwrap();
    let steps = service.requests_to("optim_step");
    assert_eq!(steps.len(), 2);
    assert!(is_same(&steps[0], &steps[1]), "{steps:?}");
    let polls = service.requests_to("retrieve_future");
    let iterations: Vec<_> = polls.iter().filter_map(|poll| poll.iteration()).collect();
    assert_eq!(iterations, [0, 0, 1]);
}

#[test]
fn a_pause_uses_up_no_submit_window() {
    let service = refusing("optim_step", 4);
    step_after(&service, 4, |config| config.timeout_submit(16 * SECOND)).unwrap();
}

#[test]
fn a_pause_ends_with_its_own_error() {
    for path in ["optim_step", "retrieve_future"] {
        let service = Service::start(move |request| {
            let is_refused = request.path == path && !request.request_id().starts_with("create");
            if is_refused { pay() } else { healthy_service(request) }
        });
        let error = step_after(&service, 2, |config| config.timeout_billing(Some(10 * SECOND))).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Billing, Some(402)), "{error}");
        assert_eq!(error.may_have_taken_effect(), path == "retrieve_future");
        assert!(error.is_user_error() && !error.is_retryable() && error.to_string().contains("billing"), "{error}");
    }
}

#[test]
fn a_pause_respects_the_operations_deadline() {
    let manual = ManualClock::new();
    let service = refusing("asample", usize::MAX);
    let client = connect(quiet(&service, &manual).timeout_operation(Some(3 * SECOND)));
    let sampler = client.create_sampling_client("base").unwrap();
    let prompt = ModelInput::from_tokens([1]);
    thread::scope(|scope| {
        let sample = scope.spawn(|| sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap_err());
        // A sample waits for a second.
        (0..2).for_each(|_| advance_past_wait(&manual, 1000..=1000));
        let error = sample.join().unwrap();
        assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Timeout(Limit::Operation), false));
    });
    let samples = service.requests_to("asample");
    assert!(samples.iter().all(|sample| is_same(sample, &samples[0])));
}

#[test]
fn calls_that_lose_nothing_fail_at_once() {
    let service = refusing("create_session", 1);
    let error = tinkex::ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Billing);
    let service = refusing("get_server_capabilities", 1);
    let client = connect(service.config());
    assert_eq!(client.get_server_capabilities().unwrap_err().kind(), ErrorKind::Billing);
}

#[test]
fn cancelling_and_closing_end_the_pause() {
    let service = refusing("optim_step", usize::MAX);
    let manual = ManualClock::new();
    let client = connect(quiet(&service, &manual));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let paused = trainer.submit_optim_step(AdamParams::default()).unwrap();
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    client.close(30 * SECOND);
    assert_eq!(paused.wait().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn each_pause_is_reported_and_limited_apart() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let service = Service::start(move |request| {
        let refuses = request.path == "optim_step" && counter.fetch_add(1, Ordering::SeqCst) % 3 != 2;
        if refuses { pay() } else { healthy_service(request) }
    });
    let (sender, events) = unbounded();
    let observe = move |event: &Event| match event {
        Event::BillingPaused { error, limit, .. } => sender.send(format!("{:?} {limit:?}", error.status())).unwrap(),
        Event::BillingResumed { paused, .. } => sender.send(format!("{paused:?}")).unwrap(),
        _ => {}
    };
    let manual = ManualClock::new();
    // Two pauses of ten seconds are within the limit: a success in between starts the count again.
    let client = connect(quiet(&service, &manual).timeout_billing(Some(12 * SECOND)).observer(observe));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    for _ in 0..2 {
        thread::scope(|scope| {
            let step = scope.spawn(|| trainer.optim_step(AdamParams::default()).unwrap());
            (0..2).for_each(|_| advance_past_wait(&manual, 5000..=5000));
            step.join().unwrap();
        });
    }
    client.close(30 * SECOND);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["Some(402) 12s", "10s", "Some(402) 12s", "10s"]);
}

#[test]
fn other_requests_do_not_prolong_a_pause() {
    let manual = ManualClock::new();
    let service = refusing("asample", usize::MAX);
    let (sender, events) = unbounded();
    let observe = move |event: &Event| match event {
        Event::BillingPaused { .. } => sender.send("paused").unwrap(),
        Event::BillingResumed { .. } => sender.send("resumed").unwrap(),
        _ => {}
    };
    let client = connect(quiet(&service, &manual).timeout_billing(Some(3 * SECOND)).observer(observe));
    let sampler = client.create_sampling_client("base").unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let prompt = ModelInput::from_tokens([1]);
    thread::scope(|scope| {
        let sample = scope.spawn(|| sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap_err());
        for refused in 1..=3 {
            service.wait_for_count("asample", refused);
            // The service accepts this one.
            trainer.optim_step(AdamParams::default()).unwrap();
            advance_past_wait(&manual, 1000..=1000);
        }
        assert_eq!(sample.join().unwrap().kind(), ErrorKind::Billing);
    });
    client.close(30 * SECOND);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["paused"], "the service has accepted no sample");
}

#[test]
fn a_large_sample_pauses_for_longer() {
    let manual = ManualClock::new();
    let service = refusing("asample", 1);
    let client = connect(quiet(&service, &manual));
    let sampler = client.create_sampling_client("base").unwrap();
    let prompt = ModelInput::from_tokens(vec![1; 13_108]);
    thread::scope(|scope| {
        let sample = scope.spawn(|| sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap());
        advance_past_wait(&manual, 5000..=5000);
        sample.join().unwrap();
    });
}
