//! The numbers of training requests: none is left out, and none is used for two requests that the service may have seen.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LossFn};
use tinkex::{ConfigBuilder, ErrorKind, TrainingClient};

use super::{counted, sent, start, trainer};
use crate::support::pass_server::{BOTH, CONTIGUOUS, Generation, Mishap, PassServer, lost};
use crate::support::{Gate, Reply, Service};

/// A server to which this happens to requests to a path, in turn.
pub(super) fn server(
    generation: Generation,
    path: &'static str,
    mishaps: impl Fn(usize) -> Option<Mishap> + Send + Sync + 'static,
) -> PassServer {
    PassServer::in_turn(generation, json!({"billing_exception_max_pause_duration_sec": 0}), path, mishaps)
}

/// A client that makes one attempt of each submission.
pub(super) fn hasty(service: &Service) -> ConfigBuilder {
    let manual = ManualClock::new();
    service.config().clock(manual.clock()).max_retries(0).timeout_submit(Duration::from_millis(999))
}

pub(super) fn pass(trainer: &TrainingClient) -> tinkex::Result<f64> {
    trainer.forward_backward(counted(2), LossFn::CrossEntropy).map(|output| output.metrics["loss:sum"])
}

pub(super) fn step(trainer: &TrainingClient) -> tinkex::Result<f64> {
    trainer.optim_step(AdamParams::default()).map(|response| response.metrics.unwrap()["step"])
}

#[test]
fn a_refused_number_goes_to_the_next_request() {
    for status in [400, 401, 402, 403, 404, 409, 413, 422, 429] {
        let refuse = move |nth| (nth == 0).then(|| Mishap::Refused(Reply::Json(status, json!({"detail": "no"}))));
        let server = server(CONTIGUOUS, "optim_step", refuse);
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        pass(&trainer).unwrap();
        let error = step(&trainer).unwrap_err();
        assert!(error.status() == Some(status) && !error.may_have_taken_effect(), "{error}");
        pass(&trainer).unwrap();
        step(&trainer).unwrap();
        let order = [("forward_backward", 1), ("forward_backward", 2), ("optim_step", 3)];
        assert_eq!(server.order(), order, "{status}");
    }
}

#[test]
fn an_unknown_outcome_is_settled_first() {
    for generation in [BOTH, CONTIGUOUS] {
        for was_run in [false, true] {
            let lose = move |nth| match (nth, was_run) {
                (0, true) => Some(Mishap::Answered(lost())),
                (0, false) => Some(Mishap::Refused(lost())),
                _ => None,
            };
            let server = server(generation, "optim_step", lose);
            let service = start(&server);
            let trainer = trainer(hasty(&service));
            pass(&trainer).unwrap();
            let error = step(&trainer).unwrap_err();
            assert!(error.kind() == ErrorKind::Connect && error.may_have_taken_effect(), "{error}");
            assert_eq!(pass(&trainer).unwrap(), 3.0);
            assert_eq!(step(&trainer).unwrap(), 4.0);
            let order = [("forward_backward", 1), ("optim_step", 2), ("forward_backward", 3), ("optim_step", 4)];
            assert_eq!(server.order(), order, "{} {was_run}", generation.name);
            let steps = service.requests_to("optim_step");
            assert_eq!(
                (&steps[0].raw, steps[0].header("x-idempotency-key")),
                (&steps[1].raw, steps[1].header("x-idempotency-key"))
            );
        }
    }
}

#[test]
fn the_same_request_again_is_the_lost_one() {
    for was_run in [false, true] {
        let lose = move |nth| match (nth, was_run) {
            (0, true) => Some(Mishap::Answered(lost())),
            (0, false) => Some(Mishap::Refused(lost())),
            _ => None,
        };
        let server = server(BOTH, "forward_backward", lose);
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        assert!(pass(&trainer).unwrap_err().may_have_taken_effect());
        assert_eq!(pass(&trainer).unwrap(), 1.0);
        assert_eq!(step(&trainer).unwrap(), 2.0);
        assert_eq!(server.order(), [("forward_backward", 1), ("optim_step", 2)], "{was_run}");
        assert_eq!(sent(&service).len(), 3);
    }
}

#[test]
fn a_pipelined_twin_of_a_lost_request_runs() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let lose = move |nth| (nth == 0).then(|| Mishap::Refused(Reply::held(&held, lost())));
    let server = server(BOTH, "optim_step", lose);
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    let twins = [(); 2].map(|()| trainer.submit_optim_step(AdamParams::default()).unwrap());
    gate.open();
    let [first, second] = twins.map(|twin| twin.wait().map(|response| response.metrics.unwrap()["step"]));
    assert!(first.unwrap_err().may_have_taken_effect());
    assert_eq!(second.unwrap(), 2.0);
    assert_eq!(server.order(), [("optim_step", 1), ("optim_step", 2)]);
}

#[test]
fn a_lost_step_gets_no_new_number() {
    // The server refuses a number that it has seen, so its promise is lost for good.
    let server = server(CONTIGUOUS, "optim_step", |nth| (nth == 0).then(|| Mishap::Answered(lost())));
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    assert!(step(&trainer).unwrap_err().may_have_taken_effect());
    let error = step(&trainer).unwrap_err();
    assert!(error.status() == Some(409) && error.may_have_taken_effect(), "{error}");
    assert_eq!(step(&trainer).unwrap(), 2.0);
    assert_eq!(server.order(), [("optim_step", 1), ("optim_step", 2)]);
}

#[test]
fn a_failure_of_the_server_leaves_no_hole() {
    let fail = |nth| (nth == 0).then(|| Mishap::Refused(Reply::Json(500, json!({"detail": "no"}))));
    let server = server(CONTIGUOUS, "optim_step", fail);
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    pass(&trainer).unwrap();
    assert_eq!(step(&trainer).unwrap_err().status(), Some(500));
    // It may have been run, so it is sent once more.
    assert_eq!(pass(&trainer).unwrap(), 3.0);
    assert_eq!(step(&trainer).unwrap(), 4.0);
    let order = [("forward_backward", 1), ("optim_step", 2), ("forward_backward", 3), ("optim_step", 4)];
    assert_eq!(server.order(), order);
}

#[test]
fn a_failed_number_stays_with_its_request() {
    let fail = |nth| (nth == 0).then(|| Mishap::Refused(Reply::Json(500, json!({"detail": "no"}))));
    let server = server(BOTH, "optim_step", fail);
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    step(&trainer).unwrap_err();
    assert_eq!((pass(&trainer).unwrap(), step(&trainer).unwrap()), (2.0, 3.0));
}

#[test]
fn a_request_that_always_fails_stops_nothing() {
    for generation in [BOTH, CONTIGUOUS] {
        let fail = |_| Some(Mishap::Refused(Reply::Json(500, json!({"detail": "no"}))));
        let server = server(generation, "optim_step", fail);
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        assert!(step(&trainer).unwrap_err().may_have_taken_effect());
        pass(&trainer).unwrap();
        pass(&trainer).unwrap();
        assert_eq!((server.runs().len(), service.requests_to("optim_step").len()), (2, 2), "{}", generation.name);
    }
}

#[test]
fn a_request_that_is_always_lost_stops_nothing() {
    let server = server(CONTIGUOUS, "optim_step", |_| Some(Mishap::Refused(lost())));
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    step(&trainer).unwrap_err();
    assert_eq!(pass(&trainer).unwrap(), 1.0);
    assert_eq!(pass(&trainer).unwrap(), 2.0);
    assert_eq!(service.requests_to("optim_step").len(), 2);
}

#[test]
fn an_unwritten_request_takes_no_number() {
    let server = PassServer::new(CONTIGUOUS);
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    let late = trainer.with_timeout_operation(Some(Duration::from_nanos(1)));
    assert!(late.optim_step(AdamParams::default()).is_err());
    assert_eq!(step(&trainer).unwrap(), 1.0);
}

#[test]
fn an_unload_keeps_an_unknown_outcome() {
    let server = server(BOTH, "optim_step", |nth| (nth == 0).then(|| Mishap::Answered(lost())));
    let passes = server.clone();
    let service = Service::start_current(move |request| match &*request.path {
        "unload_model" => Reply::Json(404, json!({"detail": "Not Found"})),
        _ => passes.reply(request),
    });
    let trainer = trainer(hasty(&service));
    assert!(step(&trainer).unwrap_err().may_have_taken_effect());
    assert_eq!(trainer.unload_model().unwrap_err().status(), Some(404));
    // The service would return the promise of the step for its number.
    assert_eq!(trainer.save_state("a").unwrap().path, "tinker://run/weights/2");
    assert_eq!(server.order(), [("optim_step", 1), ("save_weights", 2)]);
}

#[test]
fn an_empty_400_frees_no_number() {
    let bare = || Reply::Full { status: 400, headers: Vec::new(), body: Vec::new() };
    let server = server(BOTH, "optim_step", move |nth| match nth {
        0 => Some(Mishap::Answered(lost())),
        1 => Some(Mishap::Refused(bare())),
        _ => None,
    });
    let service = start(&server);
    let trainer = trainer(hasty(&service));
    assert!(step(&trainer).unwrap_err().may_have_taken_effect());
    // A proxy sends it for a request that may have arrived, as this one had.
    assert_eq!(pass(&trainer).unwrap(), 2.0);
    assert_eq!(server.order(), [("optim_step", 1), ("forward_backward", 2)]);
}

#[test]
fn an_impossible_expected_number_is_not_believed() {
    for expected in [u64::MAX, u64::from(u32::MAX)] {
        let detail = format!("Sequence conflict: expected {expected}, got 1");
        let refuse = move |nth| (nth == 0).then(|| Mishap::Refused(Reply::Json(409, json!({ "detail": detail }))));
        let server = server(BOTH, "optim_step", refuse);
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        assert_eq!(step(&trainer).unwrap_err().status(), Some(409));
        assert_eq!((pass(&trainer).unwrap(), step(&trainer).unwrap()), (2.0, 3.0));
    }
}

#[test]
fn a_refusal_of_the_repeated_request_settles_it() {
    for status in [403, 404, 405, 410] {
        let refuse = move |nth| {
            Some(Mishap::Refused(match nth {
                // A reused connection that is lost: the request is sent again at once.
                0 => Reply::Raw(Vec::new()),
                _ => Reply::Json(status, json!({"detail": "no"})),
            }))
        };
        let server = server(CONTIGUOUS, "optim_step", refuse);
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        pass(&trainer).unwrap();
        assert_eq!(step(&trainer).unwrap_err().status(), Some(status));
        assert_eq!(pass(&trainer).unwrap(), 2.0, "{status}");
        assert_eq!(service.requests_to("optim_step").len(), 3);
    }
}
