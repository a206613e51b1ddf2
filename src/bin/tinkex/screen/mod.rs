//! What the program shows on stderr besides errors: a line of progress at a terminal, with lines of text above it.
//!
//! There is one line for the whole process, as there is one stderr: logs, signals and waits come from any thread, and none may
//! tear it. Without a terminal there is no such line, and what it would say of waits is printed.

mod status;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tinkex::Event;
use tinkex::clock::Clock;

pub(crate) use status::{Pace, Status, Unit};

use crate::text::one_line;

/// How often the line is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// The width if it is not known.
const COLUMNS: u16 = 80;

static SCREEN: LazyLock<Screen> = LazyLock::new(Screen::default);

#[derive(Default)]
struct Screen {
    status: Arc<Mutex<Status>>,
    shown: Mutex<Shown>,
}

/// What is drawn.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    /// Whether a command has started it, rather than a wait.
    is_progress: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Screen {
    /// Draws the line from now on.
    fn draw(&self, shown: &mut Shown) {
        let status = Arc::clone(&self.status);
        let line = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let columns = Term::stderr().size_checked().map_or(COLUMNS, |(_, columns)| columns);
            let line = lock(&status).line(columns.into(), Clock::system().now());
            out.write_str(&line).unwrap_or_default();
        };
        let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style.with_key("line", line));
        // Updates come only with events: without a tick, the last one before a pause would not show, and no time would pass.
        bar.enable_steady_tick(TICK);
        shown.bar = Some(bar);
    }
}

/// The progress of a command, until it is dropped.
pub(crate) struct Progress {
    keeps: bool,
    is_hidden: bool,
}

/// Starts to show progress, if stderr is a terminal.
pub(crate) fn start(status: Status) -> Progress {
    update(|now| {
        let waits = std::mem::take(&mut now.waits);
        *now = Status { waits, ..status };
    });
    let mut shown = lock(&SCREEN.shown);
    shown.is_progress = true;
    if let Some(bar) = shown.bar.take() {
        bar.finish_and_clear();
    }
    if is_terminal() {
        SCREEN.draw(&mut shown);
    }
    Progress { keeps: false, is_hidden: false }
}

impl Progress {
    /// Leaves the line on the screen in the end.
    pub(crate) fn keep(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// Progress that nobody sees.
    #[cfg(test)]
    pub(crate) fn hidden() -> Self {
        Progress { keeps: false, is_hidden: true }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        if !self.is_hidden {
            update(change);
        }
    }

    /// Sets how much is to be done.
    pub(crate) fn set_total(&self, total: u64) {
        self.update(|status| status.total = Some(total));
    }

    /// This much more is done.
    pub(crate) fn add(&self, more: u64) {
        self.update(|status| status.done = Some(status.done.unwrap_or(0) + more));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_hidden {
            return;
        }
        let bar = {
            let mut shown = lock(&SCREEN.shown);
            shown.is_progress = false;
            shown.bar.take()
        };
        update(|status| status.left = None);
        match bar {
            Some(bar) if self.keeps => bar.abandon(),
            Some(bar) => bar.finish_and_clear(),
            None => {}
        }
        update(|status| {
            let waits = std::mem::take(&mut status.waits);
            *status = Status { waits, stopping: status.stopping, ..Status::default() };
        });
    }
}

fn update(change: impl FnOnce(&mut Status)) {
    change(&mut lock(&SCREEN.status));
}

/// Whether progress is shown, rather than printed.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Runs something that writes to the terminal, without the line.
pub(crate) fn suspended<T>(write: impl FnOnce() -> T) -> T {
    let bar = lock(&SCREEN.shown).bar.clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Prints a line, above that of the progress.
pub(crate) fn line(text: impl fmt::Display) {
    let text = one_line(&text.to_string());
    suspended(|| writeln!(io::stderr(), "{text}").unwrap_or_default());
}

/// The command ends early: it was asked to stop.
pub(crate) fn stopping(note: &str) {
    update(|status| status.stopping = true);
    if is_terminal() {
        // The terminal shows `^C` at the start of the line.
        suspended(|| writeln!(io::stderr(), "\n{note}").unwrap_or_default());
    } else {
        line(note);
    }
}

/// Shows what the client tells of waits.
pub(crate) fn observe(event: &Event) {
    match event {
        Event::Waiting(waiting) if is_terminal() => {
            update(|status| status.waits(waiting, Clock::system().now()));
            let mut shown = lock(&SCREEN.shown);
            if shown.bar.is_none() {
                SCREEN.draw(&mut shown);
            }
        }
        Event::WaitEnded(ended) if is_terminal() => {
            update(|status| status.waits_no_longer(ended.kind));
            clear_waits();
        }
        Event::Waiting(waiting) => line(waiting),
        Event::WaitEnded(ended) => line(ended),
        _ => {}
    }
}

/// Removes a line that only shows a wait, if nothing waits any more.
fn clear_waits() {
    let is_over = lock(&SCREEN.status).waits.is_empty();
    let mut shown = lock(&SCREEN.shown);
    let bar = if is_over && !shown.is_progress { shown.bar.take() } else { None };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Removes the line: the program is about to end.
pub(crate) fn clear() {
    update(|status| status.waits.clear());
    clear_waits();
}

/// Where the log is written.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        suspended(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
