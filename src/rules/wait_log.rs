//! When a call that waits is worth a line, and what the line says.
//!
//! The first line comes after [`PATIENCE`], or after [`PATIENCE_PENDING`] for a result of which the service says that it is not
//! finished; the next ones follow once a minute. There is one line for all calls of a kind, about the one that has waited the
//! longest; and one when none of them waits for long any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::observer::{WaitEnded, WaitKind, WaitLimit, Waiting};

/// How long a call waits before that is said.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The same for results that the service is still working on: that takes as long as it takes.
pub(crate) const PATIENCE_PENDING: Duration = Duration::from_secs(60);

/// The time between two lines about calls of one kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// The reason while there is none.
const NO_RESPONSE: &str = "no response yet";

/// A wait: its kind, and its number among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitId {
    kind: WaitKind,
    number: u64,
}

/// What ends a wait if nothing changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    #[default]
    Never,
    At(Instant, &'static str),
    Tries(u32, &'static str),
}

impl WaitEnd {
    fn limit(self, now: Instant) -> WaitLimit {
        match self {
            WaitEnd::Never => WaitLimit::None,
            WaitEnd::At(at, setting) => WaitLimit::Time { left: at.saturating_duration_since(now), setting },
            WaitEnd::Tries(max, setting) => WaitLimit::Tries { max, setting },
        }
    }
}

/// Why a call waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitCause {
    /// In a few words.
    pub(crate) reason: Arc<str>,
    /// Of the last response.
    pub(crate) status: Option<u16>,
    /// 0 if they are not counted.
    pub(crate) tries: u32,
    pub(crate) end: WaitEnd,
}

/// What a call does right now, if it is not waiting for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// This is the reason, whatever failed before.
    Blocked(&'static str),
    /// This is the reason, unless there was a failure.
    Queued(&'static str),
}

#[derive(Debug)]
struct Entry {
    operation: &'static str,
    since: Instant,
    patience: Duration,
    /// Before there is a cause.
    end: WaitEnd,
    cause: Option<WaitCause>,
    doing: Option<Doing>,
}

impl Entry {
    fn overdue_at(&self) -> Instant {
        self.since + self.patience
    }
}

/// The calls of one kind that have waited for long.
#[derive(Debug)]
struct Incident {
    since: Instant,
    reported_at: Instant,
}

/// The calls that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitLog {
    /// Those of each kind, in the order in which they began.
    waits: BTreeMap<WaitId, Entry>,
    begun: u64,
    incidents: BTreeMap<WaitKind, Incident>,
    /// When the last incident of a kind was reported, if no failure was behind it. Calls that are just slow are no news again.
    slow: BTreeMap<WaitKind, Instant>,
    /// The last cause among the calls of a kind, for one that waits because of another.
    causes: BTreeMap<WaitKind, WaitCause>,
}

impl WaitLog {
    /// A call begins that may have to wait.
    pub(crate) fn begin(
        &mut self,
        kind: WaitKind,
        operation: &'static str,
        patience: Duration,
        end: WaitEnd,
        now: Instant,
    ) -> WaitId {
        let id = WaitId { kind, number: self.begun };
        self.begun += 1;
        self.waits.insert(id, Entry { operation, since: now, patience, end, cause: None, doing: None });
        id
    }

    /// Why the call waits, as of now.
    pub(crate) fn note(&mut self, id: WaitId, cause: WaitCause) {
        let Some(entry) = self.waits.get_mut(&id) else { return };
        self.causes.insert(id.kind, cause.clone());
        entry.cause = Some(cause);
    }

    /// What the call does from now on.
    pub(crate) fn set_doing(&mut self, id: WaitId, doing: Option<Doing>) {
        if let Some(entry) = self.waits.get_mut(&id) {
            entry.doing = doing;
        }
    }

    /// The call has made progress: its wait begins anew. Returns the end of the incident if this was the last call of it.
    pub(crate) fn progress(&mut self, id: WaitId, now: Instant) -> Option<WaitEnded> {
        let entry = self.waits.get_mut(&id)?;
        (entry.since, entry.cause) = (now, None);
        let operation = entry.operation;
        self.close(id.kind, operation, now)
    }

    /// The call waits no longer. Returns the end of the incident if this was the last call of it.
    pub(crate) fn end(&mut self, id: WaitId, now: Instant) -> Option<WaitEnded> {
        let entry = self.waits.remove(&id)?;
        if self.of(id.kind).next().is_none() {
            self.causes.remove(&id.kind);
        }
        self.close(id.kind, entry.operation, now)
    }

    fn close(&mut self, kind: WaitKind, operation: &'static str, now: Instant) -> Option<WaitEnded> {
        if !self.incidents.contains_key(&kind) || self.overdue(kind, now).next().is_some() {
            return None;
        }
        let Incident { since, .. } = self.incidents.remove(&kind)?;
        Some(WaitEnded { kind, operation, waited: now.saturating_duration_since(since) })
    }

    fn of(&self, kind: WaitKind) -> impl Iterator<Item = &Entry> {
        let (first, last) = (WaitId { kind, number: 0 }, WaitId { kind, number: u64::MAX });
        self.waits.range(first..=last).map(|(_, entry)| entry)
    }

    fn overdue(&self, kind: WaitKind, now: Instant) -> impl Iterator<Item = &Entry> {
        self.of(kind).filter(move |entry| entry.overdue_at() <= now)
    }

    /// When the next line is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waits.iter().map(|(id, entry)| self.entry_due(id.kind, entry)).min()
    }

    /// When a line about this call is due.
    pub(crate) fn due_of(&self, id: WaitId) -> Option<Instant> {
        self.waits.get(&id).map(|entry| self.entry_due(id.kind, entry))
    }

    fn entry_due(&self, kind: WaitKind, entry: &Entry) -> Instant {
        let first = entry.overdue_at();
        let again = match self.incidents.get(&kind) {
            Some(incident) => Some(incident.reported_at),
            None => self.slow.get(&kind).copied().filter(|_| entry.cause.is_none()),
        };
        again.map_or(first, |reported| first.max(reported + INTERVAL))
    }

    /// The lines that are due.
    pub(crate) fn report(&mut self, now: Instant) -> Vec<Waiting> {
        let due = self.waits.iter().filter(|(id, entry)| self.entry_due(id.kind, entry) <= now);
        // In order, as the waits are.
        let mut kinds: Vec<WaitKind> = due.map(|(id, _)| id.kind).collect();
        kinds.dedup();
        kinds.into_iter().filter_map(|kind| self.report_kind(kind, now)).collect()
    }

    fn report_kind(&mut self, kind: WaitKind, now: Instant) -> Option<Waiting> {
        let longest = self.overdue(kind, now).min_by_key(|entry| entry.since)?;
        let (own, since) = (longest.cause.as_ref(), longest.since);
        let cause = own.or_else(|| self.causes.get(&kind));
        let reason = match (&longest.doing, cause) {
            (Some(Doing::Blocked(reason)), _) | (Some(Doing::Queued(reason)), None) => (*reason).into(),
            (_, Some(cause)) => Arc::clone(&cause.reason),
            (None, None) => NO_RESPONSE.into(),
        };
        let waiting = Waiting {
            kind,
            operation: longest.operation,
            calls: self.overdue(kind, now).count(),
            waited: now.saturating_duration_since(since),
            reason,
            status: cause.and_then(|cause| cause.status),
            tries: own.map_or(0, |cause| cause.tries),
            limit: own.map_or(longest.end, |cause| cause.end).limit(now),
        };
        match cause {
            Some(_) => self.slow.remove(&kind),
            None => self.slow.insert(kind, now),
        };
        self.incidents.entry(kind).or_insert(Incident { since, reported_at: now }).reported_at = now;
        Some(waiting)
    }

    /// Whether no call waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    const SUBMISSION: WaitKind = WaitKind::Submission;

    fn cause(reason: &str, tries: u32) -> WaitCause {
        WaitCause { reason: reason.into(), status: Some(503), tries, end: WaitEnd::Never }
    }

    /// A log, and the instant of a second.
    fn log() -> (WaitLog, impl Fn(u64) -> Instant) {
        let t0 = start();
        (WaitLog::default(), move |seconds| t0 + Duration::from_secs(seconds))
    }

    fn begin(log: &mut WaitLog, kind: WaitKind, now: Instant) -> WaitId {
        log.begin(kind, "call", PATIENCE, WaitEnd::Never, now)
    }

    fn waited(lines: &[Waiting]) -> Vec<(u64, usize)> {
        lines.iter().map(|line| (line.waited.as_secs(), line.calls)).collect()
    }

    #[test]
    fn ten_seconds_are_told_then_each_minute() {
        let (mut log, at) = log();
        assert_eq!((log.due(), log.is_empty()), (None, true));
        let id = begin(&mut log, SUBMISSION, at(0));
        log.note(id, cause("503 full", 4));
        assert_eq!(log.due(), Some(at(10)));
        assert_eq!(log.report(at(9)), []);
        let lines = log.report(at(10));
        assert_eq!((waited(&lines), &*lines[0].reason, lines[0].tries), (vec![(10, 1)], "503 full", 4));
        assert_eq!(log.due(), Some(at(70)));
        assert_eq!(log.report(at(69)), []);
        assert_eq!(waited(&log.report(at(70))), [(70, 1)]);
        let ended = log.end(id, at(80)).unwrap();
        assert_eq!((ended.kind, ended.waited), (SUBMISSION, Duration::from_secs(80)));
        assert!(log.is_empty());
    }

    #[test]
    fn a_short_wait_is_not_mentioned() {
        let (mut log, at) = log();
        let id = begin(&mut log, SUBMISSION, at(0));
        assert_eq!((log.end(id, at(9)), log.due()), (None, None));
        let id = log.begin(WaitKind::Result, "call", PATIENCE_PENDING, WaitEnd::Never, at(0));
        assert_eq!((log.report(at(59)), log.due()), (vec![], Some(at(60))));
        assert_eq!(log.end(id, at(59)), None);
    }

    #[test]
    fn calls_of_a_kind_share_the_lines() {
        let (mut log, at) = log();
        let ids: Vec<_> = (0..3).map(|second| begin(&mut log, SUBMISSION, at(second))).collect();
        let other = begin(&mut log, WaitKind::Result, at(1));
        assert_eq!(waited(&log.report(at(11))), [(11, 2), (10, 1)]);
        assert_eq!(waited(&log.report(at(12))), [], "the third call is no news");
        assert_eq!(log.end(ids[0], at(20)), None, "others wait");
        assert_eq!(log.end(ids[2], at(30)), None);
        assert_eq!(log.end(ids[1], at(40)).unwrap().waited, Duration::from_secs(40));
        assert_eq!(log.end(other, at(40)).unwrap().kind, WaitKind::Result);
        let again = begin(&mut log, SUBMISSION, at(41));
        log.note(again, cause("500 oops", 1));
        assert_eq!(waited(&log.report(at(51))), [(10, 1)], "it is another incident");
    }

    #[test]
    fn slow_calls_are_told_once_a_minute() {
        let (mut log, at) = log();
        for (began, lines) in [(0, vec![(11, 1)]), (11, vec![]), (49, vec![]), (60, vec![(11, 1)])] {
            let id = begin(&mut log, SUBMISSION, at(began));
            let reported = log.report(at(began + 11));
            assert_eq!(waited(&reported), lines, "{began}");
            assert!(reported.iter().all(|line| &*line.reason == NO_RESPONSE && line.tries == 0));
            log.end(id, at(began + 11));
        }
    }

    #[test]
    fn a_call_may_have_the_cause_of_others() {
        let (mut log, at) = log();
        let first = begin(&mut log, WaitKind::Sample, at(0));
        let second = begin(&mut log, WaitKind::Sample, at(0));
        log.note(second, cause("429 slow down", 3));
        let lines = log.report(at(10));
        assert_eq!((&*lines[0].reason, lines[0].tries, lines[0].calls), ("429 slow down", 0, 2));
        log.end(second, at(11));
        log.end(first, at(12));
        begin(&mut log, WaitKind::Sample, at(50));
        assert_eq!(&*log.report(at(80))[0].reason, NO_RESPONSE, "it is forgotten with the last call");
    }

    #[test]
    fn what_a_call_does_can_be_the_reason() {
        let (mut log, at) = log();
        let id = begin(&mut log, SUBMISSION, at(0));
        let reason = |log: &mut WaitLog, minute: u64| log.report(at(60 * minute))[0].reason.to_string();
        log.set_doing(id, Some(Doing::Queued("own limits")));
        assert_eq!(reason(&mut log, 1), "own limits");
        log.note(id, cause("503 full", 1));
        assert_eq!(reason(&mut log, 2), "503 full");
        log.set_doing(id, Some(Doing::Blocked("the command runs")));
        assert_eq!(reason(&mut log, 3), "the command runs");
        log.set_doing(id, None);
        assert_eq!(reason(&mut log, 4), "503 full");
    }

    #[test]
    fn progress_starts_the_wait_anew() {
        let (mut log, at) = log();
        let id = begin(&mut log, WaitKind::Download, at(0));
        log.note(id, cause("503 preparing", 2));
        assert_eq!(log.report(at(10)).len(), 1);
        assert_eq!(log.progress(id, at(15)).unwrap().waited, Duration::from_secs(15));
        assert_eq!((log.progress(id, at(24)), log.report(at(33))), (None, vec![]));
        assert_eq!(waited(&log.report(at(34))), [(10, 1)]);
    }

    #[test]
    fn the_limit_is_what_is_left_of_it() {
        let (mut log, at) = log();
        let end = WaitEnd::At(at(300), "timeout_submit");
        let id = log.begin(SUBMISSION, "call", PATIENCE, end, at(0));
        let limit = |log: &mut WaitLog, now| log.report(now)[0].limit;
        let left = |seconds| WaitLimit::Time { left: Duration::from_secs(seconds), setting: "timeout_submit" };
        assert_eq!(limit(&mut log, at(10)), left(290));
        log.note(id, WaitCause { end, ..cause("503 full", 9) });
        assert_eq!(limit(&mut log, at(310)), left(0));
        log.note(id, WaitCause { end: WaitEnd::Tries(11, "max_retries"), ..cause("503 full", 9) });
        assert_eq!(limit(&mut log, at(370)), WaitLimit::Tries { max: 11, setting: "max_retries" });
    }

    quickcheck! {
        fn each_end_follows_a_line(steps: Vec<(u8, u8)>) -> bool {
            let (mut log, at) = log();
            let (mut ids, mut now, mut open) = (Vec::new(), 0_u64, false);
            for (step, seconds) in steps {
                now += u64::from(seconds);
                match step % 3 {
                    0 => ids.push(begin(&mut log, SUBMISSION, at(now))),
                    1 => open |= !log.report(at(now)).is_empty(),
                    _ if ids.is_empty() => {}
                    _ => {
                        let id = ids.remove(usize::from(step) % ids.len());
                        if log.end(id, at(now)).is_some() && !std::mem::replace(&mut open, false) {
                            return false;
                        }
                    }
                }
            }
            true
        }
    }
}
