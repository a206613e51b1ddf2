//! Requests of the Python client 0.38.0: passes in protobuf, some of them compressed, and all else in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{FAULTS, MISSING_RUNS, Scenario, TELEMETRY, assert_all_are_replayed, replay_all};
use crate::support::golden::{FOLDER_2026, fixture_2026};

/// Models that were refused, or created from a checkpoint that only the recorded server had, are not there later.
const SESSIONS_AND_MODELS: &[Scenario] = &[
    ("01_session_default", &[]),
    ("02_session_tags_metadata", &[]),
    ("03_session_base_url_prefix", &[]),
    ("04_session_heartbeat", &[]),
    ("05_session_error_messages", &[]),
    ("06_low_level_service", &[]),
    ("10_create_model_default", &[]),
    ("11_create_model_all_options", &[("create_model", 400, "dimuon"), ("get_info", 404, "no model")]),
    ("12_get_info_unload", &[]),
    (
        "31_training_client_from_state",
        &[
            ("load_weights", 400, "dimuon"),
            ("get_info", 404, "no model"),
            ("load_weights", 404, "no checkpoint"),
            ("get_info", 404, "no model"),
        ],
    ),
    ("95_config_pjwt", &[]),
    ("98_service_close", &[]),
    ("9a_client_config_variants", &[]),
];

const TRAINING: &[Scenario] = &[
    ("20_fwdbwd_ce_1", &[]),
    ("21_fwdbwd_ce_3_inputs", &[]),
    ("22_fwdbwd_130_datums", &[]),
    ("23_fwdbwd_size_limit", &[]),
    ("24_fwdbwd_importance_sampling", &[]),
    ("26_forward", &[("forward_backward", 400, "has no setting")]),
    ("27_fwdbwd_custom", &[]),
    ("28_optim_step", &[("optim_step", 400, "dimuon")]),
    ("29_pipeline_order", &[]),
    ("30_weights", &[("save_weights_external", 400, "age_encryption_recipients")]),
    ("90_config_metadata_only", &[]),
    ("91_config_compress", &[]),
    ("92_config_chunking_parallel", &[]),
    // The loss of the second request is the first one's.
    (
        "9b_custom_loss_server_side",
        &[("create_custom_loss", 400, "custom_loss_server_side"), ("forward_backward", 400, "custom_loss_server_side")],
    ),
];

const SAMPLING: &[Scenario] = &[
    ("40_sample_default", &[]),
    (
        "42_sample_chunks",
        &[
            ("asample", 400, "is an image"),
            ("asample", 400, "is an image"),
            ("asample", 422, "dmel"),
            ("forward_backward", 400, "is an image"),
        ],
    ),
    ("43_compute_logprobs", &[]),
    ("44_sampling_client_errors", &[("create_sampling_session", 404, "no checkpoint")]),
    ("94_config_retrieve_futures", &[]),
    ("97_config_cancel", &[]),
    ("99_billing_402", &[]),
];

/// What the recorded server invented is missing here.
const REST: &[Scenario] = &[
    (
        "50_rest_all",
        &[
            ("training_runs/a%20b/%C3%BC", 404, "Not Found"),
            ("training_runs/run:1/checkpoints/weights/a%20b%2Fc", 404, "does not name a training run"),
            ("samplers/sess-golden-0001:sample:0", 404, "no sampling session"),
        ],
    ),
    ("51_rest_errors", MISSING_RUNS),
    ("52_cli", &[("training_runs/missing", 404, "no training run")]),
    ("53_auth_api", &[("auth/apikey/me", 401, "revoked")]),
];

fn replay(scenarios: &[Scenario]) {
    replay_all(scenarios, fixture_2026, body);
}

fn body(exchange: &Value) -> Vec<u8> {
    let body = &exchange["body"];
    match body["raw_b64"].as_str() {
        Some(bytes) => STANDARD.decode(bytes).unwrap(),
        None => body["raw"].as_str().unwrap_or_default().into(),
    }
}

#[test]
fn every_fixture_is_replayed() {
    assert_all_are_replayed(FOLDER_2026, &[SESSIONS_AND_MODELS, TRAINING, SAMPLING, REST, TELEMETRY, FAULTS]);
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
