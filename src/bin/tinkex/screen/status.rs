//! The line at the bottom of the terminal: how far the work is, and what it waits for.

use std::time::{Duration, Instant};

use console::truncate_str;
use indicatif::{BinaryBytes, HumanDuration};
use tinkex::{WaitKind, WaitLimit, Waiting};

use crate::text::one_line;

/// The length of a bar: a part of the line, at most this, and none if that would be too short to read.
const BAR: usize = 30;
const BAR_SHARE: usize = 4;
const BAR_MIN: usize = 10;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    #[default]
    Items,
    Bytes,
}

/// What the line shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) unit: Unit,
    /// `None` if nothing is counted.
    pub(crate) done: Option<u64>,
    pub(crate) total: Option<u64>,
    /// What is known of the work, such as the last loss.
    pub(crate) note: String,
    /// How long the rest will take.
    pub(crate) left: Option<Duration>,
    /// Whether the work ends early, so that the rest is not done.
    pub(crate) stopping: bool,
    /// What is waited for, each since it was reported.
    pub(crate) waits: Vec<(Waiting, Instant)>,
}

impl Status {
    /// Something waits, as of now.
    pub(super) fn waits(&mut self, waiting: &Waiting, now: Instant) {
        self.waits_no_longer(waiting.kind);
        self.waits.push((waiting.clone(), now));
    }

    pub(super) fn waits_no_longer(&mut self, kind: WaitKind) {
        self.waits.retain(|(waiting, _)| waiting.kind != kind);
    }

    /// The line, of at most this number of columns.
    pub(super) fn line(&self, columns: usize, now: Instant) -> String {
        // Some terminals wrap a line that is exactly as wide.
        let columns = columns.saturating_sub(1);
        let parts = [self.bar(columns), self.count(), self.text(now)];
        let line = parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ");
        truncate_str(&line, columns, if columns > 0 { "…" } else { "" }).into_owned()
    }

    fn bar(&self, columns: usize) -> String {
        let length = (columns / BAR_SHARE).min(BAR);
        let (Some(done), true) = (self.done, length >= BAR_MIN) else { return String::new() };
        // Without a total the bar is empty; with one of 0 there is nothing left to do.
        let filled = match self.total {
            None => 0,
            Some(0) => length,
            Some(total) => {
                usize::try_from(u128::from(done.min(total)) * length as u128 / u128::from(total)).unwrap_or(0)
            }
        };
        "█".repeat(filled) + &"░".repeat(length - filled)
    }

    fn count(&self) -> String {
        let Some(done) = self.done else { return String::new() };
        let number = |count: u64| match self.unit {
            Unit::Items => count.to_string(),
            Unit::Bytes => BinaryBytes(count).to_string(),
        };
        match self.total {
            Some(total) => format!("{}/{}", number(done), number(total)),
            None => number(done),
        }
    }

    /// A wait is more important than what was known before it.
    fn text(&self, now: Instant) -> String {
        if let Some((waiting, since)) = self.waits.last() {
            return one_line(&later(waiting, now.saturating_duration_since(*since)).summary());
        }
        let left = self.left.filter(|_| !self.stopping);
        let end = match (left, self.stopping) {
            (Some(left), _) => format!("ETA {}", HumanDuration(left)),
            (None, true) => "stopping".to_owned(),
            (None, false) => String::new(),
        };
        [&*self.note, &end].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// What would be said of a wait after some more time. The tries since the report are not known, so none are counted.
fn later(waiting: &Waiting, by: Duration) -> Waiting {
    let mut waiting = waiting.clone();
    waiting.waited += by;
    waiting.tries = 0;
    if let WaitLimit::Time { left, setting } = waiting.limit {
        waiting.limit = WaitLimit::Time { left: left.saturating_sub(by), setting };
    }
    waiting
}

/// The pace of the last steps, for an honest guess of the time that the rest takes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    /// The durations of the last steps.
    steps: Vec<Duration>,
}

/// The number of steps that the pace is taken from.
const PACE_STEPS: usize = 21;

impl Pace {
    /// A step is finished.
    pub(crate) fn step(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.steps.push(now.saturating_duration_since(last));
            if self.steps.len() > PACE_STEPS {
                self.steps.remove(0);
            }
        }
    }

    /// How long this number of steps takes; `None` before there is a pace. One step that had to wait does not change it.
    pub(crate) fn left(&self, steps: u64) -> Option<Duration> {
        let mut sorted = self.steps.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2)?;
        Some(median.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;
    use tinkex::clock::Clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn training() -> Status {
        let (done, total) = (Some(5), Some(100));
        Status {
            done,
            total,
            note: "loss 0.1234, 900 tokens/s".to_owned(),
            left: Some(95 * SECOND),
            ..Status::default()
        }
    }

    fn line(status: &Status, columns: usize) -> String {
        status.line(columns, Clock::system().now())
    }

    #[test]
    fn a_line_never_wraps() {
        for columns in 0..200 {
            for status in [training(), Status { unit: Unit::Bytes, ..training() }, Status::default()] {
                let line = line(&status, columns);
                assert!(measure_text_width(&line) < columns.max(1), "{columns}: {line}");
            }
        }
        assert_eq!(
            line(&training(), 100),
            format!("█{} 5/100 loss 0.1234, 900 tokens/s, ETA 2 minutes", "░".repeat(23))
        );
        assert_eq!(line(&training(), 50), "░░░░░░░░░░░░ 5/100 loss 0.1234, 900 tokens/s, ET…");
        assert_eq!(line(&training(), 30), "5/100 loss 0.1234, 900 token…");
    }

    #[test]
    fn a_run_that_stops_shows_no_time() {
        assert!(line(&Status { left: None, ..training() }, 100).ends_with("900 tokens/s"));
        let stopping = Status { stopping: true, ..training() };
        assert!(line(&stopping, 100).ends_with("900 tokens/s, stopping"));
        let first = Status { done: Some(0), total: Some(9), ..Status::default() };
        assert!(line(&first, 100).ends_with(" 0/9"), "nothing is known yet");
    }

    #[test]
    fn bytes_have_units() {
        let status = Status { unit: Unit::Bytes, done: Some(1024), total: Some(4096), ..Status::default() };
        assert!(line(&status, 80).ends_with(" 1.00 KiB/4.00 KiB"));
        assert!(line(&Status { total: None, ..status }, 80).ends_with(" 1.00 KiB"));
    }

    #[test]
    fn the_pace_ignores_a_step_that_waited() {
        let (mut pace, start) = (Pace::default(), Clock::system().now());
        assert_eq!(pace.left(9), None);
        let mut now = start;
        for seconds in [0, 2, 2, 300, 2, 2] {
            now += seconds * SECOND;
            pace.step(now);
        }
        assert_eq!(pace.left(9), Some(18 * SECOND));
        assert_eq!(pace.left(0), Some(Duration::ZERO));
    }
}
