//! Which idle connections are kept, and until when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Idle connections to several servers, of which a limited number is kept for a limited time.
#[derive(Debug)]
pub(crate) struct IdleList<K, T> {
    /// The longest idle first.
    entries: VecDeque<Entry<K, T>>,
    max: usize,
    retention: Duration,
}

#[derive(Debug)]
struct Entry<K, T> {
    key: K,
    connection: T,
    until: Instant,
}

impl<K: PartialEq, T> IdleList<K, T> {
    pub(crate) fn new(max: usize, retention: Duration) -> Self {
        IdleList { entries: VecDeque::new(), max, retention }
    }

    /// Keeps a connection from now on. Returns the one that must go for it, if there are too many.
    #[must_use = "it has to be closed"]
    pub(crate) fn put(&mut self, key: K, connection: T, now: Instant) -> Option<T> {
        self.entries.push_back(Entry { key, connection, until: now + self.retention });
        if self.entries.len() <= self.max {
            return None;
        }
        self.entries.pop_front().map(|entry| entry.connection)
    }

    /// Takes the connection to this server that was used last: the others grow old, if there are more than are needed.
    pub(crate) fn take(&mut self, key: &K, now: Instant) -> Option<T> {
        let found = self.entries.iter().rposition(|entry| entry.key == *key && now < entry.until)?;
        self.entries.remove(found).map(|entry| entry.connection)
    }

    /// Takes those whose time is over.
    #[must_use = "they have to be closed"]
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<T> {
        let expired = self.entries.iter().take_while(|entry| entry.until <= now).count();
        self.entries.drain(..expired).map(|entry| entry.connection).collect()
    }

    #[must_use = "they have to be closed"]
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.entries.drain(..).map(|entry| entry.connection).collect()
    }

    /// When the next one expires.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.until)
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::clock::Clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_connection_used_last_is_taken_first() {
        let now = Clock::system().now();
        let mut idle = IdleList::new(8, 15 * SECOND);
        for (key, connection) in [("a", 1), ("b", 2), ("a", 3)] {
            assert_eq!(idle.put(key, connection, now), None);
        }
        let taken = ["a", "a", "a", "c", "b"].map(|key| idle.take(&key, now));
        assert_eq!(taken, [Some(3), Some(1), None, None, Some(2)]);
        assert_eq!(idle.due(), None);
    }

    #[test]
    fn too_many_connections_drop_the_longest_idle() {
        let now = Clock::system().now();
        let mut idle = IdleList::new(2, 15 * SECOND);
        let gone: Vec<_> = (1..=4).map(|connection| idle.put((), connection, now)).collect();
        assert_eq!(gone, [None, None, Some(1), Some(2)]);
        assert_eq!(idle.take_all(), [3, 4]);
    }

    #[test]
    fn one_that_expired_is_not_taken() {
        let now = Clock::system().now();
        let mut idle = IdleList::new(2, 15 * SECOND);
        assert_eq!(idle.put((), 1, now), None);
        assert_eq!(idle.take(&(), now + 15 * SECOND), None);
        assert_eq!(idle.take_expired(now + 15 * SECOND), [1]);
    }

    quickcheck! {
        /// Whatever is put and taken, each connection comes out once, none is kept for longer, and no more than the maximum.
        fn each_connection_leaves_once_and_in_time(steps: Vec<(bool, u8)>, max: u8) -> bool {
            let mut now = Clock::system().now();
            let mut idle = IdleList::new(max.into(), 15 * SECOND);
            let (mut put, mut gone) = (0, Vec::new());
            for (puts, seconds) in steps {
                now += u32::from(seconds % 8) * SECOND;
                gone.extend(idle.take_expired(now));
                if puts {
                    gone.extend(idle.put((), put, now));
                    put += 1;
                } else {
                    gone.extend(idle.take(&(), now));
                }
                if idle.entries.len() > max.into() || idle.due().is_some_and(|due| due <= now || due > now + 15 * SECOND) {
                    return false;
                }
            }
            gone.extend(idle.take_all());
            gone.sort_unstable();
            gone == (0..put).collect::<Vec<_>>()
        }
    }
}
