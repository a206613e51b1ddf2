//! What is logged, and how often. The logger is global, so this binary has one test.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter};
use serde_json::json;
use support::{Reply, Service, advance_past_wait, captured_log, healthy_service};
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SamplingParams, Severity};
use tinkex::{Config, ServiceClient};

/// The lines that the library logs during this.
fn lines_of(act: impl FnOnce()) -> Vec<(Level, String)> {
    captured_log::take();
    act();
    captured_log::take_own()
}

#[test]
fn warnings_are_logged_once() {
    captured_log::start(LevelFilter::Info);

    let build = |key: &str, url: &str| drop(Config::builder().api_key(key).base_url(url).build_with(|_| None).unwrap());
    let odd_key = lines_of(|| build("sk-other", "http://127.0.0.1:1"));
    assert_eq!(odd_key.len(), 1, "{odd_key:?}");
    assert!(odd_key[0].0 == Level::Warn && odd_key[0].1.contains("tml-"), "{odd_key:?}");
    let plain_http = lines_of(|| build("tml-k", "http://192.0.2.1"));
    assert_eq!(plain_http.len(), 1, "{plain_http:?}");
    assert!(plain_http[0].0 == Level::Warn && plain_http[0].1.contains("unencrypted"), "{plain_http:?}");
    assert_eq!(lines_of(|| build("tml-k", "http://localhost:1")), []);

    let service = Service::start(|request| match request.path.as_str() {
        "create_session" => Reply::ok(json!({
            "session_id": "s",
            "info_message": "all well",
            "warning_message": "old version",
            "error_message": "out of credit",
        })),
        _ => healthy_service(request),
    });
    let silent =
        Service::start(|request| if request.path == "telemetry" { Reply::Silence } else { healthy_service(request) });
    let client = ServiceClient::connect(silent.config().telemetry(true).build_with(|_| None).unwrap()).unwrap();
    let dropped = lines_of(|| {
        for _ in 0..20_000 {
            client.telemetry().log("e", json!({}), Severity::Info);
        }
    });
    assert!(dropped.len() == 1 && dropped[0].0 == Level::Warn && dropped[0].1.contains("10000"), "{dropped:?}");
    drop(client);

    let said = lines_of(|| drop(ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap()));
    let expected = [
        (Level::Info, "the service says: all well".to_owned()),
        (Level::Warn, "the service says: old version".to_owned()),
        (Level::Error, "the service says: out of credit".to_owned()),
    ];
    assert_eq!(said, expected);

    let refused = AtomicBool::new(false);
    let service = Service::start(move |request| match request.path.as_str() {
        "asample" if !refused.swap(true, Ordering::Relaxed) => {
            Reply::with_headers(429, &[("retry-after-ms", "2")], &json!({"detail": "busy"}))
        }
        _ => healthy_service(request),
    });
    let sampler = ServiceClient::connect(service.config().build_with(|_| None).unwrap())
        .unwrap()
        .create_sampling_client("m")
        .unwrap();
    log::set_max_level(LevelFilter::Debug);
    let mut paused = lines_of(|| drop(sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default())));
    paused.retain(|(_, line)| line.contains("429") || line.contains("wait") || line.contains("retrying"));
    let expected = "sample: all sampling with this key waits for 2ms, as the service requests";
    assert_eq!(paused, [(Level::Debug, expected.to_owned())]);

    let service = Service::start(|request| {
        let note = [("x-deprecation-note", "use /v2"), ("x-deprecation-level", "error")];
        match request.path.as_str() {
            "get_server_capabilities" => Reply::with_headers(200, &note, &json!({"supported_models": []})),
            "healthz" => Reply::with_headers(200, &note[..1], &json!({"status": "ok"})),
            "asample" => Reply::with_headers(402, &[("x-deprecation-note", "ends soon")], &json!({"detail": "pay"})),
            _ => healthy_service(request),
        }
    });
    let none = std::time::Duration::ZERO;
    let client =
        ServiceClient::connect(service.config().timeout_billing(Some(none)).build_with(|_| None).unwrap()).unwrap();
    let sampler = client.create_sampling_client("m").unwrap();
    log::set_max_level(LevelFilter::Info);
    let notes = lines_of(|| {
        (0..2).for_each(|_| drop(client.get_server_capabilities().unwrap()));
        (0..2).for_each(|_| client.health().map(drop).unwrap());
        drop(sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()));
    });
    let expected = [
        (Level::Error, "get_server_capabilities: the service says: use /v2".to_owned()),
        (Level::Warn, "sample: the service says: ends soon".to_owned()),
    ];
    assert_eq!(notes, expected);
    drop((client, sampler));

    let refused = AtomicBool::new(false);
    let service = Service::start(move |request| match request.path.as_str() {
        "optim_step" if !refused.swap(true, Ordering::Relaxed) => Reply::Json(402, json!({"detail": "pay"})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let client = ServiceClient::connect(service.manual_config(&manual).build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("m", LoraConfig::default()).unwrap();
    let lines = lines_of(|| {
        let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
        advance_past_wait(&manual, 5000..=5000);
        step.wait().unwrap();
    });
    let expected = [
        (
            Level::Warn,
            "optim_step: the server returned 402: pay; check the billing of the account that the API key belongs to; \
             requests pause for up to 3600s until that is done"
                .to_owned(),
        ),
        (Level::Info, "the service accepts requests again, after a pause of 5s".to_owned()),
    ];
    assert_eq!(lines, expected);

    let service = Service::start(|request| match request.path.as_str() {
        "retrieve_future" if request.request_id().starts_with("forward:") => {
            Reply::ok(json!({"loss_fn_outputs": [], "metrics": {"loss:sum": 1.0}}))
        }
        _ => healthy_service(request),
    });
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("m", LoraConfig::default()).unwrap();
    let lines = lines_of(|| {
        (0..2).for_each(|_| drop(trainer.forward(support::batch(), LossFn::CrossEntropy).unwrap()));
    });
    let expected = "the service gives no outputs for datums: loss_fn_outputs is empty";
    assert_eq!(lines, [(Level::Warn, expected.to_owned())]);
}
