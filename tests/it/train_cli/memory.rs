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

#[test]
fn a_large_file_is_not_in_memory() {
    let service = scripted(|id| if id.starts_with("forward_backward") { Reply::Silence } else { result(id) });
    let place = Place::new(&service.url());
    let mut file = BufWriter::new(File::create(place.file("data.jsonl")).unwrap());
    let words = "all work and no play ".repeat(13);
    for line in 0..40_000 {
        writeln!(file, r#"{{"prompt": "{line}", "completion": "{words}"}}"#).unwrap();
    }
    file.flush().unwrap();
    let size = fs::metadata(place.file("data.jsonl")).unwrap().len() as usize;
    let running = place.start(&["train", "data.jsonl", "--base-model", "m", "--steps", "1"]);
    service.wait_for_count("forward_backward", 1);
    let peak = peak(running.pid());
    assert!(size > 12_000_000 && peak < 5 * size, "{peak} bytes for a file of {size}");
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
