//! Submissions that are refused for a while, and cancelled between two attempts.

use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{LoraConfig, ModelInput, SamplingParams};
use tinkex::{ErrorKind, Limit};

use super::{failing, step, trainer};
use crate::support::pass_server::lost;
use crate::support::{RecordedRequest, Reply, Service, advance_past_wait, connect, healthy_service};

fn busy() -> Reply {
    Reply::Json(503, json!({"detail": "starting"}))
}

fn numbers(service: &Service, path: &str) -> Vec<u64> {
    service.requests_to(path).iter().map(|request| request.seq_id().unwrap()).collect()
}

#[test]
fn a_model_is_created_within_its_window() {
    let manual = ManualClock::new();
    let service = failing("create_model", 5, busy);
    let client = connect(service.manual_config(&manual).max_retries(1));
    let pending = client.training_client().lora("base").options(LoraConfig::default()).submit().unwrap();
    // Rounds of one retry each, with 1, 2 … s in between.
    for millis in [375..=500, 1000..=1000, 375..=500, 2000..=2000, 375..=500] {
        advance_past_wait(&manual, millis);
    }
    assert_eq!(pending.wait().unwrap().model_id(), "model-0");
    let sent = service.requests_to("create_model");
    let key = |request: &RecordedRequest| request.header("x-idempotency-key").unwrap().to_owned();
    assert!(
        sent.len() == 6 && sent.iter().all(|request| (&request.raw, key(request)) == (&sent[0].raw, key(&sent[0])))
    );
}

#[test]
fn a_model_is_given_up_after_its_window() {
    let manual = ManualClock::new();
    let service = failing("create_model", usize::MAX, busy);
    let client = connect(service.manual_config(&manual).max_retries(0).timeout_submit(Duration::from_secs(2)));
    let pending = client.training_client().lora("base").options(LoraConfig::default()).submit().unwrap();
    advance_past_wait(&manual, 1000..=1000);
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(503)), "{error}");
    assert!(error.may_have_taken_effect() && error.to_string().contains("timeout_submit"), "{error}");
}

#[test]
fn creation_ends_with_the_operation() {
    let manual = ManualClock::new();
    let service = failing("create_model", usize::MAX, busy);
    let config = service.manual_config(&manual).max_retries(0).timeout_operation(Some(Duration::from_millis(1500)));
    let client = connect(config);
    let created = std::thread::spawn(move || client.create_lora_training_client("base", LoraConfig::default()));
    advance_past_wait(&manual, 1000..=1000);
    let error = created.join().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Timeout(Limit::Operation), true), "{error}");
}

#[test]
fn a_step_given_up_between_attempts_stays_open() {
    let manual = ManualClock::new();
    let service = failing("optim_step", 1, lost);
    let trainer = trainer(service.manual_config(&manual));
    let pending = trainer.submit_optim_step(tinkex::types::AdamParams::default()).unwrap();
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| (375..=500).contains(&wait.as_millis())));
    pending.cancel();
    // The lost step is sent once more, before the one that follows.
    assert_eq!(trainer.save_state("a").unwrap().path, "tinker://run/weights/a");
    assert_eq!((numbers(&service, "optim_step"), numbers(&service, "save_weights")), (vec![1, 1], vec![2]));
    assert_eq!(step(&trainer).unwrap(), 3.0);
}

#[test]
fn a_sample_cancelled_between_attempts_keeps_its_number() {
    let manual = ManualClock::new();
    let service = failing("asample", 1, lost);
    let sampler = connect(service.manual_config(&manual)).create_sampling_client("base").unwrap();
    let sample = || sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap();
    let first = sample();
    manual.until_waiting(|waits| waits.contains(&Duration::from_secs(1)));
    first.cancel();
    assert_eq!(sample().wait().unwrap().sequences[0].tokens, [1]);
    assert_eq!(numbers(&service, "asample"), [0, 1]);
}

#[test]
fn a_saved_sampler_opens_its_own_session() {
    for (result, opens) in [(json!({"path": "tinker://run/sampler_weights/a"}), true), (json!({}), false)] {
        let service = Service::start(move |request| match request.request_id() {
            id if id.starts_with("save_weights_for_sampler") => Reply::ok(result.clone()),
            _ => healthy_service(request),
        });
        let saved = trainer(service.config()).save_weights_and_get_sampling_client();
        match saved {
            Ok(sampler) => assert!(opens && sampler.sampling_session_id().starts_with("sampler-")),
            Err(error) => assert!(!opens && error.kind() == ErrorKind::Decode, "{error}"),
        }
        let opened = service.requests_to("create_sampling_session");
        assert_eq!(opened.len(), usize::from(opens));
        assert!(opened.iter().all(|request| request.body["model_path"] == "tinker://run/sampler_weights/a"));
    }
}
