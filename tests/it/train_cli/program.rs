//! The program as a child process, in a temporary directory.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

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

/// Deadline of a wait; generous, for a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A temporary directory with a `data.jsonl`.
pub struct Place {
    directory: TempDir,
    pub base_url: String,
}

pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl Place {
    pub fn new(base_url: &str) -> Self {
        let directory = tempdir().unwrap();
        let line = |(prompt, completion, held_out): &(&str, &str, bool)| {
            let split = if *held_out { "test" } else { "train" };
            format!("{{\"prompt\": \"{prompt}\", \"completion\": \"{completion}\", \"split\": \"{split}\"}}\n")
        };
        fs::write(directory.path().join("data.jsonl"), DATA.iter().map(line).collect::<String>()).unwrap();
        Place { directory, base_url: base_url.to_owned() }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The lines of a JSON Lines file.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn set_up(&self, program: &mut Command) {
        program
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("TINKER_BASE_URL", &self.base_url)
            .env("TINKER_API_KEY", "tml-local")
            .env("HF_HUB_OFFLINE", "1");
    }

    /// The program with these arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tinkex"));
        program.args(arguments);
        self.set_up(&mut program);
        program
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    /// Runs a command line in a shell.
    pub fn shell(&self, line: &str) -> Running {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec {line}"));
        self.set_up(&mut shell);
        Running::start(shell)
    }

    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> Finished {
        let mut running = self.start(arguments);
        running.stdin(stdin);
        running.finish()
    }
}

pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    stderr_text: String,
}

impl Running {
    fn start(mut program: Command) -> Self {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, mut out) = (channel(), child.stdout.take().unwrap());
        let sender = stdout.0;
        thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            sender.send(text).ok();
        });
        let (stderr, err) = (channel(), child.stderr.take().unwrap());
        let sender = stderr.0;
        thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child, stdout: stdout.1, stderr: stderr.1, stderr_text: String::new() }
    }

    /// Writes the whole standard input and closes it.
    pub fn stdin(&mut self, text: &str) {
        self.child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for a line on stderr that contains this text.
    pub fn until(&mut self, part: &str) {
        loop {
            let line = self.stderr.recv_timeout(TIMEOUT);
            let line = line.unwrap_or_else(|_| panic!("no {part:?} on stderr, but:\n{}", self.stderr_text));
            self.stderr_text.push_str(&line);
            self.stderr_text.push('\n');
            if line.contains(part) {
                return;
            }
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let sent = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    pub fn finish(mut self) -> Finished {
        drop(self.child.stdin.take());
        while let Ok(line) = self.stderr.recv_timeout(TIMEOUT) {
            self.stderr_text.push_str(&line);
            self.stderr_text.push('\n');
        }
        let stdout = self.stdout.recv_timeout(TIMEOUT).expect("the program did not end in time");
        let code = self.child.wait().unwrap().code();
        Finished { code, stdout, stderr: std::mem::take(&mut self.stderr_text) }
    }
}

impl Drop for Running {
    /// Leaves no process behind if a test fails.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
