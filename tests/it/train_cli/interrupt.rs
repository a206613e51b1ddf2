//! Ctrl-C: the first one stops the training cleanly, the second one immediately.

use std::collections::BTreeSet;
use std::sync::Arc;

use tinkex::local::LocalServer;

use super::place::Place;
use super::train::{FINISH, scripted};
use crate::support::terminal::Terminal;
use crate::support::{Gate, Reply, Service, healthy_service, number_of, result};

const NOTE: &str = "press Ctrl-C again to stop immediately";

#[test]
fn an_interrupted_run_is_saved_and_can_resume() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let arguments =
        ["train", "data.jsonl", "--base-model", "tinkex/bytes-tiny", "--batch-size", "2", "--steps", "100000"];
    let mut running = place.start(&[&arguments, ["--log-every", "1", "--output", "my run"].as_slice()].concat());
    running.until("step 2/100000");
    running.interrupt();
    let done = running.finish();
    assert_eq!((done.code, done.stdout.as_str()), (Some(130), ""), "{}", done.stderr);
    assert!(done.stderr.contains(NOTE), "{}", done.stderr);
    let hint = done.stderr.lines().find_map(|line| line.strip_prefix("hint: resume with: ")).unwrap();
    let made = place.lines("my run/metrics.jsonl").len();
    let saved = place.lines("my run/checkpoints.jsonl");
    assert_eq!(saved.last().unwrap()["step"], made, "{saved:?}");
    assert!(done.stderr.contains(saved.last().unwrap()["path"].as_str().unwrap()), "{}", done.stderr);
    assert!(place.file("my run/loss.svg").is_file());

    let mut running = place.shell(hint);
    running.until(&format!("step {}/100000", made + 2));
    running.interrupt();
    let done = running.finish();
    assert_eq!(done.code, Some(130), "{}", done.stderr);
    let steps: Vec<u64> =
        place.lines("my run/metrics.jsonl").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert!(steps.len() >= made + 2);
    assert!(steps.iter().copied().eq(1..=steps.len() as u64), "{steps:?}");
    assert_eq!(steps.iter().collect::<BTreeSet<_>>().len(), steps.len());
}

#[test]
fn a_second_interrupt_stops_immediately() {
    let service = scripted(|id| if id.starts_with("create_model") { result(id) } else { Reply::Silence });
    let place = Place::new(&service.url());
    let mut running = place.start(&["train", "data.jsonl", "--base-model", "m"]);
    service.wait_until(|requests| requests.iter().any(|request| request.request_id().starts_with("forward_backward")));
    running.interrupt();
    running.until(NOTE);
    running.interrupt();
    let done = running.finish();
    assert_eq!((done.code, done.stdout.as_str()), (Some(130), ""), "{}", done.stderr);
}

#[test]
fn exactly_one_step_is_submitted_ahead() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let service = scripted(move |id| match id.starts_with("forward_backward") && number_of(id) == "1" {
        true => Reply::held(&held, result(id)),
        false => result(id),
    });
    let place = Place::new(&service.url());
    let mut running = place.start(&["train", "data.jsonl", "--base-model", "m", "--steps", "9"]);
    // The second step is submitted while the first is still held. After the interrupt, these two are completed and no other.
    service.wait_for_count("optim_step", 2);
    running.interrupt();
    running.until(NOTE);
    gate.open();
    let done = running.finish();
    assert!(done.stderr.contains("interrupted after step 2 of 9"), "{}", done.stderr);
    assert_eq!(service.requests_to(FINISH)[0].body["reason"]["type"], "interrupted");
    assert_eq!((service.requests_to("forward_backward").len(), service.requests_to("optim_step").len()), (2, 2));
}

#[test]
fn an_interrupt_before_the_first_step_stops_immediately() {
    let service = Service::start(|request| match request.path.as_str() {
        "create_session" => Reply::Silence,
        _ => healthy_service(request),
    });
    let place = Place::new(&service.url());
    let running = place.start(&["train", "data.jsonl", "--base-model", "m"]);
    service.wait_for_count("create_session", 1);
    running.interrupt();
    assert_eq!(running.finish().code, Some(130));
    assert!(!place.file("runs").exists());
}

#[test]
fn a_terminal_shows_a_bar_until_interrupted() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let arguments =
        ["train", "data.jsonl", "--base-model", "tinkex/bytes-tiny", "--steps", "100000", "--save-every", "2"];
    let mut terminal = Terminal::start(place.program(&arguments).command);
    terminal.until_shown("saved tinker://");
    terminal.until_shown(" tokens/s");
    terminal.interrupt();
    terminal.until_shown(NOTE);
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""), "{shown:?}");
    assert!(shown.contains("/100000 loss ") && shown.contains("resume with: "), "{shown:?}");
    // With a bar, no progress lines are printed.
    assert!(!shown.contains("step 1/100000"), "{shown:?}");
}
