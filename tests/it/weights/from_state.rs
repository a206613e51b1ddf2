//! Training clients from a saved state: where the base model and the rank come from, and what replaces them.

use serde_json::{Value, json};
use tinkex::types::DimuonOptimizerConfig;
use tinkex::{ErrorKind, TrainingClientBuilder};

use super::{client, last_body};
use crate::support::{Reply, Service, healthy_service};

/// A service that knows one training run, and describes weights at any path.
fn service(weights: Value) -> Service {
    Service::start(move |request| match request.path.as_str() {
        "training_runs/run" => Reply::ok(json!({
            "training_run_id": "run", "base_model": "of-run", "model_owner": "me", "is_lora": true, "lora_rank": 8,
            "last_request_time": "2026-01-01T00:00:00Z", "user_metadata": {"k": "v"}
        })),
        "weights_info" => Reply::ok(weights.clone()),
        _ => healthy_service(request),
    })
}

fn lora() -> Value {
    json!({"base_model": "of-weights", "is_lora": true, "lora_rank": 4})
}

fn builder(service: &Service) -> TrainingClientBuilder {
    client(service).training_client()
}

#[test]
fn the_callers_options_replace_the_checkpoints() {
    let service = service(lora());
    let from = builder(&service).from_state("tinker://run/weights/a").base_model("mine").user_metadata("x", "y");
    let trainer = from.optimizer_config(DimuonOptimizerConfig::new()).create().unwrap();
    let expected = json!({
        "session_id": "session-1", "model_seq_id": 0, "base_model": "mine", "user_metadata": {"k": "v", "x": "y"},
        "lora_config": {"rank": 8, "train_unembed": true, "train_mlp": true, "train_attn": true},
        "optimizer_config": {"type": "dimuon", "version": 1},
    });
    assert_eq!(last_body(&service, "create_model"), expected);
    let expected =
        json!({"model_id": trainer.model_id(), "path": "tinker://run/weights/a", "optimizer": false, "seq_id": 1});
    assert_eq!(last_body(&service, "load_weights"), expected);
}

/// `tinker://MODEL/NAME` and other schemes: paths that only the server can take apart.
#[test]
fn any_path_that_a_server_gave_is_loaded() {
    for path in ["tinker://model-7/0001", "tinker://run/checkpoints/a"] {
        let service = service(json!({
            "base_model": "of-weights", "is_lora": true, "lora_rank": 4, "train_unembed": false,
            "optimizer_config": {"type": "dimuon", "version": 1}
        }));
        builder(&service).from_state(path).with_optimizer().create().unwrap();
        assert_eq!(last_body(&service, "weights_info"), json!({"tinker_path": path}));
        let created = last_body(&service, "create_model");
        assert_eq!((&created["base_model"], &created["lora_config"]["rank"]), (&json!("of-weights"), &json!(4)));
        assert_eq!(created["lora_config"]["train_unembed"], false);
        assert_eq!(created["optimizer_config"]["type"], "dimuon");
        let loaded = last_body(&service, "load_weights");
        assert_eq!((&loaded["path"], &loaded["optimizer"]), (&json!(path), &json!(true)));
    }
}

#[test]
fn weights_without_an_adapter_are_refused() {
    let service = service(json!({"base_model": "of-weights", "is_lora": false}));
    let error = builder(&service).from_state("tinker://model-7/0001").create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(service.requests_to("create_model").is_empty());
}

#[test]
fn the_id_in_a_load_response_wins() {
    let service = Service::start(|request| match request.request_id() {
        "" => healthy_service(request),
        _ => Reply::ok(json!({"path": "tinker://run/weights/a", "model_id": "chosen"})),
    });
    let shared = builder(&service).from_state("tinker://run/weights/a").weights_access_token("token");
    let trainer = shared.create().unwrap();
    assert_eq!(trainer.model_id(), "chosen");
    // The load has no number: the first training request has 1.
    trainer.save_state("a").unwrap();
    assert_eq!(service.requests_to("save_weights")[0].seq_id(), Some(1));
    let kind = service.requests_to("retrieve_future")[0].header("x-tinker-request-type").map(str::to_owned);
    assert_eq!(kind.as_deref(), Some("LoadWeights"));
}
