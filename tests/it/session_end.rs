//! How a session ends: what the service is told, and when.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::ServiceClient;
use tinkex::clock::Clock;
use tinkex::types::{AdamParams, FinishReason, LoraConfig};

use crate::support::golden::exchanges_2026;
use crate::support::{Gate, RecordedRequest, Reply, Service, connect, healthy_service};

const PATIENCE: Duration = Duration::from_secs(30);

const FINISH: &str = "sessions/session-1/finish";

/// A service that responds to the end of a session like this.
fn ending(finish: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Service {
    Service::start_current(move |request| match &*request.path {
        "client/config" | "client/dynamic_config" => Reply::ok(json!({})),
        FINISH => finish(request),
        _ => healthy_service(request),
    })
}

fn accepting() -> Service {
    ending(|_| Reply::no_content())
}

fn told(service: &Service) -> Vec<Value> {
    service.requests_to(FINISH).into_iter().map(|request| request.body).collect()
}

fn success() -> Value {
    json!({"reason": {"type": "success"}, "detail": null})
}

#[test]
fn requests_are_those_of_the_fixture() {
    let recorded = exchanges_2026("98_service_close");
    let recorded = recorded.iter().filter(|exchange| exchange["path"].as_str().unwrap().ends_with("/finish"));
    let recorded: Vec<_> = recorded.map(|exchange| exchange["body"]["json"].clone()).collect();
    let service = accepting();
    connect(service.config()).close(PATIENCE);
    connect(service.config()).close_with(FinishReason::Errored, Some("boom"), PATIENCE);
    assert_eq!(told(&service), recorded);
    connect(service.config()).close_with(FinishReason::Interrupted, None, PATIENCE);
    assert_eq!(told(&service)[2]["reason"], json!({"type": "interrupted"}));
}

#[test]
fn the_end_is_told_once() {
    let service = accepting();
    let client = connect(service.config());
    let clone = client.clone();
    client.close_with(FinishReason::Errored, None, PATIENCE);
    clone.close(PATIENCE);
    drop((client, clone));
    assert_eq!(told(&service), [json!({"reason": {"type": "errored"}, "detail": null})]);
}

#[test]
fn dropping_the_last_handle_is_success() {
    let service = accepting();
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    drop((client, trainer));
    step.wait().unwrap();
    // The result held the session.
    service.wait_for_count(FINISH, 1);
    assert_eq!(told(&service), [success()]);
}

#[test]
fn a_panic_ends_the_session_as_an_error() {
    let service = accepting();
    let config = service.config();
    thread::spawn(move || {
        let _client = connect(config);
        panic!("on purpose");
    })
    .join()
    .unwrap_err();
    assert_eq!(told(&service), [json!({"reason": {"type": "errored"}, "detail": null})]);
}

#[test]
fn services_without_the_request_end_all_the_same() {
    for status in [404, 405, 410, 500] {
        let service = ending(move |_| Reply::Json(status, json!({"detail": "no"})));
        connect(service.config()).close(PATIENCE);
        assert_eq!(told(&service), [success()], "{status}");
    }
}

#[test]
fn the_service_is_told_before_calls_end() {
    let told = Arc::<Gate>::default();
    let waits = Arc::clone(&told);
    let service = Service::start_current(move |request| match &*request.path {
        FINISH => Reply::held(&waits, Reply::no_content()),
        "retrieve_future" if request.request_id().starts_with("optim_step") => Reply::Silence,
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    service.wait_until(|requests| requests.iter().any(|request| request.request_id().starts_with("optim_step")));
    thread::scope(|scope| {
        let closing = scope.spawn(|| client.close(PATIENCE));
        service.wait_for_count(FINISH, 1);
        assert!(!closing.is_finished() && !step.is_ready());
        told.open();
        closing.join().unwrap();
    });
    assert_eq!(step.wait().unwrap_err().kind(), tinkex::ErrorKind::Closed);
}

/// In real time: 50 ms.
#[test]
fn a_silent_service_delays_no_drop() {
    let service = ending(|_| Reply::Silence);
    let client =
        ServiceClient::connect(service.config().timeout_drop(Duration::from_millis(100)).build_with(|_| None).unwrap());
    let clock = Clock::system();
    let dropped = clock.now();
    drop(client.unwrap());
    assert!(clock.now() - dropped < PATIENCE / 2);
    assert_eq!(told(&service), [success()]);
}
