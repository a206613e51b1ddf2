//! `train --show`: examples with what is trained marked, without a service.

use std::fs;

use serde_json::{Value, json};

use super::place::Place;
use crate::cli::program::Done;

const SMOLLM2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/tokenizers/smollm2");
/// Nothing listens there.
const NO_SERVICE: &str = "http://127.0.0.1:9";
const CHAT: &str = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "<|endoftext|>?"}, {"role": "assistant", "content": "Bye"}]}"#;

fn place(lines: &str) -> Place {
    let place = Place::new(NO_SERVICE);
    fs::write(place.file("chat.jsonl"), lines).unwrap();
    place
}

/// Without a key, since nothing is asked of the service.
fn show(place: &Place, more: &[&str]) -> Done {
    let arguments = [&["train", "chat.jsonl", "--show"], more].concat();
    let done = place.program(&arguments).without_env("TINKER_API_KEY").run();
    assert!(!place.file("runs").exists(), "it leaves no directory");
    done
}

#[test]
fn trained_tokens_are_marked_without_color() {
    let place = place(&format!("{CHAT}\n{{\"prompt\": \"a\", \"completion\": \"b\"}}\n{CHAT}\n"));
    let done = show(&place, &["2", "--base-model", "tinkex/bytes-tiny"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(
        done.stdout,
        "chat.jsonl:1: 85 tokens, 12 trained\n\
         System: Be brief.\n\nUser: Hi\n\nAssistant:⟦ Hello<|endoftext|>⟧\n\nUser: <|endoftext|>?\n\nAssistant:⟦ Bye<|endoftext|>⟧\n\
         \n\
         chat.jsonl:2: 4 tokens, 2 trained\n\
         a\n⟦b<|endoftext|>⟧\n"
    );
    let said = "conversations: the plain format (`User: …`), since the tokenizer bytes has no chat template, --train-on all_assistant_messages\n";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[cfg(unix)]
#[test]
fn trained_tokens_have_a_color_at_a_terminal() {
    use crate::support::terminal::Terminal;

    let place = place(CHAT);
    let program = place.program(&["train", "chat.jsonl", "--show", "1", "--base-model", "tinkex/bytes-tiny"]);
    let (code, _, shown) = Terminal::with_columns(program.command, 100).end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Assistant:\u{1b}[1m\u{1b}[32m Hello<|endoftext|>\u{1b}[0m"), "{shown:?}");
    let program = place.program(&["train", "chat.jsonl", "--show", "1", "--base-model", "tinkex/bytes-tiny"]);
    let (_, _, shown) = Terminal::with_columns(program.env("NO_COLOR", "1").command, 100).end();
    assert!(shown.contains("Assistant:⟦ Hello<|endoftext|>⟧"), "{shown:?}");
}

/// Weights as runs: `[count, weight]`.
fn runs(weights: &Value) -> Vec<Value> {
    let weights: Vec<f64> = weights.as_array().unwrap().iter().map(|weight| weight.as_f64().unwrap()).collect();
    weights.chunk_by(|left, right| left == right).map(|run| json!([run.len(), run[0]])).collect()
}

fn flat(runs: &Value) -> Vec<f64> {
    let run = |run: &Value| vec![run[1].as_f64().unwrap(); run[0].as_u64().unwrap() as usize];
    runs.as_array().unwrap().iter().flat_map(run).collect()
}

#[test]
fn every_mode_trains_what_the_cookbook_does() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/modes/chatml_smollm2.json");
    let fixture: Value = serde_json::from_slice(&fs::read(fixture).unwrap()).unwrap();
    let case = fixture["cases"].as_array().unwrap().iter().find(|case| case["conversation"] == "multi_turn").unwrap();
    let line = json!({"messages": case["messages"]});
    let place = place(&line.to_string());
    for (mode, example) in case["example"].as_object().unwrap() {
        if mode == "customized" {
            continue;
        }
        let example = example.as_str().map_or(example, |same| &case["example"][same]);
        let done = show(&place, &["1", "--tokenizer", SMOLLM2, "--train-on", mode, "--format", "json"]);
        let shown = done.document()["examples"][0].clone();
        let length = shown["tokens"].as_array().unwrap().len();
        // The cookbook goes on after the last message that it trains.
        let tokens = example["tokens"].as_array().unwrap();
        assert_eq!(shown["tokens"].as_array().unwrap()[..], tokens[..length], "{mode}: {}", done.stderr);
        let weights = flat(&example["weights"]);
        assert!(weights[length..].iter().all(|weight| *weight == 0.0), "{mode}");
        assert_eq!(flat(&json!(runs(&shown["weights"]))), weights[..length], "{mode}");
    }
}

#[test]
fn texts_of_users_are_no_special_tokens() {
    let place = place(CHAT);
    let done = show(&place, &["1", "--tokenizer", SMOLLM2]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let format = format!("conversations: the chat template of {SMOLLM2}, --train-on all_assistant_messages\n");
    assert!(done.stderr.contains(&format), "{}", done.stderr);
    let text = "<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n<|im_start|>user\n<|endoftext|>?<|im_end|>\n";
    assert!(done.stdout.contains(text), "{}", done.stdout);
    let document = show(&place, &["1", "--tokenizer", SMOLLM2, "--format", "json"]).document();
    // `<|endoftext|>` is token 0.
    assert!(!document["examples"][0]["tokens"].as_array().unwrap().contains(&json!(0)), "{document}");
}

#[test]
fn tools_and_arguments_reach_the_template() {
    let place = place(
        r#"{"messages": [{"role": "user", "content": "Hi", "mood": "glad"}, {"role": "assistant", "content": "Yo"}], "id": 1}"#,
    );
    let template = "{% if tools %}{{ tools[0].function.name }} {% endif %}{{ style }}\n{% for message in messages %}{{ message.role }} {{ message.mood }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant : {% endif %}";
    fs::write(place.file("own.jinja"), template).unwrap();
    fs::write(place.file("tools.json"), r#"[{"type": "function", "function": {"name": "add"}}]"#).unwrap();
    let own = ["9", "--base-model", "tinkex/bytes-tiny", "--template", "own.jinja"];
    let with = [&own, ["--tools", "tools.json", "--template-arg", "style=bold", "--system", "S"].as_slice()].concat();
    let done = show(&place, &with);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.ends_with("add bold\nsystem : S\nuser glad: Hi\nassistant : ⟦Yo\n⟧\n"), "{}", done.stdout);
    assert!(done.stderr.contains("conversations: the template own.jinja, "), "{}", done.stderr);
    let keys = "these keys have no meaning here: \"id\" (line 1)\n";
    assert!(done.stderr.contains(keys) && !done.stderr.contains("mood"), "{}", done.stderr);
    let plain = show(&place, &["1", "--base-model", "tinkex/bytes-tiny", "--template-arg", "style=bold"]);
    let unread = "error: --template-arg style would change nothing: the plain format (`User: …`), since the tokenizer";
    assert!(plain.code == Some(2) && plain.stderr.contains(unread), "{}", plain.stderr);
    let plain = show(&place, &["1", "--base-model", "tinkex/bytes-tiny"]);
    let keys = "these keys have no meaning here: \"mood\" (line 1)\n";
    assert!(plain.stderr.contains(keys), "{}", plain.stderr);
}

#[test]
fn a_cut_example_is_shown_cut() {
    let place = place(CHAT);
    let bytes = ["1", "--base-model", "tinkex/bytes-tiny", "--max-length", "45"];
    let cut = show(&place, &[bytes.as_slice(), &["--too-long", "truncate"]].concat());
    assert!(cut.stdout.starts_with("chat.jsonl:1: 46 tokens, 7 trained, cut\n"), "{}{}", cut.stdout, cut.stderr);
    // Nothing is left of what is trained.
    let short = ["1", "--base-model", "tinkex/bytes-tiny", "--max-length", "20", "--too-long", "truncate"];
    let none = show(&place, &short);
    assert!(none.stdout.starts_with("chat.jsonl:1: 21 tokens, 0 trained, too long, skipped\n"), "{}", none.stdout);
    let whole = show(&place, &bytes);
    assert!(whole.stdout.starts_with("chat.jsonl:1: 85 tokens, 12 trained, too long"), "{}", whole.stdout);
}

#[test]
fn reasoning_that_is_left_out_is_shown() {
    let place = place(&CHAT.replace("\"content\": \"Bye\"", "\"content\": \"Bye\", \"reasoning\": \"hm\""));
    let done = show(&place, &["1", "--base-model", "tinkex/bytes-tiny"]);
    let title = "chat.jsonl:1: 85 tokens, 12 trained, reasoning left out\n";
    assert!(done.stdout.starts_with(title), "{}{}", done.stdout, done.stderr);
}
