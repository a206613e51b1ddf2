//! Batches that are larger than one request.

use serde_json::json;
use tinkex::types::{AdamParams, LossFn};

use super::{counted, generation, sent, start, trainer};
use crate::support::Reply;
use crate::support::pass_server::{BOTH, JSON_ONLY, Mishap, PROTOBUF_ONLY, PassServer};

/// The number of datums in each request that was run.
fn lengths(server: &PassServer) -> Vec<usize> {
    server.runs().iter().map(|run| run.data.len()).collect()
}

#[test]
fn each_format_has_its_own_limits() {
    for (row, expected) in [(JSON_ONLY, &[128, 128, 44][..]), (PROTOBUF_ONLY, &[300])] {
        let (server, service) = generation(row);
        let output = trainer(service.config()).forward_backward(counted(300), LossFn::CrossEntropy).unwrap();
        assert_eq!(lengths(&server), expected, "{}", row.name);
        let first = |index: usize| output.loss_fn_outputs[index].logprobs().unwrap()[0];
        assert!((0..300).all(|index| first(index) == -(index as f32)));
    }
}

#[test]
fn the_service_sets_the_limits_of_protobuf() {
    for (settings, expected) in [
        (json!({"fwdbwd_max_chunk_len": 3}), [3, 3, 1]),
        // A datum of one token has 4 + 8 + 4 bytes.
        (json!({"fwdbwd_max_chunk_bytes_count": 50}), [3, 3, 1]),
        (json!({"fwdbwd_max_chunk_bytes_count": 48}), [3, 3, 1]),
    ] {
        let server = PassServer::with(PROTOBUF_ONLY, settings.clone(), |_| None);
        let service = start(&server);
        let output = trainer(service.config()).forward(counted(7), LossFn::CrossEntropy).unwrap();
        assert_eq!((lengths(&server), output.loss_fn_outputs.len()), (expected.to_vec(), 7), "{settings}");
        // In order, each after the promise of the one before.
        let numbers: Vec<_> = sent(&service).into_iter().map(|(_, _, number)| number).collect();
        assert_eq!(numbers, [1, 1, 2, 3], "the first in JSON, which is refused");
    }
}

#[test]
fn nothing_follows_a_refused_chunk() {
    let server = PassServer::with(BOTH, json!({}), |request| {
        let refused = || Mishap::Refused(Reply::Json(400, json!({"detail": "no"})));
        (request.path == "forward_backward" && request.seq_id() == Some(2)).then(refused)
    });
    let service = start(&server);
    let trainer = trainer(service.config());
    let error = trainer.forward_backward(counted(300), LossFn::CrossEntropy).unwrap_err();
    assert!(error.status() == Some(400) && error.may_have_taken_effect(), "the first part was accepted: {error}");
    trainer.optim_step(AdamParams::default()).unwrap();
    assert_eq!(server.order(), [("forward_backward", 1), ("optim_step", 2)]);
    assert_eq!(sent(&service).len(), 3);
}

#[cfg(feature = "zstd")]
#[test]
fn passes_are_compressed_where_the_service_wants_it() {
    use crate::support::golden::fixture_2026;

    let settings = fixture_2026("91_config_compress")["client_config_answer"].clone();
    assert_eq!(settings["proto_compress_fwdbwd"], true);
    let server = PassServer::with(PROTOBUF_ONLY, settings, |_| None);
    let service = start(&server);
    let trainer = trainer(service.config());
    trainer.forward_backward(counted(100), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    let [json, protobuf] = &service.requests_to("forward_backward")[..] else { panic!("two formats") };
    assert_eq!(json.header("content-encoding"), None);
    assert_eq!(protobuf.header("content-encoding"), Some("zstd"));
    assert_eq!(service.requests_to("optim_step")[0].header("content-encoding"), None);
    // The size of the content is in the header of the frame, and there is no checksum.
    assert_eq!(&protobuf.raw[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let descriptor = protobuf.raw[4];
    assert!(descriptor & 0b100 == 0 && descriptor & 0b11 == 0, "{descriptor:b}");
    assert!(descriptor >> 6 > 0 || descriptor & 0b10_0000 != 0, "{descriptor:b}");
    assert_eq!(server.runs()[0].data.len(), 100);
}
