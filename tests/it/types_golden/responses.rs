//! The recorded responses are read by their types.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tinkex::types::wire::*;
use tinkex::types::*;

use super::{entries, fixture};

fn read<T: DeserializeOwned>(response: &Value) {
    if let Err(error) = serde_json::from_value::<T>(response.clone()) {
        panic!("{}: {error}: {response}", std::any::type_name::<T>());
    }
}

/// How the response of an endpoint, or the result of its promise, is read.
fn reader(kind: &str, promised: bool) -> fn(&Value) {
    match (kind, promised) {
        ("create_session", _) => read::<CreateSessionResponse>,
        ("session_heartbeat", _) => read::<HeartbeatResponse>,
        ("get_server_capabilities", _) => read::<GetServerCapabilitiesResponse>,
        ("healthz", _) => read::<HealthResponse>,
        ("telemetry", _) => read::<TelemetryResponse>,
        ("get_info", _) => read::<GetInfoResponse>,
        ("create_sampling_session", _) => read::<CreateSamplingSessionResponse>,
        ("training_runs", _) => read::<TrainingRunsResponse>,
        ("checkpoints", _) => read::<CheckpointsListResponse>,
        ("run-golden", _) => read::<TrainingRun>,
        (_, false) => read::<Promise>,
        ("create_model", true) => read::<CreateModelResponse>,
        ("unload_model", true) => read::<UnloadModelResponse>,
        ("forward" | "forward_backward", true) => read::<ForwardBackwardOutput>,
        ("optim_step", true) => read::<OptimStepResponse>,
        ("save_weights", true) => read::<SaveWeightsResponse>,
        ("load_weights", true) => read::<LoadWeightsResponse>,
        ("save_weights_for_sampler", true) => read::<SaveWeightsForSamplerResponse>,
        ("sample", true) => read::<SampleResponse>,
        (other, true) => panic!("{other} is not covered"),
    }
}

#[test]
fn every_recorded_response_is_read() {
    let mut count = 0;
    for name in [
        "01_session_default",
        "04_session_heartbeat",
        "06_low_level_service",
        "10_create_model_default",
        "12_get_info_unload",
        "21_fwdbwd_ce_3_inputs",
        "24_fwdbwd_importance_sampling",
        "26_forward",
        "28_optim_step",
        "30_weights",
        "31_training_client_from_state",
        "40_sample_default",
        "42_sample_chunks",
        "43_compute_logprobs",
        "50_rest_all",
    ] {
        for exchange in entries(&fixture(name)["exchanges"]) {
            let (response, kind) = (&exchange["response"]["json"], exchange["path"].as_str().unwrap());
            let kind = kind.rsplit('/').next().unwrap();
            if exchange["response"]["status"] != 200 {
                continue;
            }
            match exchange["body"]["json"]["request_id"].as_str() {
                // The recording server names promises `golden:KIND:NUMBER`.
                Some(promise) => reader(promise.split(':').nth(1).unwrap(), true)(response),
                None => reader(kind, false)(response),
            }
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}
