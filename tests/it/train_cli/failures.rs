//! A run that fails keeps its work, and always unloads its model.

use std::fs;

use serde_json::json;
use tinkex::local::LocalServer;

use super::place::Place;
use super::train::scripted;
use crate::cli::program::Done;
use crate::support::{Reply, number_of, result};

const MODEL: &str = "tinkex/bytes-tiny";
const STEPS: [&str; 8] = ["--rank", "4", "--batch-size", "2", "--steps", "12", "--output", "out"];

fn train(place: &Place, more: &[&str]) -> Done {
    place.run(&[&["train", "data.jsonl", "--base-model", MODEL], STEPS.as_slice(), more].concat())
}

/// The command that the hint gives, without the program.
fn resume_arguments(done: &Done) -> String {
    let hint =
        done.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_else(|| panic!("{}", done.stderr));
    let command = hint.split_once(" with: ").unwrap_or_else(|| panic!("{hint}")).1;
    command.to_owned()
}

#[test]
fn the_model_is_unloaded_at_the_end() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let paths = || server.requests().into_iter().map(|request| request.path).collect::<Vec<_>>();
    let unloaded = || paths().iter().filter(|path| path.contains("unload_model")).count();
    assert_eq!(train(&place, &[]).code, Some(0));
    assert_eq!(unloaded(), 1);
    // Also if it fails before the first step.
    let line = format!("{{\"prompt\": \"a\", \"completion\": \"{}\"}}\n", "b".repeat(2000));
    fs::write(place.file("data.jsonl"), line).unwrap();
    fs::remove_dir_all(place.file("out")).unwrap();
    assert_eq!(train(&place, &[]).code, Some(2));
    assert_eq!(unloaded(), 2);
}

#[test]
fn more_runs_than_models_fit() {
    let server = LocalServer::builder().max_models(2).start().unwrap();
    let place = Place::new(&server.base_url());
    for _ in 0..3 {
        let done = train(&place, &[]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        fs::remove_dir_all(place.file("out")).unwrap();
    }
}

#[test]
fn a_failed_step_saves_the_steps_before() {
    // Requests 5 and 6 are the third step; nothing was saved until then.
    let service = scripted(|id| match id.starts_with("forward_backward") && number_of(id) == "5" {
        true => Reply::ok(json!({"error": "datum 1 is too long", "category": "user"})),
        false => result(id),
    });
    let place = Place::new(&service.url());
    let done =
        place.run(&["train", "data.jsonl", "--base-model", "m", "--steps", "9", "--name", "x", "--batch-size", "2"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("datum 1 is too long"), "{}", done.stderr);
    assert!(done.stderr.contains("datums 0, 1, … are data.jsonl:"), "{}", done.stderr);
    // The fourth step was in flight, and was learned.
    assert!(done.stderr.contains("saved tinker://run/weights/a"), "{}", done.stderr);
    assert!(done.stderr.contains("resume from step 4 with: "), "{}", done.stderr);
    let saves = service.requests_to("save_weights");
    assert_eq!((saves.len(), &saves[0].body["path"]), (1, &json!("x-000004")));
    assert_eq!(place.lines("runs/x/checkpoints.jsonl"), [json!({"step": 4, "path": "tinker://run/weights/a"})]);
    assert_eq!(service.requests_to("unload_model").len(), 1);
    // What the third step would have learned is missing.
    let missing = "the weights are not those of an undisturbed run, since step 3 failed and requests after it were carried out: only a new run gives those";
    assert!(done.stderr.contains(missing), "{}", done.stderr);
    let steps: Vec<_> = place.lines("runs/x/metrics.jsonl").iter().map(|line| line["step"].clone()).collect();
    assert_eq!(steps, [1, 2, 4]);
}

#[test]
fn a_checkpoint_before_the_failure_is_offered() {
    // The second step is requests 3 and 4, and its checkpoint 5. The fourth is 8 and 9.
    let service = scripted(|id| match (id.starts_with("forward_backward"), number_of(id)) {
        (true, "8") => Reply::ok(json!({"error": "out of memory", "category": "server"})),
        (false, "5") => Reply::ok(json!({"path": "tinker://run/weights/exact", "type": "save_weights"})),
        _ => result(id),
    });
    let place = Place::new(&service.url());
    let done = place.run(&[
        "train",
        "data.jsonl",
        "--base-model",
        "m",
        "--steps",
        "9",
        "--save-every",
        "2",
        "--batch-size",
        "2",
    ]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let instead = "since step 4 failed and requests after it were carried out: to get those, resume with --resume tinker://run/weights/exact instead";
    assert!(done.stderr.contains(instead) && done.stderr.contains("resume from step 5 with: "), "{}", done.stderr);
}

#[test]
fn work_that_cannot_be_saved_stays_loaded() {
    let service = scripted(|id| match (id.split(':').next().unwrap(), number_of(id)) {
        ("forward_backward", "3") | ("save_weights", _) => {
            Reply::ok(json!({"error": "out of memory", "category": "server"}))
        }
        _ => result(id),
    });
    let place = Place::new(&service.url());
    let done = place.run(&["train", "data.jsonl", "--base-model", "m", "--steps", "9", "--batch-size", "2"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let hint = "saving a checkpoint of step 3 failed as well: ";
    assert!(
        done.stderr.contains("out of memory (request forward_backward") && done.stderr.contains(hint),
        "{}",
        done.stderr
    );
    assert_eq!(service.requests_to("unload_model").len(), 0);
}

#[cfg(unix)]
#[test]
fn a_full_disk_loses_no_step() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let whole = train(&place, &[]);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    fs::rename(place.file("out"), place.file("whole")).unwrap();
    // No file can grow beyond 1024 bytes, which is about seven lines of metrics.
    let program = env!("CARGO_BIN_EXE_tinkex");
    let command = format!("{program} train data.jsonl --base-model {MODEL} {}", STEPS.join(" "));
    let full = place.shell(&format!(r#"sh -c "trap '' XFSZ; ulimit -f 2; exec {command}""#)).finish();
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.contains("cannot write out/metrics.jsonl: "), "{}", full.stderr);
    let checkpoint = place.lines("out/checkpoints.jsonl")[0].clone();
    assert!(full.stderr.contains(checkpoint["path"].as_str().unwrap()), "{}", full.stderr);

    let resumed = place.shell(&resume_arguments(&full)).finish();
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    let losses = |file: &str| place.lines(file).iter().map(|line| line["loss"].to_string()).collect::<Vec<_>>();
    let after = losses("whole/metrics.jsonl").split_off(checkpoint["step"].as_u64().unwrap() as usize);
    assert!(!after.is_empty() && losses("out/metrics.jsonl").ends_with(&after), "{after:?}");
}

#[test]
fn a_checkpoint_that_is_not_recorded_is_named() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let mut running = place.start(
        &[
            &["train", "data.jsonl", "--base-model", MODEL, "--log-every", "1", "--save-every", "40"],
            &STEPS[..2],
            &["--steps", "100000", "--output", "out"],
        ]
        .concat(),
    );
    running.until("step 2/");
    fs::remove_file(place.file("out/checkpoints.jsonl")).unwrap();
    fs::create_dir(place.file("out/checkpoints.jsonl")).unwrap();
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("cannot write out/checkpoints.jsonl"), "{}", done.stderr);
    let command = resume_arguments(&done);
    assert!(command.contains("--resume tinker://") && command.ends_with("-000040"), "{command}");
}

#[test]
fn a_loss_without_a_number_is_not_saved() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let done = train(&place, &["--learning-rate", "3e38"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("the loss of step 2 is NaN; lower --learning-rate"), "{}", done.stderr);
    assert!(done.stderr.contains("no checkpoint was saved, since"), "{}", done.stderr);
    assert!(!done.stderr.contains("resume from step"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(place.file("out/checkpoints.jsonl")).unwrap(), "");
    // That of the first step is after its update.
    fs::remove_dir_all(place.file("out")).unwrap();
    let done = train(&place, &["--learning-rate", "3e38", "--eval-every", "1"]);
    assert!(done.stderr.contains("the eval loss of step 1 is NaN"), "{}", done.stderr);
}
