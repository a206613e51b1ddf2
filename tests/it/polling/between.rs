//! Polls whose response is not the service's: damaged on the way, or written by something in front of it.

use std::error::Error as _;

use crossbeam_channel::Receiver;
use tinkex::types::{ModelInput, SamplingParams};
use tinkex::{Error, Event};

use super::*;

/// The first two waits after failures, in milliseconds.
const WAITS: [std::ops::RangeInclusive<u128>; 2] = [375..=500, 750..=1000];

const PAGE: &[u8] = b"<html>Sign in to the network</html>";

/// Successes that are no result.
const DAMAGED: [(&str, &[u8]); 8] = [
    ("application/json", b""),
    ("application/json", b" \n"),
    ("application/json", b"{\"metrics\": {\"step\""),
    ("application/json", b"\xff\xfe{}"),
    ("application/json", b"\xff\xfe{\0}\0"),
    ("application/json", b"\0\0\0\0"),
    ("application/octet-stream", b"\x0a\x02ok"),
    ("text/html", PAGE),
];

/// Statuses whose meaning depends on who wrote them.
const REFUSALS: [u16; 5] = [401, 403, 404, 405, 410];

fn page(status: u16) -> Reply {
    Reply::Full { status, headers: vec![("content-type", "text/html".to_owned())], body: PAGE.to_vec() }
}

/// A service whose first polls of a step or sample get this response.
fn service(polls: u32, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Service {
    service_with_polls(move |request| match request.iteration() {
        Some(iteration) if iteration < polls && !request.request_id().starts_with("create") => reply(),
        _ => result(request.request_id()),
    })
}

/// A step whose first two polls get this response. Returns its number, and the failures of its polls.
fn step_after(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (f64, Receiver<Error>) {
    let (service, manual) = (service(2, reply), ManualClock::new());
    let (sender, failures) = unbounded();
    let client = connect(service.manual_config(&manual).observer(move |event: &Event| {
        if let Event::PollFailed { error, .. } = event {
            sender.send(error.clone()).unwrap();
        }
    }));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    WAITS.into_iter().for_each(|wait| advance_past_wait(&manual, wait));
    let response = step.wait().unwrap();
    assert_eq!(service.requests_to("optim_step").len(), 1);
    assert_eq!(polls_of(&service, "optim_step:model-0:1").len(), 3);
    (response.metrics.unwrap()["step"], failures)
}

#[test]
fn a_damaged_result_is_asked_for_again() {
    for (kind, body) in DAMAGED {
        let (step, failures) = step_after(move || Reply::typed(kind, body));
        assert_eq!(step, 1.0, "{kind} {body:?}");
        let failures: Vec<_> = failures.try_iter().map(|error| (error.kind(), error.status())).collect();
        assert_eq!(failures, [(ErrorKind::Decode, Some(200)); 2], "{kind} {body:?}");
    }
}

#[test]
fn encodings_nobody_asked_for_are_damage() {
    let bodies: [(&str, &[u8]); 3] = [
        ("zstd", b"\x28\xb5\x2f\xfd\x04\x00\x61\x00\x00{\"metrics\": {}}"),
        ("br", b"\x0b\x02\x80{\"a\":1}\x03"),
        ("zstd", b"\x28\xb5\x2f\xfd\xe4\xff\xff\xff\xff"),
    ];
    for (encoding, body) in bodies {
        let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
        let headers = headers.map(|(name, value)| (name, value.to_owned()));
        let (step, _) =
            step_after(move || Reply::Full { status: 200, headers: headers.clone().into(), body: body.into() });
        assert_eq!(step, 1.0, "{encoding} {body:?}");
    }
}

#[test]
fn damage_within_a_large_result_is_no_result() {
    let numbers = "0.5,".repeat(1 << 15);
    let (step, _) = step_after(move || {
        Reply::typed("application/json", format!(r#"{{"metrics":{{"step":}},"rest":[{numbers}1]}}"#))
    });
    assert_eq!(step, 1.0);
}

#[test]
fn lasting_damage_ends_with_timeout_progress() {
    let (service, manual) = (service(u32::MAX, || Reply::typed("text/html", PAGE)), ManualClock::new());
    let client = connect(service.manual_config(&manual).timeout_progress(SECOND));
    let waiting = client.pending::<OptimStepResponse>("optim_step:m:4", RequestKind::OptimStep);
    WAITS.into_iter().for_each(|wait| advance_past_wait(&manual, wait));
    let error = waiting.wait().unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Timeout(Limit::Progress), Some("optim_step:m:4")));
    assert!(error.may_have_taken_effect() && error.message().contains("not JSON but text/html"), "{error}");
    let source = error.source().and_then(|source| source.downcast_ref::<Error>()).unwrap();
    assert_eq!((source.kind(), source.status()), (ErrorKind::Decode, Some(200)), "{source}");
    assert_eq!(source.body().map(str::as_bytes), Some(PAGE));
}

#[test]
fn a_gateways_refusal_is_no_word() {
    for status in REFUSALS.into_iter().chain([302]) {
        let (step, failures) = step_after(move || page(status));
        assert_eq!(step, 1.0, "{status}");
        let failures: Vec<_> = failures.try_iter().map(|error| error.status()).collect();
        assert_eq!(failures, [Some(status); 2]);
    }
    for (status, body) in [(404, json!({"detail": "Not Found"})), (405, json!({"message": "no route"}))] {
        assert_eq!(step_after(move || Reply::Json(status, body.clone())).0, 1.0);
    }
}

#[test]
fn the_services_own_refusal_is_final() {
    for status in REFUSALS {
        let service = service(1, move || Reply::Json(status, json!({"detail": "there is no such request"})));
        let client = connect(service.config());
        let error = pending(&client, "r-1").wait().unwrap_err();
        let kind = if status == 410 { ErrorKind::Expired } else { ErrorKind::Status };
        assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{error}");
        assert_eq!(polls_of(&service, "r-1").len(), 1);
    }
}

/// Whoever checks the key, another poll will not change it.
#[test]
fn a_refused_key_is_final() {
    for (status, body) in [(401, json!({"message": "Invalid API key"})), (403, json!({"error": "no such project"}))] {
        let service = service(1, move || Reply::Json(status, body.clone()));
        let error = pending(&connect(service.config()), "r-1").wait().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)), "{error}");
    }
}

#[test]
fn a_gateways_410_runs_no_sample_twice() {
    let (service, manual) = (service(2, || page(410)), ManualClock::new());
    let sampler = connect(service.manual_config(&manual)).create_sampling_client("base").unwrap();
    let sample = sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap();
    WAITS.into_iter().for_each(|wait| advance_past_wait(&manual, wait));
    assert_eq!(sample.wait().unwrap().sequences.len(), 1);
    assert_eq!(service.requests_to("asample").len(), 1);
}

#[test]
fn a_408_without_a_word_is_no_progress() {
    // The waits after early responses: 100, 200, 400 and 800 ms, and up to a quarter less.
    let waits = [75..=100, 150..=200, 300..=400, 600..=800];
    for body in ["", "<html>", "{}", r#"{"detail":"Request Timeout"}"#] {
        let reply = move || Reply::Full { status: 408, headers: Vec::new(), body: body.into() };
        let (service, manual) = (service(u32::MAX, reply), ManualClock::new());
        let client = connect(service.manual_config(&manual).timeout_progress(SECOND));
        let waiting = pending(&client, "r-1");
        waits.iter().for_each(|wait| advance_past_wait(&manual, wait.clone()));
        let error = waiting.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Progress), "{body}");
        assert!(error.message().contains("408 Request Timeout"), "{error}");
    }
    for body in [json!({"queue_state": "active"}), json!({"detail": "Timeout waiting for result"})] {
        let (service, manual) = (service(5, move || Reply::Json(408, body.clone())), ManualClock::new());
        let client = connect(service.manual_config(&manual).timeout_progress(SECOND));
        let waiting = client.pending::<OptimStepResponse>("optim_step:m:4", RequestKind::OptimStep);
        waits.iter().chain([&(1200..=1600)]).for_each(|wait| advance_past_wait(&manual, wait.clone()));
        assert_eq!(waiting.wait().unwrap().metrics.unwrap()["step"], 4.0);
    }
}
