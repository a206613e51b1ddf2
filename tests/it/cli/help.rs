//! Help, version, completions and manual pages.

use std::fs;

use tempfile::TempDir;

use super::program::{Volatile, golden, tinkex};

#[test]
fn help_of_every_command() {
    let commands = [
        "",
        "model",
        "model list",
        "run",
        "run list",
        "run info",
        "checkpoint",
        "checkpoint list",
        "checkpoint info",
        "checkpoint publish",
        "checkpoint unpublish",
        "checkpoint set-ttl",
        "checkpoint delete",
        "checkpoint download",
        "session",
        "session list",
        "session info",
        "session export-trace",
        "sampler",
        "sampler info",
        "auth",
        "auth login",
        "auth logout",
        "auth status",
        "auth whoami",
        "billing",
        "billing usage",
        "billing checkpoint-storage",
        "sample",
        "chat",
        "train",
        "eval",
        "export",
        "serve",
        "proxy",
        "doctor",
        "version",
        "completions",
        "man",
    ];
    let runs = commands.map(|command| tinkex(&format!("{command} --help")).run());
    golden("help", &runs, &Volatile::default());
    assert!(runs.iter().all(|done| done.code == Some(0) && done.stderr.is_empty()));
    assert!(runs.iter().all(|done| !done.stdout.contains("--api-key")), "the API key is not an option");
}

#[test]
fn version_in_both_formats() {
    let runs = ["version", "--version"].map(|words| tinkex(words).run());
    golden("version", &runs, &Volatile::default().value(env!("CARGO_PKG_VERSION"), "VERSION"));
    let document = tinkex("version -f json").run().json();
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    let features: Vec<_> = document["features"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(["cli", "local", "ndarray"].iter().all(|name| features.contains(name)), "{features:?}");
}

#[test]
fn completions_of_every_shell_contain_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let done = tinkex(&format!("completions {shell}")).run();
        assert!(done.code == Some(0) && done.stdout.contains("checkpoint"), "{shell}");
    }
}

#[test]
fn a_manual_page_for_every_command() {
    let page = tinkex("man").run();
    assert!(page.code == Some(0) && page.stdout.contains(".TH tinkex 1"), "{page:?}");
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("new");
    let done = tinkex(&format!("man --dir {}", folder.display())).run();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
    for name in ["tinkex.1", "tinkex-run.1", "tinkex-checkpoint-delete.1", "tinkex-serve.1"] {
        assert!(fs::read_to_string(folder.join(name)).unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
}
