//! Training: the files it writes, that the loss decreases, and that a resumed run equals an uninterrupted one.

use std::fs;

use serde_json::{Value, json};
use tinkex::local::LocalServer;
use tinkex::{Config, RestClient};

use super::place::Place;
use crate::cli::program::KEY;
use crate::support::{Reply, Service, healthy_service, is_for_current_services, number_of, result};

/// The end of the session of [`scripted`].
pub const FINISH: &str = "sessions/session-1/finish";

const MODEL: &str = "tinkex/bytes-tiny";
const FAST: [&str; 8] = ["--base-model", MODEL, "--batch-size", "4", "--learning-rate", "0.01", "--log-every", "1"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "data.jsonl"], FAST.as_slice(), more].concat()
}

fn losses(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["loss"].as_f64().unwrap().to_bits()).collect()
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn training_learns_and_writes_its_record() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let trained =
        place.run(&train(&["--steps", "12", "--save-every", "5", "--eval-every", "6", "--name", "pig", "-f", "json"]));
    let report = trained.document();
    assert_eq!((&report["steps"], &report["name"]), (&12.into(), &"pig".into()));

    let metrics = place.lines("runs/pig/metrics.jsonl");
    assert_eq!(numbers(&metrics), (1..=12).collect::<Vec<_>>());
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    assert!(loss(&metrics[11]) < 0.6 * loss(&metrics[0]), "{metrics:?}");
    assert_eq!(report["loss"], metrics[11]["loss"]);
    // An untrained model is about as good as chance: ln 256 is 5.5 nats per byte.
    assert!((4.0..8.0).contains(&loss(&metrics[0])), "{metrics:?}");
    let evaluated: Vec<u64> =
        numbers(&metrics.iter().filter(|m| !m["eval_loss"].is_null()).cloned().collect::<Vec<_>>());
    assert_eq!(evaluated, [6, 12]);
    let tokens = metrics[0]["tokens"].as_u64().unwrap();
    assert!(tokens > metrics[0]["trained_tokens"].as_u64().unwrap());

    let checkpoints = place.lines("runs/pig/checkpoints.jsonl");
    assert_eq!(numbers(&checkpoints), [5, 10, 12]);
    let config = Config::builder().base_url(server.base_url()).api_key(KEY).build_with(|_| None).unwrap();
    let listed: Vec<String> =
        RestClient::new(config).unwrap().user_checkpoints().map(|checkpoint| checkpoint.unwrap().tinker_path).collect();
    for path in checkpoints.iter().map(|line| &line["path"]).chain([&report["checkpoint"], &report["sampler"]]) {
        assert!(listed.iter().any(|listed| path == listed.as_str()), "{path} in {listed:?}");
    }
    assert!(place.read("runs/pig/loss.svg").contains("<polyline class=\"loss\" points=\""));
    assert!(trained.stderr.contains("step 1/12: loss ") && trained.stderr.contains(" tokens/s"), "{}", trained.stderr);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let whole = place.run(&train(&["--steps", "7", "--seed", "3", "--output", "whole"]));
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    // The two steps after the last checkpoint are repeated.
    let first = place.run(&train(&["--steps", "5", "--seed", "3", "--save-every", "3", "--output", "parts"]));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let at_three = place.lines("parts/checkpoints.jsonl")[0]["path"].as_str().unwrap().to_owned();
    let more = place.run(&train(&["--steps", "7", "--seed", "3", "--output", "parts", "--resume", &at_three]));
    assert_eq!(more.code, Some(0), "{}", more.stderr);
    assert!(!more.stderr.contains("step 3/7") && more.stderr.contains("step 4/7"), "{}", more.stderr);
    let (whole, parts) = (place.lines("whole/metrics.jsonl"), place.lines("parts/metrics.jsonl"));
    assert_eq!(numbers(&parts), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(losses(&parts), losses(&whole));
    let evaluation = |lines: &[Value]| lines[6]["eval_loss"].as_f64().unwrap().to_bits();
    assert_eq!(evaluation(&parts), evaluation(&whole));

    // `latest` is the last checkpoint, at which the run is complete.
    let done = place.run(&train(&["--steps", "7", "--seed", "3", "--output", "parts", "--resume", "latest"]));
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("its checkpoint is from step 7 of 7"), "{}", done.stderr);
}

#[test]
fn chats_are_trained_and_sampled() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let chat = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}"#;
    fs::write(place.file("chat.jsonl"), chat).unwrap();
    let arguments = ["train", "chat.jsonl", "--base-model", MODEL, "--steps", "40", "--learning-rate", "0.01"];
    let report = place.run(&[&arguments, ["--batch-size", "1", "-f", "json"].as_slice()].concat()).document();
    assert!(report["loss"].as_f64().unwrap() < 0.1, "{report}");
    let sampler = report["sampler"].as_str().unwrap();
    let reply = place.run_with(&["sample", "--model", sampler, "--chat", "--temperature", "0"], "hi\n");
    assert_eq!((reply.code, reply.stdout.as_str()), (Some(0), "yo\n"), "{}", reply.stderr);
}

#[test]
fn invalid_input_is_refused_before_any_request() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    fs::write(place.file("bad.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"c\"}\n").unwrap();
    fs::write(place.file("empty.jsonl"), "\n").unwrap();
    fs::create_dir_all(place.file("taken")).unwrap();
    fs::write(place.file("taken/metrics.jsonl"), "{}\n").unwrap();
    for (arguments, what) in [
        (vec!["train", "bad.jsonl"], "bad.jsonl:2: prompt without completion; expected {\"prompt\""),
        (vec!["train", "empty.jsonl"], "empty.jsonl contains no examples"),
        (vec!["train", "missing.jsonl"], "cannot read missing.jsonl"),
        (vec!["train", "data.jsonl", "--learning-rate", "0"], "expected a number greater than 0"),
        (vec!["train", "data.jsonl", "--batch-size", "0"], "expected a whole number from 1"),
        (vec!["train", "data.jsonl", "--resume", "x"], "expected `latest` or the path of a checkpoint"),
        (vec!["train", "data.jsonl", "--resume", "latest"], "no checkpoint to resume from"),
        (
            vec!["train", "data.jsonl", "--output", "taken"],
            "taken already contains a run\nhint: it has no checkpoint to resume from",
        ),
        (vec!["sample", "--model", "", "x"], "a value is required for '--model"),
        (vec!["train", "data.jsonl", "--name", "../x"], "expected letters"),
        (vec!["sample", "--model", "m", "--top-p", "2", "x"], "top_p must be between 0 and 1"),
        (vec!["sample", "--model", "m", "--prompt-file", "missing"], "cannot read missing"),
    ] {
        let done = place.run(&arguments);
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(what), "{arguments:?}: {}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn the_base_model_is_required_among_several() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let done = place.run(&["train", "data.jsonl"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("--base-model") && done.stderr.contains(MODEL), "{}", done.stderr);
    // Nothing was written, so a second try can use the same directory.
    let trained = place.run(&train(&["--steps", "1"]));
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    assert!(place.file("runs/data/metrics.jsonl").is_file());
}

/// A service whose models have the tokenizer `bytes`, with scripted responses to polls.
pub fn scripted(poll: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Service {
    Service::start_current(move |request| match request.path.as_str() {
        FINISH => Reply::no_content(),
        path if is_for_current_services(path) => Reply::Json(404, json!({"detail": "Not Found"})),
        "get_info" => Reply::ok(json!({"model_id": "m", "model_data": {"model_name": "m", "tokenizer_id": "bytes"}})),
        "retrieve_future" => poll(request.request_id()),
        _ => healthy_service(request),
    })
}

#[test]
fn a_failed_step_shows_how_to_resume() {
    // The service counts all requests: 1 and 2 are the first step, 3 is its checkpoint.
    let service = scripted(|id| match id.starts_with("forward_backward") && number_of(id) == "4" {
        true => Reply::ok(json!({"error": "out of memory", "category": "server"})),
        false => result(id),
    });
    let place = Place::new(&service.url());
    let arguments = ["train", "data.jsonl", "--base-model", "m", "--steps", "4", "--save-every", "1", "--name", "x"];
    let done = place.run(&arguments);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("out of memory"), "{}", done.stderr);
    assert!(done.stderr.contains("resume from step 1 with: "), "{}", done.stderr);
    assert_eq!(place.lines("runs/x/metrics.jsonl").len(), 1);
    assert_eq!(place.lines("runs/x/checkpoints.jsonl").len(), 1);
    assert_eq!(service.requests_to(FINISH)[0].body["reason"]["type"], "errored");
}

#[test]
fn decay_and_clipping_reach_the_optimizer() {
    let service = scripted(result);
    let place = Place::new(&service.url());
    let arguments = ["train", "data.jsonl", "--base-model", "m", "--steps", "1", "--output"];
    for (directory, more) in
        [("plain", [].as_slice()), ("set", ["--weight-decay", "0.25", "--grad-clip-norm", "1.5"].as_slice())]
    {
        let done = place.run(&[arguments.as_slice(), &[directory], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let sent = service.requests_to("optim_step").into_iter().map(|request| request.body["adam_params"].clone());
    let sent: Vec<Value> = sent.collect();
    assert_eq!([&sent[0]["weight_decay"], &sent[0]["grad_clip_norm"]], [&Value::Null, &Value::Null]);
    assert_eq!([&sent[1]["weight_decay"], &sent[1]["grad_clip_norm"]], [&json!(0.25), &json!(1.5)]);
}

#[test]
fn a_run_without_steps_blocks_no_other() {
    let service = scripted(|id| match id.starts_with("forward_backward") {
        true => Reply::ok(json!({"error": "out of memory", "category": "server"})),
        false => result(id),
    });
    let mut place = Place::new(&service.url());
    let failed = place.run(&train(&["--steps", "1"]));
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(place.file("runs/data/metrics.jsonl").is_file());
    let server = LocalServer::start().unwrap();
    place.base_url = server.base_url();
    let trained = place.run(&train(&["--steps", "1"]));
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_data_file_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;

    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let name = std::ffi::OsStr::from_bytes(b"b\xffd.jsonl");
    fs::copy(place.file("data.jsonl"), place.path().join(name)).unwrap();
    let mut program = place.program(&["train", "--base-model", MODEL, "--steps", "1"]);
    program.command.arg(name);
    let done = program.run();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn resuming_refuses_other_data_or_models() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let begun = place.run(&train(&["--steps", "1"]));
    assert_eq!(begun.code, Some(0), "{}", begun.stderr);
    let other = ["train", "data.jsonl", "--base-model", "tinkex/bytes-small", "--batch-size", "4", "--steps", "2"];
    let model = place.run(&[&other, ["--resume", "latest"].as_slice()].concat());
    assert_eq!(model.code, Some(2), "{}", model.stderr);
    assert!(model.stderr.contains("the base model of the checkpoint is tinkex/bytes-tiny"), "{}", model.stderr);
    let more = place.read("data.jsonl") + &place.read("data.jsonl");
    fs::write(place.file("data.jsonl"), more).unwrap();
    let data = place.run(&train(&["--steps", "2", "--resume", "latest"]));
    assert_eq!(data.code, Some(2), "{}", data.stderr);
    assert!(data.stderr.contains("the SHA-256 of the data file"), "{}", data.stderr);
}
