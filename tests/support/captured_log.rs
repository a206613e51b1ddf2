//! The captured log. The logger is global, so a binary that captures it has one test.

use std::fmt;
use std::sync::{Condvar, Mutex};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::PATIENCE;

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

static CHANGED: Condvar = Condvar::new();

pub struct Line {
    pub level: Level,
    pub target: String,
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.level, self.target, self.text)
    }
}

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (level, target, text) = (record.level(), record.target().to_owned(), record.args().to_string());
        LINES.lock().unwrap().push(Line { level, target, text });
        CHANGED.notify_all();
    }

    fn flush(&self) {}
}

/// Starts to capture all log lines at this level and above.
pub fn start(level: LevelFilter) {
    log::set_logger(&Capture).unwrap();
    log::set_max_level(level);
}

/// The lines captured since the last call.
pub fn take() -> Vec<Line> {
    std::mem::take(&mut *LINES.lock().unwrap())
}

/// The same, only of this crate, by level and text.
pub fn take_own() -> Vec<(Level, String)> {
    let ours = take().into_iter().filter(|line| line.target.starts_with("tinkex"));
    ours.map(|line| (line.level, line.text)).collect()
}

/// Blocks until this crate has logged a line.
pub fn wait_for_line() {
    let nothing = |lines: &mut Vec<Line>| !lines.iter().any(|line| line.target.starts_with("tinkex"));
    let waited = CHANGED.wait_timeout_while(LINES.lock().unwrap(), PATIENCE, nothing).unwrap();
    assert!(!waited.1.timed_out(), "nothing was logged");
}
