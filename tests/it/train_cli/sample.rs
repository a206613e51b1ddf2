//! Sampling: where the prompt comes from, and that stdout has only the text or one document.

use std::fs;

use tinkex::local::LocalServer;

use super::place::Place;

const ASK: [&str; 7] = ["sample", "--model", "tinkex/bytes-tiny", "--max-tokens", "5", "--seed", "1"];

#[test]
fn the_prompt_is_argument_file_or_stdin() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    fs::write(place.file("prompt.txt"), "once upon").unwrap();
    let text = place.run(&[&ASK, ["once upon"].as_slice()].concat());
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""));
    assert!(text.stdout.ends_with('\n') && text.stdout.len() > 1, "{:?}", text.stdout);
    for other in
        [place.run(&[&ASK, ["--prompt-file", "prompt.txt"].as_slice()].concat()), place.run_with(&ASK, "once upon")]
    {
        assert_eq!((other.code, &other.stdout), (Some(0), &text.stdout), "{}", other.stderr);
    }
}

#[test]
fn the_document_has_tokens_and_logprobs() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let document = place.run(&[&ASK, ["-n", "2", "--format", "json", "hé"].as_slice()].concat()).document();
    assert_eq!(document["prompt"], "hé");
    assert_eq!(document["prompt_tokens"], serde_json::json!([104, 195, 169]));
    let samples = document["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    for sample in samples {
        let count = sample["tokens"].as_array().unwrap().len();
        assert!((1..=5).contains(&count));
        assert_eq!(sample["logprobs"].as_array().unwrap().len(), count);
        assert!(["stop", "length"].contains(&sample["stop_reason"].as_str().unwrap()));
        assert!(sample["text"].is_string());
    }
}

#[test]
fn unknown_models_and_missing_tokenizers_are_errors() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let unknown = place.run(&["sample", "--model", "no/such", "x"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert!(unknown.stderr.starts_with("error: "), "{}", unknown.stderr);
    // Each command takes the option of the other one, too.
    for command in [
        "sample --model tinkex/bytes-smal x",
        "sample --base-model tinkex/bytes-smal x",
        "train data.jsonl --base-model tinkex/bytes-smal",
        "train data.jsonl --model tinkex/bytes-smal",
    ] {
        fs::write(place.file("data.jsonl"), "{\"prompt\":\"a\",\"completion\":\"b\"}\n").unwrap();
        let near = place.run(&command.split(' ').collect::<Vec<_>>());
        let hint = "hint: the service offers tinkex/bytes-small, tinkex/bytes-tiny, tinkex/bytes-medium\n";
        assert!(near.code == Some(1) && near.stderr.ends_with(hint), "{}", near.stderr);
    }
    let tokenizer = place.run(&[&ASK, ["--tokenizer", "acme/words", "x"].as_slice()].concat());
    assert!(tokenizer.code != Some(0) && tokenizer.stdout.is_empty());
    assert!(tokenizer.stderr.contains("tokenizers/acme--words/tokenizer.json"), "{}", tokenizer.stderr);
}

#[test]
fn a_tokenizer_is_read_from_its_file() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    // This tokenizer has the tokens of `bytes` and others, which the model does not have.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizer.json");
    let done = place.run(&[&ASK, ["--tokenizer", file, "-f", "json", "abc"].as_slice()].concat());
    assert!(done.code == Some(1) && done.stderr.contains("261"), "{}{}", done.stdout, done.stderr);
}
