//! `pure_types`: every sample with JSON is read, and written as Python writes it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tinkex::types::wire::*;
use tinkex::types::*;

use super::normal::{assert_same, ours, python};
use super::{entries, fixture, inner};

/// Samples that are not compared, and why.
const DIFFERENT: [(&str, &str); 1] = [("CreateModelRequest lora", "the values of user_metadata are texts")];

/// Reads JSON as `T` and writes it again.
fn rewrite<T: Serialize + DeserializeOwned>(json: &Value) -> Value {
    let value: T = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"));
    serde_json::to_value(value).unwrap()
}

/// How a type is read and written again.
type Rewrite = fn(&Value) -> Value;

/// Requests and their parts, by Python's name, with the name of the type for [`python`].
fn of_request(name: &str) -> Option<(&'static str, Rewrite)> {
    Some(match name {
        "SamplingParams" => ("sampling_params", rewrite::<SamplingParams>),
        "SampleRequest" => ("asample", rewrite::<SampleRequest<'_>>),
        "LoraConfig" => ("lora_config", rewrite::<LoraConfig>),
        "CreateModelRequest" => ("create_model", rewrite::<CreateModelRequest<'_>>),
        "CreateSessionRequest" => ("create_session", rewrite::<CreateSessionRequest<'_>>),
        "CreateSamplingSessionRequest" => ("create_sampling_session", rewrite::<CreateSamplingSessionRequest<'_>>),
        "SessionHeartbeatRequest" => ("session_heartbeat", rewrite::<HeartbeatRequest<'_>>),
        "GetInfoRequest" => ("get_info", rewrite::<GetInfoRequest<'_>>),
        "UnloadModelRequest" => ("unload_model", rewrite::<UnloadModelRequest<'_>>),
        "FutureRetrieveRequest" => ("", rewrite::<RetrieveFutureRequest<'_>>),
        "AdamParams" => ("adam_params", rewrite::<AdamParams>),
        "SaveWeightsRequest" => ("save_weights", rewrite::<SaveWeightsRequest<'_>>),
        "SaveWeightsForSamplerRequest" => ("save_weights_for_sampler", rewrite::<SaveWeightsForSamplerRequest<'_>>),
        "LoadWeightsRequest" => ("load_weights", rewrite::<LoadWeightsRequest<'_>>),
        "Datum" => ("", rewrite::<Datum>),
        "TensorData" => ("", rewrite::<TensorData>),
        "ForwardBackwardInput" => ("forward_input", rewrite::<ForwardBackwardInput<'_>>),
        "ForwardBackwardRequest" => ("", rewrite::<ForwardBackwardRequest<'_>>),
        "ForwardRequest" => ("", rewrite::<ForwardRequest<'_>>),
        "OptimStepRequest" => ("optim_step", rewrite::<OptimStepRequest<'_>>),
        _ => return None,
    })
}

/// Responses and their parts, by Python's name.
fn of_response(name: &str) -> Option<Rewrite> {
    Some(match name {
        "UntypedAPIFuture" => rewrite::<Promise>,
        "CreateModelResponse" => rewrite::<CreateModelResponse>,
        "CreateSessionResponse" => rewrite::<CreateSessionResponse>,
        "CreateSamplingSessionResponse" => rewrite::<CreateSamplingSessionResponse>,
        "GetInfoResponse" => rewrite::<GetInfoResponse>,
        "GetServerCapabilitiesResponse" => rewrite::<GetServerCapabilitiesResponse>,
        "HealthResponse" => rewrite::<HealthResponse>,
        "OptimStepResponse" => rewrite::<OptimStepResponse>,
        "SaveWeightsResponse" => rewrite::<SaveWeightsResponse>,
        "LoadWeightsResponse" => rewrite::<LoadWeightsResponse>,
        "SaveWeightsForSamplerResponse" => rewrite::<SaveWeightsForSamplerResponse>,
        "UnloadModelResponse" => rewrite::<UnloadModelResponse>,
        "RequestFailedResponse" => rewrite::<RequestFailedResponse>,
        "Checkpoint" => rewrite::<Checkpoint>,
        "TrainingRun" => rewrite::<TrainingRun>,
        "Cursor" => rewrite::<Cursor>,
        "CheckpointsListResponse" => rewrite::<CheckpointsListResponse>,
        "TrainingRunsResponse" => rewrite::<TrainingRunsResponse>,
        "ForwardBackwardOutput" => rewrite::<ForwardBackwardOutput>,
        "SampleResponse" => rewrite::<SampleResponse>,
        "SessionStartEvent" | "SessionEndEvent" | "GenericEvent" | "UnhandledExceptionEvent" => {
            rewrite::<TelemetryEvent>
        }
        _ => return None,
    })
}

/// Adds the fields that a checkpoint has since 2026.
fn add_later_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_later_fields);
            if fields.contains_key("checkpoint_id") {
                fields.extend(["user_metadata", "expires_at"].map(|name| (name.to_owned(), Value::Null)));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(add_later_fields),
        _ => {}
    }
}

#[test]
fn every_type_round_trips_as_in_python() {
    let mut compared = 0;
    for sample in entries(&fixture("pure_types")["samples"]) {
        let name = sample["name"].as_str().unwrap();
        let (Some(kind), false) = (sample["out"]["type"].as_str(), DIFFERENT.iter().any(|(other, _)| *other == name))
        else {
            continue;
        };
        let wire = inner(&sample["out"]["wire"]["out"]);
        let dump = inner(&sample["out"]["model_dump_json"]);
        if let Some((kind, rewrite)) = of_request(kind) {
            let golden = python(kind, wire.clone());
            assert_same(&ours(rewrite(&wire)), &golden, name);
            assert_same(&ours(rewrite(&dump)), &golden, name);
        } else {
            let rewrite = of_response(kind).unwrap_or_else(|| panic!("{kind} is not covered"));
            // Our responses have every field of the dump except `type` and a promise's model, which no client needs.
            let mut golden = dump.clone();
            golden
                .as_object_mut()
                .unwrap()
                .retain(|key, value| key != "type" && !(key == "model_id" && value.is_null()));
            add_later_fields(&mut golden);
            match kind {
                "SaveWeightsForSamplerResponse" => golden["sampling_session_id"] = Value::Null,
                "LoadWeightsResponse" => golden["model_id"] = Value::Null,
                "GetInfoResponse" => golden["optimizer_config"] = json!({"type": "adamw"}),
                "GetServerCapabilitiesResponse" => {
                    for model in golden["supported_models"].as_array_mut().unwrap() {
                        for field in ["max_context_length", "trainable", "sampleable"] {
                            model[field] = Value::Null;
                        }
                    }
                }
                _ => {}
            }
            assert_same(&rewrite(&wire), &golden, name);
            assert_same(&rewrite(&dump), &golden, name);
        }
        compared += 1;
    }
    assert_eq!(compared, 82);
}

#[test]
fn defaults_are_pythons() {
    for (name, ours) in [
        ("SamplingParams()", json!(SamplingParams::default())),
        ("AdamParams()", json!(AdamParams::default())),
        ("LoraConfig(rank=32)", json!(LoraConfig::default())),
    ] {
        let samples = fixture("pure_types")["samples"].clone();
        let sample = entries(&samples).iter().find(|sample| sample["name"] == name).unwrap();
        let mut golden = inner(&sample["out"]["model_dump_json"]);
        golden.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(ours, golden, "{name}");
    }
}

#[test]
fn every_key_is_one_of_pythons_fields() {
    let types = fixture("pure_types")["types"].clone();
    let keys = |name: &str| types[name]["fields"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let full = [
        (
            "SampleRequest",
            json!(SampleRequest {
                base_model: Some("b".into()),
                model_path: Some("p".into()),
                sampling_session_id: Some("s".into()),
                seq_id: Some(0),
                ..SampleRequest::default()
            }),
        ),
        ("SamplingParams", json!(SamplingParams::default().max_tokens(1).seed(2).stop("x"))),
        (
            "SaveWeightsForSamplerRequest",
            json!(SaveWeightsForSamplerRequest {
                path: Some("p".into()),
                sampling_session_seq_id: Some(0),
                seq_id: Some(1),
                ..Default::default()
            }),
        ),
        (
            "CreateModelRequest",
            json!(CreateModelRequest {
                lora_config: Some(LoraConfig::default()),
                user_metadata: Some(Default::default()),
                ..Default::default()
            }),
        ),
        ("CreateSessionRequest", json!(CreateSessionRequest::default())),
        ("CreateSamplingSessionRequest", json!(CreateSamplingSessionRequest::default())),
        (
            "OptimStepRequest",
            json!(OptimStepRequest { adam_params: Some(Default::default()), seq_id: Some(1), ..Default::default() }),
        ),
        ("ForwardRequest", json!(ForwardRequest { seq_id: Some(1), ..Default::default() })),
        ("ForwardBackwardRequest", json!(ForwardBackwardRequest { seq_id: Some(1), ..Default::default() })),
        (
            "SaveWeightsRequest",
            json!(SaveWeightsRequest { path: Some("p".into()), seq_id: Some(1), ..Default::default() }),
        ),
        (
            "LoadWeightsRequest",
            json!(LoadWeightsRequest { model_id: Some("m".into()), seq_id: Some(1), ..Default::default() }),
        ),
        ("TensorData", json!(TensorData::from(vec![1_i64]))),
        ("Datum", json!(Datum::default())),
        ("ForwardBackwardInput", json!(ForwardBackwardInput::default())),
    ];
    for (name, ours) in full {
        let mut golden = keys(name);
        // Always sent, although 0.4.1 does not know it.
        golden.extend((name == "LoadWeightsRequest").then(|| "optimizer".to_owned()));
        let keys = ours.as_object().unwrap().keys().cloned();
        assert_eq!(keys.collect::<BTreeSet<_>>(), BTreeSet::from_iter(golden), "{name}");
    }
}

#[test]
fn unset_prompt_logprobs_are_null() {
    for (set, written) in [(None, "null"), (Some(true), "true"), (Some(false), "false")] {
        let text = serde_json::to_string(&SampleRequest { prompt_logprobs: set, ..Default::default() }).unwrap();
        assert!(text.contains(&format!("\"prompt_logprobs\":{written}")), "{text}");
    }
}

#[test]
fn mixed_stops_and_fractions_of_tokens_are_refused() {
    for json in [r#"{"stop":["a",1]}"#, r#"{"max_tokens":1.5}"#] {
        assert!(serde_json::from_str::<SamplingParams>(json).is_err(), "{json}");
    }
}

#[test]
fn unknown_response_keys_and_words_are_tolerated() {
    // Python refuses an unknown checkpoint type; here it is kept.
    let json = r#"{"checkpoint_id":"c","checkpoint_type":"x","time":"2025-11-01","tinker_path":"p","new":1}"#;
    let checkpoint: Checkpoint = serde_json::from_str(json).unwrap();
    assert_eq!(checkpoint.checkpoint_type, CheckpointType::Other("x".to_owned()));
    // Non-finite metrics arrive as null.
    let json =
        r#"{"loss_fn_outputs":[{"logprobs":{"data":[null,-1.5],"dtype":"float32"}}],"metrics":{"loss:sum":null}}"#;
    let output: ForwardBackwardOutput = serde_json::from_str(json).unwrap();
    assert!(output.metrics["loss:sum"].is_nan());
    let logprobs = output.loss_fn_outputs[0].logprobs().unwrap();
    assert!(logprobs[0].is_nan() && logprobs[1] == -1.5);
    let output: ForwardBackwardOutput = serde_json::from_str(r#"{"loss_fn_outputs":[],"metrics":null}"#).unwrap();
    assert!(output.metrics.is_empty());
}
