//! A service that takes JSON and sends results in protobuf is tried with protobuf, once, and nothing is run twice.

use std::sync::Arc;

use serde_json::{Value, json};
use tinkex::types::{ForwardBackwardOutput, LoraConfig, LossFn, RequestKind};
use tinkex::{ErrorKind, TrainingClient, Wire};

use super::numbers::{hasty, pass, server, step};
use super::{counted, datum, sent, start, trainer};
use crate::support::connect;
use crate::support::pass_server::{
    BOTH, BOTH_BY_ACCEPT, Generation, JSON_ONLY, Mishap, PROTOBUF_RESULTS, PassServer, lost,
};
use crate::support::{Gate, Reply, Service};

/// A server that insists on its numbers, and takes both formats.
const CONTIGUOUS_BOTH: Generation =
    Generation { numbers: crate::support::double::Numbers::Contiguous, ..BOTH_BY_ACCEPT };

/// Format and number of each pass.
fn passes(service: &Service) -> Vec<(&'static str, u64)> {
    let passes = sent(service).into_iter().filter(|(path, ..)| path.starts_with("forward"));
    passes.map(|(_, format, number)| (format, number)).collect()
}

fn refused(status: u16) -> Mishap {
    Mishap::Refused(Reply::Json(status, json!({"detail": "no"})))
}

#[test]
fn a_failed_trial_goes_on_in_json() {
    for protobuf in [415, 422, 500] {
        let server = PassServer::new(Generation { protobuf, ..PROTOBUF_RESULTS });
        let service = start(&server);
        // It makes one attempt of each request, and would fail if it waited.
        let trainer = trainer(hasty(&service));
        for number in [1.0, 2.0, 3.0] {
            assert_eq!(pass(&trainer).unwrap(), number, "{protobuf}");
        }
        assert_eq!(passes(&service), [("json", 1), ("protobuf", 2), ("json", 2), ("json", 3)], "{protobuf}");
        let requests = service.requests_to("forward_backward");
        assert_eq!(requests[1].header("x-idempotency-key"), requests[2].header("x-idempotency-key"));
        let order = [1, 2, 3].map(|number| ("forward_backward", number));
        assert_eq!(server.order(), order, "{protobuf}");
    }
}

#[test]
fn other_clients_of_a_session_try_nothing_again() {
    for (generation, last) in [(PROTOBUF_RESULTS, "json"), (BOTH_BY_ACCEPT, "protobuf")] {
        let service = start(&PassServer::new(generation));
        let client = connect(service.config());
        for count in [2, 1] {
            let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
            for _ in 0..count {
                pass(&trainer).unwrap();
            }
        }
        assert_eq!(*passes(&service).last().unwrap(), (last, 1), "{}", generation.name);
    }
}

#[test]
fn a_trial_that_ran_runs_no_more() {
    for reply in [|| Reply::Json(500, json!({"detail": "no"})), || Reply::Json(504, json!({})), lost] {
        let server =
            server(BOTH_BY_ACCEPT, "forward_backward", move |nth| (nth == 1).then(|| Mishap::Answered(reply())));
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        let results = [(); 3].map(|()| pass(&trainer).unwrap());
        assert_eq!(results, [1.0, 2.0, 3.0]);
        assert_eq!(passes(&service), [("json", 1), ("protobuf", 2), ("json", 2), ("json", 3)]);
        assert_eq!(server.order(), [1, 2, 3].map(|number| ("forward_backward", number)));
    }
}

#[test]
fn a_trial_has_the_datums_of_its_repetition() {
    // A request in JSON has 128 datums, and one in protobuf could have them all.
    for (mishap, formats) in [
        (true, &[("json", 1), ("protobuf", 2), ("json", 2), ("json", 3)][..]),
        (false, &[("json", 1), ("protobuf", 2), ("protobuf", 3)]),
    ] {
        let server = server(BOTH_BY_ACCEPT, "forward_backward", move |nth| {
            (nth == 1 && mishap).then(|| Mishap::Answered(lost()))
        });
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        pass(&trainer).unwrap();
        let output = trainer.forward_backward(counted(200), LossFn::CrossEntropy).unwrap();
        let logprobs: Vec<_> = output.loss_fn_outputs.iter().map(|output| -output.logprobs().unwrap()[0]).collect();
        assert!(logprobs.iter().copied().eq((0_u16..200).map(f32::from)), "{logprobs:?}");
        assert_eq!(passes(&service), formats);
        assert_eq!(server.runs().iter().map(|run| run.data.len()).collect::<Vec<_>>(), [2, 128, 72]);
    }
}

#[test]
fn a_strict_server_tells_that_a_trial_ran() {
    let server = server(CONTIGUOUS_BOTH, "forward_backward", |nth| (nth == 1).then(|| Mishap::Answered(lost())));
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    pass(&trainer).unwrap();
    let error = pass(&trainer).unwrap_err();
    assert!(error.status() == Some(409) && error.may_have_taken_effect(), "{error}");
    assert_eq!(step(&trainer).unwrap(), 3.0);
    assert_eq!(server.order(), [("forward_backward", 1), ("forward_backward", 2), ("optim_step", 3)]);
}

#[test]
fn a_refusal_for_the_moment_ends_no_trial() {
    for status in [401, 402, 409, 429] {
        let server = server(BOTH_BY_ACCEPT, "forward_backward", move |nth| (nth == 1).then(|| refused(status)));
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        pass(&trainer).unwrap();
        let error = pass(&trainer).unwrap_err();
        assert!(error.status() == Some(status) && !error.may_have_taken_effect(), "{error}");
        assert_eq!(pass(&trainer).unwrap(), 2.0);
        assert_eq!(passes(&service), [("json", 1), ("protobuf", 2), ("protobuf", 2)], "{status}");
    }
}

#[test]
fn what_both_formats_refuse_is_no_format() {
    let server = server(BOTH_BY_ACCEPT, "forward_backward", |nth| (1..=2).contains(&nth).then(|| refused(400)));
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    pass(&trainer).unwrap();
    let error = pass(&trainer).unwrap_err();
    assert!(error.status() == Some(400) && !error.may_have_taken_effect(), "{error}");
    assert_eq!([pass(&trainer).unwrap(), pass(&trainer).unwrap()], [2.0, 3.0]);
    let expected = [("json", 1), ("protobuf", 2), ("json", 2), ("protobuf", 2), ("protobuf", 3)];
    assert_eq!(passes(&service), expected);
}

/// A client whose second pass, a trial, was cancelled before it was lost.
fn interrupted(was_run: bool) -> (PassServer, Service, TrainingClient) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let server = server(BOTH_BY_ACCEPT, "forward_backward", move |nth| match (nth, was_run) {
        (1, true) => Some(Mishap::Answered(Reply::held(&held, lost()))),
        (1, false) => Some(Mishap::Refused(Reply::held(&held, lost()))),
        _ => None,
    });
    let service = start(&server);
    let trainer = trainer(service.config());
    pass(&trainer).unwrap();
    let trial = trainer.submit_forward_backward(counted(2), LossFn::CrossEntropy).unwrap();
    service.wait_for_count("forward_backward", 2);
    trial.cancel();
    gate.open();
    assert_eq!(trial.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    (server, service, trainer)
}

#[test]
fn an_interrupted_trial_is_settled_in_json() {
    for was_run in [false, true] {
        let (server, service, trainer) = interrupted(was_run);
        assert_eq!(step(&trainer).unwrap(), 3.0);
        assert_eq!(passes(&service), [("json", 1), ("protobuf", 2), ("json", 2)]);
        assert_eq!(server.order(), [("forward_backward", 1), ("forward_backward", 2), ("optim_step", 3)]);
    }
}

#[test]
fn a_lost_request_keeps_its_format() {
    let server = server(BOTH_BY_ACCEPT, "forward_backward", |nth| (nth == 0).then(|| Mishap::Answered(lost())));
    let service = start(&server);
    let client = connect(hasty(&service));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    assert!(pass(&trainer).unwrap_err().may_have_taken_effect());
    // From here on, the session knows that protobuf may be taken.
    client.pending::<ForwardBackwardOutput>("run-0", RequestKind::ForwardBackward).wait().unwrap();
    assert_eq!([pass(&trainer).unwrap(), pass(&trainer).unwrap()], [1.0, 2.0]);
    assert_eq!(passes(&service), [("json", 1), ("json", 1), ("protobuf", 2)]);
}

fn announcing(settings: Value) -> (PassServer, Service) {
    let server = PassServer::with(BOTH_BY_ACCEPT, settings, |_| None);
    let service = start(&server);
    (server, service)
}

#[test]
fn a_service_may_announce_protobuf() {
    let (json, protobuf) = ("json", "protobuf");
    for (settings, expected) in [
        (json!({}), [json, json, protobuf]),
        (json!({"proto_write_fwdbwd": null}), [json, json, protobuf]),
        (json!({"proto_write_fwdbwd": false}), [json, json, json]),
        (json!({"proto_write_fwdbwd": true}), [protobuf, json, protobuf]),
        (json!({"proto_write_fwdbwd": true, "fwd_via_fwdbwd": true}), [protobuf; 3]),
    ] {
        let (server, service) = announcing(settings.clone());
        let trainer = trainer(service.config());
        pass(&trainer).unwrap();
        trainer.forward(counted(1), LossFn::CrossEntropy).unwrap();
        pass(&trainer).unwrap();
        assert_eq!(passes(&service).iter().map(|(format, _)| *format).collect::<Vec<_>>(), expected, "{settings}");
        assert_eq!(server.order(), [("forward_backward", 1), ("forward", 2), ("forward_backward", 3)]);
    }
}

#[test]
fn what_protobuf_cannot_hold_stays_json() {
    let large = [datum(&[u32::MAX])];
    for generation in [JSON_ONLY, BOTH_BY_ACCEPT] {
        let service = start(&PassServer::new(generation));
        let trainer = trainer(service.config());
        for _ in 0..2 {
            pass(&trainer).unwrap();
            trainer.forward_backward(&large[..], LossFn::CrossEntropy).unwrap();
        }
        let formats: Vec<_> = passes(&service).into_iter().map(|(format, _)| format).collect();
        let second = if generation.protobuf == 200 { "protobuf" } else { "json" };
        assert_eq!(formats, ["json", "json", second, "json"], "{}", generation.name);
    }
}

#[test]
fn a_chosen_format_is_not_tried() {
    for (wire, expected) in [(Wire::Json, "json"), (Wire::Protobuf, "protobuf")] {
        let service = start(&PassServer::new(BOTH_BY_ACCEPT));
        let trainer = trainer(service.config().wire(wire));
        for _ in 0..3 {
            pass(&trainer).unwrap();
        }
        assert_eq!(passes(&service), [1, 2, 3].map(|number| (expected, number)));
    }
}

#[test]
fn results_in_json_start_no_trial() {
    let service = start(&PassServer::new(BOTH));
    let trainer = trainer(service.config());
    for _ in 0..3 {
        pass(&trainer).unwrap();
    }
    assert_eq!(passes(&service), [1, 2, 3].map(|number| ("json", number)));
}

#[cfg(feature = "local")]
#[test]
fn the_local_server_gets_protobuf_second() {
    use tinkex::local::{LocalServer, WireFormats};
    use tinkex::{Config, Proxy};

    let [json, protobuf] = ["application/json", "application/x-protobuf"];
    for (formats, expected) in [
        (WireFormats::Both, vec![json, protobuf, protobuf]),
        (WireFormats::Json, vec![json; 3]),
        (WireFormats::Protobuf, vec![json, protobuf, protobuf, protobuf]),
    ] {
        let server = LocalServer::builder().wire(formats).start().unwrap();
        let config = Config::builder().base_url(server.base_url()).api_key("tml-k").proxy(Proxy::Off);
        let trainer = connect(config).create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default()).unwrap();
        for _ in 0..3 {
            trainer.forward_backward([datum(&[97, 98])], LossFn::CrossEntropy).unwrap();
        }
        let activity = server.activity();
        let sent: Vec<_> =
            activity.requests_to("forward_backward").map(|r| r.header("content-type").unwrap()).collect();
        assert_eq!(sent, expected, "{formats:?}");
    }
}
