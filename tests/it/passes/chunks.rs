//! Batches that are larger than one request.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LossFn};
use tinkex::{ErrorKind, Wire};

use super::{Batch, counted, datum, generation, sent, start, trainer};
use crate::support::pass_server::{BOTH, JSON_ONLY, Mishap, PROTOBUF_ONLY, PassServer};
use crate::support::{Gate, Reply, Service};

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

#[test]
fn nothing_follows_a_chunk_that_fails_for_long() {
    for failing in [1, 2] {
        let server = PassServer::with(BOTH, json!({}), move |request| {
            let broken = || Mishap::Refused(Reply::Json(503, json!({"detail": "busy"})));
            (request.path == "forward_backward" && request.seq_id() == Some(failing)).then(broken)
        });
        let service = start(&server);
        let config = service
            .config()
            .clock(ManualClock::new().clock())
            .max_retries(0)
            .timeout_submit(Duration::from_millis(999));
        let error = trainer(config.wire(Wire::Json)).forward_backward(counted(300), LossFn::CrossEntropy).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(503)), "{error}");
        assert_eq!(lengths(&server), vec![128; failing as usize - 1], "only the chunks before it were run");
        assert!(sent(&service).iter().all(|(_, _, number)| *number <= failing));
    }
}

#[test]
fn metrics_are_weighted_by_datums() {
    let server = PassServer::with(BOTH, json!({"fwdbwd_max_chunk_len": 128}), |_| None);
    for wire in [Wire::Json, Wire::Protobuf] {
        let service = start(&server);
        let trainer = trainer(service.config().wire(wire));
        let output = trainer.forward_backward(counted(130), LossFn::CrossEntropy).unwrap();
        // The first tokens of the chunks are 0 and 128, and they have 128 and 2 datums.
        let mean = 128.0 * 2.0 / 130.0;
        assert_eq!(output.metrics["first:mean"], mean, "{wire:?}");
        assert_eq!(output.metrics["first:slack"], 128.0 - mean, "{wire:?}");
    }
}

#[test]
fn json_chunks_have_half_a_million_numbers() {
    // Each datum has its tokens, targets and weights: 240 000 numbers.
    let tokens: Vec<u32> = (0..80_000).collect();
    let (server, service) = generation(JSON_ONLY);
    let trainer = trainer(service.config());
    let batch: Batch = (0..3).map(|_| datum(&tokens)).collect();
    let output = trainer.forward(batch, LossFn::CrossEntropy).unwrap();
    assert_eq!((lengths(&server), output.loss_fn_outputs.len()), (vec![2, 1], 3));
}

/// Whose datums a run has, by their first token.
fn owners(server: &PassServer) -> Vec<Option<i64>> {
    server.runs().iter().map(|run| run.data.first().map(|datum| datum.tokens[0] / 1000)).collect()
}

fn owned(owner: u32) -> Batch {
    (0..300).map(|token| datum(&[1000 * owner + token])).collect()
}

/// A service that holds its first response to a pass until the gate opens.
fn holding(server: &PassServer, gate: &Arc<Gate>) -> Service {
    let (server, gate) = (server.clone(), Arc::clone(gate));
    Service::start_current(move |request| match (&*request.path, request.seq_id()) {
        ("forward_backward", Some(1)) => Reply::held(&gate, server.reply(request)),
        _ => server.reply(request),
    })
}

#[test]
fn no_other_call_comes_between_two_chunks() {
    let (server, gate) = (PassServer::new(JSON_ONLY), Arc::default());
    let service = holding(&server, &gate);
    let trainer = trainer(service.config());
    // All calls are queued while the first chunk is on its way.
    let first = trainer.submit_forward_backward(owned(1), LossFn::CrossEntropy).unwrap();
    let second = trainer.submit_forward_backward(owned(2), LossFn::CrossEntropy).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    gate.open();
    for (pending, owner) in [(first, 1.0), (second, 2.0)] {
        let output = pending.wait().unwrap();
        let logprob = |index: usize| output.loss_fn_outputs[index].logprobs().unwrap()[0];
        assert!((0..300).all(|index| logprob(index) == -(1000.0 * owner + index as f32)));
    }
    step.wait().unwrap();
    assert_eq!(owners(&server), [Some(1), Some(1), Some(1), Some(2), Some(2), Some(2), None]);
    assert_eq!(server.order().iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn chunks_of_four_threads_do_not_mix() {
    let (server, service) = generation(JSON_ONLY);
    let trainer = trainer(service.config());
    std::thread::scope(|scope| {
        for owner in 1..=4 {
            let trainer = &trainer;
            scope.spawn(move || trainer.forward_backward(owned(owner), LossFn::CrossEntropy).unwrap());
        }
    });
    let owners = owners(&server);
    assert_eq!(owners.len(), 12);
    assert!(owners.chunks(3).all(|call| call[0] == call[1] && call[1] == call[2]), "{owners:?}");
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
