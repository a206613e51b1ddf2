//! Scenarios of the Python client 0.4.1, replayed through the clients: the requests, their order and the headers of the polls.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use serde_json::Value;
use support::{Reply, Service};
use tinkex::types::{LoraConfig, UnloadModelResponse};
use tinkex::{ErrorKind, ServiceClient, TrainingClient};

/// What the crate writes besides, on purpose.
const BESIDES: [&str; 5] = ["type", "learning_rate", "beta1", "beta2", "eps"];

struct Scenario {
    exchanges: Vec<Value>,
    service: Service,
}

impl Scenario {
    /// A service that gives the answers of a scenario.
    fn start(name: &str) -> Self {
        let path = format!("{}/tests/golden/v0.4.1/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let mut fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let Value::Array(exchanges) = fixture["exchanges"].take() else { panic!("{name} has no exchanges") };
        let mut answers = HashMap::<String, Vec<Value>>::new();
        for exchange in exchanges.iter().rev() {
            answers.entry(path_of(exchange)).or_default().push(exchange["response"].clone());
        }
        let answers = Mutex::new(answers);
        let service = Service::start(move |seen| {
            let answer = answers.lock().unwrap().get_mut(&seen.path).and_then(Vec::pop);
            let answer = answer.unwrap_or_else(|| panic!("{} is not asked once more in the scenario", seen.path));
            Reply::Json(u16::try_from(answer["status"].as_u64().unwrap()).unwrap(), answer["json"].clone())
        });
        Scenario { exchanges, service }
    }

    fn connect(&self) -> ServiceClient {
        ServiceClient::connect(self.service.config().build().unwrap()).unwrap()
    }

    fn trainer(&self) -> TrainingClient {
        self.connect().create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap()
    }

    /// Compares all requests so far with the first of the scenario, and returns how many those are.
    fn compare(&self) -> usize {
        let seen = self.service.seen();
        for (index, (ours, theirs)) in seen.iter().zip(&self.exchanges).enumerate() {
            assert_eq!((&*ours.method, &ours.path), (theirs["method"].as_str().unwrap(), &path_of(theirs)), "{index}");
            let mut besides = BTreeSet::new();
            compare(&ours.body, &theirs["body"]["json"], &format!("{index} {}", ours.path), &mut besides);
            assert!(besides.iter().all(|key| BESIDES.contains(&&**key)), "{index} {}: {besides:?}", ours.path);
            for name in ["x-tinker-request-iteration", "x-tinker-request-type"] {
                assert_eq!(ours.header(name), theirs["headers"][name].as_str(), "{index} {}: {name}", ours.path);
            }
            let name = "x-tinker-create-promise-roundtrip-time";
            assert_eq!(ours.header(name).is_some(), theirs["headers"][name].is_string(), "{index} {}", ours.path);
        }
        seen.len()
    }

    /// Asserts that the whole scenario was played.
    fn is_played(&self) {
        assert_eq!(self.compare(), self.exchanges.len());
    }
}

fn path_of(exchange: &Value) -> String {
    exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/").to_owned()
}

/// Asserts that `ours` has all that `theirs` has, and collects the keys that it has besides.
fn compare(ours: &Value, theirs: &Value, place: &str, besides: &mut BTreeSet<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, theirs) in theirs {
                let ours = ours.get(key).unwrap_or_else(|| panic!("{place}.{key} is missing"));
                compare(ours, theirs, &format!("{place}.{key}"), besides);
            }
            besides.extend(ours.keys().filter(|key| !theirs.contains_key(*key)).cloned());
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{place}");
            ours.iter().zip(theirs).for_each(|(ours, theirs)| compare(ours, theirs, place, besides));
        }
        // float32: our digits are the shortest that read back to the same f32.
        (Value::Number(ours), Value::Number(theirs)) => {
            assert_eq!(ours.as_f64().unwrap() as f32, theirs.as_f64().unwrap() as f32, "{place}");
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}

#[test]
fn scenario_12_info_and_unload() {
    let scenario = Scenario::start("12_get_info_unload");
    let trainer = scenario.trainer();
    let info = trainer.get_info().unwrap();
    assert_eq!((info.model_id.as_str(), info.lora_rank), (trainer.model_id(), Some(32)));
    let UnloadModelResponse { model_id, .. } = trainer.unload_model().unwrap();
    assert_eq!(model_id, trainer.model_id());
    scenario.is_played();
}

#[test]
fn scenario_30_weights() {
    let scenario = Scenario::start("30_weights");
    let service = scenario.connect();
    let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    let saved = trainer.save_state("ckpt-1").unwrap().path;
    assert_eq!(trainer.load_state(&saved).unwrap().path, Some(saved));
    let saved = trainer.save_weights_for_sampler("samp-1").unwrap().path;
    for number in [0, 1] {
        let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
        assert_eq!(sampler.sampling_session_id(), format!("sess-golden-0001:sample:{number}"));
    }
    let sampler = service.create_sampling_client(&saved).unwrap();
    assert_eq!(sampler.sampling_session_id(), "sess-golden-0001:sample:2");
    assert_eq!(service.create_sampling_client("http://x/y").unwrap_err().kind(), ErrorKind::InvalidInput);
    scenario.is_played();
}

fn metadata() -> BTreeMap<String, String> {
    [("k", "override"), ("x", "y")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

#[test]
fn scenario_31_a_training_client_from_a_state_blocking_and_submitted() {
    for submitted in [false, true] {
        let scenario = Scenario::start("31_training_client_from_state");
        let (service, path) = (scenario.connect(), "tinker://run-golden/weights/0001");
        let trainer = if submitted {
            service.submit_create_training_client_from_state(path, &metadata()).unwrap().wait().unwrap()
        } else {
            service.create_training_client_from_state(path, &metadata()).unwrap()
        };
        assert_eq!(trainer.model_id(), "sess-golden-0001:train:0");
        for path in ["tinker://x/y", "x/weights/y", "tinker:///weights/a", "tinker://x/weights/"] {
            let error = service.create_training_client_from_state(path, &metadata()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
            assert_eq!(error.operation(), Some("create_training_client_from_state"));
            assert!(service.submit_create_training_client_from_state(path, &metadata()).is_err(), "{path}");
        }
        scenario.is_played();
    }
}

#[test]
fn with_the_optimizer_the_same_is_asked_and_the_load_says_so() {
    let scenario = Scenario::start("31_training_client_from_state");
    let service = scenario.connect();
    let path = "tinker://run-golden/weights/0001";
    drop(service.create_training_client_from_state_with_optimizer(path, &BTreeMap::new()).unwrap());
    let loads = scenario.service.seen_at("load_weights");
    assert_eq!((loads.len(), &loads[0].body["optimizer"], loads[0].seq_id()), (1, &Value::Bool(true), Some(1)));
    let created = &scenario.service.seen_at("create_model")[0].body;
    assert_eq!(created["user_metadata"], serde_json::json!({"k": "v"}), "the run's own");
}

#[cfg(feature = "ndarray")]
#[test]
fn scenario_27_a_custom_loss_is_a_forward_and_a_weighted_cross_entropy() {
    use tinkex::CustomLoss;
    use tinkex::types::{AdamParams, Datum, LossFn, ModelInput};
    let scenario = Scenario::start("27_fwdbwd_custom");
    let trainer = scenario.trainer();
    let datum = |tokens: &[u32], targets: &[i64], weights: &[f32]| {
        let datum = Datum::new(ModelInput::from_tokens(tokens)).input("target_tokens", targets).unwrap();
        datum.input("weights", weights).unwrap()
    };
    let data = [datum(&[10, 11, 12], &[11, 12, 13], &[0.0, 1.0, 1.0]), datum(&[30, 31], &[31, 32], &[0.0, 1.0])];
    let output = trainer.forward_backward_custom(data, |data, logprobs| {
        assert_eq!((data.len(), logprobs[0].as_slice()), (2, Some(&[-0.1_f32, -0.2, -0.3][..])));
        let loss = f64::from(logprobs.iter().flatten().map(|logprob| logprob * logprob).sum::<f32>());
        let gradients = logprobs.iter().map(|logprobs| logprobs * 2.0).collect();
        Ok(CustomLoss::new(loss, gradients).metric("custom/loss:sum", loss))
    });
    let output = output.unwrap();
    assert!((output.metrics["custom/loss:sum"] - 0.196_2).abs() < 1e-6);
    assert_eq!((output.metrics["loss:sum"], output.metrics["clock_cycle:unique"]), (3.0, 1002.0));
    assert_eq!((output.metrics.len(), output.loss_fn_outputs.len()), (6, 2));
    trainer.optim_step(AdamParams::default()).unwrap();
    let last = [datum(&[1, 2], &[1, 2], &[0.5, 1.5])];
    trainer.forward_backward(last, LossFn::CrossEntropy).unwrap();
    scenario.is_played();
}
