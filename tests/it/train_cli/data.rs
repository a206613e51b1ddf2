//! The data file: what is learned, held out or refused, and examples that are too long.

use std::fs;

use tinkex::local::LocalServer;

use super::place::Place;
use crate::cli::program::Done;

const MODEL: &str = "tinkex/bytes-tiny";

fn train(place: &Place, more: &[&str]) -> Done {
    let arguments = ["train", "lines.jsonl", "--base-model", MODEL, "--rank", "4", "--steps", "1", "--output", "out"];
    fs::remove_dir_all(place.file("out")).ok();
    place.run(&[&arguments, more].concat())
}

fn trained_tokens(place: &Place) -> u64 {
    place.lines("out/metrics.jsonl")[0]["trained_tokens"].as_u64().unwrap()
}

#[test]
fn a_weight_of_zero_is_not_learned() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let mut counts = Vec::new();
    for weight in ["", ", \"weight\": 0", ", \"weight\": 1", ", \"weight\": null"] {
        let line = format!(
            r#"{{"messages": [{{"role": "user", "content": "Hi"}}, {{"role": "assistant", "content": "Yo"{weight}}}, {{"role": "user", "content": "2"}}, {{"role": "assistant", "content": "B"}}]}}"#
        );
        fs::write(place.file("lines.jsonl"), line).unwrap();
        let done = train(&place, &["--batch-size", "1"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        counts.push(trained_tokens(&place));
    }
    // " Yo" and " B", each with the token that ends it.
    assert_eq!(counts, [7, 3, 7, 7]);
}

#[test]
fn files_with_marks_and_blanks_are_read() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let lines = "\u{FEFF}{\"prompt\": \"a\", \"completion\": \"b\"}\r\n\r\n \t\r\n{\"prompt\": \"é\", \"completion\": \"dd\", \"split\": \"Test \"}\r\n";
    fs::write(place.file("lines.jsonl"), lines).unwrap();
    let done = train(&place, &["--batch-size", "1"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(trained_tokens(&place), 2);
    assert!(place.lines("out/metrics.jsonl")[0]["eval_loss"].is_number());
}

#[test]
fn a_value_that_is_unknown_is_refused() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    for (line, why) in [
        (r#"{"prompt": "a", "completion": "b", "split": "tset"}"#, "\"split\" is \"tset\"; expected one of train"),
        (r#"{"messages": [{"role": "assistant", "content": "a", "weight": 2}]}"#, "is 2; expected 0 or 1"),
    ] {
        fs::write(place.file("lines.jsonl"), format!("{{\"prompt\": \"a\", \"completion\": \"b\"}}\n{line}\n"))
            .unwrap();
        let done = train(&place, &[]);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.starts_with("error: lines.jsonl:2: ") && done.stderr.contains(why), "{}", done.stderr);
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn keys_without_a_meaning_are_named() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    fs::write(
        place.file("lines.jsonl"),
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": \"b\", \"id\": 1}\n",
    )
    .unwrap();
    let done = train(&place, &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("these keys have no meaning here: \"id\" (line 2)"), "{}", done.stderr);
}

/// Lines with completions of 3, 3000, 5 and 4000 letters. The model's context is 1024 tokens.
fn write_long_lines(place: &Place) {
    let line = |letters: usize| format!("{{\"prompt\": \"a\", \"completion\": \"{}\"}}\n", "b".repeat(letters));
    fs::write(place.file("lines.jsonl"), [3, 3000, 5, 4000].map(line).concat()).unwrap();
}

#[test]
fn lines_longer_than_the_context_are_named() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    write_long_lines(&place);
    let done = train(&place, &[]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let expected =
        "error: 2 examples longer than 1024 tokens: lines.jsonl:2 (3002 tokens), lines.jsonl:4 (4002 tokens)";
    assert!(done.stderr.starts_with(expected), "{}", done.stderr);
    assert!(done.stderr.contains("--too-long skip") && !place.file("out").exists(), "{}", done.stderr);
    assert!(server.requests().iter().all(|request| !request.path.contains("forward")), "{:?}", server.requests());

    let skipped = train(&place, &["--too-long", "skip", "--batch-size", "2"]);
    assert_eq!(skipped.code, Some(0), "{}", skipped.stderr);
    assert!(skipped.stderr.contains("skipped 2 examples longer than 1024 tokens: lines.jsonl:2"), "{}", skipped.stderr);
    assert_eq!(trained_tokens(&place), 4 + 6);

    let truncated = train(&place, &["--too-long", "truncate", "--batch-size", "4"]);
    assert_eq!(truncated.code, Some(0), "{}", truncated.stderr);
    assert!(truncated.stderr.contains("truncated 2 examples longer than 1024"), "{}", truncated.stderr);
    // The prompt and its line break are two of the 1025 tokens.
    assert_eq!(trained_tokens(&place), 4 + 6 + 2 * 1023);
}

#[test]
fn a_limit_of_lengths_can_be_lower() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    write_long_lines(&place);
    let done = train(&place, &["--max-length", "6", "--too-long", "skip", "--batch-size", "1"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("skipped 3 examples longer than 6 tokens"), "{}", done.stderr);
    let done = train(&place, &["--max-length", "2000"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(
        done.stderr.contains("--max-length 2000 is more than the model's context of 1024 tokens"),
        "{}",
        done.stderr
    );
    let done = train(&place, &["--max-length", "1", "--too-long", "truncate"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("nothing to train on"), "{}", done.stderr);
}

#[cfg(unix)]
#[test]
fn a_pipe_can_be_the_data_file() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let program = env!("CARGO_BIN_EXE_tinkex");
    let line =
        format!("sh -c 'cat data.jsonl | {program} train /dev/stdin --base-model {MODEL} --steps 1 --output out'");
    let done = place.shell(&line).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(place.lines("out/metrics.jsonl").len(), 1);
}
