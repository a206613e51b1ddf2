//! Which connections a client opens, and what happens when one is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// The purpose that a request belongs to.
fn purpose(path: &str) -> &'static str {
    match path {
        "retrieve_future" => "futures",
        "asample" => "sampling",
        "create_session" | "session_heartbeat" | "healthz" | "get_server_capabilities" | "create_sampling_session" => {
            "session"
        }
        _ => "training",
    }
}

#[test]
fn each_purpose_reuses_its_own_connections() {
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    for _ in 0..3 {
        client.health().unwrap();
        client.get_server_capabilities().unwrap();
        trainer.get_info().unwrap();
        trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(adam()).unwrap();
        sampler.sample(&prompt(), 1, &params()).unwrap();
    }
    let mut connections: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for seen in service.requests() {
        connections.entry(purpose(&seen.path)).or_default().insert(seen.connection);
    }
    assert_eq!(connections.keys().copied().collect::<Vec<_>>(), ["futures", "sampling", "session", "training"]);
    // Calls made one after another need one connection of each purpose.
    assert!(connections.values().all(|numbers| numbers.len() == 1), "{connections:?}");
    let all: BTreeSet<_> = connections.values().flatten().collect();
    assert_eq!(all.len(), 4, "{connections:?}");
}

#[test]
fn a_cancelled_unsent_call_takes_no_number() {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let service = Service::start(move |request| {
        if request.path == "forward_backward" {
            gate.pass();
        }
        silent(request)
    });
    let client = connect(service.config());
    let trainer = train(&client);
    let _pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let dropped = trainer.submit_optim_step(adam()).unwrap();
    let cancelled = trainer.submit_save_state("never").unwrap();
    let _last = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap();
    service.wait_for_count("forward_backward", 1);
    drop(dropped);
    cancelled.cancel();
    opened.open();
    let seen =
        service.wait_until(|requests| polls(requests, "forward:") == 1 && polls(requests, "forward_backward:") == 1);
    let sent: Vec<_> = seen.iter().filter_map(|request| Some((&*request.path, request.seq_id()?))).collect();
    // A dropped step is still sent, but not polled. The cancelled call took no number, so the next one gets it.
    assert_eq!(sent, [("forward_backward", 1), ("optim_step", 2), ("forward", 3)]);
    assert_eq!(polls(&seen, "optim_step"), 0);
}

#[test]
fn a_dropped_or_cancelled_pending_frees_its_connection() {
    let service = Service::start(silent);
    let client = connect(service.config());
    let trainer = train(&client);
    let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let last = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap();
    let seen =
        service.wait_until(|requests| polls(requests, "forward:") == 1 && polls(requests, "forward_backward:") == 1);
    let poll = |of: &str| seen.iter().find(|request| request.request_id().starts_with(of)).unwrap().connection;
    drop(pass);
    service.wait_for_disconnect(poll("forward_backward:"));
    assert!(!last.is_ready());
    last.cancel();
    service.wait_for_disconnect(poll("forward:"));
}

#[test]
fn a_lost_response_keeps_its_number_used() {
    let is_first = AtomicBool::new(true);
    let service = Service::start(move |request| match request.path.as_str() {
        "forward_backward" if is_first.swap(false, Ordering::SeqCst) => Reply::Raw(b"HTTP/1.1 200 OK\r\n".to_vec()),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    // Too short a window for a second round.
    let config = service.config().clock(manual.clock()).max_retries(0).timeout_submit(Duration::from_millis(999));
    let trainer = train(&connect(config));
    let error = trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.may_have_taken_effect() && error.is_retryable());
    assert!(error.to_string().contains("the request may have taken effect"), "{error}");
    assert_eq!(trainer.optim_step(adam()).unwrap().metrics.unwrap()["step"], 2.0);
}

#[test]
fn a_repeated_submission_keeps_its_number_and_key() {
    let failures = Mutex::new(vec![Reply::Close, Reply::Json(503, json!({})), Reply::Json(429, json!({}))]);
    let service = Service::start(move |request| match request.path.as_str() {
        "optim_step" => failures.lock().unwrap().pop().unwrap_or_else(|| healthy_service(request)),
        _ => healthy_service(request),
    });
    let quick = service.config().retry_base(Duration::from_millis(1));
    let trainer = train(&connect(quick));
    trainer.optim_step(adam()).unwrap();
    trainer.optim_step(adam()).unwrap();
    let steps = service.requests_to("optim_step");
    let numbers: Vec<_> = steps.iter().map(|request| request.seq_id().unwrap()).collect();
    assert_eq!(numbers, [1, 1, 1, 1, 2]);
    let keys: Vec<_> = steps.iter().map(|request| request.header("x-idempotency-key").unwrap()).collect();
    assert!(keys[..4].iter().all(|key| *key == keys[0]) && keys[4] != keys[0], "{keys:?}");
    let attempts: Vec<_> = steps.iter().map(|request| request.header("x-stainless-retry-count").unwrap()).collect();
    // A pooled connection that turns out to be closed is replaced within the attempt.
    assert_eq!(attempts, ["0", "1", "2", "2", "0"]);
}
