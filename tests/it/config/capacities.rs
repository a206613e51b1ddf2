//! Limits on queues, connections, buffers, threads and samples in flight.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{LossFn, ModelInput, SamplingParams};
use tinkex::{Config, ErrorKind, Limit, Proxy, ServiceClient};

use super::{FAR, adam, connect, everything, except, sample, train};
use crate::support::{Gate, Reply, Service, batch, healthy_service};

/// Holds all requests to a path back until the gate opens.
fn gated(path: &'static str) -> (Service, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let service = Service::start(move |request| {
        if request.path == path {
            gate.pass();
        }
        healthy_service(request)
    });
    (service, opened)
}

#[test]
fn a_full_queue_fails_submits_and_blocks_calls() {
    for by_bytes in [false, true] {
        let (service, gate) = gated("optim_step");
        let manual = ManualClock::new();
        let config = service.config().clock(manual.clock());
        // Room for one batch of 48 bytes, not for two.
        let config = if by_bytes { config.max_queued_bytes(80) } else { config.max_queued(2) };
        let trainer = train(&connect(config).unwrap());
        let first = trainer.submit_optim_step(adam()).unwrap();
        let second = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap();
        let error = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::QueueFull, Some("forward")));
        let remedy = error.hint().unwrap();
        assert!(remedy.contains("max_queued") && remedy.contains("max_queued_bytes"), "{error}");
        let limit = Duration::from_secs(77);
        let patient = trainer.with_timeout_operation(Some(limit));
        let waiting = thread::spawn(move || patient.forward(batch(), LossFn::CrossEntropy));
        manual.until_waiting(|waits| waits.contains(&limit));
        assert_eq!(service.requests_to("forward").len(), 0);
        gate.open();
        first.wait().unwrap();
        second.wait().unwrap();
        waiting.join().unwrap().unwrap();
        let numbers: Vec<_> = service.requests_to("forward").iter().map(|request| request.seq_id().unwrap()).collect();
        assert_eq!(numbers, [2, 3]);
    }
}

#[test]
fn waiting_for_queue_room_has_the_operation_timeout() {
    let (service, gate) = gated("optim_step");
    let manual = ManualClock::new();
    let trainer = train(&connect(service.config().clock(manual.clock()).max_queued(1)).unwrap());
    let first = trainer.submit_optim_step(adam()).unwrap();
    let limit = Duration::from_secs(77);
    let patient = trainer.with_timeout_operation(Some(limit));
    let waiting = thread::spawn(move || patient.optim_step(adam()).unwrap_err());
    manual.until_waiting(|waits| waits.contains(&limit));
    manual.advance(limit);
    let error = waiting.join().unwrap();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Timeout(Limit::Operation), false));
    gate.open();
    first.wait().unwrap();
    assert_eq!(trainer.optim_step(adam()).unwrap().metrics.unwrap()["step"], 2.0);
}

#[test]
fn a_queue_of_samples_is_bounded_too() {
    let (service, gate) = gated("asample");
    let config = service.config().api_key("tml-queue-of-samples").max_sampling_threads(1).max_queued(1);
    let sampler = connect(config).unwrap().create_sampling_client("base").unwrap();
    let submit = || {
        let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
        sampler.submit_sample(&prompt, 1, &SamplingParams::default().max_tokens(1))
    };
    let first = submit().unwrap();
    service.wait_for_count("asample", 1);
    let second = submit().unwrap();
    assert_eq!(submit().unwrap_err().kind(), ErrorKind::QueueFull);
    gate.open();
    first.wait().unwrap();
    second.wait().unwrap();
    submit().unwrap().wait().unwrap();
}

#[test]
fn a_response_larger_than_the_limit_is_refused() {
    let service = except("healthz", || Reply::ok(json!({"status": "x".repeat(2000)})));
    let error = connect(service.config().max_response_bytes(1000)).unwrap().health().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("1000 bytes") && error.to_string().contains("max_response_bytes"), "{error}");
    assert_eq!(service.requests_to("healthz").len(), 1);
    connect(service.config().max_response_bytes(3000)).unwrap().health().unwrap();
}

/// Calls `health` from two threads at once, and returns the connections.
fn two_at_once(service: &Service, gate: &Gate, client: &ServiceClient) -> BTreeSet<usize> {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| client.health().unwrap());
        }
        let both = service.wait_for_count("healthz", 2);
        gate.open();
        both.iter().map(|request| request.connection).collect()
    })
}

#[test]
fn no_more_idle_connections_are_kept_than_configured() {
    let (service, gate) = gated("healthz");
    let client = connect(service.config().max_idle_connections(1)).unwrap();
    let both = two_at_once(&service, &gate, &client);
    assert_eq!(both.len(), 2);
    client.health().unwrap();
    let kept = service.requests_to("healthz")[2].connection;
    for connection in both.into_iter().filter(|connection| *connection != kept) {
        service.wait_for_disconnect(connection);
    }

    let (service, gate) = gated("healthz");
    let client = connect(service.config().max_idle_connections(2)).unwrap();
    let both = two_at_once(&service, &gate, &client);
    client.health().unwrap();
    assert!(both.contains(&service.requests_to("healthz")[2].connection));
}

#[test]
fn an_idle_connection_expires_after_its_retention() {
    let service = Service::start(healthy_service);
    // In real time: more than this passes between any two requests.
    let client = connect(service.config().idle_retention(Duration::from_nanos(1))).unwrap();
    client.health().unwrap();
    client.health().unwrap();
    let connections: BTreeSet<_> = service.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 3);
}

#[test]
fn idle_connections_close_in_time_without_another_request() {
    let (service, gate) = gated("healthz");
    let manual = ManualClock::new();
    let client = connect(service.manual_config(&manual).idle_retention(Duration::from_secs(15))).unwrap();
    let both = two_at_once(&service, &gate, &client);
    manual.advance(Duration::from_secs(14));
    client.health().unwrap();
    let used_last = service.requests_to("healthz")[2].connection;
    assert!(both.contains(&used_last));
    manual.advance(Duration::from_secs(1));
    both.iter().filter(|connection| **connection != used_last).for_each(|other| service.wait_for_disconnect(*other));
    client.health().unwrap();
    assert_eq!(service.requests_to("healthz")[3].connection, used_last);
    manual.advance(Duration::from_secs(15));
    service.wait_for_disconnect(used_last);
    client.health().unwrap();
}

#[test]
fn the_heartbeats_thread_closes_idle_connections() {
    let service = Service::start(healthy_service);
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(Duration::from_secs(10));
    let trainer = train(&connect(config.idle_retention(Duration::from_secs(15))).unwrap());
    let optim_step = || {
        trainer.optim_step(adam()).unwrap();
        service.requests_to("optim_step").last().unwrap().connection
    };
    let first = optim_step();
    for seconds in [10, 4] {
        manual.advance(Duration::from_secs(seconds));
    }
    assert_eq!(optim_step(), first);
    manual.advance(Duration::from_secs(15));
    service.wait_for_disconnect(first);
    assert_ne!(optim_step(), first);
}

#[test]
fn idle_connections_kept_follow_those_in_use() {
    let config = || Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1");
    for (config, kept) in [
        (config(), 128),
        (config().max_poll_connections(400), 400),
        (config().max_poll_connections(16), 128),
        (config().max_sampling_threads(200), 200),
        (config().max_poll_connections(400).max_idle_connections(16), 16),
        (Config::constrained().api_key("tml-k").base_url("http://127.0.0.1:1"), 2),
    ] {
        assert_eq!(config.build_with(|_| None).unwrap().max_idle_connections(), kept);
    }
}

#[test]
fn an_impossible_stack_size_is_an_error() {
    let service = Service::start(healthy_service);
    // The size of the address space.
    let error = connect(service.config().thread_stack_size(1 << 47)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("thread_stack_size"), "{error}");
    connect(service.config().thread_stack_size(128 * 1024)).unwrap().health().unwrap();
}

#[test]
fn a_small_connection_buffer_carries_everything() {
    let service = Service::start(|request| match request.path.as_str() {
        "healthz" => {
            Reply::with_headers(200, &[("x-long", &"y".repeat(3000))], &json!({"status": "x".repeat(100_000)}))
        }
        _ => healthy_service(request),
    });
    let config = || service.config().connection_buffer(4096);
    everything(config().user_metadata("large", "x".repeat(100_000)).header("x-long", "z".repeat(3000)));
    assert_eq!(
        service.requests_to("create_session")[0].body["user_metadata"]["large"].as_str().unwrap().len(),
        100_000
    );
    for seen in service.requests() {
        assert_eq!(seen.header("x-long").unwrap(), "z".repeat(3000), "{}", seen.path);
        assert_eq!(seen.header("x-api-key"), Some("tml-test-key"), "{}", seen.path);
    }
}

#[test]
fn concurrent_polls_and_submissions_are_limited() {
    for (path, config) in [
        ("retrieve_future", Config::builder().max_poll_connections(2)),
        ("asample", Config::builder().max_sampling_threads(2)),
        ("asample", Config::builder().max_sampling_in_flight(2)),
    ] {
        let (service, gate) = gated(path);
        let config = config.base_url(service.url()).api_key("tml-at-once").proxy(Proxy::Off);
        let sampler = connect(config).unwrap().create_sampling_client("base").unwrap();
        let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
        let params = SamplingParams::default().max_tokens(1);
        let replies: Vec<_> = (0..6).map(|_| sampler.submit_sample(&prompt, 1, &params).unwrap()).collect();
        service.wait_for_count(path, 2);
        gate.open();
        // Not with `wait`: a poll gives up its connection to one that is waited for.
        replies.iter().for_each(|reply| reply.ready().recv_timeout(FAR).unwrap());
        let connections: BTreeSet<_> = service.requests_to(path).iter().map(|request| request.connection).collect();
        assert_eq!((service.requests_to(path).len(), connections.len()), (6, 2), "{path}");
    }
}

#[test]
fn the_configured_sampling_rate_applies_after_the_burst() {
    let service = Service::start(healthy_service);
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let config = config.api_key("tml-rate").sampling_burst(2).sampling_rate(4);
    let sampler = connect(config).unwrap().create_sampling_client("base").unwrap();
    sample(&sampler).unwrap();
    sample(&sampler).unwrap();
    let third = thread::spawn(move || sample(&sampler));
    manual.until_waiting(|waits| waits.contains(&Duration::from_millis(250)));
    assert_eq!(service.requests_to("asample").len(), 2);
    manual.advance(Duration::from_millis(250));
    third.join().unwrap().unwrap();
}
