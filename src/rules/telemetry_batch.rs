//! Which telemetry events go into the next request, when it is sent, and which events are dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The maximum number of queued events (Python client: `MAX_QUEUE_SIZE`). Further ones are dropped.
pub(crate) const MAX_QUEUED: usize = 10_000;

/// The maximum number of events in a request. This many queued events make a request due (Python client:
/// `MAX_BATCH_SIZE`).
pub(crate) const MAX_BATCH: usize = 100;

/// The maximum time that an event is queued before a request is due (Python client: `FLUSH_INTERVAL`).
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Groups the events of a session into requests.
#[derive(Debug)]
pub(crate) struct Batcher<E> {
    /// Each with the time of its arrival. Their indices are consecutive, up to `next_index`.
    queued: VecDeque<(Instant, E)>,
    /// A request to retry, and when.
    retry: Option<(Instant, EventBatch<E>)>,
    /// The index of the next event.
    next_index: u64,
    /// Events with lower indices are due at once.
    flush_below: u64,
    dropped: u64,
    /// The number of requests that were accepted or rejected.
    answered: u64,
    /// The number of events in the request that is being sent or will be retried.
    outstanding: usize,
    ended: bool,
}

/// The events of one request.
#[derive(Debug)]
pub(crate) struct EventBatch<E> {
    pub(crate) events: Vec<E>,
    /// The number of failed attempts.
    pub(crate) failures: u32,
}

/// What the sending thread does next.
#[derive(Debug)]
pub(crate) enum NextAction<E> {
    /// Send these events, then report the outcome to [`Batcher::sent`].
    Send(EventBatch<E>),
    /// Wait up to this instant, if there is one, and look again when an event has been queued.
    Wait(Option<Instant>),
    /// Everything is sent or dropped.
    End,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// The service took the events.
    Accepted,
    /// The service will never take them.
    Rejected,
    /// Retry after this wait.
    Retry(Duration),
}

/// Why an event was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// The queue is full.
    Full {
        /// Whether no event was dropped before.
        first: bool,
    },
    /// The last event of the session is already queued.
    Ended,
}

impl<E> Default for Batcher<E> {
    fn default() -> Self {
        Batcher {
            queued: VecDeque::new(),
            retry: None,
            next_index: 0,
            flush_below: 0,
            dropped: 0,
            answered: 0,
            outstanding: 0,
            ended: false,
        }
    }
}

impl<E> Batcher<E> {
    /// Queues an event, which is built from its index. Returns whether to wake the thread: the first queued event sets its
    /// alarm, and [`MAX_BATCH`] of them make a request due.
    pub(crate) fn push(&mut self, event: impl FnOnce(u64) -> E, now: Instant) -> Result<bool, NotQueued> {
        if self.ended {
            return Err(NotQueued::Ended);
        }
        if self.queued.len() >= MAX_QUEUED {
            self.dropped += 1;
            return Err(NotQueued::Full { first: self.dropped == 1 });
        }
        self.queue(event, now);
        Ok(self.queued.len() == 1 || self.queued.len() == MAX_BATCH)
    }

    /// Queues the last event, even if the queue is full. From now on, queued events are due at once.
    pub(crate) fn end(&mut self, event: impl FnOnce(u64) -> E, now: Instant) {
        if !self.ended {
            self.queue(event, now);
            self.ended = true;
        }
    }

    /// Makes the events that are queued now due at once.
    pub(crate) fn flush(&mut self) {
        self.flush_below = self.next_index;
    }

    /// Drops everything that is left and ends.
    pub(crate) fn give_up(&mut self) {
        self.dropped += (self.queued.len() + self.retry.take().map_or(0, |(_, batch)| batch.events.len())) as u64;
        self.queued.clear();
        self.outstanding = 0;
        self.ended = true;
    }

    /// The index of the next event.
    pub(crate) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// All events with lower indices were accepted, rejected or dropped.
    pub(crate) fn settled_below(&self) -> u64 {
        self.next_index - (self.queued.len() + self.outstanding) as u64
    }

    /// The number of dropped events, for any reason.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number of requests that were accepted or rejected, which shows progress.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// What the thread does at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> NextAction<E> {
        if let Some((at, batch)) = self.retry.take() {
            if self.ended || at <= now {
                return NextAction::Send(batch);
            }
            self.retry = Some((at, batch));
            return NextAction::Wait(Some(at));
        }
        let Some((arrived, _)) = self.queued.front() else {
            return if self.ended { NextAction::End } else { NextAction::Wait(None) };
        };
        let due = *arrived + INTERVAL;
        let front_index = self.next_index - self.queued.len() as u64;
        let flushed = self.ended || front_index < self.flush_below;
        if !flushed && self.queued.len() < MAX_BATCH && due > now {
            return NextAction::Wait(Some(due));
        }
        let count = self.queued.len().min(MAX_BATCH);
        self.outstanding = count;
        NextAction::Send(EventBatch {
            events: self.queued.drain(..count).map(|(_, event)| event).collect(),
            failures: 0,
        })
    }

    /// Records the outcome of a request. After the last event, nothing is retried: the thread that closes the session waits,
    /// and if one request fails, the others would fail, too.
    pub(crate) fn sent(&mut self, mut batch: EventBatch<E>, outcome: SendOutcome, now: Instant) {
        if !matches!(outcome, SendOutcome::Retry(_)) {
            (self.answered, self.outstanding) = (self.answered + 1, 0);
        }
        match outcome {
            SendOutcome::Accepted => {}
            SendOutcome::Rejected => self.dropped += batch.events.len() as u64,
            SendOutcome::Retry(_) if self.ended => {
                self.dropped += batch.events.len() as u64;
                self.give_up();
            }
            SendOutcome::Retry(wait) => {
                batch.failures += 1;
                self.retry = Some((now + wait, batch));
            }
        }
    }

    fn queue(&mut self, event: impl FnOnce(u64) -> E, now: Instant) {
        self.queued.push_back((now, event(self.next_index)));
        self.next_index += 1;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::super::testing::start;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn push(batcher: &mut Batcher<u64>, count: usize, now: Instant) -> usize {
        (0..count).filter(|_| batcher.push(|index| index, now).is_ok()).count()
    }

    fn batch(batcher: &mut Batcher<u64>, now: Instant) -> EventBatch<u64> {
        match batcher.next(now) {
            NextAction::Send(batch) => batch,
            action => panic!("nothing is due: {action:?}"),
        }
    }

    fn wait(batcher: &mut Batcher<u64>, now: Instant) -> Option<Duration> {
        match batcher.next(now) {
            NextAction::Wait(until) => until.map(|at| at - now),
            action => panic!("something is due: {action:?}"),
        }
    }

    #[test]
    fn ten_seconds_or_a_hundred_events_make_requests() {
        let (mut batcher, t0) = (Batcher::default(), start());
        assert_eq!(wait(&mut batcher, t0), None);
        assert_eq!(push(&mut batcher, 1, t0), 1);
        assert_eq!(push(&mut batcher, 1, t0 + 9 * SECOND), 1);
        assert_eq!(wait(&mut batcher, t0 + 9 * SECOND), Some(SECOND));
        assert_eq!(batch(&mut batcher, t0 + 10 * SECOND).events, [0, 1]);
        push(&mut batcher, 99, t0);
        assert_eq!(wait(&mut batcher, t0), Some(INTERVAL));
        push(&mut batcher, 102, t0);
        assert_eq!(batch(&mut batcher, t0).events.len(), 100);
        assert_eq!(batch(&mut batcher, t0).events, Vec::from_iter(102..202));
        assert_eq!(wait(&mut batcher, t0), Some(INTERVAL));
    }

    #[test]
    fn the_first_and_the_hundredth_event_wake() {
        let (mut batcher, t0) = (Batcher::default(), start());
        let wakes: Vec<_> = (1..=150).filter(|_| batcher.push(|index| index, t0) == Ok(true)).collect();
        assert_eq!(wakes, [1, 100]);
    }

    #[test]
    fn a_flush_sends_only_what_is_queued() {
        let (mut batcher, t0) = (Batcher::default(), start());
        push(&mut batcher, 150, t0);
        batcher.flush();
        assert_eq!(batch(&mut batcher, t0).events.len(), 100);
        assert_eq!(batch(&mut batcher, t0).events.len(), 50);
        push(&mut batcher, 1, t0);
        assert_eq!(wait(&mut batcher, t0), Some(INTERVAL));
    }

    #[test]
    fn failed_batches_are_retried_rejected_ones_dropped() {
        let (mut batcher, t0) = (Batcher::default(), start());
        push(&mut batcher, 200, t0);
        let first = batch(&mut batcher, t0);
        batcher.sent(first, SendOutcome::Retry(3 * SECOND), t0);
        assert_eq!(wait(&mut batcher, t0), Some(3 * SECOND));
        let first = batch(&mut batcher, t0 + 3 * SECOND);
        assert_eq!((first.events[0], first.failures), (0, 1));
        batcher.sent(first, SendOutcome::Rejected, t0 + 3 * SECOND);
        assert_eq!((batcher.dropped(), batch(&mut batcher, t0 + 3 * SECOND).events[0]), (100, 100));
    }

    #[test]
    fn a_full_queue_drops_all_but_the_last() {
        let (mut batcher, t0) = (Batcher::default(), start());
        assert_eq!(push(&mut batcher, MAX_QUEUED, t0), MAX_QUEUED);
        assert_eq!(batcher.push(|index| index, t0), Err(NotQueued::Full { first: true }));
        assert_eq!(batcher.push(|index| index, t0), Err(NotQueued::Full { first: false }));
        batcher.end(|index| index, t0);
        batcher.end(|index| index, t0);
        assert_eq!(batcher.push(|index| index, t0), Err(NotQueued::Ended));
        let mut last = None;
        while let NextAction::Send(batch) = batcher.next(t0) {
            last = batch.events.last().copied();
            batcher.sent(batch, SendOutcome::Accepted, t0);
        }
        assert_eq!((last, batcher.dropped()), (Some(MAX_QUEUED as u64), 2));
    }

    #[test]
    fn nothing_is_retried_after_the_end() {
        let (mut batcher, t0) = (Batcher::default(), start());
        push(&mut batcher, 150, t0);
        let first = batch(&mut batcher, t0);
        batcher.sent(first, SendOutcome::Retry(60 * SECOND), t0);
        batcher.end(|index| index, t0);
        let first = batch(&mut batcher, t0);
        assert_eq!(first.events.len(), 100, "it has one more attempt");
        batcher.sent(first, SendOutcome::Retry(SECOND), t0);
        assert!(matches!(batcher.next(t0), NextAction::End));
        assert_eq!(batcher.dropped(), 151);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Push(u16),
        Advance(u8),
        Flush,
        Send(SendOutcome),
        End,
        GiveUp,
    }

    impl Arbitrary for Act {
        fn arbitrary(g: &mut Gen) -> Self {
            match u8::arbitrary(g) % 16 {
                0..=4 => Act::Push(u16::arbitrary(g) % 300),
                5 => Act::Push(u16::arbitrary(g) % 20_000),
                6..=8 => Act::Advance(u8::arbitrary(g) % 15),
                9 => Act::Flush,
                10..=12 => Act::Send(SendOutcome::Accepted),
                13 => Act::Send(SendOutcome::Rejected),
                14 => Act::Send(SendOutcome::Retry(Duration::from_secs(u64::from(u8::arbitrary(g) % 30)))),
                _ if u8::arbitrary(g) % 4 == 0 => Act::GiveUp,
                _ if u8::arbitrary(g) % 4 == 0 => Act::End,
                _ => Act::Flush,
            }
        }
    }

    quickcheck! {
        /// In any order of acts: an event is accepted once, or dropped and counted, or still queued; indices rise by one; no
        /// request has more than a hundred events.
        fn no_event_is_lost_or_duplicated(acts: Vec<Act>) -> bool {
            let (mut batcher, mut now) = (Batcher::default(), start());
            let (mut queued_indices, mut after_end, mut accepted) = (Vec::new(), 0_u64, Vec::new());
            let mut full = 0_u64;
            for act in acts {
                match act {
                    Act::Push(count) => for _ in 0..count {
                        match batcher.push(|index| { queued_indices.push(index); index }, now) {
                            Ok(_) => {}
                            Err(NotQueued::Full { .. }) => full += 1,
                            Err(NotQueued::Ended) => after_end += 1,
                        }
                    },
                    Act::Advance(seconds) => now += Duration::from_secs(u64::from(seconds)),
                    Act::Flush => batcher.flush(),
                    Act::End => batcher.end(|index| { queued_indices.push(index); index }, now),
                    Act::GiveUp => batcher.give_up(),
                    Act::Send(outcome) => if let NextAction::Send(batch) = batcher.next(now) {
                        if batch.events.is_empty() || batch.events.len() > MAX_BATCH {
                            return false;
                        }
                        if outcome == SendOutcome::Accepted {
                            accepted.extend_from_slice(&batch.events);
                        }
                        batcher.sent(batch, outcome, now);
                    },
                }
            }
            batcher.give_up();
            let rising = |indices: &[u64]| indices.windows(2).all(|pair| pair[0] < pair[1]);
            let consecutive = queued_indices.iter().copied().eq(0..queued_indices.len() as u64);
            let counted = queued_indices.len() as u64 + full == accepted.len() as u64 + batcher.dropped();
            consecutive && rising(&accepted) && counted && (after_end == 0 || matches!(batcher.next(now), NextAction::End))
        }
    }
}
