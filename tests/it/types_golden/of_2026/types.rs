//! `pure_types`: every sample with JSON is read, and written as the Python client writes it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tinkex::types::wire::*;
use tinkex::types::*;

use super::{cases, inner};

/// Reads JSON as `T` and writes it again, without what is null: the Python client leaves it away.
fn rewrite<T: Serialize + DeserializeOwned>(json: &Value) -> Value {
    let value: T = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"));
    let mut json = serde_json::to_value(value).unwrap();
    without_nulls(&mut json);
    json
}

fn without_nulls(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        _ => {}
    }
}

/// How a type is read and written again.
type Rewrite = fn(&Value) -> Value;

/// The types of this crate, by Python's name.
fn of(name: &str) -> Option<Rewrite> {
    Some(match name {
        "SamplingParams" => rewrite::<SamplingParams>,
        "LoraConfig" => rewrite::<LoraConfig>,
        "AdamParams" => rewrite::<AdamParams>,
        "SampleRequest" => rewrite::<SampleRequest<'_>>,
        "CreateModelRequest" => rewrite::<CreateModelRequest<'_>>,
        "CreateSessionRequest" => rewrite::<CreateSessionRequest<'_>>,
        "CreateSamplingSessionRequest" => rewrite::<CreateSamplingSessionRequest<'_>>,
        "SessionHeartbeatRequest" => rewrite::<HeartbeatRequest<'_>>,
        "GetInfoRequest" => rewrite::<GetInfoRequest<'_>>,
        "UnloadModelRequest" => rewrite::<UnloadModelRequest<'_>>,
        "FutureRetrieveRequest" => rewrite::<RetrieveFutureRequest<'_>>,
        "SaveWeightsRequest" => rewrite::<SaveWeightsRequest<'_>>,
        "SaveWeightsForSamplerRequest" => rewrite::<SaveWeightsForSamplerRequest<'_>>,
        "OptimStepRequest" => rewrite::<OptimStepRequest<'_>>,
        "DimuonParams" => rewrite::<DimuonParams>,
        "UntypedAPIFuture" => rewrite::<Promise>,
        "CreateModelResponse" => rewrite::<CreateModelResponse>,
        "GetInfoResponse" => rewrite::<GetInfoResponse>,
        "GetServerCapabilitiesResponse" => rewrite::<GetServerCapabilitiesResponse>,
        "OptimStepResponse" => rewrite::<OptimStepResponse>,
        "SaveWeightsResponse" => rewrite::<SaveWeightsResponse>,
        "SaveWeightsForSamplerResponse" => rewrite::<SaveWeightsForSamplerResponse>,
        "RequestFailedResponse" => rewrite::<RequestFailedResponse>,
        "Checkpoint" => rewrite::<Checkpoint>,
        "TrainingRun" => rewrite::<TrainingRun>,
        "Cursor" => rewrite::<Cursor>,
        "CheckpointsListResponse" => rewrite::<CheckpointsListResponse>,
        "SessionStartEvent" | "SessionEndEvent" | "GenericEvent" | "UnhandledExceptionEvent" => {
            rewrite::<TelemetryEvent>
        }
        "ClientConfigResponse" => rewrite::<ClientConfig>,
        "ClientDynamicConfigResponse" => rewrite::<ClientDynamicConfig>,
        _ => return None,
    })
}

/// Samples that are not read, and why.
const UNREAD: [(&str, &str); 1] = [("CreateModelRequest lora", "the values of user_metadata are texts")];

/// Keys that the Python client writes and this crate does not, or the reverse, and why.
const DIFFERENT: [(&str, &str); 10] = [
    ("CreateModelResponse.type", "no client reads it"),
    ("SamplingParams.stop", "one text is sent as a list, which every server takes"),
    ("SampleRequest.topk_sample_logprobs", "0 is not sent: servers of 2025 may not know the key"),
    ("SampleRequest.prompt_alt_tokens_k", "0 is not sent: servers of 2025 may not know the key"),
    (
        "FutureRetrieveRequest.allow_metadata_only",
        "false is the default of every server, and older ones do not know the key",
    ),
    ("AdamParams.weight_decay", "0 is not sent: servers of 2025 refuse the key"),
    ("AdamParams.grad_clip_norm", "0 is not sent: servers of 2025 refuse the key"),
    ("OptimStepRequest.adam_params.weight_decay", "the same"),
    ("OptimStepRequest.adam_params.grad_clip_norm", "the same"),
    ("ClientConfigResponse.use_pyqwest_transport", "about Python's HTTP libraries"),
];

/// The places where two JSON trees differ.
fn differences(ours: &Value, golden: &Value, place: String, found: &mut Vec<String>) {
    match (ours, golden) {
        (Value::Object(ours), Value::Object(golden)) => {
            for key in ours.keys().chain(golden.keys().filter(|key| !ours.contains_key(*key))) {
                let (ours, golden) = (ours.get(key).unwrap_or(&Value::Null), golden.get(key).unwrap_or(&Value::Null));
                differences(ours, golden, format!("{place}.{key}"), found);
            }
        }
        _ if ours == golden || found.contains(&place) => {}
        _ => found.push(place),
    }
}

#[test]
fn every_type_round_trips_as_in_python() {
    let mut found = Vec::new();
    for sample in cases("pure_types", "samples") {
        let (name, kind) = (sample["name"].as_str().unwrap(), sample["out"]["type"].as_str().unwrap_or_default());
        let (Some(rewrite), Some(wire)) = (of(kind), sample["out"]["wire"].get("out")) else { continue };
        if UNREAD.iter().any(|(unread, _)| *unread == name) {
            continue;
        }
        let (mut golden, dump) = (inner(wire), inner(&sample["out"]["model_dump_json"]));
        without_nulls(&mut golden);
        for json in [&golden, &dump] {
            differences(&rewrite(json), &golden, kind.to_owned(), &mut found);
        }
    }
    let unknown: Vec<_> = found.iter().filter(|place| !DIFFERENT.iter().any(|(known, _)| known == *place)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
