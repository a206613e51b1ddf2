//! Responses to submissions that are cut or replaced on the way. The same request, sent again, gets another.

use std::time::Duration;

use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SamplingParams};
use tinkex::{ErrorKind, ServiceClient};

use super::{assert_runs_once, failing, quick, server, step, trainer};
use crate::support::pass_server::{BOTH, Mishap};
use crate::support::{RecordedRequest, Reply, Service, advance_past_wait, after_waits, connect, healthy_service};

/// The wait after a damaged response, in milliseconds: no other retry follows it at once.
const SECOND: [u128; 1] = [1000];

/// Successes that are no promise.
const DAMAGED: [(&str, &[u8]); 4] = [
    ("application/json", b""),
    ("application/json", b"{\"request_id\": \"opt"),
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

#[test]
fn a_damaged_promise_is_asked_for_again() {
    for damage in DAMAGED {
        let (server, service) = server(BOTH, move |nth| (nth == 0).then(|| Mishap::Answered(damaged(damage))));
        let manual = ManualClock::new();
        let trainer = trainer(service.manual_config(&manual));
        let first = after_waits(&manual, &SECOND, || step(&trainer));
        assert_eq!((first.unwrap(), step(&trainer).unwrap()), (1.0, 2.0), "{damage:?}");
        assert_eq!(server.order(), [("optim_step", 1), ("optim_step", 2)], "{damage:?}");
        let sent = service.requests_to("optim_step");
        assert!(sent.len() == 3 && sent[0].raw == sent[1].raw);
    }
}

/// What is whole, the service means: it would come again. The same call, made once more, takes the place of the failed one, as
/// after any response that says nothing of a step.
#[test]
fn json_of_another_shape_is_final() {
    for body in [&b"{}"[..], b"{\"request_id\": []}", b"[1]"] {
        let damage = ("application/json", body);
        let (server, service) = server(BOTH, move |nth| (nth == 0).then(|| Mishap::Answered(damaged(damage))));
        let trainer = trainer(service.config());
        let error = step(&trainer).unwrap_err();
        assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Decode, true), "{error}");
        assert_eq!(service.requests_to("optim_step").len(), 1);
        assert_eq!((step(&trainer).unwrap(), step(&trainer).unwrap()), (1.0, 2.0), "{error}");
        assert_eq!(server.order(), [("optim_step", 1), ("optim_step", 2)], "{error}");
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
    for damage in [DAMAGED[0], DAMAGED[3]] {
        let repeats = |path, call: &(dyn Fn(&ServiceClient) + Sync)| {
            let (service, manual) = (damaging(path, damage), ManualClock::new());
            let client = connect(service.manual_config(&manual));
            after_waits(&manual, &SECOND, || call(&client));
            let [first, second] = &service.requests_to(path)[..] else { panic!("{path} was not sent twice") };
            let key = |request: &RecordedRequest| request.header("x-idempotency-key").unwrap().to_owned();
            assert_eq!((&first.raw, key(first)), (&second.raw, key(second)), "{path}");
        };
        let trainer =
            |client: &ServiceClient| client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let sampler = |client: &ServiceClient| client.create_sampling_client("base").unwrap();
        repeats("create_model", &|client| drop(trainer(client)));
        repeats("create_sampling_session", &|client| drop(sampler(client)));
        repeats("save_weights", &|client| drop(trainer(client).save_state("a").unwrap()));
        repeats("asample", &|client| {
            let sample = sampler(client).sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default());
            assert_eq!(sample.unwrap().sequences[0].tokens, [0]);
        });
    }
}

#[test]
fn lasting_damage_ends_with_the_window() {
    let service = Service::start(|request| match &*request.path {
        "optim_step" => damaged(DAMAGED[3]),
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
fn lasting_damage_is_asked_for_seldom() {
    let service = failing("optim_step", usize::MAX, || damaged(DAMAGED[3]));
    let manual = ManualClock::new();
    // With no wait but those of the step.
    let trainer = trainer(service.manual_config(&manual).idle_retention(Duration::from_secs(24 * 3600)));
    let pending = trainer.submit_optim_step(AdamParams::default()).unwrap();
    // All of the window's five minutes.
    for seconds in [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30] {
        advance_past_wait(&manual, 1000 * seconds..=1000 * seconds);
    }
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Decode);
    assert_eq!(service.requests_to("optim_step").len(), 14);
}

#[test]
fn a_damaged_response_without_number_is_final() {
    for damage in DAMAGED {
        let service = damaging("create_session", damage);
        let error = tinkex::ServiceClient::connect(quick(&service).build_with(|_| None).unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Decode, true), "{error}");
        assert_eq!(service.requests_to("create_session").len(), 1, "{damage:?}");
    }
}
