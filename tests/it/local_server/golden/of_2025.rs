//! Requests of the Python client 0.4.1. Bodies that the fixtures abbreviate are restored, which their length and digest verify.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{FAULTS, MISSING_RUNS, Scenario, TELEMETRY, assert_all_are_replayed, replay_all};
use crate::support::golden::{FOLDER, fixture};

const SESSIONS_AND_MODELS: &[Scenario] = &[
    ("01_session_default", &[]),
    ("02_session_tags_metadata", &[]),
    ("03_session_base_url_prefix", &[]),
    ("04_session_heartbeat", &[]),
    ("05_session_error_messages", &[]),
    ("06_low_level_service", &[]),
    ("10_create_model_default", &[]),
    ("11_create_model_all_options", &[]),
    ("12_get_info_unload", &[]),
];

const TRAINING: &[Scenario] = &[
    ("20_fwdbwd_ce_1", &[]),
    ("21_fwdbwd_ce_3_inputs", &[]),
    ("22_fwdbwd_130_datums", &[]),
    (
        "23_fwdbwd_size_limit",
        &[
            ("forward_backward", 400, "80000 tokens, more than the context of 1024"),
            ("forward_backward", 400, "80000 tokens, more than the context of 1024"),
            ("forward_backward", 400, "80000 tokens, more than the context of 1024"),
            ("forward_backward", 400, "200000 tokens, more than the context of 1024"),
        ],
    ),
    ("24_fwdbwd_importance_sampling", &[]),
    ("26_forward", &[("forward", 400, "has no setting")]),
    ("27_fwdbwd_custom", &[]),
    ("28_optim_step", &[]),
    ("29_pipeline_order", &[]),
    ("30_weights", &[]),
    ("31_training_client_from_state", &[]),
];

const SAMPLING: &[Scenario] = &[
    ("40_sample_default", &[]),
    ("42_sample_chunks", &[("asample", 400, "is an image"), ("forward_backward", 400, "is an image")]),
    ("43_compute_logprobs", &[]),
];

/// What the recorded server invented is missing here.
const REST: &[Scenario] = &[
    (
        "50_rest_all",
        &[
            ("training_runs/a%20b/%C3%BC", 404, "Not Found"),
            ("training_runs/run:1/checkpoints/weights/a%20b%2Fc", 404, "does not name a training run"),
        ],
    ),
    ("51_rest_errors", MISSING_RUNS),
    ("52_cli", &[("training_runs/missing", 404, "no training run")]),
];

fn replay(scenarios: &[Scenario]) {
    replay_all(scenarios, fixture, body);
}

/// The body of a request, restored if the fixture abbreviates it.
fn body(exchange: &Value) -> Vec<u8> {
    let body = &exchange["body"];
    if body["truncated"] != true {
        return body["raw"].as_str().unwrap_or_default().into();
    }
    let whole = whole(&body["json"]).to_string();
    assert_eq!(whole.len() as u64, body["len"].as_u64().unwrap());
    let digest: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, body["sha256"].as_str().unwrap());
    whole.into()
}

/// Expands "<<N more>>" into copies of the element before it, or into datums whose tokens continue from it.
fn whole(cut: &Value) -> Value {
    match cut {
        Value::Array(elements) => {
            let mut all: Vec<Value> = Vec::new();
            for element in elements {
                let more = element.as_str().and_then(|text| text.strip_prefix("<<")?.strip_suffix(" more>>"));
                let more: usize = more.map_or(0, |count| count.parse().unwrap());
                for _ in 0..more {
                    all.push(next(all.last().unwrap()));
                }
                if more == 0 {
                    all.push(whole(element));
                }
            }
            all.into()
        }
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), whole(value))).collect(),
        value => value.clone(),
    }
}

/// The next element: the same number, or the same datum with each token increased by one.
fn next(element: &Value) -> Value {
    let mut element = element.clone();
    let count_on = |tokens: &mut Value| {
        tokens.as_array_mut().unwrap().iter_mut().for_each(|token| *token = (token.as_u64().unwrap() + 1).into());
    };
    if element.is_object() {
        count_on(&mut element["loss_fn_inputs"]["target_tokens"]["data"]);
        count_on(&mut element["model_input"]["chunks"][0]["tokens"]);
    }
    element
}

#[test]
fn every_fixture_is_replayed() {
    assert_all_are_replayed(FOLDER, &[SESSIONS_AND_MODELS, TRAINING, SAMPLING, REST, TELEMETRY, FAULTS]);
}

#[test]
fn session_and_model_requests_are_accepted() {
    replay(SESSIONS_AND_MODELS);
}

#[test]
fn training_requests_are_accepted() {
    replay(TRAINING);
}

#[test]
fn sampling_requests_are_accepted_except_images() {
    replay(SAMPLING);
}

#[test]
fn rest_requests_are_accepted() {
    replay(REST);
}

#[test]
fn requests_of_failures_are_accepted() {
    replay(TELEMETRY);
    replay(FAULTS);
}
