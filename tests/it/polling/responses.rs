//! What the responses to polls mean, and when a poll is repeated.

use super::*;

#[test]
fn a_promise_is_polled_until_its_result() {
    let manual = ManualClock::new();
    let service = service_with_polls(|request| match request.iteration() {
        Some(0 | 1) => Reply::ok(json!({"status": "pending"})),
        Some(2) => {
            let state =
                json!({"type": "try_again", "request_id": request.request_id(), "queue_state": "paused_capacity"});
            Reply::ok(state)
        }
        _ => done(42),
    });
    let client = connect(service.manual_config(&manual));
    let pending = pending(&client, "r-1");
    assert_eq!(pending.request_id().as_deref(), Some("r-1"));
    advance_past_wait(&manual, 75..=100);
    advance_past_wait(&manual, 150..=200);
    // A paused queue is left alone for a second at least.
    advance_past_wait(&manual, 1000..=1000);
    assert_eq!(pending.wait().unwrap().value, 42);
    let polls = polls_of(&service, "r-1");
    let iterations: Vec<_> = polls.iter().map(|request| request.iteration().unwrap()).collect();
    assert_eq!(iterations, [0, 1, 2, 3]);
    for seen in &polls {
        assert_eq!(seen.header("x-tinker-request-type"), Some("Sample"));
        assert_eq!(seen.header("x-stainless-retry-count"), Some("0"));
        assert_eq!(seen.header("x-stainless-read-timeout"), Some("45"));
        let round_trip = seen.header("x-tinker-create-promise-roundtrip-time");
        assert_eq!(round_trip.is_some(), seen.iteration() == Some(0));
        assert_eq!(seen.body, json!({"request_id": "r-1"}));
    }
}

#[test]
fn poll_headers_describe_the_submission() {
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    for (request_id, kind) in [("create_model:model-0:0", "CreateModel"), ("optim_step:model-0:1", "OptimStep")] {
        let polls = polls_of(&service, request_id);
        assert_eq!(polls.len(), 1);
        assert_eq!(polls[0].header("x-tinker-request-type"), Some(kind));
        let round_trip = polls[0].header("x-tinker-create-promise-roundtrip-time").unwrap();
        assert!(round_trip.parse::<f64>().unwrap() > 0.0, "{round_trip}");
    }
}

#[test]
fn a_failed_promise_keeps_its_reason_and_category() {
    let service = service_with_polls(|request| {
        Reply::ok(match request.request_id() {
            "user" => json!({"error": "bad rank", "category": "user"}),
            "server" => json!({"status": "failed", "error": "out of memory", "category": "Server"}),
            "none" => json!({"status": "failed"}),
            _ => json!({"error": "odd", "category": "something new"}),
        })
    });
    let client = connect(service.config());
    for (request_id, reason, category, retryable) in [
        ("user", "bad rank", RequestErrorCategory::User, false),
        ("server", "out of memory", RequestErrorCategory::Server, true),
        ("none", "the server gave no reason", RequestErrorCategory::Unknown, true),
        ("odd", "odd", RequestErrorCategory::Unknown, true),
    ] {
        let error = pending(&client, request_id).wait().unwrap_err();
        assert_eq!((error.kind(), error.category()), (ErrorKind::RequestFailed, Some(&category)));
        assert_eq!((error.is_retryable(), error.is_user_error()), (retryable, !retryable), "{error}");
        assert_eq!((error.request_id(), error.operation()), (Some(request_id), Some("pending")));
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(polls_of(&service, request_id).len(), 1);
    }
}

#[test]
fn a_4xx_ends_the_promise() {
    let service = service_with_polls(|request| match request.request_id() {
        "bad" => Reply::Json(400, json!({"detail": "the batch is too large"})),
        _ => Reply::with_headers(404, &[("x-trace", "t-1")], &json!({"detail": "no such promise"})),
    });
    let client = connect(service.config());
    let error = pending(&client, "bad").wait().unwrap_err();
    assert_eq!((error.kind(), error.status(), error.request_id()), (ErrorKind::Status, Some(400), Some("bad")));
    assert_eq!(error.body(), Some(r#"{"detail":"the batch is too large"}"#));
    assert!(error.to_string().contains("pending: the server returned 400: the batch is too large"), "{error}");
    let error = pending(&client, "unknown").wait().unwrap_err();
    assert_eq!((error.status(), error.header("X-Trace")), (Some(404), Some("t-1")));
    assert!(!error.is_retryable() && error.is_user_error());
    // A 400 may be a proxy's, three times.
    assert_eq!(service.requests_to("retrieve_future").len(), 4 + 1);
}

#[test]
fn temporary_poll_failures_are_retried() {
    let manual = ManualClock::new();
    let service = service_with_polls(|request| match request.iteration() {
        Some(0) => Reply::Json(503, json!({"detail": "restarting"})),
        Some(1) => Reply::Json(500, json!({})),
        Some(2) => Reply::Raw(Vec::new()),
        Some(3) => Reply::with_headers(429, &[("retry-after", "7")], &json!({})),
        Some(4) => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"value\"".to_vec()),
        Some(5) => Reply::Json(408, json!({"queue_state": "active"})),
        _ => done(7),
    });
    let client = connect(service.manual_config(&manual));
    let pending = pending(&client, "r-1");
    for wait in [375..=500, 750..=1000, 1000..=1000, 7000..=7000, 1000..=1000, 75..=100] {
        advance_past_wait(&manual, wait);
    }
    assert_eq!(pending.wait().unwrap().value, 7);
    assert_eq!(polls_of(&service, "r-1").last().unwrap().iteration(), Some(6));
}

#[test]
fn json_of_another_shape_is_a_decode_error() {
    const SHAPE: &str = r#"{"status": "completed", "result": {"value": "forty-two"}}"#;
    const WORDS: &str = r#"{"value": NaN}"#;
    let service = service_with_polls(|request| match request.request_id() {
        "number" => Reply::ok(json!(7)),
        "words" => Reply::Full { status: 200, headers: Vec::new(), body: WORDS.into() },
        "list" => Reply::ok(json!([1])),
        _ => Reply::Full { status: 200, headers: Vec::new(), body: SHAPE.into() },
    });
    let client = connect(service.config());
    for (request_id, body) in [("number", "7"), ("words", WORDS), ("list", "[1]"), ("shape", SHAPE)] {
        let error = pending(&client, request_id).wait().unwrap_err();
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some(request_id)));
        assert_eq!(error.body(), Some(body));
        assert!(error.may_have_taken_effect() && !error.is_retryable(), "{error}");
        assert_eq!(polls_of(&service, request_id).len(), 1);
    }
}

/// The socket's limit is real: this takes a tenth of a second.
#[test]
fn a_poll_that_times_out_is_repeated_immediately() {
    let manual = ManualClock::new();
    let service = service_with_polls(|request| if request.iteration() == Some(0) { Reply::Silence } else { done(1) });
    let client = connect(service.manual_config(&manual).timeout_poll(Duration::from_millis(100)));
    // The clock stands still: no wait comes between.
    assert_eq!(pending(&client, "r-1").wait().unwrap().value, 1);
    let polls = polls_of(&service, "r-1");
    // On a busy machine, more than one may be too late.
    assert!(polls.len() >= 2 && polls[0].iteration() == Some(0));
    service.wait_for_disconnect(polls[0].connection);
}

#[test]
fn the_progress_timeout_gives_up_a_silent_promise() {
    let manual = ManualClock::new();
    let service = service_with_polls(|_| Reply::Json(503, json!({})));
    let client = connect(service.manual_config(&manual).timeout_progress(SECOND));
    let pending = pending(&client, "r-1");
    advance_past_wait(&manual, 375..=500);
    advance_past_wait(&manual, 750..=1000);
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Timeout(Limit::Progress), Some("r-1")));
    assert!(error.may_have_taken_effect() && error.to_string().contains("ServiceClient::pending"), "{error}");
}

/// A result whose type panics.
#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("this type always panics");
    }
}

impl PromiseResult for Panics {}

#[test]
fn a_panic_while_decoding_fails_one_call() {
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.config().max_poll_connections(1));
    let other = pending(&client, "held");
    service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "held"));
    let panics = client.pending::<Panics>("r-1", RequestKind::Sample);
    gate.open();
    let error = panics.wait().unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Panicked, Some("r-1")));
    assert!(error.may_have_taken_effect() && error.operation() == Some("pending"), "{error}");
    assert_eq!(other.wait().unwrap().value, 1);
    // The result is not lost.
    assert_eq!(pending(&client, "r-1").wait().unwrap().value, 2);
}

#[test]
fn an_outage_ends_queued_promises_too() {
    let (manual, limit) = (ManualClock::new(), Duration::from_secs(120));
    let service = service_with_polls(|_| Reply::Close);
    let client = connect(service.manual_config(&manual).timeout_progress(limit));
    let began = manual.clock().now();
    let (ends, ended) = unbounded();
    for n in 0..300 {
        let (pending, clock, ends) = (pending(&client, &format!("p-{n}")), manual.clock(), ends.clone());
        thread::spawn(move || ends.send((pending.wait().unwrap_err(), clock.now() - began)));
    }
    for _ in 0..300 {
        // In an outage one is polled each half minute: by their own polls alone it would take most of them a day.
        let (error, waited) = loop {
            match ended.recv_timeout(Duration::from_millis(1)) {
                Ok(end) => break end,
                Err(_) => manual.advance(SECOND),
            }
            assert!(manual.clock().now() - began < 50 * limit, "they wait for ever");
        };
        assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Progress));
        assert!(error.request_id().is_some() && waited >= limit, "{waited:?}");
    }
}

#[test]
fn three_bad_requests_may_be_a_proxys() {
    let service = service_with_polls(|request| match (request.request_id(), request.iteration()) {
        ("final", Some(0..=3)) | ("passing", Some(0..=2 | 4..=6)) => Reply::Json(400, json!({"detail": "bad rank"})),
        ("passing", Some(3)) => Reply::Json(408, json!({"queue_state": "active"})),
        ("final", _) => panic!("it is polled too often"),
        _ => done(1),
    });
    let client = connect(service.config());
    let error = pending(&client, "final").wait().unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(400)));
    assert!(error.to_string().contains("bad rank"), "{error}");
    assert_eq!(pending(&client, "passing").wait().unwrap().value, 1);
    assert_eq!(polls_of(&service, "passing").len(), 8);
}
