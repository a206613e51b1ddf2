//! Requests of the Python client 0.38.0: passes in protobuf, some of them compressed, and all else in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Refused;
use crate::support::golden::exchanges_2026;

fn replay(name: &str) -> Vec<Refused> {
    // Large passes are only described.
    let whole = |exchange: &Value| exchange["body"]["truncated"] != true;
    super::replay(name, exchanges_2026(name).into_iter().filter(whole).collect(), body)
}

fn body(exchange: &Value) -> Vec<u8> {
    let body = &exchange["body"];
    match body["raw_b64"].as_str() {
        Some(bytes) => STANDARD.decode(bytes).unwrap(),
        None => body["raw"].as_str().unwrap_or_default().into(),
    }
}

/// The endpoints of the refused requests, which must be refused for a reason with this text.
fn refused_for(name: &str, reason: &str) -> Vec<String> {
    let refused = replay(name);
    assert!(refused.iter().all(|(_, _, detail)| detail.contains(reason)), "{name}: {refused:?}");
    refused.into_iter().map(|(endpoint, ..)| endpoint).collect()
}

#[test]
fn session_and_model_requests_are_accepted() {
    for name in [
        "01_session_default",
        "02_session_tags_metadata",
        "03_session_base_url_prefix",
        "04_session_heartbeat",
        "05_session_error_messages",
        "06_low_level_service",
        "10_create_model_default",
        "12_get_info_unload",
        "98_service_close",
        "9a_client_config_variants",
    ] {
        assert_eq!(replay(name), [], "{name}");
    }
}

#[test]
fn training_requests_are_accepted() {
    for name in [
        "20_fwdbwd_ce_1",
        "21_fwdbwd_ce_3_inputs",
        "22_fwdbwd_130_datums",
        "24_fwdbwd_importance_sampling",
        "26_forward",
        "27_fwdbwd_custom",
        "29_pipeline_order",
        "90_config_metadata_only",
        "91_config_compress",
        "92_config_chunking_parallel",
    ] {
        assert_eq!(replay(name), [], "{name}");
    }
    assert_eq!(refused_for("30_weights", "age_encryption_recipients"), ["save_weights_external"]);
}

/// Models that were refused, or created from a checkpoint that only the recorded server had, are not there later.
#[test]
fn requests_with_dimuon_are_refused() {
    assert_eq!(refused_for("28_optim_step", "dimuon"), ["optim_step"]);
    for (name, endpoint, unknown) in
        [("11_create_model_all_options", "create_model", 0), ("31_training_client_from_state", "load_weights", 1)]
    {
        let mut refused = replay(name);
        let (first, status, detail) = refused.remove(0);
        assert_eq!((first.as_str(), status), (endpoint, 400), "{name}");
        assert!(detail.contains("dimuon"), "{detail}");
        let others = refused.iter().filter(|(endpoint, status, _)| endpoint != "get_info" || *status != 404);
        assert_eq!(others.count(), unknown, "{name}: {refused:?}");
    }
}

#[test]
fn sampling_requests_are_accepted_except_images() {
    assert_eq!(replay("40_sample_default"), []);
    assert_eq!(replay("43_compute_logprobs"), []);
    let refused = replay("42_sample_chunks");
    let details = ["is an image", "is an image", "dmel", "is an image"];
    assert_eq!(refused.len(), details.len(), "{refused:?}");
    assert!(refused.iter().zip(details).all(|((.., detail), expected)| detail.contains(expected)), "{refused:?}");
}

#[test]
fn requests_of_new_endpoints_are_accepted() {
    for name in ["77_asample_429_backpressure", "94_config_retrieve_futures", "95_config_pjwt", "99_billing_402"] {
        assert_eq!(replay(name), [], "{name}");
    }
    // The recorded request is one of the other server.
    assert_eq!(refused_for("97_config_cancel", "there is no request"), ["cancel_future"]);
    let custom = refused_for("9b_custom_loss_server_side", "this server runs no custom losses");
    assert_eq!(custom, ["create_custom_loss", "forward_backward"]);
}

#[test]
fn rest_requests_are_accepted_except_missing_resources() {
    // The recorded server did not know these either, or knew them under a fictitious name.
    for (name, unknown) in [
        ("44_sampling_client_errors", &["create_sampling_session"][..]),
        ("50_rest_all", &["training_runs/a%20b/%C3%BC", "training_runs/run:1/", "samplers/"]),
        ("52_cli", &["training_runs/missing"]),
    ] {
        let refused = replay(name);
        let is_unknown =
            |((endpoint, status, _), unknown): (&Refused, &&str)| *status == 404 && endpoint.starts_with(unknown);
        assert_eq!(refused.len(), unknown.len(), "{name}: {refused:?}");
        assert!(refused.iter().zip(unknown).all(is_unknown), "{name}: {refused:?}");
    }
}
