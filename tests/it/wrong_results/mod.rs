//! Results that lie: too few or too many of something, of the wrong type, nested, huge. Each is an error with the id of its request, or
//! tolerated as the types' documentation says: never a panic, never a wrong value.

mod hostile;
mod lists;
mod passes;
mod samples;
mod steps;

use std::sync::Mutex;

use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{LoraConfig, SampleResponse};
use tinkex::{Error, ErrorKind, TrainingClient, Wire};

use crate::support::double::{Form, SeenPass, pass_message};
use crate::support::{RecordedRequest, Reply, Service, connect, healthy_service, service_with_settings};

const WIRES: [Wire; 2] = [Wire::Json, Wire::Protobuf];

/// A service whose results have these bodies, by the request of their promise. The rest is healthy.
fn with_bodies(body: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static) -> Service {
    let accepted = Mutex::new(Vec::new());
    let settings = json!({"fwdbwd_max_chunk_len": 128, "fwdbwd_max_chunk_bytes_count": 5_000_000});
    service_with_settings(settings, move |request| match &*request.path {
        "retrieve_future" => {
            let number = request.request_id().strip_prefix("wrong-").map(|number| number.parse::<usize>().unwrap());
            match number {
                Some(number) => body(&accepted.lock().unwrap()[number]).unwrap(),
                None => healthy_service(request),
            }
        }
        _ if body(request).is_some() => {
            let mut accepted = accepted.lock().unwrap();
            accepted.push(request.clone());
            Reply::ok(json!({"request_id": format!("wrong-{}", accepted.len() - 1)}))
        }
        _ => healthy_service(request),
    })
}

fn json_body(body: impl Into<Vec<u8>>) -> Reply {
    Reply::typed("application/json", body)
}

fn protobuf_body(body: Vec<u8>) -> Reply {
    Reply::typed(protobuf::CONTENT_TYPE, body)
}

/// A service whose results of requests to a path have this body.
fn with_result(path: &'static str, body: impl Into<Vec<u8>>) -> Service {
    let body = body.into();
    with_bodies(move |request| (request.path == path).then(|| json_body(body.clone())))
}

/// A service that changes the honest results of passes, which come in the format of their requests. `lie` gets the number of the
/// request.
fn with_passes(lie: impl Fn(u64, &mut Value) + Send + Sync + 'static) -> Service {
    with_bodies(move |request| {
        if !matches!(&*request.path, "forward" | "forward_backward") {
            return None;
        }
        let pass = SeenPass::read(request).unwrap();
        let mut result = pass.result();
        lie(pass.seq_id, &mut result);
        Some(match pass.form {
            Form::Json => Reply::ok(result),
            Form::Protobuf => protobuf_body(pass_message(result)),
        })
    })
}

/// A service whose samples have this result.
fn with_sample(wire: Wire, result: Value) -> Service {
    with_bodies(move |request| {
        (request.path == "asample").then(|| match wire {
            Wire::Protobuf => {
                let response: SampleResponse = serde_json::from_value(result.clone()).unwrap();
                protobuf_body(protobuf::SampleResponse::from(&response).encode_to_vec())
            }
            _ => Reply::ok(result.clone()),
        })
    })
}

fn trainer(service: &Service, wire: Wire) -> TrainingClient {
    connect(service.config().wire(wire)).create_lora_training_client("base", LoraConfig::default()).unwrap()
}

/// Asserts that this is the error for a wrong result of a request that was carried out.
fn assert_wrong(error: &Error, request_id: &str, operation: &str, why: &str) {
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some(request_id)), "{error}");
    assert_eq!((error.operation(), error.may_have_taken_effect()), (Some(operation), true), "{error}");
    assert!(error.message().contains(why) && error.hint().is_some() && !error.is_retryable(), "{why}: {error}");
}
