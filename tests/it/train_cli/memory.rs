//! The memory of `train` does not grow with its data file.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use tinkex::local::LocalServer;

use super::place::Place;
use super::train::scripted;
use crate::support::{Reply, result};

/// The most memory that a process had so far, in bytes.
fn peak(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// How much more memory a run takes until its first step with so many lines than with a few, and the size of the file.
fn growth_and_size(lines: usize, line: impl Fn(usize) -> String) -> (usize, usize) {
    let ((few, _), (many, size)) = (peak_and_size(8, &line), peak_and_size(lines, &line));
    (many.saturating_sub(few), size)
}

/// The most memory of a run on a file with this many lines until its first step, and the size of the file.
fn peak_and_size(lines: usize, line: impl Fn(usize) -> String) -> (usize, usize) {
    let service = scripted(|id| if id.starts_with("forward_backward") { Reply::Silence } else { result(id) });
    let place = Place::new(&service.url());
    let mut file = BufWriter::new(File::create(place.file("data.jsonl")).unwrap());
    for number in 0..lines {
        writeln!(file, "{}", line(number)).unwrap();
    }
    file.flush().unwrap();
    let size = fs::metadata(place.file("data.jsonl")).unwrap().len() as usize;
    let running = place.start(&["train", "data.jsonl", "--base-model", "m", "--steps", "1"]);
    service.wait_for_count("forward_backward", 1);
    (peak(running.pid()), size)
}

#[test]
fn a_large_file_is_not_in_memory() {
    let words = "all work and no play ".repeat(13);
    let (growth, size) = growth_and_size(13_000, |line| format!(r#"{{"prompt": "{line}", "completion": "{words}"}}"#));
    assert!(size > 4_000_000 && growth < 2 * size, "{growth} bytes for a file of {size}");
}

#[test]
fn conversations_are_not_in_memory() {
    let words = "all work and no play ".repeat(100);
    let turn = format!(r#"{{"role": "user", "content": "{words}"}}, {{"role": "assistant", "content": "ok"}}"#);
    let line = |_| format!(r#"{{"messages": [{turn}, {turn}], "tools": [], "id": 1}}"#);
    let (growth, size) = growth_and_size(1_000, line);
    assert!(size > 4_000_000 && growth < 2 * size, "{growth} bytes for a file of {size}");
}

/// Checks that the memory for a conversation that is almost the whole file is at most so many times the file.
fn check_huge_conversation(tokenizer: &str, times: usize) {
    let service = scripted(|id| if id.starts_with("forward_backward") { Reply::Silence } else { result(id) });
    let place = Place::new(&service.url());
    let chat = |text: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "{text}"}}, {{"role": "assistant", "content": "ok"}}]}}"#
        )
    };
    let words = "lorem ipsum dolor sit amet ".repeat(1 << 19);
    fs::write(place.file("data.jsonl"), format!("{}\n{}\n", chat("Hi"), chat(&words))).unwrap();
    let size = fs::metadata(place.file("data.jsonl")).unwrap().len() as usize;
    let arguments = ["train", "data.jsonl", "--base-model", "m", "--steps", "1", "--tokenizer", tokenizer];
    let running = place.start(&[&arguments, ["--max-length", "100", "--too-long", "skip"].as_slice()].concat());
    service.wait_for_count("forward_backward", 1);
    let peak = peak(running.pid());
    assert!(peak < times * size, "{peak} bytes for a file of {size}");
}

#[test]
fn a_huge_conversation_is_not_tokenized_whole() {
    // Its tokens alone would take four times its size.
    check_huge_conversation("bytes", 8);
}

#[test]
fn words_of_a_huge_conversation_are_not_tokenized() {
    check_huge_conversation(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/tokenizers/smollm2"), 10);
}

#[test]
fn a_huge_line_is_refused_in_little_memory() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let line = format!("{{\"prompt\": \"a\", \"completion\": \"{}\"}}\n", "b".repeat(12_000_000));
    fs::write(place.file("data.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n".to_owned() + &line).unwrap();
    // In KiB, with the stacks of all threads.
    let program = env!("CARGO_BIN_EXE_tinkex");
    let command = format!("{program} train data.jsonl --base-model tinkex/bytes-tiny --steps 1");
    let done = place.shell(&format!(r#"sh -c "ulimit -d 60000; exec {command}""#)).finish();
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let why = "error: 1 example longer than 1024 tokens: data.jsonl:2 (more than 1024 tokens)";
    assert!(done.stderr.starts_with(why), "{}", done.stderr);
}
