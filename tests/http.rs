//! One request over HTTP, through the public clients: headers, repeats, time limits, connections and answers of every kind.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Gate, Reply, Seen, Service, batch, well};
use tinkex::api::Api;
use tinkex::clock::ManualClock;
use tinkex::config::{ConfigBuilder, Proxy};
use tinkex::types::{Batch, Datum, LoraConfig, LossFn, ModelInput};
use tinkex::{Error, ErrorKind, Limit, Result, ServiceClient};

/// Longer than any wait that a test looks at: what is not tested stays quiet.
const QUIET: Duration = Duration::from_secs(24 * 3600);

/// More than a loopback connection to a [`Service`] takes in without a reader.
const LARGE: usize = 5 << 20;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A configuration whose only waits on the clock are those between attempts.
fn quiet(service: &Service, clock: &ManualClock) -> ConfigBuilder {
    service.config().clock(clock.clock()).heartbeat_interval(QUIET).idle_retention(QUIET)
}

fn connect(config: ConfigBuilder) -> Result<ServiceClient> {
    ServiceClient::connect(config.build().unwrap())
}

/// A service that answers `healthz` with these replies, one after the other, and then well.
fn replying(replies: impl IntoIterator<Item = Reply>) -> Service {
    let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
    Service::start(move |seen| match seen.path.as_str() {
        "healthz" => replies.lock().unwrap().pop_front().unwrap_or_else(|| well(seen)),
        _ => well(seen),
    })
}

fn refusal(status: u16, headers: &[(&'static str, &str)]) -> Reply {
    Reply::with_headers(status, headers, &json!({"detail": "not now"}))
}

/// The next wait between two attempts, which is over when this returns.
fn let_a_wait_pass(clock: &ManualClock) -> Duration {
    let mut next = Duration::ZERO;
    clock.until_waiting(|waits| {
        next = waits.iter().copied().find(|wait| !wait.is_zero()).unwrap_or(QUIET);
        next < QUIET / 2
    });
    clock.advance(next);
    next
}

/// Makes a call that waits so many times. Returns the waits and the call's result.
fn through_waits<T: Send>(clock: &ManualClock, count: usize, call: impl FnOnce() -> T + Send) -> (Vec<Duration>, T) {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        let waits = (0..count).map(|_| let_a_wait_pass(clock)).collect();
        (waits, call.join().unwrap())
    })
}

/// The waits of a health check that meets these replies, and what becomes of it.
fn health_after(replies: Vec<Reply>, waits: usize) -> (Vec<Duration>, Result<()>, Service) {
    let clock = ManualClock::new();
    let service = replying(replies);
    let client = connect(quiet(&service, &clock)).unwrap();
    let (waits, health) = through_waits(&clock, waits, || client.health().map(drop));
    (waits, health, service)
}

/// The wait that the client makes by itself before the attempt of this number.
fn is_own_wait(wait: Duration, attempt: i32) -> bool {
    let full = (0.5 * 2_f64.powi(attempt)).min(10.0);
    (0.75 * full..=full).contains(&wait.as_secs_f64())
}

/// How `create_session` fails against a service that answers everything so, without repeats.
fn refused_session(
    config: impl Fn(ConfigBuilder) -> ConfigBuilder,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> Error {
    let service = Service::start(move |_| reply());
    connect(config(service.config().max_retries(0))).unwrap_err()
}

// ---- Headers ----

/// Sent by the Python client alone: what its HTTP library adds, and what names its ways.
const PYTHON_ONLY: [&str; 4] = ["accept-encoding", "connection", "x-stainless-async", "x-stainless-raw-response"];

/// Sent by both with values of their own: addresses, lengths, times, random keys, and who we are.
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

fn comparable<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    headers
        .filter(|(name, _)| !PYTHON_ONLY.contains(name))
        .map(|(name, value)| (name.to_owned(), if OWN_VALUES.contains(&name) { "…" } else { value }.to_owned()))
        .collect()
}

fn assert_headers_as_in(scenario: &str, seen: &[Seen]) {
    let path = format!("{}/tests/golden/v0.4.1/{scenario}.json", env!("CARGO_MANIFEST_DIR"));
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let exchanges = golden["exchanges"].as_array().unwrap();
    assert_eq!(seen.len(), exchanges.len(), "{seen:?}");
    for (exchange, seen) in exchanges.iter().zip(seen) {
        assert_eq!(format!("/api/v1/{}", seen.path), exchange["path"]);
        let expected = exchange["headers"].as_object().unwrap();
        let expected = comparable(expected.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        let sent = comparable(seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        assert_eq!(sent, expected, "{scenario}: {}", seen.path);
        assert_eq!(seen.header("user-agent").unwrap(), concat!("tinkex-rust/", env!("CARGO_PKG_VERSION")));
        assert_eq!(seen.header("x-stainless-runtime").unwrap(), "rust");
    }
}

#[test]
fn the_headers_of_a_session_are_those_of_the_fixture() {
    let service = Service::start(well);
    let client = connect(service.config().api_key("tml-golden-key")).unwrap();
    client.get_server_capabilities().unwrap();
    assert_headers_as_in("01_session_default", &service.seen());
}

#[test]
fn the_headers_of_submissions_and_polls_are_those_of_the_fixture() {
    let service = Service::start(well);
    let client = connect(service.config().api_key("tml-golden-key")).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let seen = service.seen();
    assert_headers_as_in("20_fwdbwd_ce_1", &seen);
    let round_trip = seen[2].header("x-tinker-create-promise-roundtrip-time").unwrap();
    assert!(round_trip.parse::<f64>().unwrap() >= 0.0, "{round_trip}");
    assert_eq!(
        (seen[3].header("x-stainless-read-timeout"), seen[4].header("x-stainless-read-timeout")),
        (Some("60"), Some("45"))
    );
}

#[test]
fn the_read_timeout_that_is_claimed_is_the_one_that_is_kept() {
    let service = Service::start(well);
    let _client = connect(service.config().timeout_idle(ms(2500))).unwrap();
    assert_eq!(service.seen()[0].header("x-stainless-read-timeout"), Some("2.5"));
}

#[test]
fn users_headers_and_query_come_last_and_override() {
    let service = Service::start(|seen| Reply::ok(json!({"session_id": "s", "status": seen.method})));
    let config = service.config().header("User-Agent", "mine").header("X-API-Key", "other").header("x-extra", "1");
    let client = connect(config.query("region", "eu west").query("tags", ["a", "b"])).unwrap();
    client.health().unwrap();
    for (seen, path) in service.seen().iter().zip(["create_session", "healthz"]) {
        assert_eq!(seen.path, format!("{path}?region=eu+west&tags=a%2Cb"));
        for (name, value) in [("user-agent", "mine"), ("x-api-key", "other"), ("x-extra", "1")] {
            let sent: Vec<_> = seen.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect();
            assert_eq!(sent, [value], "{name}");
        }
    }
}

#[test]
fn cloudflare_access_headers_are_sent_when_they_are_set() {
    let service = Service::start(well);
    let _client = connect(service.config().cloudflare_access("an id", "a secret")).unwrap();
    let seen = &service.seen()[0];
    let sent = (seen.header("cf-access-client-id"), seen.header("cf-access-client-secret"));
    assert_eq!(sent, (Some("an id"), Some("a secret")));
}

#[test]
fn a_submission_keeps_its_key_and_number_over_all_attempts_while_the_retry_count_rises() {
    let clock = ManualClock::new();
    let failures = AtomicUsize::new(0);
    let service = Service::start(move |seen| match seen.path.as_str() {
        // The two retries of the policy, the window, and the policy anew.
        "forward_backward" if failures.fetch_add(1, Ordering::Relaxed) < 4 => refusal(503, &[]),
        _ => well(seen),
    });
    let client = connect(quiet(&service, &clock).max_retries(2)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let pending = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let waits: Vec<_> = (0..4).map(|_| let_a_wait_pass(&clock)).collect();
    pending.wait().unwrap();
    assert!(is_own_wait(waits[0], 0) && is_own_wait(waits[1], 1) && is_own_wait(waits[3], 0), "{waits:?}");
    assert_eq!(waits[2], Duration::from_secs(1));
    let attempts = service.seen_at("forward_backward");
    let counts: Vec<_> = attempts.iter().map(|seen| seen.header("x-stainless-retry-count").unwrap()).collect();
    assert_eq!(counts, ["0", "1", "2", "3", "4"]);
    let key = attempts[0].header("x-idempotency-key").unwrap();
    assert!(!key.is_empty());
    for attempt in &attempts {
        assert_eq!((attempt.header("x-idempotency-key"), attempt.seq_id()), (Some(key), Some(1)));
        assert_eq!(attempt.raw, attempts[0].raw);
    }
    let keys: std::collections::HashSet<_> =
        service.seen().iter().filter_map(|seen| seen.header("x-idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys.len(), service.seen().len() - 4, "another request has a key of its own");
}

// ---- Retries ----

#[test]
fn what_may_pass_is_tried_again_after_growing_waits() {
    for status in [408, 429, 500, 502, 503, 599] {
        let (waits, health, service) = health_after((0..3).map(|_| refusal(status, &[])).collect(), 3);
        health.unwrap();
        assert!(waits.iter().zip(0..).all(|(wait, attempt)| is_own_wait(*wait, attempt)), "{status}: {waits:?}");
        let counts: Vec<_> = service
            .seen_at("healthz")
            .iter()
            .map(|seen| seen.header("x-stainless-retry-count").unwrap().to_owned())
            .collect();
        assert_eq!(counts, ["0", "1", "2", "3"]);
    }
}

#[test]
fn a_lost_connection_is_tried_again_after_growing_waits() {
    // The first loss is that of a pooled connection, which takes no wait.
    let (waits, health, service) = health_after((0..4).map(|_| Reply::Close).collect(), 3);
    health.unwrap();
    assert!(waits.iter().zip(0..).all(|(wait, attempt)| is_own_wait(*wait, attempt)), "{waits:?}");
    assert_eq!(service.seen_at("healthz").len(), 5);
}

#[test]
fn retries_end_after_the_configured_number_and_the_last_answer_is_the_error() {
    let (waits, health, service) = health_after((0..11).map(|_| refusal(503, &[])).collect(), 10);
    let error = health.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(503)));
    assert!(
        error.is_retryable() && error.to_string().starts_with("health: the server answered 503: not now"),
        "{error}"
    );
    assert!(is_own_wait(waits[9], 9), "{waits:?}");
    assert_eq!(service.seen_at("healthz").len(), 11);
}

#[test]
fn a_conflict_is_tried_again_twice_and_more_often_when_the_server_wants_it() {
    let (_, health, service) = health_after((0..3).map(|_| refusal(409, &[])).collect(), 2);
    assert_eq!(health.unwrap_err().status(), Some(409));
    assert_eq!(service.seen_at("healthz").len(), 3);
    let (_, health, _) = health_after((0..5).map(|_| refusal(409, &[("x-should-retry", "true")])).collect(), 5);
    health.unwrap();
}

#[test]
fn the_server_decides_about_a_retry_when_it_says_so_in_the_exact_words() {
    let (_, health, _) = health_after(vec![refusal(400, &[("x-should-retry", "true")])], 1);
    health.unwrap();
    for status in [408, 429, 503] {
        let (_, health, service) = health_after(vec![refusal(status, &[("x-should-retry", "false")])], 0);
        assert_eq!(health.unwrap_err().status(), Some(status));
        assert_eq!(service.seen_at("healthz").len(), 1);
    }
    let (_, health, _) = health_after(vec![refusal(400, &[("x-should-retry", "True")])], 0);
    assert_eq!(health.unwrap_err().status(), Some(400));
}

#[test]
fn the_client_waits_as_long_as_the_server_asks_within_reason() {
    for (headers, expected) in [
        (vec![("retry-after-ms", "1500")], Some(1.5)),
        (vec![("retry-after-ms", "0.5")], Some(0.0005)),
        (vec![("retry-after", "7")], Some(7.0)),
        (vec![("retry-after", "2.25")], Some(2.25)),
        (vec![("retry-after-ms", "250"), ("retry-after", "9")], Some(0.25)),
        (vec![("retry-after-ms", "soon"), ("retry-after", "3")], Some(3.0)),
        (vec![("retry-after", "60")], Some(60.0)),
        (vec![], None),
        (vec![("retry-after", "61")], None),
        (vec![("retry-after", "0")], None),
        (vec![("retry-after", "-5")], None),
        (vec![("retry-after-ms", "-5")], None),
        (vec![("retry-after", "tomorrow")], None),
        (vec![("retry-after", "")], None),
        (vec![("retry-after", "nan")], None),
        (vec![("retry-after", "inf")], None),
        (vec![("retry-after", "1e300")], None),
        (vec![("retry-after", "99999999999999999999999999")], None),
        (vec![("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], None),
        (vec![("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], None),
    ] {
        let (waits, health, _) = health_after(vec![refusal(429, &headers)], 1);
        health.unwrap();
        match expected {
            Some(seconds) => assert_eq!(waits, [Duration::from_secs_f64(seconds)], "{headers:?}"),
            None => assert!(is_own_wait(waits[0], 0), "{headers:?}: {waits:?}"),
        }
    }
}

#[test]
fn the_client_waits_until_the_date_that_the_server_names() {
    let clock = ManualClock::new();
    // Dates have whole seconds.
    let at = clock.clock().wall() + Duration::from_secs(20);
    let service = replying([refusal(503, &[("retry-after", &httpdate::fmt_http_date(at))])]);
    let client = connect(quiet(&service, &clock)).unwrap();
    let (waits, health) = through_waits(&clock, 1, || client.health());
    health.unwrap();
    assert!((19.0..=20.0).contains(&waits[0].as_secs_f64()), "{waits:?}");
}

#[test]
fn a_refusal_is_not_tried_again_and_keeps_status_body_and_headers() {
    for (status, remedy) in [(400, ""), (401, "TINKER_API_KEY"), (403, "this key"), (404, "base URL"), (422, "")] {
        let service = replying([refusal(status, &[("x-reason", "because")])]);
        let client = connect(service.config()).unwrap();
        let error = client.health().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        assert_eq!((error.body(), error.header("X-Reason")), (Some(r#"{"detail":"not now"}"#), Some("because")));
        assert_eq!(error.operation(), Some("health"));
        assert!(error.is_user_error() && !error.is_retryable() && !error.may_have_taken_effect());
        assert!(error.to_string().starts_with(&format!("health: the server answered {status}: not now")), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
        assert_eq!(service.seen_at("healthz").len(), 1);
    }
}

#[test]
fn the_message_of_an_error_is_what_the_server_says_about_it() {
    for (body, expected) in [
        (json!({"detail": "no such model"}), "no such model"),
        (
            json!({"detail": [{"loc": ["body", "rank"], "msg": "must be positive", "type": "x"}]}),
            "body.rank: must be positive",
        ),
        (json!({"error": "bad loss"}), "bad loss"),
        (json!({"message": "try another"}), "try another"),
        (json!({"code": 7}), "HTTP status 422 Unprocessable Content"),
    ] {
        let service = replying([Reply::Json(422, body)]);
        let error = connect(service.config()).unwrap().health().unwrap_err();
        let hint = "the request itself must change, as the message says";
        assert_eq!(error.to_string(), format!("health: the server answered 422: {expected}; {hint}"));
    }
}

// ---- An answer while the body is still being written ----

fn is_large(seen: &Seen) -> bool {
    seen.header("content-length").is_some_and(|length| length.parse::<usize>().unwrap() > LARGE / 2)
}

/// A session of which the service needs to be told a lot.
fn large_session(config: ConfigBuilder) -> Result<ServiceClient> {
    connect(config.user_metadata("notes", "x".repeat(LARGE)))
}

#[test]
fn an_answer_before_the_end_of_the_body_and_a_reset_is_reported_as_that_answer() {
    for (status, kept) in [(401, "no key"), (413, "too much")] {
        let early = move |seen: &Seen| {
            let reply = Reply::with_headers(status, &[("x-kept", kept)], &json!({ "detail": kept }));
            is_large(seen).then_some(reply)
        };
        let service = Service::start_early(early, well);
        let error = large_session(service.config()).unwrap_err();
        assert_eq!(
            (error.kind(), error.status(), error.header("x-kept")),
            (ErrorKind::Status, Some(status), Some(kept))
        );
        assert!(error.to_string().contains(kept) && !error.may_have_taken_effect(), "{error}");
        assert_eq!(service.seen().len(), 1);
    }
}

#[test]
fn an_early_answer_that_ends_with_its_connection_is_reported_as_that_answer() {
    let early = |seen: &Seen| {
        is_large(seen).then(|| Reply::Raw(b"HTTP/1.1 413 Large\r\n\r\n{\"detail\": \"too much\"}".into()))
    };
    let service = Service::start_early(early, well);
    let error = large_session(service.config()).unwrap_err();
    assert_eq!((error.status(), error.body()), (Some(413), Some(r#"{"detail": "too much"}"#)));
}

#[test]
fn an_early_429_is_waited_out_and_the_body_is_sent_again() {
    let clock = ManualClock::new();
    let refused = AtomicUsize::new(0);
    let early = move |seen: &Seen| {
        let first = is_large(seen) && refused.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| refusal(429, &[("retry-after-ms", "1250")]))
    };
    let service = Service::start_early(early, well);
    let (waits, client) = through_waits(&clock, 1, || large_session(quiet(&service, &clock)));
    client.unwrap();
    assert_eq!(waits, [ms(1250)]);
    let attempts = service.seen_at("create_session");
    assert_eq!((attempts.len(), attempts[1].raw.len() > LARGE), (2, true));
    assert_eq!(attempts[0].header("x-idempotency-key"), attempts[1].header("x-idempotency-key"));
}

#[test]
fn a_large_batch_that_is_refused_early_keeps_its_number_and_gets_through_later() {
    const COUNT: usize = 200_000;
    let clock = ManualClock::new();
    let refused = AtomicUsize::new(0);
    let early = move |seen: &Seen| {
        let first = seen.path == "forward_backward" && refused.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| refusal(429, &[("retry-after-ms", "750")]))
    };
    let service = Service::start_early(early, well);
    let client = connect(quiet(&service, &clock)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    // Some 8 MB in few numbers: they take long in a build without optimisation.
    let datum = Datum::new(ModelInput::from_tokens(vec![100_000; COUNT]))
        .input("target_tokens", vec![i64::MAX; COUNT])
        .and_then(|datum| datum.input("weights", vec![1.234_567_8e-20_f32; COUNT]));
    let batch = Batch::from(vec![datum.unwrap()]);
    let pending = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy).unwrap();
    assert_eq!(let_a_wait_pass(&clock), ms(750));
    assert_eq!(pending.wait().unwrap().metrics["loss:sum"], 1.0);
    assert_eq!(service.seen_at("forward_backward")[1].seq_id(), Some(1));
}

#[test]
fn a_reset_in_the_middle_of_the_body_is_a_lost_connection_whose_effect_is_unknown() {
    let service = Service::start_early(|seen| is_large(seen).then_some(Reply::Close), well);
    let error = large_session(service.config().max_retries(0)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Connect, None));
    assert!(error.may_have_taken_effect() && error.is_retryable());
    assert!(error.to_string().starts_with("create_session: the connection was lost before an answer came"), "{error}");
    assert!(error.source().is_some());
}

// ---- Connections ----

#[test]
fn a_connection_is_used_again_after_answers_of_any_status() {
    let service = replying([refusal(404, &[]), Reply::ok(json!({"status": "ok"})), refusal(422, &[])]);
    let client = connect(service.config()).unwrap();
    for ok in [false, true, false, true] {
        assert_eq!(client.health().is_ok(), ok);
    }
    assert_eq!(service.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0; 5]);
}

#[test]
fn a_connection_that_the_server_closed_after_the_answer_is_replaced_without_a_retry() {
    let closing = || Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}".into());
    let service = replying([closing(), closing()]);
    // Without retries, each call has one attempt.
    let client = connect(service.config().max_retries(0)).unwrap();
    for connection in 0..3 {
        client.health().unwrap();
        if connection < 2 {
            service.until_ended(connection);
        }
    }
    assert_eq!(service.seen_at("healthz").iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_stale_pooled_connection_costs_a_post_neither_a_retry_nor_a_wait() {
    let clock = ManualClock::new();
    // The server closes when the request comes, as one does whose idle time has just run out.
    let closed = AtomicUsize::new(0);
    let service = Service::start(move |seen| match seen.path.as_str() {
        "get_info" if seen.connection > 0 && closed.fetch_add(1, Ordering::Relaxed) == 1 => Reply::Close,
        _ => well(seen),
    });
    let client = connect(quiet(&service, &clock).max_retries(0)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.get_info().unwrap();
    trainer.get_info().unwrap();
    let seen = service.seen_at("get_info");
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].connection, seen[1].connection);
    assert_ne!(seen[1].connection, seen[2].connection);
    assert_eq!(seen[1].header("x-idempotency-key"), seen[2].header("x-idempotency-key"));
    assert_eq!(
        (seen[1].header("x-stainless-retry-count"), seen[2].header("x-stainless-retry-count")),
        (Some("0"), Some("0"))
    );
}

#[test]
fn a_proxy_that_refuses_is_no_connection_and_nothing_was_sent() {
    let proxy = Service::start(|_| refusal(502, &[]));
    let config = proxy.config().base_url("http://service.invalid").proxy(Proxy::Url(proxy.url())).max_retries(0);
    let error = connect(config).unwrap_err();
    assert_eq!(proxy.seen()[0].method, "CONNECT");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(!error.may_have_taken_effect());
    assert!(error.to_string().starts_with("create_session: no connection to http://service.invalid"), "{error}");
}

#[test]
fn nobody_there_is_no_connection_and_nothing_was_sent() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = tinkex::Config::builder().api_key("tml-k").base_url(format!("http://{address}")).proxy(Proxy::Off);
    let error = connect(config.max_retries(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(!error.may_have_taken_effect() && error.is_retryable());
    assert!(error.to_string().contains(&format!("no connection to http://{address}")), "{error}");
}

// ---- Time limits. They are those of the socket, in real time. ----

/// How often something is tried that a busy machine may be too slow for.
const TRIES: usize = 20;

fn assert_limit(error: &Error, limit: Limit) {
    assert_eq!(error.kind(), ErrorKind::Timeout(limit), "{error}");
    assert!(error.is_timeout() && error.is_retryable());
    assert_eq!(error.operation(), Some("create_session"));
    assert!(error.to_string().contains(limit.setting()), "{error}");
}

#[test]
fn a_proxy_that_says_nothing_is_a_connect_timeout() {
    let proxy = Service::start(|_| Reply::Silence);
    let config = proxy.config().base_url("http://service.invalid").proxy(Proxy::Url(proxy.url())).max_retries(0);
    let error = connect(config.timeout_connect(ms(100))).unwrap_err();
    assert_limit(&error, Limit::Connect);
    assert!(!error.may_have_taken_effect());
}

#[test]
fn a_body_that_nobody_reads_is_a_write_timeout() {
    let gate = Arc::new(Gate::default());
    let deaf = Arc::clone(&gate);
    let early = move |_: &Seen| {
        deaf.pass();
        Some(Reply::Close)
    };
    let service = Service::start_early(early, well);
    let error = large_session(service.config().max_retries(0).timeout_idle(ms(150))).unwrap_err();
    gate.open();
    assert_limit(&error, Limit::Write);
    assert!(error.may_have_taken_effect());
}

#[test]
fn a_server_that_does_not_begin_to_answer_is_a_wait_timeout() {
    let error = refused_session(|config| config.timeout_idle(ms(100)), || Reply::Silence);
    assert_limit(&error, Limit::Wait);
    assert!(error.may_have_taken_effect());
}

#[test]
fn an_answer_that_stops_in_the_middle_is_a_read_timeout() {
    let stop = || Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"session".into());
    // On a busy machine even the beginning may take longer than the limit.
    let mut tries = (0..TRIES).map(|_| refused_session(|config| config.timeout_idle(ms(100)), stop));
    let error = tries.find(|error| error.kind() != ErrorKind::Timeout(Limit::Wait)).unwrap();
    assert_limit(&error, Limit::Read);
    assert!(error.may_have_taken_effect());
    assert_eq!((error.status(), error.body()), (Some(200), Some("{\"session")));
}

#[test]
fn a_call_that_is_out_of_time_ends_with_the_operations_limit() {
    let service = replying([Reply::Silence]);
    let client = connect(service.config()).unwrap().timeout_operation(Some(ms(100)));
    let error = client.health().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout(Limit::Operation), Some("health")));
}

#[test]
fn a_slow_but_steady_answer_may_take_longer_than_the_idle_limit() {
    let body = json!({"session_id": "s", "info_message": "x".repeat(20)}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    // 40 pieces, 10 ms apart, are 400 ms; the limit is 200 ms.
    let pieces: Vec<_> = std::iter::once(head.into_bytes()).chain(body.bytes().map(|byte| vec![byte])).collect();
    assert!(pieces.len() >= 40);
    let service = Service::start(move |_| Reply::Slow(pieces.clone(), ms(10)));
    // On a busy machine a pause may take longer than the limit.
    let config = || service.config().max_retries(0).timeout_idle(ms(200));
    assert!((0..TRIES).any(|_| connect(config()).is_ok()));
}

#[test]
fn a_slow_but_steady_upload_may_take_longer_than_the_idle_limit() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    // The first 6 MiB in pieces of 256 KiB, 10 ms apart, are 240 ms; the limit is 200 ms.
    let service = Service::start_slow(256 << 10, ms(10), move |seen| {
        counted.store(seen.raw.len(), Ordering::Relaxed);
        well(seen)
    });
    let api = Api::new(service.config().max_retries(0).timeout_idle(ms(200)).build().unwrap()).unwrap();
    // On a busy machine a pause may take longer than the limit.
    let upload = || api.post("/api/v1/session_heartbeat").body(vec![b'x'; 10 << 20]).send();
    let answer = (0..TRIES).find_map(|_| upload().ok()).unwrap();
    assert!(answer.elapsed() > ms(200));
    assert_eq!(taken.load(Ordering::Relaxed), 10 << 20);
}

// ---- Answers that make no sense ----

fn answer(content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Full { status: 200, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
}

#[test]
fn an_answer_that_can_not_be_understood_says_why_with_status_and_first_bytes() {
    let page = "<html>\n<body>Sign in to the network</body></html>";
    let cases: [(&str, &str, &str); 5] = [
        ("application/json", "", "the answer is empty (status 200)"),
        ("application/json", " \n", "the answer is empty (status 200)"),
        ("text/html", page, "the answer is not JSON but text/html (status 200, it begins with \"<html> <body>Sign in"),
        ("application/json", "{\"status\": \"o", "the answer is not valid JSON: EOF while parsing"),
        (
            "application/json",
            "{\"status\": 7}",
            "the answer does not have the expected shape: invalid type: integer `7`",
        ),
    ];
    for (content_type, body, expected) in cases {
        let service = replying([answer(content_type, body)]);
        let error = connect(service.config()).unwrap().health().unwrap_err();
        assert_eq!((error.kind(), error.status(), error.body()), (ErrorKind::Decode, Some(200), Some(body)));
        assert!(error.to_string().starts_with(&format!("health: {expected}")), "{error}");
        assert!(error.to_string().contains("status 200") && !error.is_retryable(), "{error}");
        assert_eq!(error.header("content-type"), Some(content_type));
        assert_eq!(service.seen_at("healthz").len(), 1);
    }
}

#[test]
fn a_body_that_ends_early_is_a_lost_connection_with_status_and_first_bytes() {
    let cut = || Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"session_id\"".into());
    let error = refused_session(|config| config, cut);
    assert_eq!((error.kind(), error.status(), error.body()), (ErrorKind::Connect, Some(200), Some("{\"session_id\"")));
    assert!(error.may_have_taken_effect());
    let expected = "create_session: the connection was lost in the middle of the answer (status 200, it begins with \"{\\\"session_id\\\"\")";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_refusal_stands_although_its_body_ends_early() {
    let cut = || Reply::Raw(b"HTTP/1.1 401 No\r\nx-kept: yes\r\ncontent-length: 100\r\n\r\n{\"detail\"".into());
    let error = refused_session(|config| config, cut);
    assert_eq!((error.kind(), error.status(), error.header("x-kept")), (ErrorKind::Status, Some(401), Some("yes")));
    assert!(!error.may_have_taken_effect());
}

#[test]
fn an_answer_of_the_largest_size_is_read_and_a_larger_one_is_an_error_that_names_the_limit() {
    let body = json!({"session_id": "s", "info_message": "x".repeat(1000)}).to_string();
    let size = body.len() as u64;
    let service = Service::start(move |_| answer("application/json", body.clone()));
    connect(service.config().max_response_bytes(size)).unwrap();
    let error = connect(service.config().max_response_bytes(size - 1)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Decode, Some(200)));
    assert!(
        error.to_string().starts_with(&format!("create_session: the answer is larger than {} bytes", size - 1)),
        "{error}"
    );
    assert!(error.to_string().contains("raise max_response_bytes") && error.may_have_taken_effect(), "{error}");
    assert_eq!(error.body().unwrap().len() as u64, size - 1);
    assert_eq!(service.seen().len(), 2);
}

#[test]
fn a_result_over_the_largest_size_fails_instead_of_being_asked_for_again() {
    let service = Service::start(|seen| match seen.request_id() {
        id if id.starts_with("optim_step") => Reply::ok(json!({"metrics": {"x".repeat(1000): 1.0}})),
        _ => well(seen),
    });
    let client = connect(service.config().max_response_bytes(500)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(tinkex::types::AdamParams::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("raise max_response_bytes"), "{error}");
    assert_eq!(error.request_id(), Some("optim_step:model-0:1"));
}

#[cfg(feature = "gzip")]
#[test]
fn an_answer_may_be_compressed_and_its_limit_is_that_of_the_content() {
    // {"status":"ok"}
    let ok = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 42, 46, 73, 44, 41, 45, 86, 178, 82, 202, 207, 86, 170, 5, 0, 221,
        237, 19, 29, 15, 0, 0, 0,
    ];
    let zipped = move |body: &[u8]| {
        let headers = ["content-type", "content-encoding"].into_iter().zip(["application/json", "gzip"]);
        let headers = headers.map(|(name, value)| (name, value.to_owned())).collect();
        Reply::Full { status: 200, headers, body: body.to_vec() }
    };
    let service = replying([zipped(&ok), zipped(&ok[..20])]);
    let client = connect(service.config().max_retries(0)).unwrap();
    assert_eq!(client.health().unwrap().status, "ok");
    assert_eq!(service.seen_at("healthz")[0].header("accept-encoding"), Some("gzip"));
    // One that ends early is no answer.
    assert_eq!(client.health().unwrap_err().kind(), ErrorKind::Connect);
    let service = Service::start(move |_| zipped(&ok));
    let error = connect(service.config().max_retries(0).max_response_bytes(14)).unwrap_err();
    assert!(error.to_string().contains("the answer is larger than 14 bytes"), "{error}");
}

#[test]
fn answers_over_10_mib_are_read() {
    let service = Service::start(|_| Reply::ok(json!({"session_id": "s".repeat(11 << 20)})));
    assert_eq!(connect(service.config()).unwrap().session_id().len(), 11 << 20);
}

#[test]
fn a_peer_that_does_not_speak_http_is_said_to() {
    let error = refused_session(|config| config, || Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".into()));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().starts_with("create_session: the answer is not HTTP/1.1"), "{error}");
}

// ---- Redirects ----

#[test]
fn a_redirect_is_an_error_that_names_where_it_points_and_the_key_stays_here() {
    let other = Service::start(well);
    let location = format!("{}/api/v1/create_session?token=secret", other.url());
    for status in [301, 302, 307, 308] {
        let location = location.clone();
        let error = refused_session(
            |config| config,
            move || Reply::with_headers(status, &[("location", &location)], &json!({})),
        );
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        let message = error.to_string();
        assert!(message.contains(&format!("redirects to \"{}/api/v1/create_session\"", other.url())), "{message}");
        assert!(message.contains("base_url") && !message.contains("secret"), "{message}");
        assert!(error.header("location").unwrap().contains("secret"));
    }
    assert!(other.seen().is_empty());
}
