//! A conversation at the terminal.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{MODEL, Scene, sampled};
use crate::support::terminal::Terminal;
use crate::support::{Gate, Reply};

fn chat(scene: &Scene, more: &[&str]) -> Terminal {
    let mut terminal = Terminal::start(scene.program(&[&["chat", MODEL], more].concat()).command);
    terminal.until_shown("Ctrl-D ends\r\n\r\n");
    terminal
}

const CTRL_D: &str = "\u{4}";

#[test]
fn the_model_sees_the_whole_conversation() {
    let scene = Scene::new(&[" Hello!", " Bye!"]);
    let mut terminal = chat(&scene, &["--system", "Be brief."]);
    terminal.types("Hi\n");
    scene.service.wait_for_count("asample", 1);
    terminal.types("\"\"\"\n/two\nlines\n\"\"\"\n");
    scene.service.wait_for_count("asample", 2);
    terminal.types(CTRL_D);
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), "Hello!\nBye!\n"), "{shown}");
    assert!(shown.contains(&format!("{MODEL}, using the plain format")), "{shown}");
    let first = "System: Be brief.\n\nUser: Hi\n\nAssistant:";
    assert_eq!(
        scene.prompts(),
        [first.to_owned(), format!("{first} Hello!<|endoftext|>\n\nUser: /two\nlines\n\nAssistant:")]
    );
}

#[test]
fn ctrl_c_stops_the_reply_only() {
    let gate = Arc::<Gate>::default();
    let scene = Scene::held(&gate, &[" never", " Hello!"]);
    let mut terminal = chat(&scene, &[]);
    terminal.types("long\n");
    scene.service.wait_for_count("retrieve_future", 1);
    terminal.interrupt();
    terminal.until_shown("stopped; what you typed is taken back");
    terminal.types("short\n");
    scene.service.wait_for_count("asample", 2);
    terminal.types(CTRL_D);
    let (code, stdout, shown) = terminal.end();
    gate.open();
    assert_eq!((code, stdout.as_str()), (Some(0), "Hello!\n"), "{shown}");
    assert_eq!(scene.prompts()[1], "User: short\n\nAssistant:");
}

#[test]
fn ctrl_c_gives_up_what_is_typed() {
    let scene = Scene::new(&[" Hello!"]);
    let mut terminal = chat(&scene, &[]);
    terminal.types("\"\"\"\nwrong\n");
    // Both lines are read.
    terminal.until_shown(&"\u{1b}[1m… \u{1b}[0m".repeat(2));
    terminal.interrupt();
    terminal.until_shown("given up");
    terminal.types("right\n");
    scene.service.wait_for_count("asample", 1);
    terminal.types(CTRL_D);
    let (code, stdout, _) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), "Hello!\n"));
    assert_eq!(scene.prompts(), ["User: right\n\nAssistant:"]);
}

#[test]
fn commands_save_and_reset_the_conversation() {
    let scene = Scene::new(&[" one", " two"]);
    scene.file("taken.jsonl", "mine");
    let mut terminal = chat(&scene, &[]);
    terminal.types("/save chat.jsonl\n");
    terminal.until_shown("there is nothing to save yet");
    terminal.types("a\n");
    scene.service.wait_for_count("asample", 1);
    terminal.types("/save taken.jsonl\n");
    terminal.until_shown("taken.jsonl exists already, and is not overwritten");
    terminal.types("/save chat.jsonl\n");
    terminal.until_shown("saved 2 messages to chat.jsonl");
    terminal.types("/reset\n/nope\n/help\n");
    terminal.until_shown("there is no command /nope");
    terminal.until_shown("/save FILE");
    terminal.types("b\n");
    scene.service.wait_for_count("asample", 2);
    terminal.types("/save other.jsonl\n/save other.jsonl\n/quit\n");
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), "one\ntwo\n"));
    assert_eq!(shown.matches("saved 2 messages to other.jsonl").count(), 2, "{shown}");
    assert_eq!((scene.read("taken.jsonl").as_str(), scene.prompts()[1].as_str()), ("mine", "User: b\n\nAssistant:"));
    let saved: Value = serde_json::from_str(&scene.read("chat.jsonl")).unwrap();
    assert_eq!(saved, json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one"}]}));
}

#[test]
fn a_full_conversation_can_be_reset() {
    let scene = Scene::with(|number| match number {
        1 => Reply::ok(json!({"error": "the prompt is too long", "category": "user"})),
        _ => sampled("yes".bytes().map(u32::from).collect(), "length"),
    });
    let mut terminal = chat(&scene, &["--max-tokens", "3"]);
    terminal.types("a\n");
    scene.service.wait_for_count("asample", 1);
    terminal.types("b\n");
    terminal
        .until_shown("what you typed is taken back; if the conversation has become too long, /reset begins a new one");
    terminal.types("/reset\nc\n");
    scene.service.wait_for_count("asample", 3);
    terminal.types(CTRL_D);
    let (code, _, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(scene.prompts()[2], "User: c\n\nAssistant:");
}

#[test]
fn a_failed_sample_does_not_end_the_conversation() {
    let scene = Scene::with(|number| match number {
        0 => Reply::ok(json!({"error": "the prompt is too long", "category": "user"})),
        1 => sampled("cut".bytes().map(u32::from).collect(), "length"),
        _ => unreachable!(),
    });
    let mut terminal = chat(&scene, &["--max-tokens", "3"]);
    terminal.types("a\n");
    terminal.until_shown("what you typed is taken back");
    terminal.types("b\n");
    terminal.until_shown("the reply was cut off: see --max-tokens");
    terminal.types(CTRL_D);
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), "cut\n"));
    assert!(shown.contains("the prompt is too long"), "{shown}");
    assert_eq!(scene.prompts()[1], "User: b\n\nAssistant:");
    assert_eq!(scene.samples()[0]["sampling_params"]["max_tokens"], 3);
}

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}]"#;

#[test]
fn calls_ask_for_results_of_tools() {
    let call = |a: u32| format!("<tool_call>\n{{\"name\": \"add\", \"arguments\": {{\"a\": {a}}}}}\n</tool_call>");
    let scene = Scene::new(&[&format!("{}\n{}", call(1), call(2)), "3"]);
    let tools = scene.file("tools.json", TOOLS);
    let mut terminal = chat(&scene, &["--template", "chatml", "--tools", &tools]);
    terminal.types("What is 1 + 2?\n");
    terminal.until_shown("result of add({\"a\":1})");
    terminal.types("one\n");
    terminal.until_shown("result of add({\"a\":2})");
    terminal.types("two\n");
    scene.service.wait_for_count("asample", 2);
    terminal.types(CTRL_D);
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), "add({\"a\":1})\nadd({\"a\":2})\n3\n"), "{shown}");
    assert!(shown.contains("the model may call add"), "{shown}");
    let last = &scene.prompts()[1];
    assert!(["\"add\"", "one", "two"].iter().all(|text| last.contains(text)), "{last}");
}

#[test]
fn calls_left_out_are_said_once() {
    let call = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    let scene = Scene::new(&[&format!("I add.\n{call}"), "1", "Bye."]);
    let template = scene.file("either.jinja", super::EITHER);
    let mut terminal = chat(&scene, &["--template", &template]);
    terminal.types("What is 1 + 0?\n");
    terminal.until_shown("result of add({\"a\":1})");
    terminal.types("1\n");
    scene.service.wait_for_count("asample", 2);
    terminal.types("Bye\n");
    scene.service.wait_for_count("asample", 3);
    terminal.types(CTRL_D);
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), "I add.\nadd({\"a\":1})\n1\nBye.\n"), "{shown}");
    assert_eq!(shown.matches("leaves out calls of tools of message 2").count(), 1, "{shown}");
}

#[test]
fn reasoning_is_dimmed() {
    let scene = Scene::new(&["<think>\nHm.\n</think>\n\nYes."]);
    let template = scene.file("thinking.jinja", super::sample::THINKING);
    let command = scene.program(&["chat", MODEL, "--template", &template]).env("NO_COLOR", "").command;
    let mut terminal = Terminal::with_columns(command, 100);
    terminal.until_shown("Ctrl-D ends\r\n\r\n");
    terminal.types("Is it?\n");
    terminal.until_shown("Yes.");
    terminal.types(CTRL_D);
    let (code, _, shown) = terminal.end();
    assert_eq!(code, Some(0));
    assert!(shown.contains("\u{1b}[2mHm.\u{1b}[0m\r\n\r\nYes."), "{shown:?}");
}

#[test]
fn json_is_not_for_the_terminal() {
    let scene = Scene::new(&[]);
    let (code, stdout, shown) = Terminal::start(scene.program(&["chat", MODEL, "-f", "json"]).command).end();
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(shown.contains("--format json is for conversations from stdin"), "{shown}");
    assert!(scene.service.requests().is_empty());
}
