//! The headers of requests, compared with the Python client's.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tinkex::Wire;
use tinkex::clock::ManualClock;
use tinkex::types::{LoraConfig, LossFn};

use super::{connect, error_reply, finish_wait, is_own_wait, ms, quiet};
use crate::support::{RecordedRequest, Reply, Service, batch, golden, healthy_service};

/// Sent only by the Python client: headers of its HTTP library, and those that describe it.
const PYTHON_ONLY: [&str; 4] = ["accept-encoding", "connection", "x-stainless-async", "x-stainless-raw-response"];

/// Sent by both with different values: addresses, lengths, times, random keys and the client's name.
const OWN_VALUES: [&str; 9] = [
    "host",
    "content-length",
    "user-agent",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-idempotency-key",
    "x-tinker-create-promise-roundtrip-time",
    // The fixtures were recorded on Linux, x64.
    if cfg!(target_os = "linux") { "" } else { "x-stainless-os" },
    if cfg!(target_arch = "x86_64") { "" } else { "x-stainless-arch" },
];

pub(crate) fn comparable<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    headers
        .filter(|(name, _)| !PYTHON_ONLY.contains(name))
        .map(|(name, value)| (name.to_owned(), if OWN_VALUES.contains(&name) { "…" } else { value }.to_owned()))
        .collect()
}

fn assert_headers_as_in(scenario: &str, requests: &[RecordedRequest]) {
    let exchanges = golden::exchanges(scenario);
    assert_eq!(requests.len(), exchanges.len(), "{requests:?}");
    for (exchange, request) in exchanges.iter().zip(requests) {
        assert_eq!(format!("/api/v1/{}", request.path), exchange["path"]);
        let expected = exchange["headers"].as_object().unwrap();
        let expected = comparable(expected.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        let sent = comparable(request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        assert_eq!(sent, expected, "{scenario}: {}", request.path);
        assert_eq!(request.header("user-agent").unwrap(), concat!("tinkex-rust/", env!("CARGO_PKG_VERSION")));
        assert_eq!(request.header("x-stainless-runtime").unwrap(), "rust");
    }
}

#[test]
fn session_headers_match_the_fixture() {
    let service = Service::start(healthy_service);
    let client = connect(service.config().api_key("tml-golden-key")).unwrap();
    client.get_server_capabilities().unwrap();
    assert_headers_as_in("01_session_default", &service.requests());
}

#[test]
fn submission_and_poll_headers_match_the_fixture() {
    let service = Service::start(healthy_service);
    // Python 0.4.1 did not ask for results in protobuf.
    let config = service.config().api_key("tml-golden-key").wire(Wire::Json);
    let client = connect(config).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let seen = service.requests();
    assert_headers_as_in("20_fwdbwd_ce_1", &seen);
    let round_trip = seen[2].header("x-tinker-create-promise-roundtrip-time").unwrap();
    assert!(round_trip.parse::<f64>().unwrap() >= 0.0, "{round_trip}");
    assert_eq!(
        (seen[3].header("x-stainless-read-timeout"), seen[4].header("x-stainless-read-timeout")),
        (Some("60"), Some("45"))
    );
}

#[test]
fn the_announced_read_timeout_is_the_real_one() {
    let service = Service::start(healthy_service);
    let _client = connect(service.config().timeout_idle(ms(2500))).unwrap();
    assert_eq!(service.requests()[0].header("x-stainless-read-timeout"), Some("2.5"));
}

#[test]
fn user_headers_and_query_override() {
    let service = Service::start(|request| Reply::ok(json!({"session_id": "s", "status": request.method})));
    let config = service.config().header("User-Agent", "mine").header("X-API-Key", "other").header("x-extra", "1");
    let client = connect(config.query("region", "eu west").query("tags", ["a", "b"])).unwrap();
    client.health().unwrap();
    for (seen, path) in service.requests().iter().zip(["create_session", "healthz"]) {
        assert_eq!(seen.path, format!("{path}?region=eu+west&tags=a%2Cb"));
        for (name, value) in [("user-agent", "mine"), ("x-api-key", "other"), ("x-extra", "1")] {
            let sent: Vec<_> = seen.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect();
            assert_eq!(sent, [value], "{name}");
        }
    }
}

#[test]
fn cloudflare_access_headers_are_sent_if_set() {
    let service = Service::start(healthy_service);
    let _client = connect(service.config().cloudflare_access("an id", "a secret")).unwrap();
    let seen = &service.requests()[0];
    let sent = (seen.header("cf-access-client-id"), seen.header("cf-access-client-secret"));
    assert_eq!(sent, (Some("an id"), Some("a secret")));
}

#[test]
fn all_attempts_share_the_idempotency_key() {
    let clock = ManualClock::new();
    let failures = AtomicUsize::new(0);
    let service = Service::start(move |request| match request.path.as_str() {
        // Two retries of the policy, one of the window, and the policy again.
        "forward_backward" if failures.fetch_add(1, Ordering::Relaxed) < 4 => error_reply(503, &[]),
        _ => healthy_service(request),
    });
    let client = connect(quiet(&service, &clock).max_retries(2)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let pending = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let waits: Vec<_> = (0..4).map(|_| finish_wait(&clock)).collect();
    pending.wait().unwrap();
    assert!(is_own_wait(waits[0], 0) && is_own_wait(waits[1], 1) && is_own_wait(waits[3], 0), "{waits:?}");
    assert_eq!(waits[2], Duration::from_secs(1));
    let attempts = service.requests_to("forward_backward");
    let counts: Vec<_> = attempts.iter().map(|request| request.header("x-stainless-retry-count").unwrap()).collect();
    assert_eq!(counts, ["0", "1", "2", "3", "4"]);
    let key = attempts[0].header("x-idempotency-key").unwrap();
    assert!(!key.is_empty());
    for attempt in &attempts {
        assert_eq!((attempt.header("x-idempotency-key"), attempt.seq_id()), (Some(key), Some(1)));
        assert_eq!(attempt.raw, attempts[0].raw);
    }
    let keys: HashSet<_> = service
        .requests()
        .iter()
        .filter_map(|request| request.header("x-idempotency-key").map(str::to_owned))
        .collect();
    assert_eq!(keys.len(), service.requests().len() - 4, "each other request has its own key");
}
