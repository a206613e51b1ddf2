//! Results in protobuf, as polls bring them.

use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{ForwardBackwardOutput, OptimStepResponse, PromiseResult, RequestKind, SampleResponse};
use tinkex::{Error, ErrorKind, Wire};

use super::bytes;
use crate::support::{Reply, connect, golden, service_with_polls};

fn reply(content_type: &str, body: &[u8]) -> Reply {
    Reply::typed(content_type, body)
}

/// The result of a promise to which the service responds with this body.
fn polled<T: PromiseResult>(content_type: &'static str, body: &[u8]) -> Result<T, Error> {
    let body = body.to_vec();
    let service = service_with_polls(move |_| reply(content_type, &body));
    let result = connect(service.config()).pending("r-1", RequestKind::Sample).wait();
    let poll = &service.requests_to("retrieve_future")[0];
    assert_eq!(poll.header("accept"), Some("application/x-protobuf, application/json"));
    result
}

fn response() -> SampleResponse {
    serde_json::from_value(
        json!({"sequences": [{"stop_reason": "length", "tokens": [5, 6], "logprobs": [-0.5, -1.0]}]}),
    )
    .unwrap()
}

#[test]
fn the_content_type_tells_the_form() {
    let expected = response();
    let body = protobuf::SampleResponse::from(&expected).encode_to_vec();
    assert_eq!(polled::<SampleResponse>("application/x-protobuf", &body).unwrap(), expected);
    assert_eq!(polled::<SampleResponse>("application/x-protobuf; v=1", &body).unwrap(), expected);
    let json = serde_json::to_vec(&expected).unwrap();
    assert_eq!(polled::<SampleResponse>("application/json", &json).unwrap(), expected);
    // A message of which all fields have their defaults.
    assert!(polled::<ForwardBackwardOutput>("application/x-protobuf", b"").unwrap().loss_fn_outputs.is_empty());
}

#[test]
fn json_alone_does_not_ask_for_protobuf() {
    let body = protobuf::SampleResponse::from(&response()).encode_to_vec();
    let service = service_with_polls(move |_| reply("application/x-protobuf", &body));
    let client = connect(service.config().wire(Wire::Json));
    // A service that sends it all the same is understood.
    assert_eq!(client.pending::<SampleResponse>("r-1", RequestKind::Sample).wait().unwrap(), response());
    assert_eq!(service.requests_to("retrieve_future")[0].header("accept"), Some("application/json"));
}

#[test]
fn a_wrong_content_type_is_a_decode_error() {
    let json = serde_json::to_vec(&response()).unwrap();
    for (body, why) in [
        (json.as_slice(), "the content-type says protobuf, but the response is JSON"),
        (b"\xff\xff", "the result in protobuf is not valid"),
    ] {
        let error = polled::<SampleResponse>("application/x-protobuf", body).unwrap_err();
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("r-1")), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// The results that 0.38.0 refuses, and damaged ones: an offset that lies, and each message without its end.
#[test]
fn a_broken_result_is_a_decode_error() {
    let fixture = golden::fixture_2026("pure_proto");
    let cases = fixture["responses"].as_array().unwrap();
    let refused = |error: Error| {
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("r-1")), "{error}");
    };
    let is_pass = |case: &Value| case["name"].as_str().unwrap().starts_with("fwdbwd");
    let poll = |case: &Value, body: &[u8]| match is_pass(case) {
        true => polled::<ForwardBackwardOutput>("application/x-protobuf", body).map(drop),
        false => polled::<SampleResponse>("application/x-protobuf", body).map(drop),
    };
    let mut count = 0;
    for case in cases {
        let mut body = bytes(&case["hex"]);
        if case.get("exception").is_none() && body.pop().is_none() {
            continue;
        }
        refused(poll(case, &body).unwrap_err());
        count += 1;
    }
    assert_eq!(count, cases.len() - 2);
    let lying = protobuf::BatchedTensor {
        data: vec![0; 8].into(),
        offsets: [0_i64, 1 << 40].iter().flat_map(|offset| offset.to_le_bytes()).collect::<Vec<u8>>().into(),
        dtype: protobuf::DType::DtypeFloat32.into(),
        ..Default::default()
    };
    let record = protobuf::ArrayRecord {
        fields: [("logprobs".to_owned(), lying)].into_iter().collect(),
        num_datums: 1,
        ..Default::default()
    };
    let output = protobuf::ForwardBackwardOutput { loss_fn_outputs: vec![record], ..Default::default() };
    let body = output.encode_to_vec();
    refused(polled::<ForwardBackwardOutput>("application/x-protobuf", &body).unwrap_err());
}

#[test]
fn other_results_have_no_protobuf() {
    let error = polled::<OptimStepResponse>("application/x-protobuf", b"").unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("r-1")));
    assert!(error.to_string().contains("only the types of passes and samples"), "{error}");
}
