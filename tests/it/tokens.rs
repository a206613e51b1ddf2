//! Tokens (JWT): the exchange of the key, renewal, and the one replay after a token was refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{Config, ErrorKind, RestClient, ServiceClient};

use crate::support::golden::exchanges_2026;
use crate::support::{self, Gate, KEY, RecordedRequest, Reply, Service, advance_past_wait, connect, healthy_service};

const HOUR: u64 = 3600;

/// The token with this number, which lives this long. Its times are far from those of this machine, whose clock may be wrong.
fn token(number: u64, seconds: u64) -> String {
    let claims = json!({"iat": 4_000_000_000_u64, "exp": 4_000_000_000 + seconds, "jti": number,
        "sub": "tml:organization_user:u-1", "org_id": "o-1", "email": "golden@example.com"});
    support::token(&claims, "c2ln")
}

fn refused() -> Reply {
    let header = ("www-authenticate", "Bearer error=\"invalid_token\"");
    Reply::with_headers(401, &[header], &json!({"detail": "expired"}))
}

/// A service that wants tokens and gives ones that live this long. The script may respond first.
fn service(seconds: u64, script: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static) -> Service {
    let given = AtomicU64::new(0);
    Service::start_current(move |request| {
        if let Some(reply) = script(request) {
            return reply;
        }
        Reply::ok(match &*request.path {
            "client/config" => json!({"pjwt_auth_enabled": true}),
            "client/dynamic_config" => json!({"refresh_interval_sec": 1_000_000}),
            "auth/token" => json!({"jwt": token(given.fetch_add(1, Ordering::SeqCst), seconds)}),
            path if path.ends_with("/finish") => json!(null),
            _ => return healthy_service(request),
        })
    })
}

fn key(request: &RecordedRequest) -> String {
    request.header("x-api-key").unwrap_or_default().to_owned()
}

fn sent(service: &Service) -> Vec<(String, String)> {
    service.requests().iter().map(|request| (request.path.clone(), key(request))).collect()
}

fn with(path: &str, key: &str) -> (String, String) {
    (path.to_owned(), key.to_owned())
}

#[test]
fn requests_are_those_of_the_fixture() {
    let recorded = exchanges_2026("95_config_pjwt");
    let tokens = recorded.iter().filter_map(|exchange| exchange["response"]["json"]["jwt"].as_str());
    let tokens: Vec<String> = tokens.map(str::to_owned).collect();
    // The first and the third: the second belongs to the fixture's client without a session.
    let given: Vec<String> = vec![tokens[0].clone(), tokens[2].clone()];
    let (exchanges, steps) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let service = service(HOUR, move |request| match &*request.path {
        "auth/token" => Some(Reply::ok(json!({"jwt": given[exchanges.fetch_add(1, Ordering::SeqCst)]}))),
        "optim_step" => match steps.fetch_add(1, Ordering::SeqCst) {
            0 => Some(refused()),
            1 => None,
            _ => Some(Reply::Json(401, json!({"detail": "no"}))),
        },
        _ => None,
    });
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert_eq!((error.status(), error.body()), (Some(401), Some(r#"{"detail":"no"}"#)));
    let (first, third) = (&*tokens[0], &*tokens[2]);
    let expected = [
        ("client/config", KEY),
        ("auth/token", KEY),
        ("client/dynamic_config", first),
        ("create_session", first),
        ("create_model", first),
        ("retrieve_future", first),
        ("optim_step", first),
        ("auth/token", KEY),
        ("optim_step", third),
        ("retrieve_future", third),
        ("optim_step", third),
    ];
    let all = sent(&service);
    let all: Vec<_> = all.iter().filter(|(path, _)| path != "get_info").map(|(path, key)| (&**path, &**key)).collect();
    assert_eq!(all, expected);
    // The replay is the same request, to the last header.
    let steps = service.requests_to("optim_step");
    for name in ["x-idempotency-key", "x-stainless-retry-count"] {
        assert_eq!(steps[0].header(name), steps[1].header(name), "{name}");
    }
    assert_eq!(steps[0].raw, steps[1].raw);
    assert_eq!(service.requests_to("auth/token")[0].raw, b"{}");
}

#[test]
fn a_second_refusal_is_final() {
    let service = service(HOUR, |request| (request.path == "healthz").then(refused));
    let client = connect(service.config());
    let error = client.health().unwrap_err();
    assert_eq!((error.status(), service.requests_to("healthz").len()), (Some(401), 2));
    assert_eq!(service.requests_to("auth/token").len(), 2);
}

#[test]
fn one_exchange_serves_all_who_were_refused() {
    let all_here = Arc::<Gate>::default();
    let (waits, arrived) = (Arc::clone(&all_here), AtomicUsize::new(0));
    let old = token(0, HOUR);
    let service = service(HOUR, move |request| {
        if request.path != "healthz" || key(request) != old {
            return None;
        }
        if arrived.fetch_add(1, Ordering::SeqCst) == 7 {
            waits.open();
        }
        Some(Reply::held(&waits, refused()))
    });
    let client = connect(service.config());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.health().unwrap());
        }
    });
    assert_eq!(service.requests_to("auth/token").len(), 2);
    let fresh = service.requests_to("healthz").iter().filter(|request| key(request) == token(1, HOUR)).count();
    assert_eq!(fresh, 8);
}

#[test]
fn a_token_is_renewed_at_half_its_life() {
    let exchanges = AtomicUsize::new(0);
    let service = service(HOUR, move |request| {
        let fails = request.path == "auth/token" && exchanges.fetch_add(1, Ordering::SeqCst) == 2;
        fails.then(|| Reply::Json(503, json!({})))
    });
    let manual = ManualClock::new();
    let client = connect(service.manual_config(&manual));
    // In whole seconds.
    let between = |low: u128, high: u128, count: usize| {
        advance_past_wait(&manual, low * 1000..=high * 1000 + 999);
        service.wait_for_count("auth/token", count);
    };
    between(1620, 1980, 2);
    between(1620, 1980, 3);
    client.health().unwrap();
    assert_eq!(key(&service.requests_to("healthz")[0]), token(1, HOUR), "the old token holds");
    between(60, 60, 4);
    between(1620, 1980, 5);
}

#[test]
fn short_lived_tokens_are_exchanged_rarely() {
    let manual = ManualClock::new();
    let service = service(20, |_| None);
    let rest = RestClient::new(service.manual_config(&manual).build_with(|_| None).unwrap()).unwrap();
    assert_eq!(rest.whoami().unwrap().email.as_deref(), Some("golden@example.com"));
    for _ in 0..20 {
        rest.list_sessions(1, 0).unwrap_err();
        manual.advance(Duration::from_secs(1));
    }
    assert_eq!(service.requests_to("auth/token").len(), 2);
    assert_eq!(key(&service.requests_to("sessions?limit=1&offset=0")[19]), token(1, 20));
}

#[test]
fn a_refused_exchange_is_final() {
    let service = service(HOUR, |request| {
        (request.path == "auth/token").then(|| Reply::Json(401, json!({"detail": "unknown key"})))
    });
    let error = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(401)));
    let text = error.to_string();
    assert!(text.contains("unknown key") && text.contains("exchanged for a token"), "{text}");
    assert!(service.requests_to("create_session").is_empty());
}

#[test]
fn a_busy_exchange_is_retried() {
    let times = AtomicUsize::new(0);
    let service = service(HOUR, move |request| {
        (request.path == "auth/token" && times.fetch_add(1, Ordering::SeqCst) < 3)
            .then(|| Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({})))
    });
    let _client = connect(service.config());
    // Once for the settings that change, which are not waited for.
    assert_eq!(service.requests_to("auth/token").len(), 4);
    assert_eq!(key(&service.requests_to("create_session")[0]), token(0, HOUR));
}

#[test]
fn a_response_without_a_token_is_an_error() {
    for body in [json!({}), json!({"jwt": ""}), json!({"jwt": "a\nb"}), json!(["tml-hidden"])] {
        let service = service(HOUR, move |request| (request.path == "auth/token").then(|| Reply::ok(body.clone())));
        let error = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
    }
}

#[test]
fn a_client_without_session_asks_when_refused() {
    let expecting = token(0, HOUR);
    let service = service(HOUR, move |request| {
        let is_work = !matches!(&*request.path, "client/config" | "auth/token");
        (is_work && key(request) != expecting).then(|| Reply::Json(401, json!({"detail": "a token is needed"})))
    });
    let rest = RestClient::new(service.config().build_with(|_| None).unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(rest.list_sessions(1, 0).unwrap_err().kind(), ErrorKind::Decode);
    }
    let list = "sessions?limit=1&offset=0";
    let first = token(0, HOUR);
    assert_eq!(
        sent(&service),
        [with(list, KEY), with("client/config", KEY), with("auth/token", KEY), with(list, &first), with(list, &first)]
    );
}

#[test]
fn an_open_service_is_not_asked_again() {
    let service = Service::start_current(|request| match &*request.path {
        "client/config" => Reply::Json(404, json!({})),
        _ => Reply::Json(401, json!({"detail": "unknown key"})),
    });
    let rest = RestClient::new(service.config().build_with(|_| None).unwrap()).unwrap();
    for _ in 0..3 {
        assert_eq!(rest.list_sessions(1, 0).unwrap_err().status(), Some(401));
    }
    assert_eq!(service.requests_to("client/config").len(), 1);
}

#[test]
fn a_given_token_is_sent_as_it_is() {
    let service = service(HOUR, |_| None);
    let given = token(7, HOUR);
    let client = connect(service.config().api_key(&given));
    client.health().unwrap();
    assert!(service.requests().iter().all(|request| key(request) == given));
    assert!(service.requests_to("auth/token").is_empty());
    let whoami = client.create_rest_client().whoami().unwrap();
    assert_eq!(whoami.user_urn.as_deref(), Some("tml:organization_user:u-1"));
    assert_eq!(whoami.org_urn.as_deref(), Some("tml:organization:o-1"));
    // {"exp":1761991200}, which is in 2025.
    let expired = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NjE5OTEyMDB9.c2ln";
    let error = ServiceClient::connect(service.config().api_key(expired).build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the token from api_key has expired"), "{error}");
}

#[test]
fn without_tokens_nobody_is_known() {
    let service = Service::start(healthy_service);
    let error = RestClient::new(service.config().build_with(|_| None).unwrap()).unwrap().whoami().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Config, Some("whoami")));
}

/// A configuration of this service whose credential is what the command prints.
#[cfg(unix)]
fn printed(service: &Service, command: &str) -> Config {
    let builder = Config::builder().base_url(service.url()).proxy(tinkex::Proxy::Off).telemetry(false);
    builder.build_with(|name| (name == "TINKER_CREDENTIAL_CMD").then(|| command.to_owned())).unwrap()
}

#[cfg(unix)]
#[test]
fn a_command_prints_the_key_once() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let service = service(HOUR, |_| None);
    let command = format!("echo run >> {}; echo tml-printed", runs.display());
    let client = ServiceClient::connect(printed(&service, &command)).unwrap();
    client.health().unwrap();
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n");
    assert_eq!(sent(&service)[..2], [with("client/config", "tml-printed"), with("auth/token", "tml-printed")]);
    assert_eq!(key(&service.requests_to("healthz")[0]), token(0, HOUR));
    let error = ServiceClient::connect(printed(&service, "echo tml-hidden; exit 1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!error.is_retryable() && error.to_string().contains("failed: exit status: 1"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_refused_printed_token_is_printed_again() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    std::fs::write(folder.path().join("0"), token(0, HOUR)).unwrap();
    std::fs::write(folder.path().join("1"), token(1, HOUR)).unwrap();
    let old = token(0, HOUR);
    let service = service(HOUR, move |request| (request.path == "healthz" && key(request) == old).then(refused));
    let [folder, counter] = [folder.path(), &counter].map(|path| path.display().to_string());
    let command = format!("n=$(cat {counter} 2>/dev/null || echo 0); echo 1 > {counter}; cat {folder}/$n");
    let client = ServiceClient::connect(printed(&service, &command)).unwrap();
    client.health().unwrap();
    let keys: Vec<_> = service.requests_to("healthz").iter().map(key).collect();
    assert_eq!(keys, [token(0, HOUR), token(1, HOUR)]);
    assert!(service.requests_to("auth/token").is_empty());
}

#[cfg(unix)]
#[test]
fn a_close_ends_a_command_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let (ran, printed_token) = (folder.path().join("ran"), token(0, HOUR));
    let service = service(HOUR, |request| (request.path == "optim_step").then(refused));
    // The service refuses what it prints first, so it is run again.
    let command = format!("if [ -e {0} ]; then exec sleep 90; fi; touch {0}; echo {printed_token}", ran.display());
    let manual = ManualClock::new();
    let builder = Config::builder().base_url(service.url()).proxy(tinkex::Proxy::Off).telemetry(false);
    let builder = builder.clock(manual.clock());
    let config = builder.build_with(|name| (name == "TINKER_CREDENTIAL_CMD").then(|| command.clone())).unwrap();
    let client = ServiceClient::connect(config).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    manual.until_waiting(|waits| waits.contains(&Duration::from_secs(60)));
    let (sender, ended) = crossbeam_channel::bounded(1);
    thread::spawn(move || {
        client.close(Duration::from_secs(60));
        sender.send(step.wait().unwrap_err().kind()).unwrap();
    });
    // For half of its time the close waits for a credential to tell the service of the end.
    let half = Duration::from_secs(29)..=Duration::from_secs(30);
    manual.until_waiting(|waits| waits.iter().any(|wait| half.contains(wait)));
    manual.advance(Duration::from_secs(30));
    assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(ErrorKind::Closed));
}

#[test]
fn a_failed_exchange_says_nothing_of_the_number() {
    let (exchanges, steps) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let service = service(HOUR, move |request| match &*request.path {
        "optim_step" if steps.fetch_add(1, Ordering::SeqCst) == 0 => Some(refused()),
        "auth/token" if exchanges.fetch_add(1, Ordering::SeqCst) == 1 => Some(Reply::Json(503, json!({}))),
        _ => None,
    });
    let manual = ManualClock::new();
    let hasty = service.config().clock(manual.clock()).max_retries(0).timeout_submit(Duration::from_millis(999));
    let trainer = connect(hasty).create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert!(!error.may_have_taken_effect(), "{error}");
    trainer.optim_step(AdamParams::default()).unwrap();
    let steps = service.requests_to("optim_step");
    assert_eq!(steps.iter().map(|step| step.seq_id().unwrap()).collect::<Vec<_>>(), [1, 1]);
}
