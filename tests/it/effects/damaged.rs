//! Responses to submissions that are cut or replaced on the way. The same request, sent again, gets another.

use std::time::Duration;

use tinkex::ErrorKind;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SamplingParams};

use super::{assert_runs_once, failing, quick, server, step, trainer};
use crate::support::pass_server::{BOTH, Mishap};
use crate::support::{RecordedRequest, Reply, Service, advance_past_wait, connect, healthy_service};

/// Successes that are no promise.
const DAMAGED: [(&str, &[u8]); 7] = [
    ("application/json", b""),
    ("application/json", b"{\"request_id\": \"opt"),
    ("application/json", b"{}"),
    ("application/json", b"{\"request_id\": []}"),
    ("application/json", b"[1]"),
    ("application/json", b"\xff\xfe{}"),
    ("text/html", b"<html>Sign in to the network</html>"),
];

fn damaged((kind, body): (&'static str, &[u8])) -> Reply {
    Reply::typed(kind, body)
}

/// A service that damages the first response to this path.
fn damaging(path: &'static str, damage: (&'static str, &'static [u8])) -> Service {
    failing(path, 1, move || damaged(damage))
}

/// Asserts that a request was sent twice, unchanged.
fn assert_repeated(service: &Service, path: &str) {
    let [first, second] = &service.requests_to(path)[..] else { panic!("{path} was not sent twice") };
    let key = |request: &RecordedRequest| request.header("x-idempotency-key").unwrap().to_owned();
    assert_eq!((&first.raw, key(first)), (&second.raw, key(second)), "{path}");
}

#[test]
fn a_damaged_promise_is_asked_for_again() {
    for damage in DAMAGED {
        let (server, service) = server(BOTH, move |nth| (nth == 0).then(|| Mishap::Answered(damaged(damage))));
        let trainer = trainer(quick(&service));
        assert_eq!((step(&trainer).unwrap(), step(&trainer).unwrap()), (1.0, 2.0), "{damage:?}");
        assert_eq!(server.order(), [("optim_step", 1), ("optim_step", 2)], "{damage:?}");
        let sent = service.requests_to("optim_step");
        assert!(sent.len() == 3 && sent[0].raw == sent[1].raw);
    }
}

#[test]
fn a_step_of_a_damaged_promise_runs_once() {
    assert_runs_once(damaged(DAMAGED[0]));
}

#[test]
fn every_submission_is_asked_for_again() {
    for damage in [DAMAGED[0], DAMAGED[6]] {
        let service = damaging("create_model", damage);
        connect(quick(&service)).create_lora_training_client("base", LoraConfig::default()).unwrap();
        assert_repeated(&service, "create_model");

        let service = damaging("create_sampling_session", damage);
        connect(quick(&service)).create_sampling_client("base").unwrap();
        assert_repeated(&service, "create_sampling_session");

        let service = damaging("save_weights", damage);
        trainer(quick(&service)).save_state("a").unwrap();
        assert_repeated(&service, "save_weights");

        let service = damaging("asample", damage);
        // A sample is retried in rounds of the submit window, which wait for a second.
        let manual = ManualClock::new();
        let sampler = connect(service.manual_config(&manual)).create_sampling_client("base").unwrap();
        let sample = sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap();
        advance_past_wait(&manual, 1000..=1000);
        assert_eq!(sample.wait().unwrap().sequences[0].tokens, [0]);
        assert_repeated(&service, "asample");
    }
}

#[test]
fn lasting_damage_ends_with_the_window() {
    let service = Service::start(|request| match &*request.path {
        "optim_step" => damaged(DAMAGED[6]),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).max_retries(0).timeout_submit(Duration::from_millis(1500));
    let trainer = trainer(config);
    let pending = trainer.submit_optim_step(AdamParams::default()).unwrap();
    advance_past_wait(&manual, 1000..=1000);
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Decode, true), "{error}");
    let expected = "optim_step: the response is not JSON but text/html (status 200";
    assert!(error.to_string().starts_with(expected) && error.to_string().contains("timeout_submit"), "{error}");
    assert_eq!(service.requests_to("optim_step").len(), 2);
}

#[test]
fn a_damaged_response_without_number_is_final() {
    for damage in DAMAGED {
        let service = damaging("create_session", damage);
        let error = tinkex::ServiceClient::connect(quick(&service).build().unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Decode, true), "{error}");
        assert_eq!(service.requests_to("create_session").len(), 1, "{damage:?}");
    }
}
