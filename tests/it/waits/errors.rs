//! Errors of time limits say what was heard last, how often it was tried and for how long.

use std::thread;

use serde_json::Value;
use tinkex::types::{AdamParams, LoraConfig, RequestKind};
use tinkex::{ErrorKind, Limit, Pending, RestClient};

use super::*;
use crate::support::connect;

fn first_line(error: &tinkex::Error) -> String {
    error.message().to_owned()
}

#[test]
fn the_end_of_the_submit_window_says_why() {
    for path in ["create_model", "optim_step", "save_weights"] {
        let scene = Scene::refusing(path, 503);
        let client = connect(scene.config().timeout_submit(20 * SECOND));
        let calling = thread::spawn(move || {
            let trainer = client.create_lora_training_client("base", LoraConfig::default())?;
            trainer.optim_step(AdamParams::default())?;
            trainer.save_state("a").map(drop)
        });
        scene.past([1000..=1000, 2000..=2000, 4000..=4000, 8000..=8000]);
        let error = calling.join().unwrap().unwrap_err();
        assert_eq!(first_line(&error), "the server returned 503: no GPU free, 5 tries in 15 s (timeout_submit)");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(503)), "{path}");
    }
}

#[test]
fn a_hanging_attempt_names_the_failure_before() {
    let scene = Scene::with(503, |request, status| match (&*request.path, status) {
        ("optim_step", 503) => Some(Reply::Json(503, json!({"detail": "no GPU free"}))),
        ("optim_step", _) => Some(Reply::Silence),
        _ => None,
    });
    let config = scene.config().timeout_submit(3 * SECOND);
    let trainer = connect(config).create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    scene.manual.until_waiting(|waits| waits.contains(&SECOND));
    scene.status.store(1, Ordering::SeqCst);
    scene.manual.advance(SECOND);
    // The rest of the window passes in real time.
    let error = step.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Submit), "{error}");
    let line = first_line(&error);
    assert!(line.starts_with("the server did not accept the request in time: 503 no GPU free, 2 tries in "), "{line}");
    assert!(line.ends_with(" (timeout_submit)"), "{line}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("no GPU free"), "{source}");
}

#[test]
fn the_end_of_an_operation_says_why() {
    let scene = Scene::refusing("optim_step", 500);
    let client = connect(scene.config()).with_timeout_operation(Some(5 * SECOND));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let calling = thread::spawn(move || trainer.optim_step(AdamParams::default()).map(drop));
    scene.past([1000..=1000, 2000..=2000]);
    // The next wait, of 4 s, would outlast the limit of 5 s.
    let error = calling.join().unwrap().unwrap_err();
    let line = first_line(&error);
    assert!(
        line.starts_with("the operation timed out: 500 no GPU free, 3 tries in ")
            && line.ends_with(" s (timeout_operation)"),
        "{line}"
    );
}

const OPERATION: Duration = Duration::from_millis(300);

fn failing_polls(status: u16) -> (Scene, Pending<Value>) {
    let scene = Scene::refusing("retrieve_future", status);
    let client = connect(scene.config().timeout_progress(5 * SECOND)).with_timeout_operation(Some(OPERATION));
    let pending = client.pending("optim_step:m:1", RequestKind::OptimStep);
    (scene, pending)
}

#[test]
fn a_wait_that_ends_names_the_poll() {
    let (scene, pending) = failing_polls(500);
    let waiting = thread::spawn(move || pending.wait().unwrap_err());
    // The next poll would be later.
    let is_next_poll = |wait: &Duration| (375..=500).contains(&wait.as_millis());
    scene.manual.until_waiting(|waits| waits.first() == Some(&OPERATION) && waits.iter().any(is_next_poll));
    scene.manual.advance(OPERATION);
    let line = first_line(&waiting.join().unwrap());
    assert_eq!(line, "the operation timed out: 500 no GPU free, 1 try in 0.3 s (timeout_operation)");
}

#[test]
fn polls_in_vain_end_with_the_last_response() {
    let (scene, pending) = failing_polls(500);
    scene.past([375..=500, 750..=1000, 1500..=2000, 3000..=4000]);
    let error = pending.wait_timeout(PATIENCE);
    let error = error.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Progress));
    let line = first_line(&error);
    assert!(
        line.starts_with("the server did not report on the request in time: 500 no GPU free, 5 tries in "),
        "{line}"
    );
    assert!(line.ends_with("(timeout_progress)"), "{line}");
}

#[test]
fn a_result_that_is_not_ready_is_named() {
    let scene = Scene::with(1, |request, _| {
        (request.path == "retrieve_future").then(|| Reply::ok(json!({"type": "try_again", "queue_state": "active"})))
    });
    let client = connect(scene.config()).with_timeout_operation(Some(7 * SECOND));
    let pending: Pending<Value> = client.pending("optim_step:m:1", RequestKind::OptimStep);
    let waiting = thread::spawn(move || pending.wait().unwrap_err());
    scene.manual.until_waiting(|waits| waits.contains(&(7 * SECOND)));
    scene.manual.advance(7 * SECOND);
    let line = first_line(&waiting.join().unwrap());
    assert_eq!(line, "the operation timed out: no result yet in 7 s (timeout_operation)");
}

#[test]
fn retried_requests_say_how_often() {
    let scene = Scene::refusing("training_runs/run", 503);
    let rest = RestClient::new(scene.config().max_retries(2).retry_base(SECOND).build_with(|_| None).unwrap()).unwrap();
    let asking = thread::spawn(move || rest.get_training_run("run").unwrap_err());
    scene.past([750..=1000, 1500..=2000]);
    let error = asking.join().unwrap();
    let line = first_line(&error);
    assert!(
        line.starts_with("the server returned 503: no GPU free, 3 tries in ") && error.status() == Some(503),
        "{line}"
    );
}
