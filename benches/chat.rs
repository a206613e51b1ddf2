//! How long a chat of 4 000 tokens takes: its prompt, rendered and encoded, and its training examples.
//!
//! `cargo bench --features chat,tokenizers --bench chat`. Fails if the median of a prompt is over 5 ms. Without `--bench`, as under
//! `cargo test`, it runs each once and asserts nothing. The tokenizer is that of SmolLM2, and so is the first template.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, iter};

use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const TEMPLATES: [&str; 3] = ["smollm2", "qwen3", "gpt_oss"];
const TOKENS: usize = 4000;
const MAX_TIME: Duration = Duration::from_millis(5);

/// The template of a fixture, with its special tokens.
fn template(name: &str) -> ChatTemplate {
    let file = fs::read(format!("{PACKAGE}/tests/golden/chat/templates/{name}.json")).expect("the fixture can be read");
    let fixture: serde_json::Value = serde_json::from_slice(&file).expect("the fixture is JSON");
    let config = fixture["tokenizer_config"].as_object().expect("the fixture has a configuration");
    let source = config["chat_template"].as_str().expect("the fixture has a template");
    let tokens = config.iter().filter(|(name, _)| name.ends_with("_token"));
    tokens.fold(ChatTemplate::new(source).expect("the template is valid"), |template, (name, token)| {
        template.special_token(name, token.as_str().unwrap_or_default())
    })
}

/// A chat about the paragraphs of the README, prose and code, that ends with a question.
fn conversation(tokenizer: &Tokenizer) -> Conversation {
    let readme = fs::read_to_string(format!("{PACKAGE}/README.md")).expect("the README can be read");
    let length = |text: &str| tokenizer.encode_continuation(text).expect("the text can be encoded").len();
    let (mut messages, mut tokens) = (vec![Message::system("You explain a library.")], 0);
    for paragraph in readme.split("\n\n").filter(|paragraph| paragraph.len() > 100) {
        let question = format!("What does this mean?\n\n{paragraph}");
        let answer = paragraph.replace("the", "this");
        tokens += length(&question) + length(&answer);
        if tokens > TOKENS {
            break;
        }
        messages.extend([Message::user(question), Message::assistant(answer)]);
    }
    Conversation::new(messages.into_iter().chain(iter::once(Message::user("And in one word?"))))
}

/// The median and the shortest time of some runs. They differ on a busy machine.
fn times(runs: usize, mut run: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort();
    (times[runs / 2], times[0])
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn main() -> ExitCode {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let runs = if is_bench { 101 } else { 1 };
    let tokenizer = Tokenizer::from_path(format!("{PACKAGE}/tests/golden/chat/tokenizers/smollm2"))
        .expect("the tokenizer can be read");
    let conversation = conversation(&tokenizer);
    let mut trained = conversation.clone();
    trained.messages.pop();

    println!("milliseconds: median (shortest) of {runs} runs");
    println!(
        "{:<9} {:>8} {:>6} {:>14} {:>14} {:>14} {:>14}",
        "template", "messages", "tokens", "rendering", "encoding", "prompt", "examples"
    );
    let mut is_fast = true;
    for name in TEMPLATES {
        let template = template(name);
        let renderer = Renderer::new(template.clone(), tokenizer.clone()).expect("the template fits the tokenizer");
        let prompt = renderer.prompt(&conversation).expect("the chat can be rendered");
        let times = [
            times(runs, || drop(black_box(template.render(&conversation, true)))),
            times(runs, || drop(black_box(tokenizer.encode_continuation(&prompt.text)))),
            times(runs, || drop(black_box(renderer.prompt(&conversation)))),
            times(runs, || drop(black_box(renderer.examples(&trained, TrainOn::AllAssistantMessages)))),
        ];
        let [rendering, encoding, prompting, examples] = times.map(|(median, shortest)| {
            format!("{:.2} ({:.2})", median.as_secs_f64() * 1e3, shortest.as_secs_f64() * 1e3)
        });
        println!(
            "{name:<9} {:>8} {:>6} {rendering:>14} {encoding:>14} {prompting:>14} {examples:>14}",
            conversation.messages.len(),
            prompt.input.len()
        );
        is_fast &= times[2].0 <= MAX_TIME;
    }
    if is_bench && !is_fast {
        println!("the median of a prompt is over {MAX_TIME:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
