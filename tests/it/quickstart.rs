//! The quickstart with invalid data files.

use std::fs;
use std::process::{Command, Output};

use tempfile::tempdir;

use crate::support::example;

/// Runs the example on a file of these bytes.
fn quickstart(data: &[u8]) -> Output {
    let folder = tempdir().unwrap();
    let file = folder.path().join("data.jsonl");
    fs::write(&file, data).unwrap();
    Command::new(example("quickstart")).arg(&file).env_remove("TINKER_BASE_URL").output().unwrap()
}

#[test]
fn a_malformed_line_is_named_before_training() {
    let good = br#"{"prompt": "cat", "completion": "atcay"}"#;
    for (name, bad) in [
        ("shape", &br#"{"prompt": "dog"}"#[..]),
        ("json", b"dog, ogday"),
        ("empty", br#"{"prompt": "dog", "completion": ""}"#),
        ("utf8", b"{\"prompt\": \"\xff\", \"completion\": \"x\"}"),
    ] {
        let output = quickstart(&[good, &b"\n\n"[..], bad, b"\n"].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(error.contains(".jsonl:3: "), "{name}: {error}");
        assert!(output.stdout.is_empty(), "{name}: something was trained");
    }
}

#[test]
fn a_file_without_training_examples_is_refused() {
    let output = quickstart(br#"{"prompt": "cat", "completion": "atcay", "split": "test"}"#);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no examples to train on"));
}
