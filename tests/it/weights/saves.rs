//! Saves: what is checked before a request, what is sent only if it is set, and a name that is taken.

use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{
    AdamParams, ExternalSaveOptions, LoadOptions, LoraConfig, SamplerKind, SamplerSaveOptions, SaveOptions,
};
use tinkex::{ErrorKind, Result};

use super::{last_body, trainer};
use crate::support::{Reply, Service, advance_past_wait, connect, healthy_service};

const HOUR: Duration = Duration::from_secs(3600);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

#[test]
fn bad_options_are_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let before = service.requests().len();
    let (short, long) = (HOUR - Duration::from_secs(1), TEN_YEARS + Duration::from_secs(1));
    let errors = [
        ("save_state", trainer.save_state(" ").map(drop)),
        ("save_state", trainer.save_state(SaveOptions::new("a").ttl(short)).map(drop)),
        ("save_weights_for_sampler", trainer.save_weights_for_sampler("").map(drop)),
        (
            "save_weights_for_sampler",
            trainer.save_weights_for_sampler(SamplerSaveOptions::new("a").ttl(long)).map(drop),
        ),
        ("save_weights_external", trainer.save_weights_external("").map(drop)),
        ("save_weights_external", trainer.save_weights_external(ExternalSaveOptions::new("a").ttl(long)).map(drop)),
        (
            "save_weights_external",
            trainer.submit_save_weights_external(ExternalSaveOptions::new("a").age_encryption_recipient(" ")).map(drop),
        ),
        ("load_state", trainer.load_state("weights/a").map(drop)),
        ("load_state_with_optimizer", trainer.submit_load_state_with_optimizer("").map(drop)),
    ];
    for (operation, result) in errors {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some(operation)), "{error}");
    }
    assert_eq!(service.requests().len(), before);
    trainer.save_state(SaveOptions::new("a").ttl(TEN_YEARS)).unwrap();
    assert_eq!(last_body(&service, "save_weights")["ttl_seconds"], json!(TEN_YEARS.as_secs()));
}

#[test]
fn unset_options_are_not_sent() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    trainer.save_state("a").unwrap();
    assert_eq!(last_body(&service, "save_weights"), json!({"model_id": "model-0", "path": "a", "seq_id": 1}));
    trainer.save_weights_for_sampler("b".to_owned()).unwrap();
    let body = json!({"model_id": "model-0", "path": "b", "seq_id": 2});
    assert_eq!(last_body(&service, "save_weights_for_sampler"), body);
    let name = String::from("c");
    let exported = trainer.save_weights_external(&name).unwrap();
    assert_eq!((exported.path.as_str(), exported.size_bytes), ("tinker://run/external_weights/a", Some(7)));
    assert_eq!(last_body(&service, "save_weights_external"), json!({"model_id": "model-0", "path": "c", "seq_id": 3}));
    trainer.save_weights_and_get_sampling_client_with(SamplerKind::Snapshot).unwrap();
    let body = json!({"model_id": "model-0", "sampling_session_seq_id": 0, "seq_id": 4});
    assert_eq!(last_body(&service, "save_weights_for_sampler"), body);
    // `optimizer` alone is always sent: servers of today require it, or take true for granted.
    trainer.load_state("tinker://x/a").unwrap();
    let body = json!({"model_id": "model-0", "path": "tinker://x/a", "optimizer": false, "seq_id": 5});
    assert_eq!(last_body(&service, "load_weights"), body);
    let kinds = service.requests_to("retrieve_future").into_iter().filter_map(|poll| {
        poll.header("x-tinker-request-type").map(str::to_owned).filter(|kind| kind.starts_with("Save"))
    });
    let expected = ["SaveWeights", "SaveWeightsForSampler", "SaveWeightsExternal", "SaveWeightsForSampler"];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

/// 0.38.0 repeats a name that is taken for five minutes, and holds up every later call for that time.
#[test]
fn a_taken_name_fails_within_seconds() {
    let service = Service::start(|request| match request.path.as_str() {
        "save_weights" if request.body["path"] == "taken" => {
            Reply::Json(409, json!({"detail": "checkpoint taken already exists"}))
        }
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let client = connect(service.manual_config(&manual));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let saved = trainer.submit_save_state("taken").unwrap();
    let step = trainer.submit_optim_step(AdamParams::new()).unwrap();
    for wait in [300..=500, 700..=1000] {
        advance_past_wait(&manual, wait);
    }
    let error = saved.wait().unwrap_err();
    assert_eq!(
        (error.status(), error.operation(), error.may_have_taken_effect()),
        (Some(409), Some("save_state"), false)
    );
    let message = error.to_string();
    assert!(message.contains("already exists") && message.contains("another name"), "{message}");
    step.wait().unwrap();
    assert_eq!(service.requests_to("save_weights").len(), 3);
}

#[test]
fn tokens_are_not_printed() -> Result<()> {
    let service = Service::start(healthy_service);
    let client = super::client(&service);
    let options = LoadOptions::new("tinker://run/weights/a").weights_access_token("a-secret");
    let builder = client.training_client().from_state("tinker://run/weights/a").weights_access_token("a-secret");
    for text in [format!("{options:?}"), format!("{builder:?}")] {
        assert!(text.contains("tinker://run/weights/a") && !text.contains("a-secret"), "{text}");
    }
    trainer(&service).load_state(options)?;
    assert_eq!(last_body(&service, "load_weights")["weights_access_token"], "a-secret");
    Ok(())
}
