//! A run of the program that a test watches and interrupts.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::cli::program::{Done, Program, read_to_end, words};

/// Deadline of a wait; generous, for a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Running {
    words: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    stderr_text: String,
}

impl Running {
    pub fn start(mut program: Program) -> Self {
        program.command.stdin(Stdio::piped());
        let words = words(&program.command);
        let mut child = program.start();
        let (stdout, out) = (channel(), child.stdout.take().unwrap());
        let sender = stdout.0;
        thread::spawn(move || sender.send(read_to_end(out)));
        let (stderr, err) = (channel(), child.stderr.take().unwrap());
        let sender = stderr.0;
        thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { words, child, stdout: stdout.1, stderr: stderr.1, stderr_text: String::new() }
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
    #[cfg(unix)]
    pub fn interrupt(&self) {
        self.signal(nix::sys::signal::Signal::SIGINT);
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    #[cfg(unix)]
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub fn finish(mut self) -> Done {
        drop(self.child.stdin.take());
        while let Ok(line) = self.stderr.recv_timeout(TIMEOUT) {
            self.stderr_text.push_str(&line);
            self.stderr_text.push('\n');
        }
        let stdout = self.stdout.recv_timeout(TIMEOUT).expect("the program did not end in time");
        let code = self.child.wait().unwrap().code();
        Done::new(std::mem::take(&mut self.words), code, stdout, std::mem::take(&mut self.stderr_text))
    }
}

impl Drop for Running {
    /// Leaves no process behind if a test fails.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
