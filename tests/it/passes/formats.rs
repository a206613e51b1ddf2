//! The format of a pass is found out, once for each service, and nothing is run twice.

use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn};
use tinkex::{ErrorKind, TrainingClient, Wire};

use super::{counted, datum, generation, number, official, sent, start, trainer};
use crate::support::connect;
use crate::support::pass_server::{
    BOTH, BOTH_BY_ACCEPT, CONTIGUOUS, GENERATIONS, Generation, JSON_ONLY, PROTOBUF_ONLY, PROTOBUF_RESULTS, PassServer,
    WITHOUT_FORWARD,
};

/// A step of each kind. Their results tell what was run.
fn steps(trainer: &TrainingClient) {
    let batch = [datum(&[3, 4]), datum(&[5])];
    for number in [1.0, 4.0] {
        let pass = trainer.forward_backward(&batch[..], LossFn::CrossEntropy).unwrap();
        assert_eq!(pass.loss_fn_outputs[0].logprobs(), Some(&[-3.0_f32, -4.0][..]));
        assert_eq!(pass.loss_fn_outputs[1].logprobs(), Some(&[-5.0_f32][..]));
        assert_eq!(pass.metrics["loss:sum"], number);
        let evaluated = trainer.forward([datum(&[6])], LossFn::CrossEntropy).unwrap();
        assert_eq!(evaluated.loss_fn_outputs[0].logprobs(), Some(&[-6.0_f32][..]));
        assert_eq!(trainer.optim_step(AdamParams::default()).unwrap().metrics.unwrap()["step"], number + 2.0);
    }
}

/// What is run in these steps.
const ORDER: [(&str, u64); 6] = [
    ("forward_backward", 1),
    ("forward", 2),
    ("optim_step", 3),
    ("forward_backward", 4),
    ("forward", 5),
    ("optim_step", 6),
];

#[test]
fn every_generation_runs_each_step_once() {
    for row in GENERATIONS {
        let (server, service) = generation(row);
        steps(&trainer(service.config()));
        assert_eq!(server.order(), ORDER, "{}", row.name);
        // A request that was refused for its format is repeated with the same number and key.
        let passes = service.requests().into_iter().filter(|request| request.path.starts_with("forward"));
        let mut keys =
            passes.map(|r| (number(&r), r.header("x-idempotency-key").unwrap().to_owned())).collect::<Vec<_>>();
        keys.dedup();
        assert_eq!(keys.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 4, 5], "{}", row.name);
    }
}

fn formats(row: Generation) -> Vec<(String, &'static str)> {
    let (_, service) = generation(row);
    steps(&trainer(service.config()));
    let passes = sent(&service).into_iter().filter(|(path, ..)| path != "optim_step");
    passes.map(|(path, format, _)| (path, format)).collect()
}

#[test]
fn a_service_refuses_a_format_once() {
    let json = [("forward_backward", "json"), ("forward", "json")];
    let protobuf = [("forward_backward", "protobuf"); 2];
    let both = [("forward_backward", "json"), ("forward_backward", "protobuf"), ("forward_backward", "protobuf")];
    let without_forward = [("forward_backward", "json"), ("forward", "json"), ("forward_backward", "protobuf")];
    let tried = [("forward_backward", "protobuf"), ("forward", "json")];
    let failed = [("forward_backward", "protobuf"), ("forward_backward", "json"), ("forward", "json")];
    for (row, first, second) in [
        (JSON_ONLY, &json[..], &json[..]),
        (PROTOBUF_ONLY, &both, &protobuf),
        (CONTIGUOUS, &both, &protobuf),
        (BOTH, &json, &json),
        (BOTH_BY_ACCEPT, &json, &tried),
        (PROTOBUF_RESULTS, &json, &failed),
        (WITHOUT_FORWARD, &without_forward, &protobuf),
    ] {
        let expected: Vec<_> =
            [first, second].concat().iter().map(|(path, format)| ((*path).to_owned(), *format)).collect();
        assert_eq!(formats(row), expected, "{}", row.name);
    }
}

#[test]
fn clients_of_a_session_share_what_was_learned() {
    let (_, service) = generation(PROTOBUF_ONLY);
    let client = connect(service.config());
    for _ in 0..2 {
        let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        trainer.forward_backward(counted(1), LossFn::CrossEntropy).unwrap();
    }
    let formats: Vec<_> = sent(&service).into_iter().map(|(_, format, _)| format).collect();
    assert_eq!(formats, ["json", "protobuf", "protobuf"]);
}

#[test]
fn the_official_service_gets_protobuf_first() {
    for (row, expected) in [
        (PROTOBUF_ONLY, &["protobuf", "protobuf"][..]),
        (BOTH, &["protobuf", "protobuf"]),
        (Generation { protobuf: 415, ..JSON_ONLY }, &["protobuf", "json", "json"]),
    ] {
        let (server, service) = generation(row);
        let trainer = trainer(official(&service));
        trainer.forward(counted(1), LossFn::CrossEntropy).unwrap();
        trainer.forward_backward(counted(1), LossFn::CrossEntropy).unwrap();
        assert_eq!(server.order(), [("forward", 1), ("forward_backward", 2)], "{}", row.name);
        let formats: Vec<_> = sent(&service).into_iter().map(|(_, format, _)| format).collect();
        assert_eq!(formats, expected, "{}", row.name);
    }
}

#[test]
fn a_chosen_format_is_kept() {
    let (server, service) = generation(PROTOBUF_ONLY);
    let json = trainer(service.config().wire(Wire::Json));
    for (error, status) in [
        (json.forward_backward(counted(1), LossFn::CrossEntropy).unwrap_err(), 415),
        (json.forward(counted(1), LossFn::CrossEntropy).unwrap_err(), 404),
    ] {
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        assert!(error.hint().unwrap().contains("protobuf only") && !error.may_have_taken_effect(), "{error}");
    }
    assert_eq!(json.optim_step(AdamParams::default()).unwrap().metrics.unwrap()["step"], 1.0);
    assert_eq!(server.order(), [("optim_step", 1)]);

    let (server, service) = generation(BOTH);
    steps(&trainer(service.config().wire(Wire::Protobuf)));
    assert_eq!(server.order(), ORDER);
    let is_pass = |(path, ..): &(String, &str, u64)| path.starts_with("forward");
    assert!(sent(&service).iter().filter(|sent| is_pass(sent)).all(|(_, format, _)| *format == "protobuf"));

    let (_, service) = generation(Generation { protobuf: 415, ..JSON_ONLY });
    let protobuf = trainer(service.config().wire(Wire::Protobuf));
    let error = protobuf.forward_backward(counted(1), LossFn::CrossEntropy).unwrap_err();
    assert!(error.status() == Some(415) && error.hint().unwrap().contains("JSON only"), "{error}");
}

#[test]
fn json_alone_does_not_ask_for_protobuf_results() {
    for (wire, asks) in [(Wire::Json, false), (Wire::Auto, true), (Wire::Protobuf, true)] {
        let (_, service) = generation(BOTH);
        trainer(service.config().wire(wire)).forward_backward(counted(1), LossFn::CrossEntropy).unwrap();
        let polls = service.requests_to("retrieve_future");
        let accepts = |accept: &str| accept.contains("application/x-protobuf") && accept.contains("application/json");
        assert!(polls.iter().all(|poll| accepts(poll.header("accept").unwrap()) == asks), "{wire:?}");
    }
}

#[test]
fn a_missing_model_is_no_missing_path() {
    let server = PassServer::with(JSON_ONLY, serde_json::json!({}), |request| {
        use crate::support::{Reply, pass_server::Mishap};
        let missing = serde_json::json!({"detail": "Model not found"});
        (request.path == "forward").then_some(Mishap::Refused(Reply::Json(404, missing)))
    });
    let service = start(&server);
    let trainer = trainer(service.config());
    let error = trainer.forward(counted(1), LossFn::CrossEntropy).unwrap_err();
    assert!(error.status() == Some(404) && error.to_string().contains("Model not found"), "{error}");
    assert_eq!(sent(&service).len(), 1);
}

#[test]
fn what_protobuf_cannot_hold_is_not_sent() {
    let (server, service) = generation(PROTOBUF_ONLY);
    let trainer = trainer(service.config());
    let mut batch: Vec<Datum> = counted(2000).to_vec();
    batch.push(datum(&[u32::MAX]));
    let error = trainer.forward_backward(batch, LossFn::CrossEntropy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("does not fit int32 (datum 2000)"), "{error}");
    assert!(!error.may_have_taken_effect());
    trainer.optim_step(AdamParams::default()).unwrap();
    assert_eq!(server.order(), [("optim_step", 1)]);
}
