//! When a promise is polled again, and when it is given up.
//!
//! A healthy server holds a poll until the result is ready or its hold time is over; such a poll is repeated at once. After
//! every other response without a result the next poll waits, longer each time, so that no server is polled in a tight loop.
//! [`poll_response`](super::poll_response) decides what a response says.

use std::time::{Duration, Instant};

use super::backoff::{backoff, shortened};
use super::poll_response::NotReady;
use super::retry::MAX_RETRY_AFTER;
use crate::types::QueueState;

/// A poll that the server held for this long is repeated at once: the hold itself keeps the pace low.
const HELD: Duration = Duration::from_secs(1);

/// The first wait after a "not yet" that came earlier. It doubles each time, so a result is noticed after at most about
/// twice the time that it took.
const EARLY_BASE: Duration = Duration::from_millis(100);

/// The minimum wait while the queue is paused.
const PAUSED: Duration = Duration::from_secs(1);

/// The first wait after a 5xx, a 429, a gateway's refusal or a damaged response, as for a retry.
const ERROR_STATUS_BASE: Duration = Duration::from_millis(500);

/// The maximum wait while the server can be reached.
const CAP: Duration = Duration::from_secs(10);

/// How many 400s in a row are followed by another poll, at once: a proxy may have sent them (Python client: 3).
const BAD_REQUESTS: u8 = 3;

/// A progress timeout of this length, a year, is none.
const NO_LIMIT: Duration = Duration::from_secs(31_536_000);

/// The first and the maximum wait while the server cannot be reached (Python client: min(2ⁿ, 30) s).
const UNREACHABLE_BASE: Duration = Duration::from_secs(1);
const UNREACHABLE_CAP: Duration = Duration::from_secs(30);

/// How many polls in a row are repeated for want of a descriptor or a thread: for 15 s, in which another part of the process may
/// give one back.
const SHORTAGES: u32 = 4;

/// The polls of one promise so far, and what follows for the next.
#[derive(Clone, Debug)]
pub(crate) struct PollSchedule {
    /// The maximum time without any word about the promise.
    timeout_progress: Duration,
    /// The time without a word about the promise: its polls and the waits after them. The time in which it waits for a
    /// connection counts only while the server responds to no poll at all.
    silent: Duration,
    /// The number of polls.
    polls: u32,
    /// Early "not yet" responses in a row, since a poll that was held.
    early: u8,
    /// Such responses in a row, since the server last reported on the promise.
    error_statuses: u8,
    /// Connections lost or not made in a row. Any HTTP response resets it.
    unreachable: u32,
    /// How many of the last of those found no descriptor or thread.
    shortages: u8,
    /// 400s since the server last reported on the promise.
    bad_requests: u8,
    /// Whether the wait for the next poll follows a failure of the service, and so ends with the outage.
    is_after_failure: bool,
    /// When the first of the polls in a row ended that were refused because of the account's billing.
    unpaid_since: Option<Instant>,
}

impl PollSchedule {
    /// The schedule of a promise that has not been polled. `timeout_progress` is 2 h by default.
    pub(crate) fn new(timeout_progress: Duration) -> Self {
        PollSchedule {
            timeout_progress,
            silent: Duration::ZERO,
            polls: 0,
            early: 0,
            error_statuses: 0,
            unreachable: 0,
            shortages: 0,
            bad_requests: 0,
            is_after_failure: false,
            unpaid_since: None,
        }
    }

    /// Counts a poll that starts, and returns its number, from 0, for `x-tinker-request-iteration`.
    pub(crate) fn begin(&mut self) -> u32 {
        let iteration = self.polls;
        self.polls = self.polls.saturating_add(1);
        iteration
    }

    /// The number of polls in a row that did not reach the service.
    pub(crate) fn unreachable(&self) -> u32 {
        self.unreachable
    }

    /// How many polls in a row found no descriptor or thread.
    pub(crate) fn shortages(&self) -> u32 {
        self.shortages.into()
    }

    /// Whether a 400 to the next poll may be taken for a proxy's.
    pub(crate) fn excuses_bad_request(&self) -> bool {
        self.bad_requests < BAD_REQUESTS
    }

    /// Since when all polls were refused because of the account's billing, if the last one was.
    pub(crate) fn unpaid_since(&self) -> Option<Instant> {
        self.unpaid_since
    }

    /// The earliest instant of the next poll, after one that took `held` and ended at `now` without a result. `None` once
    /// there was no word about the promise for the whole progress timeout. `jitter` is a random number in 0..1.
    pub(crate) fn next(&mut self, outcome: &NotReady, held: Duration, now: Instant, jitter: f64) -> Option<Instant> {
        if !matches!(outcome, NotReady::Silent | NotReady::Unreachable | NotReady::Shortage) {
            self.unreachable = 0;
        }
        if !matches!(outcome, NotReady::Shortage) {
            self.shortages = 0;
        }
        self.is_after_failure = matches!(outcome, NotReady::Unreachable | NotReady::Failing { .. } | NotReady::Damaged);
        self.unpaid_since = match outcome {
            NotReady::Unpaid { .. } => self.unpaid_since.or(Some(now)),
            _ => None,
        };
        let wait = match outcome {
            NotReady::Pending { queue_state, .. } => {
                self.silent = Duration::ZERO;
                self.error_statuses = 0;
                self.bad_requests = 0;
                let wait = self.after_pending(held, jitter);
                let is_paused = queue_state.as_ref().is_some_and(QueueState::is_paused);
                return Some(now + if is_paused { wait.max(PAUSED) } else { wait });
            }
            // The promise can wait for longer than the progress timeout: nothing is wrong with it.
            NotReady::Unpaid { wait } => return Some(now + *wait),
            NotReady::BadRequest => {
                self.bad_requests = self.bad_requests.saturating_add(1);
                Duration::ZERO
            }
            // The server told the size before: it does not send the result, and that is no word about it.
            NotReady::Measured { .. } | NotReady::TimedOut => self.after_pending(held, jitter),
            NotReady::Silent => Duration::ZERO,
            NotReady::Failing { .. } | NotReady::Damaged => self.after_error_status(jitter),
            NotReady::RateLimited { retry_after } => {
                let usual = self.after_error_status(jitter);
                retry_after.filter(|wait| *wait <= MAX_RETRY_AFTER).unwrap_or(usual)
            }
            NotReady::Unreachable => unreachable_wait(increment(&mut self.unreachable)),
            NotReady::Shortage => {
                count(&mut self.shortages);
                unreachable_wait(increment(&mut self.unreachable))
            }
        };
        self.silent = self.silent.saturating_add(held);
        if self.expires_after(Duration::ZERO) {
            return None;
        }
        self.silent = self.silent.saturating_add(wait);
        Some(now + wait)
    }

    /// The service is back after an outage, with this much left of the wait for the next poll. Returns whether that poll is due
    /// now; later failures then count from the start.
    pub(crate) fn end_outage(&mut self, left: Duration) -> bool {
        let is_due = std::mem::take(&mut self.is_after_failure);
        if is_due {
            (self.error_statuses, self.unreachable, self.shortages) = (0, 0, 0);
            self.silent = self.silent.saturating_sub(left);
        }
        is_due
    }

    /// When the next poll is due, after one that failed with what was so before the service came back: `at`, or now.
    pub(crate) fn due_after_recovery(&mut self, at: Instant, now: Instant) -> Instant {
        if self.end_outage(at.saturating_duration_since(now)) { now } else { at }
    }

    /// Counts a wait for a connection during which the server responded to no poll.
    pub(crate) fn wait_in_silence(&mut self, waited: Duration) {
        self.silent = self.silent.saturating_add(waited);
    }

    /// The time without a word.
    pub(crate) fn silent(&self) -> Duration {
        self.silent
    }

    /// Whether `more` silence reaches the progress timeout.
    pub(crate) fn expires_after(&self, more: Duration) -> bool {
        self.silent.saturating_add(more) >= self.timeout_progress
    }

    /// When the progress timeout runs out if nothing is heard from `now` on; `None` if there is no such time.
    pub(crate) fn expires_at(&self, now: Instant) -> Option<Instant> {
        let left = self.timeout_progress.saturating_sub(self.silent);
        Some(left).filter(|_| self.timeout_progress < NO_LIMIT).and_then(|left| now.checked_add(left))
    }

    fn after_pending(&mut self, held: Duration, jitter: f64) -> Duration {
        if held >= HELD {
            self.early = 0;
            Duration::ZERO
        } else {
            shortened(backoff(EARLY_BASE, count(&mut self.early), CAP), jitter)
        }
    }

    fn after_error_status(&mut self, jitter: f64) -> Duration {
        shortened(backoff(ERROR_STATUS_BASE, count(&mut self.error_statuses), CAP), jitter)
    }
}

/// The wait after the `n`-th poll in a row, from 0, that did not reach the server.
pub(crate) fn unreachable_wait(n: u32) -> Duration {
    backoff(UNREACHABLE_BASE, n, UNREACHABLE_CAP)
}

/// Whether a poll ends with its failure to find a descriptor or a thread, after so many others in a row that found none.
pub(crate) fn is_lasting_shortage(shortages: u32) -> bool {
    shortages >= SHORTAGES
}

/// Increments a counter that matters only up to the cap of a wait, and returns its previous value. Small, since each unresolved
/// result has one.
fn count(counter: &mut u8) -> u32 {
    let before = *counter;
    *counter = before.saturating_add(1);
    before.into()
}

/// Increments a counter and returns its previous value.
fn increment(counter: &mut u32) -> u32 {
    let before = *counter;
    *counter = before.saturating_add(1);
    before
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::Value;

    use super::super::poll_response::{PollOutcome, classify};
    use super::super::testing::{float, golden, list, start};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn pending(queue_state: Option<&str>) -> NotReady {
        NotReady::Pending { queue_state: queue_state.map(Into::into), reason: None }
    }

    /// Polls once, held for this time, and returns the wait before the next poll in milliseconds.
    fn wait(schedule: &mut PollSchedule, outcome: &NotReady, held: Duration) -> u128 {
        let end = start() + held;
        schedule.begin();
        (schedule.next(outcome, held, end, 0.0).unwrap() - end).as_millis()
    }

    /// Replays the polls of one promise in a scenario, and returns the waits in milliseconds before each next poll.
    fn replay(fixture: &Value, request_id: &str) -> Vec<u128> {
        let mut schedule = PollSchedule::new(HOUR);
        let t0 = start();
        let at = |seconds: &Value| t0 + Duration::from_secs_f64(float(seconds));
        let polls =
            list(&fixture["exchanges"]).iter().filter(|exchange| exchange["body"]["json"]["request_id"] == request_id);
        let (mut waits, mut finished) = (Vec::new(), false);
        for poll in polls {
            assert!(!finished, "{request_id} is polled after its last response");
            let iteration = schedule.begin();
            assert_eq!(poll["headers"]["x-tinker-request-iteration"], iteration.to_string());
            let response = &poll["response"];
            let text = match (&response["json"], response["raw"].as_str()) {
                (Value::Null, raw) => raw.unwrap_or_default().to_owned(),
                (json, _) => json.to_string(),
            };
            let outcome = match response["status"].as_u64() {
                Some(status) => classify(status as u16, text.as_bytes(), None),
                None => PollOutcome::NotReady(NotReady::Unreachable),
            };
            let end = if poll["t_resp"].is_null() { at(&poll["t"]) } else { at(&poll["t_resp"]) };
            let PollOutcome::NotReady(outcome) = outcome else {
                finished = true;
                continue;
            };
            let next = schedule.next(&outcome, end - at(&poll["t"]), end, 0.0);
            waits.push((next.expect("it is not given up") - end).as_millis());
        }
        assert!(finished, "{request_id} ends with a final response");
        waits
    }

    fn requests(fixture: &Value) -> Vec<&str> {
        let polls =
            list(&fixture["exchanges"]).iter().filter_map(|exchange| exchange["body"]["json"]["request_id"].as_str());
        let mut ids: Vec<_> = polls.collect();
        ids.dedup();
        ids
    }

    // The Python client 0.4.1 repeats every "not yet" and 5xx at once. Where a scenario holds only briefly, this client waits on
    // purpose.

    #[test]
    fn scenario_80_early_responses_back_off() {
        let fixture = golden("80_future_poll_cadence");
        assert_eq!(replay(&fixture, "golden:optim_step:2"), [1000, 1000, 400, 800, 1600, 3200, 6400]);
    }

    #[test]
    fn scenario_81_queue_states_lead_to_a_result() {
        let fixture = golden("81_future_poll_sample_queue_state");
        let waits: Vec<_> =
            requests(&fixture).into_iter().map(|id| replay(&fixture, id)).filter(|waits| !waits.is_empty()).collect();
        let (paused, unknown) = (vec![1000], vec![100]);
        let pairs = [&paused, &paused, &paused, &paused, &unknown, &unknown, &paused, &paused];
        assert_eq!(waits[..8].iter().collect::<Vec<_>>(), pairs);
        assert_eq!(waits[8..], [vec![1000, 200]], "try_again, paused and then without a state");
    }

    #[test]
    fn scenarios_82_83_final_responses_end_the_polls() {
        for name in ["82_future_request_failed", "83_future_410"] {
            let fixture = golden(name);
            let ids = requests(&fixture);
            assert!(ids.len() >= 5);
            assert!(ids.iter().all(|id| replay(&fixture, id).is_empty()), "{name}");
        }
    }

    #[test]
    fn scenario_84_server_errors_back_off() {
        assert_eq!(replay(&golden("84_future_5xx"), "golden:optim_step:2"), [500, 1000, 2000]);
    }

    #[test]
    fn scenario_85_lost_connections_wait_like_python() {
        // The fourth poll gets a response, which resets the count; that early 408 waits on purpose.
        assert_eq!(
            replay(&golden("85_future_connection_errors"), "golden:optim_step:2"),
            [1000, 2000, 4000, 100, 1000]
        );
    }

    #[test]
    fn scenario_87_brief_holds_are_polled_less_often() {
        let waits = replay(&golden("87_future_timeout"), "golden:optim_step:2");
        assert_eq!(waits[..8], [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert_eq!(waits[8..], [10_000; 7]);
    }

    #[test]
    fn a_held_poll_repeats_unless_the_queue_pauses() {
        let mut schedule = PollSchedule::new(HOUR);
        assert_eq!(wait(&mut schedule, &pending(None), 30 * SECOND), 0);
        assert_eq!(wait(&mut schedule, &pending(Some("active")), SECOND), 0);
        assert_eq!(wait(&mut schedule, &pending(Some("paused_rate_limit")), 30 * SECOND), 1000);
        assert_eq!(wait(&mut schedule, &pending(Some("paused_by_something_new")), SECOND), 1000);
        assert_eq!(wait(&mut schedule, &pending(None), SECOND / 2), 100);
        assert_eq!(wait(&mut schedule, &pending(None), SECOND / 2), 200);
        assert_eq!(wait(&mut schedule, &pending(None), SECOND), 0);
        assert_eq!(wait(&mut schedule, &pending(None), SECOND / 2), 100, "a held poll resets the count");
        assert_eq!(wait(&mut schedule, &NotReady::Silent, SECOND / 20), 0);
    }

    #[test]
    fn waits_after_failures_end_with_the_outage() {
        let down = || NotReady::Failing { status: 503 };
        let limited = || NotReady::RateLimited { retry_after: Some(7 * SECOND) };
        let rows: [(NotReady, bool, u128); 8] = [
            (down(), true, 500),
            (NotReady::Damaged, true, 500),
            (NotReady::Unreachable, true, 1000),
            (pending(None), false, 200),
            (NotReady::TimedOut, false, 200),
            (limited(), false, 7000),
            (NotReady::BadRequest, false, 0),
            (NotReady::Unpaid { wait: SECOND }, false, 1000),
        ];
        for (outcome, is_due, next) in rows {
            let mut schedule = PollSchedule::new(HOUR);
            let first = wait(&mut schedule, &outcome, Duration::ZERO);
            let silent = schedule.silent();
            assert_eq!(schedule.end_outage(Duration::from_millis(first as u64)), is_due, "{outcome:?}");
            assert_eq!(schedule.silent(), if is_due { Duration::ZERO } else { silent });
            assert!(!schedule.end_outage(Duration::ZERO), "only once");
            assert_eq!(wait(&mut schedule, &outcome, Duration::ZERO), next, "{outcome:?}");
        }
    }

    #[test]
    fn a_429_waits_retry_after_within_a_minute() {
        let mut schedule = PollSchedule::new(HOUR);
        let limited = |seconds| NotReady::RateLimited { retry_after: Some(seconds * SECOND) };
        assert_eq!(wait(&mut schedule, &NotReady::RateLimited { retry_after: None }, SECOND), 500);
        assert_eq!(wait(&mut schedule, &limited(7), SECOND), 7000);
        assert_eq!(wait(&mut schedule, &limited(61), SECOND), 2000, "as for a retry, a longer wait is ignored");
        assert_eq!(wait(&mut schedule, &pending(None), SECOND), 0);
        assert_eq!(wait(&mut schedule, &NotReady::Failing { status: 503 }, SECOND), 500);
    }

    #[test]
    fn three_bad_requests_are_excused() {
        let mut schedule = PollSchedule::new(HOUR);
        for _ in 0..2 {
            for _ in 0..3 {
                assert!(schedule.excuses_bad_request());
                assert_eq!(wait(&mut schedule, &NotReady::BadRequest, Duration::ZERO), 0);
            }
            assert!(!schedule.excuses_bad_request());
            wait(&mut schedule, &pending(None), SECOND);
        }
    }

    #[test]
    fn a_billing_pause_is_no_silence() {
        let mut schedule = PollSchedule::new(SECOND);
        for _ in 0..3 {
            assert_eq!(wait(&mut schedule, &NotReady::Unpaid { wait: 5 * SECOND }, HOUR), 5000);
        }
    }

    #[test]
    fn a_shortage_lasts_after_fifteen_seconds() {
        let mut schedule = PollSchedule::new(HOUR);
        let mut waited = 0;
        while !is_lasting_shortage(schedule.shortages()) {
            waited += wait(&mut schedule, &NotReady::Shortage, Duration::ZERO);
        }
        assert_eq!(waited, 15_000);
    }

    #[test]
    fn an_outage_is_no_shortage() {
        let mut schedule = PollSchedule::new(HOUR);
        for _ in 0..9 {
            wait(&mut schedule, &NotReady::Unreachable, Duration::ZERO);
        }
        wait(&mut schedule, &NotReady::Shortage, Duration::ZERO);
        assert!(!is_lasting_shortage(schedule.shortages()));
    }

    #[test]
    fn any_response_resets_the_unreachable_count() {
        let mut schedule = PollSchedule::new(HOUR);
        let row: Vec<_> = (0..7).map(|_| wait(&mut schedule, &NotReady::Unreachable, Duration::ZERO)).collect();
        assert_eq!(row, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        wait(&mut schedule, &NotReady::Failing { status: 500 }, Duration::ZERO);
        assert_eq!(wait(&mut schedule, &NotReady::Unreachable, Duration::ZERO), 1000);
    }

    #[test]
    fn only_pending_responses_reset_the_silence() {
        let t0 = start();
        let mut schedule = PollSchedule::new(HOUR);
        let mut is_polled_again = |outcome: NotReady, held| schedule.next(&outcome, held, t0, 0.0).is_some();
        for silence in [NotReady::Silent, NotReady::Failing { status: 500 }, NotReady::Silent] {
            assert!(is_polled_again(silence, HOUR / 4));
        }
        assert!(is_polled_again(pending(None), HOUR / 2), "a word about the promise resets the silence");
        assert!(is_polled_again(NotReady::Silent, HOUR / 2));
        assert!(!is_polled_again(NotReady::Silent, HOUR / 2));
    }

    #[test]
    fn waits_between_polls_count_as_silence() {
        let t0 = start();
        let mut schedule = PollSchedule::new(5 * SECOND);
        // Waits of 1 and 2 s, then 4: 7 s of silence.
        for n in 0..3 {
            // The hours between the polls are waits for a connection.
            let next = schedule.next(&NotReady::Unreachable, Duration::ZERO, t0 + n * HOUR, 0.0);
            assert!(next.is_some(), "{n}");
        }
        assert_eq!(schedule.next(&NotReady::Unreachable, Duration::ZERO, t0, 0.0), None);
    }

    quickcheck! {
        fn no_server_is_polled_in_a_tight_loop(replies: Vec<u8>, jitter: f64) -> bool {
            let (t0, mut schedule) = (start(), PollSchedule::new(Duration::MAX));
            let mut now = t0;
            let polls = replies.len() as u128;
            for reply in replies {
                schedule.begin();
                let outcome = match reply % 6 {
                    0 => pending(None),
                    1 => pending(Some("paused_capacity")),
                    2 => NotReady::Failing { status: 500 },
                    3 => NotReady::RateLimited { retry_after: None },
                    4 => NotReady::RateLimited { retry_after: Some(SECOND) },
                    _ => NotReady::Unreachable,
                };
                match schedule.next(&outcome, Duration::ZERO, now, jitter) {
                    Some(at) => now = at,
                    None => return false,
                }
            }
            (now - t0).as_millis() >= 75 * polls
        }
    }
}
