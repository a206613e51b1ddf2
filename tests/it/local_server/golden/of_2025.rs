//! Requests of the Python client 0.4.1. Bodies that the fixtures abbreviate are restored, which their length and digest verify.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Refused;
use crate::support::golden::exchanges;

fn replay(name: &str) -> Vec<Refused> {
    super::replay(name, exchanges(name), body)
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
fn session_and_model_requests_are_accepted() {
    for name in [
        "01_session_default",
        "02_session_tags_metadata",
        "03_session_base_url_prefix",
        "04_session_heartbeat",
        "05_session_error_messages",
        "06_low_level_service",
        "10_create_model_default",
        "11_create_model_all_options",
        "12_get_info_unload",
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
        "28_optim_step",
        "29_pipeline_order",
        "30_weights",
        "31_training_client_from_state",
    ] {
        assert_eq!(replay(name), [], "{name}");
    }
}

#[test]
fn oversized_requests_are_rejected_with_their_length() {
    let refused = replay("23_fwdbwd_size_limit");
    let lengths = [80_000, 80_000, 80_000, 200_000];
    assert_eq!(refused.len(), lengths.len());
    for ((endpoint, status, detail), length) in refused.iter().zip(lengths) {
        assert_eq!((endpoint.as_str(), *status), ("forward_backward", 400));
        assert!(detail.contains(&format!("{length} tokens, more than the context of 1024")), "{detail}");
    }
}

#[test]
fn sampling_requests_are_accepted_except_images() {
    assert_eq!(replay("40_sample_default"), []);
    assert_eq!(replay("43_compute_logprobs"), []);
    let refused = replay("42_sample_chunks");
    assert_eq!(
        refused.iter().map(|(endpoint, ..)| endpoint.as_str()).collect::<Vec<_>>(),
        ["asample", "forward_backward"]
    );
    for (endpoint, status, detail) in refused {
        assert_eq!(status, 400, "{endpoint}");
        assert!(detail.contains("is an image"), "{detail}");
    }
}

#[test]
fn rest_requests_are_accepted_except_missing_resources() {
    // The recorded server did not know these runs either, or knew them under a fictitious name.
    let refused = replay("50_rest_all");
    for (endpoint, status, _) in &refused {
        assert!(*status == 404 && !endpoint.contains("session-1"), "{refused:?}");
    }
    assert_eq!(refused.len(), 2, "{refused:?}");
}
