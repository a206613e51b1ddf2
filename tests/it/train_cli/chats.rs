//! Conversations: the format they get, how many examples they are, and what is refused or lost.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::place::Place;
use crate::cli::program::Done;

const MODEL: &str = "tinkex/bytes-tiny";

/// A template that keeps the reasoning of the last message alone, as those of reasoning models do.
const FORGETFUL: &str = "{% for message in messages %}{% if message.role == 'assistant' %}A:{% if loop.last and message.reasoning_content %}({{ message.reasoning_content }}){% endif %}{{ message.content }}{{ eos_token }}{% elif message.role == 'user' %}U:{{ message.content }}\n{% else %}{{ raise_exception('no ' ~ message.role ~ ' here') }}{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}";

/// A conversation with this many replies, each with reasoning.
fn chat(replies: usize, split: &str) -> String {
    let messages: Vec<Value> = (0..replies)
        .flat_map(|turn| {
            let reply = json!({"role": "assistant", "content": format!("r{turn}"), "reasoning_content": "hm"});
            [json!({"role": "user", "content": format!("q{turn}")}), reply]
        })
        .collect();
    json!({"messages": messages, "split": split}).to_string() + "\n"
}

fn place(server: &LocalServer, lines: &str) -> Place {
    let place = Place::new(&server.base_url());
    fs::write(place.file("chat.jsonl"), lines).unwrap();
    fs::write(place.file("forgetful.jinja"), FORGETFUL).unwrap();
    place
}

fn train(place: &Place, more: &[&str]) -> Done {
    place.run(&[&["train", "chat.jsonl", "--base-model", MODEL, "--rank", "4", "--batch-size", "2"], more].concat())
}

fn metric(place: &Place, output: &str, name: &str) -> Vec<u64> {
    let lines = place.lines(&format!("{output}/metrics.jsonl"));
    lines.iter().map(|line| line[name].as_f64().unwrap().to_bits()).collect()
}

#[test]
fn a_conversation_may_be_several_examples() {
    let server = LocalServer::start().unwrap();
    let place = place(&server, &[chat(3, "train"), chat(2, "test"), chat(1, "train")].concat());
    let forgetful = ["--template", "forgetful.jinja", "--eval-every", "1", "--output", "out"];
    let done = train(&place, &[forgetful.as_slice(), &["--log-every", "1"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("conversations: the template forgetful.jinja, --train-on"), "{}", done.stderr);
    let summary = "3 conversations, 6 examples; the template changes earlier messages later on\n";
    assert!(done.stderr.contains(summary), "{}", done.stderr);
    // Four examples to train on in batches of two; a reply is `(hm)r0` and the token that ends it.
    let lines = place.lines("out/metrics.jsonl");
    let trained: Vec<&Value> = lines.iter().map(|line| &line["trained_tokens"]).collect();
    assert_eq!(trained, [&json!(14), &json!(14)]);
    assert!(lines.iter().all(|line| line["eval_loss"].is_number()), "{lines:?}");

    // Plain conversations are one example each.
    let done = train(&place, &["--template", "plain", "--output", "plain"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("3 conversations, 3 examples\n"), "{}", done.stderr);
    let lost = "3 conversations lost the reasoning of 6 trained messages, which the plain format (`User: …`) leaves out: chat.jsonl:1, chat.jsonl:2, chat.jsonl:3";
    assert!(done.stderr.contains(lost), "{}", done.stderr);
}

#[test]
fn a_resumed_run_finds_the_same_examples() {
    let server = LocalServer::start().unwrap();
    let place = place(&server, &[chat(3, "train"), chat(2, "test"), chat(4, "train")].concat());
    let run = |more: &[&str]| {
        let done = train(&place, &[&["--template", "forgetful.jinja", "--epochs", "3"], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    };
    run(&["--output", "whole"]);
    let steps = metric(&place, "whole", "loss").len();
    assert_eq!(steps, 11, "three epochs of seven examples");
    let forgetful = ["--template", "forgetful.jinja"];
    let begun = train(&place, &[forgetful.as_slice(), &["--steps", "5", "--output", "parts"]].concat());
    assert_eq!(begun.code, Some(0), "{}", begun.stderr);
    run(&["--output", "parts", "--resume", "latest"]);
    for name in ["loss", "trained_tokens"] {
        assert_eq!(metric(&place, "parts", name), metric(&place, "whole", name), "{name}");
    }
    let done =
        train(&place, &[&forgetful, ["--epochs", "3", "--output", "parts", "--resume", "latest"].as_slice()].concat());
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("its checkpoint is from step 11 of 11"), "{}", done.stderr);
}

#[test]
fn resuming_refuses_another_template_or_mode() {
    let server = LocalServer::start().unwrap();
    let place = place(&server, &chat(2, "train"));
    let run = |more: &[&str]| train(&place, &[&["--output", "out"], more].concat());
    assert_eq!(run(&["--steps", "1"]).code, Some(0));
    for (more, why) in [
        (
            ["--template", "forgetful.jinja"],
            "--template was plain when the run started, but is the template forgetful.jinja now",
        ),
        (
            ["--train-on", "all_tokens"],
            "--train-on was all_assistant_messages when the run started, but is all_tokens now",
        ),
        (["--system", "S"], "--system, --tools and --template-arg say something else than when the run started"),
    ] {
        let done = run(&[&["--steps", "2", "--resume", "latest"], more.as_slice()].concat());
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(&format!("error: {why}\nhint: ")), "{}", done.stderr);
    }
    let done = run(&["--steps", "2", "--resume", "latest", "--template", "chatml"]);
    let why = "error: --template was plain when the run started, but is the built-in template chatml now\n";
    assert!(done.code == Some(2) && done.stderr.contains(why), "{}", done.stderr);
    // The same template by another name.
    let done = run(&["--steps", "2", "--resume", "latest", "--template", "plain"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn all_bad_lines_are_named_at_once() {
    let server = LocalServer::start().unwrap();
    let mut lines = String::new();
    for line in 1..=50 {
        match line % 2 {
            0 => writeln!(lines, "{{\"messages\": []}}").unwrap(),
            _ => write!(lines, "{}", chat(1, "train")).unwrap(),
        }
    }
    let place = place(&server, &lines);
    let done = train(&place, &[]);
    assert_eq!(done.code, Some(2));
    let errors: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("error: chat.jsonl:")).collect();
    assert_eq!(errors.len(), 20, "{}", done.stderr);
    assert!(errors[19].starts_with("error: chat.jsonl:40: no assistant message with content"), "{}", errors[19]);
    assert!(
        done.stderr.ends_with("hint: correct or remove these lines: 25 are bad, and the first 20 are named\n"),
        "{}",
        done.stderr
    );
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn conversations_that_the_template_refuses_are_named() {
    let server = LocalServer::start().unwrap();
    let system = chat(1, "train").replacen("[{", "[{\"role\": \"system\", \"content\": \"s\"}, {", 1);
    let place = place(&server, &[chat(1, "train"), system.clone(), chat(1, "train"), system].concat());
    let done = train(&place, &["--template", "forgetful.jinja"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    for line in [2, 4] {
        assert!(done.stderr.contains(&format!("error: chat.jsonl:{line}: ")), "{}", done.stderr);
    }
    assert_eq!(done.stderr.matches("no system here").count(), 2, "{}", done.stderr);
    assert!(done.stderr.contains("hint: correct or remove these 2 lines\n"), "{}", done.stderr);
    assert!(server.requests().iter().all(|request| !request.path.contains("forward")), "{:?}", server.requests());
    assert!(!place.file("runs").exists());
}

#[test]
fn what_the_template_cannot_write_is_refused() {
    let server = LocalServer::start().unwrap();
    let call = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}"#;
    let place = place(&server, call);
    let done = train(&place, &["--template", "forgetful.jinja"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let why = "error: chat.jsonl:1: the conversation has calls of tools, which the template forgetful.jinja leaves out";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    // This format has the IDs of calls in place of their names.
    fs::write(place.file("chat.jsonl"), call.replace("{\"function\": {", "{\"id\": \"call_1\", \"function\": {"))
        .unwrap();
    let done = train(&place, &["--template", "kimi_k2"]);
    let why = "calls of tools whose names the built-in template kimi_k2 does not write; pass another --template, or";
    assert!(done.code == Some(2) && done.stderr.contains(why), "{}", done.stderr);
    fs::write(
        place.file("chat.jsonl"),
        chat(1, "train").replacen('{', "{\"tools\": [{\"function\": {\"name\": \"f\"}}], ", 1),
    )
    .unwrap();
    let done = train(&place, &["--template", "forgetful.jinja"]);
    let why = "error: chat.jsonl:1: the conversation has tools, which the template forgetful.jinja leaves out";
    assert!(done.code == Some(2) && done.stderr.contains(why), "{}", done.stderr);
}

#[test]
fn options_of_conversations_need_some() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    for option in [["--train-on", "all_tokens"], ["--template", "plain"], ["--system", "s"]] {
        let done = place.run(&[&["train", "data.jsonl", "--base-model", MODEL], option.as_slice()].concat());
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("for lines with messages, and data.jsonl has none"), "{}", done.stderr);
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn a_cut_says_how_much_is_lost() {
    let server = LocalServer::start().unwrap();
    let place = place(&server, &[chat(1, "train"), chat(3, "train")].concat());
    // `U:q0\nA:` and `(hm)r0` with its end are 14 tokens, and later turns hold 10 tokens of the ones before.
    let limit = ["--template", "forgetful.jinja", "--max-length", "19"];
    let done = train(&place, &limit);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let longer = "error: 2 examples longer than 19 tokens: chat.jsonl:2 example 2 (23 tokens), chat.jsonl:2 example 3 (33 tokens)\n";
    assert!(done.stderr.contains(longer), "{}", done.stderr);
    let done = train(&place, &[&limit, ["--too-long", "truncate", "--output", "cut"].as_slice()].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let cut = "truncated 2 examples longer than 19 tokens, by 4 trained tokens: chat.jsonl:2 example 2 (23 tokens), chat.jsonl:2 example 3 (33 tokens); 1 of them skipped, since none";
    assert!(done.stderr.contains(cut), "{}", done.stderr);
    for action in ["skip", "truncate"] {
        let done = train(&place, &["--max-length", "4", "--too-long", action]);
        let why = "error: all examples of chat.jsonl are too long, so there is nothing to train on\nhint: ";
        assert!(done.code == Some(2) && done.stderr.contains(why), "{}", done.stderr);
    }
    let trained: u64 =
        place.lines("cut/metrics.jsonl").iter().map(|line| line["trained_tokens"].as_u64().unwrap()).sum();
    assert_eq!(trained, 7 + 7 + 3 + 7, "the last step begins the next epoch");
}
