//! Which telemetry events go into the next request, when it is sent, and which events are dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most events that wait (Python client: `MAX_QUEUE_SIZE`). Later ones are dropped.
pub(crate) const MAX_WAITING: usize = 10_000;

/// The most events of a request, and as many as make one due (Python client: `MAX_BATCH_SIZE`).
pub(crate) const MAX_BATCH: usize = 100;

/// How long an event waits for company (Python client: `FLUSH_INTERVAL`).
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// The events of a session on their way to the service.
#[derive(Debug)]
pub(crate) struct Reporting<E> {
    /// With the time at which each came. Their numbers are consecutive, up to `next_index`.
    waiting: VecDeque<(Instant, E)>,
    /// A request that is to be sent again.
    again: Option<(Instant, Batch<E>)>,
    /// The number of the next event.
    next_index: u64,
    /// Events with lower numbers do not wait for company.
    flush_below: u64,
    dropped: u64,
    /// How many requests came to their end.
    answered: u64,
    ended: bool,
}

/// The events of one request.
#[derive(Debug)]
pub(crate) struct Batch<E> {
    pub(crate) events: Vec<E>,
    /// How often it was sent in vain.
    pub(crate) failures: u32,
}

/// What the sending thread does next.
#[derive(Debug)]
pub(crate) enum Step<E> {
    /// Send these events, and then say what came of it: [`Reporting::sent`].
    Send(Batch<E>),
    /// Wait until then, or without end, and look again when an event has come.
    Wait(Option<Instant>),
    /// All is done.
    End,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The service has the events.
    Accepted,
    /// It will never take them.
    Refused,
    /// It may take them later.
    Again(Duration),
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too many wait; `first` says whether it is the first that is dropped for that.
    Full {
        /// Whether none was dropped before.
        first: bool,
    },
    /// The last event has been taken.
    Ended,
}

impl<E> Default for Reporting<E> {
    fn default() -> Self {
        Reporting {
            waiting: VecDeque::new(),
            again: None,
            next_index: 0,
            flush_below: 0,
            dropped: 0,
            answered: 0,
            ended: false,
        }
    }
}

impl<E> Reporting<E> {
    /// Takes an event, which is made with its number. Says whether the thread has to look: the first that waits sets its
    /// alarm, and enough of them make a request due.
    pub(crate) fn push(&mut self, event: impl FnOnce(u64) -> E, now: Instant) -> Result<bool, NotTaken> {
        if self.ended {
            return Err(NotTaken::Ended);
        }
        if self.waiting.len() >= MAX_WAITING {
            self.dropped += 1;
            return Err(NotTaken::Full { first: self.dropped == 1 });
        }
        self.take(event, now);
        Ok(self.waiting.len() == 1 || self.waiting.len() == MAX_BATCH)
    }

    /// Takes the last event, for which there is always room. What waits is sent without delay from now on.
    pub(crate) fn end(&mut self, event: impl FnOnce(u64) -> E, now: Instant) {
        if !self.ended {
            self.take(event, now);
            self.ended = true;
        }
    }

    /// What waits now does not wait for company.
    pub(crate) fn flush(&mut self) {
        self.flush_below = self.next_index;
    }

    /// Drops everything that is left, and ends.
    pub(crate) fn give_up(&mut self) {
        self.dropped += (self.waiting.len() + self.again.take().map_or(0, |(_, batch)| batch.events.len())) as u64;
        self.waiting.clear();
        self.ended = true;
    }

    /// How many events were dropped so far, for whatever reason.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many requests came to their end, which shows that there is progress.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// What the thread does at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> Step<E> {
        if let Some((at, batch)) = self.again.take() {
            if self.ended || at <= now {
                return Step::Send(batch);
            }
            self.again = Some((at, batch));
            return Step::Wait(Some(at));
        }
        let Some((came, _)) = self.waiting.front() else {
            return if self.ended { Step::End } else { Step::Wait(None) };
        };
        let due = *came + INTERVAL;
        let front_index = self.next_index - self.waiting.len() as u64;
        let flushed = self.ended || front_index < self.flush_below;
        if !flushed && self.waiting.len() < MAX_BATCH && due > now {
            return Step::Wait(Some(due));
        }
        let count = self.waiting.len().min(MAX_BATCH);
        Step::Send(Batch { events: self.waiting.drain(..count).map(|(_, event)| event).collect(), failures: 0 })
    }

    /// Takes up what came of a request. After the last event has come, nothing is sent a second time: whoever closes the
    /// session waits, and the service is out of reach for the rest, too.
    pub(crate) fn sent(&mut self, mut batch: Batch<E>, sent: Sent, now: Instant) {
        self.answered += u64::from(!matches!(sent, Sent::Again(_)));
        match sent {
            Sent::Accepted => {}
            Sent::Refused => self.dropped += batch.events.len() as u64,
            Sent::Again(_) if self.ended => {
                self.dropped += batch.events.len() as u64;
                self.give_up();
            }
            Sent::Again(wait) => {
                batch.failures += 1;
                self.again = Some((now + wait, batch));
            }
        }
    }

    fn take(&mut self, event: impl FnOnce(u64) -> E, now: Instant) {
        self.waiting.push_back((now, event(self.next_index)));
        self.next_index += 1;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::super::testing::start;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn push(reporting: &mut Reporting<u64>, count: usize, now: Instant) -> usize {
        (0..count).filter(|_| reporting.push(|index| index, now).is_ok()).count()
    }

    fn batch(reporting: &mut Reporting<u64>, now: Instant) -> Batch<u64> {
        match reporting.next(now) {
            Step::Send(batch) => batch,
            step => panic!("nothing is due: {step:?}"),
        }
    }

    fn waits(reporting: &mut Reporting<u64>, now: Instant) -> Option<Duration> {
        match reporting.next(now) {
            Step::Wait(until) => until.map(|at| at - now),
            step => panic!("something is due: {step:?}"),
        }
    }

    #[test]
    fn events_leave_ten_seconds_after_the_oldest_came_or_a_hundred_at_once() {
        let (mut reporting, t0) = (Reporting::default(), start());
        assert_eq!(waits(&mut reporting, t0), None);
        assert_eq!(push(&mut reporting, 1, t0), 1);
        assert_eq!(push(&mut reporting, 1, t0 + 9 * SECOND), 1);
        assert_eq!(waits(&mut reporting, t0 + 9 * SECOND), Some(SECOND));
        assert_eq!(batch(&mut reporting, t0 + 10 * SECOND).events, [0, 1]);
        push(&mut reporting, 99, t0);
        assert_eq!(waits(&mut reporting, t0), Some(INTERVAL));
        push(&mut reporting, 102, t0);
        assert_eq!(batch(&mut reporting, t0).events.len(), 100);
        assert_eq!(batch(&mut reporting, t0).events, Vec::from_iter(102..202));
        assert_eq!(waits(&mut reporting, t0), Some(INTERVAL));
    }

    #[test]
    fn the_thread_is_woken_by_the_first_event_and_the_hundredth() {
        let (mut reporting, t0) = (Reporting::default(), start());
        let woken: Vec<_> = (1..=150).filter(|_| reporting.push(|index| index, t0) == Ok(true)).collect();
        assert_eq!(woken, [1, 100]);
    }

    #[test]
    fn a_flush_sends_what_waits_and_nothing_that_comes_later() {
        let (mut reporting, t0) = (Reporting::default(), start());
        push(&mut reporting, 150, t0);
        reporting.flush();
        assert_eq!(batch(&mut reporting, t0).events.len(), 100);
        assert_eq!(batch(&mut reporting, t0).events.len(), 50);
        push(&mut reporting, 1, t0);
        assert_eq!(waits(&mut reporting, t0), Some(INTERVAL));
    }

    #[test]
    fn a_batch_that_failed_goes_first_after_its_wait_and_one_that_was_refused_is_dropped() {
        let (mut reporting, t0) = (Reporting::default(), start());
        push(&mut reporting, 200, t0);
        let first = batch(&mut reporting, t0);
        reporting.sent(first, Sent::Again(3 * SECOND), t0);
        assert_eq!(waits(&mut reporting, t0), Some(3 * SECOND));
        let first = batch(&mut reporting, t0 + 3 * SECOND);
        assert_eq!((first.events[0], first.failures), (0, 1));
        reporting.sent(first, Sent::Refused, t0 + 3 * SECOND);
        assert_eq!((reporting.dropped(), batch(&mut reporting, t0 + 3 * SECOND).events[0]), (100, 100));
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_says_so_first_but_always_takes_the_last_event() {
        let (mut reporting, t0) = (Reporting::default(), start());
        assert_eq!(push(&mut reporting, MAX_WAITING, t0), MAX_WAITING);
        assert_eq!(reporting.push(|index| index, t0), Err(NotTaken::Full { first: true }));
        assert_eq!(reporting.push(|index| index, t0), Err(NotTaken::Full { first: false }));
        reporting.end(|index| index, t0);
        reporting.end(|index| index, t0);
        assert_eq!(reporting.push(|index| index, t0), Err(NotTaken::Ended));
        let mut last = None;
        while let Step::Send(batch) = reporting.next(t0) {
            last = batch.events.last().copied();
            reporting.sent(batch, Sent::Accepted, t0);
        }
        assert_eq!((last, reporting.dropped()), (Some(MAX_WAITING as u64), 2));
    }

    #[test]
    fn at_the_end_a_failure_is_not_waited_out() {
        let (mut reporting, t0) = (Reporting::default(), start());
        push(&mut reporting, 150, t0);
        let first = batch(&mut reporting, t0);
        reporting.sent(first, Sent::Again(60 * SECOND), t0);
        reporting.end(|index| index, t0);
        let first = batch(&mut reporting, t0);
        assert_eq!(first.events.len(), 100, "it has one more try");
        reporting.sent(first, Sent::Again(SECOND), t0);
        assert!(matches!(reporting.next(t0), Step::End));
        assert_eq!(reporting.dropped(), 151);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Push(u16),
        Pass(u8),
        Flush,
        Send(Sent),
        End,
        GiveUp,
    }

    impl Arbitrary for Act {
        fn arbitrary(g: &mut Gen) -> Self {
            match u8::arbitrary(g) % 16 {
                0..=4 => Act::Push(u16::arbitrary(g) % 300),
                5 => Act::Push(u16::arbitrary(g) % 20_000),
                6..=8 => Act::Pass(u8::arbitrary(g) % 15),
                9 => Act::Flush,
                10..=12 => Act::Send(Sent::Accepted),
                13 => Act::Send(Sent::Refused),
                14 => Act::Send(Sent::Again(Duration::from_secs(u64::from(u8::arbitrary(g) % 30)))),
                _ if u8::arbitrary(g) % 4 == 0 => Act::GiveUp,
                _ if u8::arbitrary(g) % 4 == 0 => Act::End,
                _ => Act::Flush,
            }
        }
    }

    quickcheck! {
        /// Whatever happens: an event is accepted once, or dropped and counted, or still there; numbers rise by one; no
        /// request has more than a hundred events.
        fn no_event_is_lost_or_doubled(acts: Vec<Act>) -> bool {
            let (mut reporting, mut now) = (Reporting::default(), start());
            let (mut taken, mut refused, mut accepted) = (Vec::new(), 0_u64, Vec::new());
            let mut gone = 0_u64;
            for act in acts {
                match act {
                    Act::Push(count) => for _ in 0..count {
                        match reporting.push(|index| { taken.push(index); index }, now) {
                            Ok(_) => {}
                            Err(NotTaken::Full { .. }) => gone += 1,
                            Err(NotTaken::Ended) => refused += 1,
                        }
                    },
                    Act::Pass(seconds) => now += Duration::from_secs(u64::from(seconds)),
                    Act::Flush => reporting.flush(),
                    Act::End => reporting.end(|index| { taken.push(index); index }, now),
                    Act::GiveUp => reporting.give_up(),
                    Act::Send(sent) => if let Step::Send(batch) = reporting.next(now) {
                        if batch.events.is_empty() || batch.events.len() > MAX_BATCH {
                            return false;
                        }
                        if sent == Sent::Accepted {
                            accepted.extend_from_slice(&batch.events);
                        }
                        reporting.sent(batch, sent, now);
                    },
                }
            }
            reporting.give_up();
            let rising = |numbers: &[u64]| numbers.windows(2).all(|pair| pair[0] < pair[1]);
            let consecutive = taken.iter().copied().eq(0..taken.len() as u64);
            let counted = taken.len() as u64 + gone == accepted.len() as u64 + reporting.dropped();
            consecutive && rising(&accepted) && counted && (refused == 0 || matches!(reporting.next(now), Step::End))
        }
    }
}
