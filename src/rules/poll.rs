//! When a promise is asked for again, and when to stop asking.
//!
//! A healthy server holds a poll until the result is there or its hold time is over; such a poll is repeated at once. Every
//! other answer that is not final makes the next poll wait, for longer each time, so that no server is asked in a tight
//! loop. What the answers mean is [`answer`](super::answer)'s matter.

use std::time::{Duration, Instant};

use super::answer::Meaning;
use super::backoff::{backoff, shortened};
use super::retry::MAX_RETRY_AFTER;
use crate::types::QueueState;

/// A poll that the server held for this long is repeated at once: it sets a pace that does no harm.
const HELD: Duration = Duration::from_secs(1);

/// The first wait after a "not yet" that came earlier. It doubles each time, so that a result is noticed after at most
/// about twice the time that it took.
const EARLY_BASE: Duration = Duration::from_millis(100);

/// The least wait while the queue is paused.
const PAUSED: Duration = Duration::from_secs(1);

/// The first wait after a 5xx or a 429, as for a retry.
const TROUBLE_BASE: Duration = Duration::from_millis(500);

/// The longest wait while the server can be reached.
const CAP: Duration = Duration::from_secs(10);

/// The first and the longest wait while it cannot (Python client: min(2ⁿ, 30) s).
const LOST_BASE: Duration = Duration::from_secs(1);
const LOST_CAP: Duration = Duration::from_secs(30);

/// What is next for a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask again, not before this instant.
    Poll(Instant),
    /// The answer was final, for better or worse.
    Finish,
    /// Nothing has been heard of it for the whole progress timeout.
    GiveUp,
}

/// How the polls of one promise have gone so far.
#[derive(Clone, Debug)]
pub(crate) struct PollState {
    /// How long nothing may be heard of the promise.
    progress: Duration,
    /// How long nothing was heard of the promise, polls and the waits after them together. Time in which the promise had to
    /// wait for its turn is the server's silence only while that answers nobody.
    silent: Duration,
    /// The polls so far.
    polls: u32,
    /// "Not yet" that came early, in a row, since a poll that was held.
    early: u32,
    /// 5xx and 429 in a row, since the server last spoke of the promise.
    trouble: u32,
    /// Connections lost or not made in a row; any HTTP answer ends the row.
    lost: u32,
}

impl PollState {
    /// A promise that has not been asked for, with its progress timeout (30 min by default).
    pub(crate) fn new(progress: Duration) -> Self {
        PollState { progress, silent: Duration::ZERO, polls: 0, early: 0, trouble: 0, lost: 0 }
    }

    /// Notes that a poll begins, and returns its number, from 0, for `x-tinker-request-iteration`.
    pub(crate) fn begin(&mut self) -> u32 {
        let iteration = self.polls;
        self.polls = self.polls.saturating_add(1);
        iteration
    }

    /// How many polls in a row have found no service.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    /// Decides what is next after a poll that took the time `held` and ended at `now`. `jitter` is a random number in 0..1.
    pub(crate) fn on_reply<T>(&mut self, meaning: &Meaning<T>, held: Duration, now: Instant, jitter: f64) -> Next {
        if !matches!(meaning, Meaning::Silent | Meaning::Disconnected) {
            self.lost = 0;
        }
        let wait = match meaning {
            Meaning::Done(_)
            | Meaning::Failed { .. }
            | Meaning::Expired { .. }
            | Meaning::Fatal { .. }
            | Meaning::Undecodable { .. } => return Next::Finish,
            Meaning::NotYet { queue_state, .. } => {
                self.silent = Duration::ZERO;
                self.trouble = 0;
                let wait = self.after_not_yet(held, jitter);
                if queue_state.as_ref().is_some_and(QueueState::is_paused) { wait.max(PAUSED) } else { wait }
            }
            Meaning::Silent => Duration::ZERO,
            Meaning::Transient { .. } => self.after_trouble(jitter),
            Meaning::RateLimited { retry_after } => {
                let usual = self.after_trouble(jitter);
                retry_after.filter(|wish| *wish <= MAX_RETRY_AFTER).unwrap_or(usual)
            }
            Meaning::Disconnected => lost_wait(row(&mut self.lost)),
        };
        if !matches!(meaning, Meaning::NotYet { .. }) {
            self.silent = self.silent.saturating_add(held);
            if self.ends_with(Duration::ZERO) {
                return Next::GiveUp;
            }
            self.silent = self.silent.saturating_add(wait);
        }
        Next::Poll(now + wait)
    }

    /// It waited for its turn for so long while the server answered nobody.
    pub(crate) fn wait_in_silence(&mut self, waited: Duration) {
        self.silent = self.silent.saturating_add(waited);
    }

    /// Whether so much more silence is too much.
    pub(crate) fn ends_with(&self, more: Duration) -> bool {
        self.silent.saturating_add(more) >= self.progress
    }

    fn after_not_yet(&mut self, held: Duration, jitter: f64) -> Duration {
        if held >= HELD {
            self.early = 0;
            Duration::ZERO
        } else {
            shortened(backoff(EARLY_BASE, row(&mut self.early), CAP), jitter)
        }
    }

    fn after_trouble(&mut self, jitter: f64) -> Duration {
        shortened(backoff(TROUBLE_BASE, row(&mut self.trouble), CAP), jitter)
    }
}

/// The wait before the server is asked again after it was out of reach `n` times before, in a row.
pub(crate) fn lost_wait(n: u32) -> Duration {
    backoff(LOST_BASE, n, LOST_CAP)
}

/// Adds one to the count of a row of failures, and returns how many came before.
fn row(count: &mut u32) -> u32 {
    let before = *count;
    *count = before.saturating_add(1);
    before
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::Value;

    use super::super::answer::PollReply;
    use super::super::testing::{float, golden, list, start};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn not_yet(queue_state: Option<&str>) -> Meaning<()> {
        Meaning::NotYet { queue_state: queue_state.map(Into::into), reason: None }
    }

    /// Polls once, held for this time, and gives the wait before the next poll in milliseconds.
    fn wait(state: &mut PollState, meaning: &Meaning<()>, held: Duration) -> u128 {
        let now = start();
        state.begin();
        match state.on_reply(meaning, held, now + held, 0.0) {
            Next::Poll(at) => (at - now - held).as_millis(),
            next => panic!("{next:?}"),
        }
    }

    /// Replays the polls of one promise in a scenario: the waits in milliseconds before each next poll.
    fn replay(fixture: &Value, request_id: &str) -> Vec<u128> {
        let mut state = PollState::new(HOUR);
        let t0 = start();
        let at = |seconds: &Value| t0 + Duration::from_secs_f64(float(seconds));
        let polls =
            list(&fixture["exchanges"]).iter().filter(|exchange| exchange["body"]["json"]["request_id"] == request_id);
        let (mut waits, mut finished) = (Vec::new(), false);
        for poll in polls {
            assert!(!finished, "{request_id} is polled after a final answer");
            let iteration = state.begin();
            assert_eq!(poll["headers"]["x-tinker-request-iteration"], iteration.to_string());
            let response = &poll["response"];
            let text = match (&response["json"], response["raw"].as_str()) {
                (Value::Null, raw) => raw.unwrap_or_default().to_owned(),
                (json, _) => json.to_string(),
            };
            let reply = match response["status"].as_u64() {
                Some(status) => PollReply::Answer { status: status as u16, body: text.as_bytes(), retry_after: None },
                None => PollReply::ConnectionFailed,
            };
            let end = if poll["t_resp"].is_null() { at(&poll["t"]) } else { at(&poll["t_resp"]) };
            match state.on_reply(&reply.read(), end - at(&poll["t"]), end, 0.0) {
                Next::Poll(next) => waits.push((next - end).as_millis()),
                Next::Finish => finished = true,
                Next::GiveUp => panic!("{request_id} is given up"),
            }
        }
        assert!(finished, "{request_id} ends with a final answer");
        waits
    }

    fn requests(fixture: &Value) -> Vec<&str> {
        let polls =
            list(&fixture["exchanges"]).iter().filter_map(|exchange| exchange["body"]["json"]["request_id"].as_str());
        let mut ids: Vec<_> = polls.collect();
        ids.dedup();
        ids
    }

    // 0.4.1 repeats every "not yet" and 5xx at once; in the scenarios with short holds below, the waits are ours on purpose.

    #[test]
    fn scenario_80_early_answers_back_off_and_a_paused_queue_waits_a_second() {
        let fixture = golden("80_future_poll_cadence");
        assert_eq!(replay(&fixture, "golden:optim_step:2"), [1000, 1000, 400, 800, 1600, 3200, 6400]);
    }

    #[test]
    fn scenario_81_every_queue_state_goes_on_to_the_result() {
        let fixture = golden("81_future_poll_sample_queue_state");
        let waits: Vec<_> =
            requests(&fixture).into_iter().map(|id| replay(&fixture, id)).filter(|waits| !waits.is_empty()).collect();
        let (paused, unknown) = (vec![1000], vec![100]);
        let pairs = [&paused, &paused, &paused, &paused, &unknown, &unknown, &paused, &paused];
        assert_eq!(waits[..8].iter().collect::<Vec<_>>(), pairs);
        assert_eq!(waits[8..], [vec![1000, 200]], "try_again, paused and then without a state");
    }

    #[test]
    fn scenarios_82_and_83_failed_and_expired_promises_are_not_polled_again() {
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
    fn scenario_85_connection_failures_wait_as_the_python_client_does() {
        // The fourth poll is answered, which ends the row of failures; that early 408 waits on purpose.
        assert_eq!(
            replay(&golden("85_future_connection_errors"), "golden:optim_step:2"),
            [1000, 2000, 4000, 100, 1000]
        );
    }

    #[test]
    fn scenario_87_a_server_that_holds_too_briefly_is_asked_less_and_less() {
        let waits = replay(&golden("87_future_timeout"), "golden:optim_step:2");
        assert_eq!(waits[..8], [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert_eq!(waits[8..], [10_000; 7]);
    }

    #[test]
    fn a_poll_that_was_held_is_repeated_at_once_unless_the_queue_is_paused() {
        let mut state = PollState::new(HOUR);
        assert_eq!(wait(&mut state, &not_yet(None), 30 * SECOND), 0);
        assert_eq!(wait(&mut state, &not_yet(Some("active")), SECOND), 0);
        assert_eq!(wait(&mut state, &not_yet(Some("paused_rate_limit")), 30 * SECOND), 1000);
        assert_eq!(wait(&mut state, &not_yet(Some("paused_by_something_new")), SECOND), 1000);
        assert_eq!(wait(&mut state, &not_yet(None), SECOND / 2), 100);
        assert_eq!(wait(&mut state, &not_yet(None), SECOND / 2), 200);
        assert_eq!(wait(&mut state, &not_yet(None), SECOND), 0);
        assert_eq!(wait(&mut state, &not_yet(None), SECOND / 2), 100, "a held poll ends the row");
        assert_eq!(wait(&mut state, &Meaning::Silent, SECOND / 20), 0);
    }

    #[test]
    fn a_429_waits_as_long_as_the_server_says_within_a_minute() {
        let mut state = PollState::new(HOUR);
        let limited = |seconds| Meaning::RateLimited { retry_after: Some(seconds * SECOND) };
        assert_eq!(wait(&mut state, &Meaning::RateLimited { retry_after: None }, SECOND), 500);
        assert_eq!(wait(&mut state, &limited(7), SECOND), 7000);
        assert_eq!(wait(&mut state, &limited(61), SECOND), 2000, "as for a retry, a longer wish is ignored");
        assert_eq!(wait(&mut state, &not_yet(None), SECOND), 0);
        assert_eq!(wait(&mut state, &Meaning::Transient { status: 503 }, SECOND), 500);
    }

    #[test]
    fn any_answer_ends_a_row_of_connection_failures() {
        let mut state = PollState::new(HOUR);
        let row: Vec<_> = (0..7).map(|_| wait(&mut state, &Meaning::Disconnected, Duration::ZERO)).collect();
        assert_eq!(row, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        wait(&mut state, &Meaning::Transient { status: 500 }, Duration::ZERO);
        assert_eq!(wait(&mut state, &Meaning::Disconnected, Duration::ZERO), 1000);
    }

    #[test]
    fn only_a_word_about_the_promise_keeps_it_from_being_given_up() {
        let t0 = start();
        let mut state = PollState::new(HOUR);
        let hear = |state: &mut PollState, meaning: Meaning<()>, held| state.on_reply(&meaning, held, t0, 0.0);
        for silence in [Meaning::Silent, Meaning::Transient { status: 500 }, Meaning::Silent] {
            assert!(matches!(hear(&mut state, silence, HOUR / 4), Next::Poll(_)));
        }
        assert!(matches!(hear(&mut state, not_yet(None), HOUR / 2), Next::Poll(_)), "a word resets the silence");
        assert!(matches!(hear(&mut state, Meaning::Silent, HOUR / 2), Next::Poll(_)));
        assert_eq!(hear(&mut state, Meaning::Silent, HOUR / 2), Next::GiveUp);
        assert_eq!(hear(&mut state, Meaning::Done(()), 9 * HOUR), Next::Finish);
    }

    #[test]
    fn the_waits_between_polls_count_as_silence_and_the_time_without_a_seat_does_not() {
        let t0 = start();
        let mut state = PollState::new(5 * SECOND);
        // Waits of 1 and 2 s, then 4: 7 s of silence.
        for n in 0..3 {
            let reply = state.on_reply::<()>(&Meaning::Disconnected, Duration::ZERO, t0 + n * HOUR, 0.0);
            assert!(matches!(reply, Next::Poll(_)), "{n}");
        }
        assert_eq!(state.on_reply::<()>(&Meaning::Disconnected, Duration::ZERO, t0, 0.0), Next::GiveUp);
    }

    quickcheck! {
        fn no_server_is_asked_in_a_tight_loop(replies: Vec<u8>, jitter: f64) -> bool {
            let (t0, mut state) = (start(), PollState::new(Duration::MAX));
            let mut now = t0;
            let polls = replies.len() as u128;
            for reply in replies {
                state.begin();
                let meaning = match reply % 6 {
                    0 => not_yet(None),
                    1 => not_yet(Some("paused_capacity")),
                    2 => Meaning::Transient { status: 500 },
                    3 => Meaning::RateLimited { retry_after: None },
                    4 => Meaning::RateLimited { retry_after: Some(SECOND) },
                    _ => Meaning::Disconnected,
                };
                match state.on_reply(&meaning, Duration::ZERO, now, jitter) {
                    Next::Poll(at) => now = at,
                    _ => return false,
                }
            }
            (now - t0).as_millis() >= 75 * polls
        }
    }
}
