//! A temporary directory with training data, in which the program runs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::running::Running;
use crate::cli::program::{Done, Program, shell, tinkex_with};

/// Ten examples to train on and two that are held out.
pub const DATA: [(&str, &str, bool); 12] = [
    ("green", "eengray", false),
    ("bottle", "ottlebay", false),
    ("purple", "urplepay", false),
    ("hat", "athay", false),
    ("red", "edray", false),
    ("sun", "unsay", false),
    ("moon", "oonmay", false),
    ("car", "arcay", false),
    ("dog", "ogday", false),
    ("cat", "atcay", false),
    ("pen", "enpay", true),
    ("box", "oxbay", true),
];

/// A temporary directory with a `data.jsonl`.
pub struct Place {
    directory: TempDir,
    pub base_url: String,
}

impl Place {
    pub fn new(base_url: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let line = |(prompt, completion, held_out): &(&str, &str, bool)| {
            let split = if *held_out { "test" } else { "train" };
            format!("{{\"prompt\": \"{prompt}\", \"completion\": \"{completion}\", \"split\": \"{split}\"}}\n")
        };
        fs::write(directory.path().join("data.jsonl"), DATA.iter().map(line).collect::<String>()).unwrap();
        Place { directory, base_url: base_url.to_owned() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// The lines of a JSON Lines file.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn set_up(&self, program: Program) -> Program {
        let home = self.path().to_str().unwrap();
        program.within(self.path()).at(&self.base_url).env("HOME", home).env("PATH", &std::env::var("PATH").unwrap())
    }

    /// The program with these arguments, not started yet.
    pub fn program(&self, arguments: &[&str]) -> Program {
        self.set_up(tinkex_with(arguments))
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.program(arguments))
    }

    /// Starts a command line in a shell.
    pub fn shell(&self, line: &str) -> Running {
        Running::start(self.set_up(shell(line)))
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.start(arguments).finish()
    }

    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> Done {
        let mut running = self.start(arguments);
        running.stdin(stdin);
        running.finish()
    }
}
