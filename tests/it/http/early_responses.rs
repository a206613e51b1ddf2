//! Responses that arrive while the body is still being written.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tinkex::api::Api;
use tinkex::clock::ManualClock;
use tinkex::types::{Batch, Datum, LoraConfig, LossFn, ModelInput};
use tinkex::{ConfigBuilder, Error, ErrorKind, Limit, Result, ServiceClient};

use super::{connect, error_reply, finish_wait, ms, quiet, through_waits};
use crate::support::{Gate, RecordedRequest, Reply, Service, healthy_service};

/// More than a connection to a [`Service`] usually buffers without a reader. On a busy machine it may all fit.
const LARGE: usize = 512 << 10;

/// More than any connection buffers without a reader. The system bounds the client's send buffer (on Linux by `tcp_wmem`, 4
/// MiB by default), and [`Service::start_early`] the server's receive buffer (32 KiB).
const UNBUFFERED: usize = 16 << 20;

fn is_large(request: &RecordedRequest) -> bool {
    request.header("content-length").is_some_and(|length| length.parse::<usize>().unwrap() > LARGE / 2)
}

/// A session with a large request body.
fn large_session(config: ConfigBuilder) -> Result<ServiceClient> {
    connect(config.user_metadata("notes", "x".repeat(LARGE)))
}

/// The error of a request whose body can never be written whole, with an idle timeout of 100 ms.
fn stuck_write(service: &Service) -> Error {
    let api = Api::new(service.config().max_retries(0).timeout_idle(ms(100)).build_with(|_| None).unwrap()).unwrap();
    api.post("/api/v1/x").body(vec![b'x'; UNBUFFERED]).send().unwrap_err()
}

#[test]
fn an_early_response_survives_a_reset() {
    for (status, kept) in [(401, "no key"), (413, "too much")] {
        let early = move |request: &RecordedRequest| {
            let reply = Reply::with_headers(status, &[("x-kept", kept)], &json!({ "detail": kept }));
            is_large(request).then_some(reply)
        };
        let service = Service::start_early(early, healthy_service);
        let error = large_session(service.config()).unwrap_err();
        assert_eq!(
            (error.kind(), error.status(), error.header("x-kept")),
            (ErrorKind::Status, Some(status), Some(kept))
        );
        assert!(error.to_string().contains(kept) && !error.may_have_taken_effect(), "{error}");
        assert_eq!(service.requests().len(), 1);
    }
}

#[test]
fn an_early_response_may_end_with_its_connection() {
    let early = |request: &RecordedRequest| {
        is_large(request).then(|| Reply::Raw(b"HTTP/1.1 413 Large\r\n\r\n{\"detail\": \"too much\"}".into()))
    };
    let service = Service::start_early(early, healthy_service);
    let error = large_session(service.config()).unwrap_err();
    assert_eq!((error.status(), error.body()), (Some(413), Some(r#"{"detail": "too much"}"#)));
}

#[test]
fn an_early_429_is_retried_whole() {
    let clock = ManualClock::new();
    let refused = AtomicUsize::new(0);
    let early = move |request: &RecordedRequest| {
        let first = is_large(request) && refused.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| error_reply(429, &[("retry-after-ms", "1250")]))
    };
    let service = Service::start_early(early, healthy_service);
    let (waits, client) = through_waits(&clock, 1, || large_session(quiet(&service, &clock)));
    client.unwrap();
    assert_eq!(waits, [ms(1250)]);
    let attempts = service.requests_to("create_session");
    assert_eq!((attempts.len(), attempts[1].raw.len() > LARGE), (2, true));
    assert_eq!(attempts[0].header("x-idempotency-key"), attempts[1].header("x-idempotency-key"));
}

#[test]
fn a_batch_refused_early_keeps_its_sequence_number() {
    const COUNT: usize = 20_000;
    let clock = ManualClock::new();
    let refused = AtomicUsize::new(0);
    let early = move |request: &RecordedRequest| {
        let first = request.path == "forward_backward" && refused.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| error_reply(429, &[("retry-after-ms", "750")]))
    };
    let service = Service::start_early(early, healthy_service);
    let client = connect(quiet(&service, &clock)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    // About 800 kB in few numbers, which are slow to write in a build without optimization.
    let datum = Datum::new(ModelInput::from_tokens(vec![100_000; COUNT]))
        .input("target_tokens", vec![i64::MAX; COUNT])
        .and_then(|datum| datum.input("weights", vec![1.234_567_8e-20_f32; COUNT]));
    let batch = Batch::from(vec![datum.unwrap()]);
    let pending = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy).unwrap();
    assert_eq!(finish_wait(&clock), ms(750));
    assert_eq!(pending.wait().unwrap().metrics["loss:sum"], 1.0);
    assert_eq!(service.requests_to("forward_backward")[1].seq_id(), Some(1));
}

#[test]
fn a_reset_during_the_body_has_unknown_effect() {
    let service = Service::start_early(|request| is_large(request).then_some(Reply::Close), healthy_service);
    let error = large_session(service.config().max_retries(0)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Connect, None));
    assert!(error.may_have_taken_effect() && error.is_retryable());
    assert!(
        error.to_string().starts_with("create_session: the connection was lost before the response started"),
        "{error}"
    );
    assert!(error.source().is_some());
}

/// In real time: 100 ms. The server responds, but neither reads the rest nor closes, so the write never ends.
#[test]
fn an_early_response_wins_over_a_stuck_write() {
    for (status, kept) in [(401, "no key"), (413, "too much"), (429, "slow down")] {
        let gate = Arc::new(Gate::default());
        let deaf = Arc::clone(&gate);
        let early = move |request: &RecordedRequest| {
            let body = json!({ "detail": kept }).to_string();
            let head = format!("HTTP/1.1 {status} No\r\nx-kept: yes\r\ncontent-length: {}\r\n\r\n", body.len());
            is_large(request).then(|| Reply::StopReading((head + &body).into(), Arc::clone(&deaf)))
        };
        let service = Service::start_early(early, healthy_service);
        let error = stuck_write(&service);
        gate.open();
        assert_eq!(
            (error.kind(), error.status(), error.header("x-kept")),
            (ErrorKind::Status, Some(status), Some("yes"))
        );
        assert!(error.to_string().contains(kept) && !error.may_have_taken_effect(), "{error}");
    }
}

/// In real time: 100 ms.
#[test]
fn an_unread_body_is_a_write_timeout() {
    let gate = Arc::new(Gate::default());
    let deaf = Arc::clone(&gate);
    let early = move |_: &RecordedRequest| Some(Reply::StopReading(Vec::new(), Arc::clone(&deaf)));
    let service = Service::start_early(early, healthy_service);
    let error = stuck_write(&service);
    gate.open();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Write), "{error}");
    assert!(error.is_retryable() && error.may_have_taken_effect());
    assert!(error.to_string().contains("timeout_idle"), "{error}");
}
