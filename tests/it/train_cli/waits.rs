//! What the program shows while the service makes it wait. It has the system's clock, so the lines come after ten seconds of real
//! time; one test waits for all of them at once.

use std::sync::Arc;

use serde_json::json;

use super::place::Place;
use crate::support::terminal::Terminal;
use crate::support::{Gate, Reply, Service, healthy_service};

#[test]
fn each_command_shows_why_it_waits() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let service = Service::start(move |request| match &*request.path {
        "create_model" => Reply::Json(503, json!({"detail": "no GPU free"})),
        "asample" => Reply::Json(429, json!({"detail": "slow down"})),
        "training_runs/held" => Reply::held(&held, Reply::Json(404, json!({"detail": "no such run"}))),
        "get_info" => Reply::ok(json!({"model_id": "m", "model_data": {"model_name": "m", "tokenizer_id": "bytes"}})),
        _ => healthy_service(request),
    });
    let place = Place::new(&service.url());
    let train = |output| ["train", "data.jsonl", "--base-model", "m", "--output", output];
    let mut bar = Terminal::start(place.program(&train("bar")).command);
    let mut lines = place.start(&train("lines"));
    let mut sample = place.start(&["sample", "-m", "m", "--tokenizer", "bytes", "hello"]);
    let mut info = Terminal::start(place.program(&["run", "info", "held"]).command);
    lines.until("503 no GPU free, ");
    sample.until("429 slow down, ");
    bar.until_shown("503 no GPU free; continues for up to ");
    info.until_shown("no response yet; gives up after ");
    gate.open();
    let (code, _, shown) = info.end();
    assert!(code == Some(1) && shown.contains("no such run"), "{shown:?}");
    for (running, line) in [(lines, "create_lora_training_client: waiting for "), (sample, "sample: waiting for ")] {
        running.interrupt();
        let done = running.finish();
        assert!(done.code == Some(130) && done.stderr.contains(line), "{done:?}");
    }
    bar.interrupt();
    let (code, _, shown) = bar.end();
    assert_eq!(code, Some(130));
    assert!(!shown.contains("ETA") && !shown.contains("left"), "{shown:?}");
    assert!(!shown.contains("WARN"), "it is said once: {shown:?}");
    let line = shown.split('\r').find(|line| line.contains("503 no GPU free")).unwrap();
    assert!(!line.contains(" B/"), "the file was read long ago: {line:?}");
}
