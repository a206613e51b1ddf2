//! Hours of usage.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use crate::types::Timestamp;

const HOUR_SECONDS: i64 = 3600;
const HOUR_MILLISECONDS: i64 = HOUR_SECONDS * 1000;

/// A whole hour: the number of hours since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hour(i64);

impl Hour {
    /// The hour that contains a time.
    pub(crate) fn of(time: &Timestamp) -> Self {
        Hour(time.unix_seconds().div_euclid(HOUR_SECONDS))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Hour)
    }

    pub(super) fn back(self, hours: i64) -> Self {
        Hour(self.0 - hours)
    }

    pub(crate) fn next(self) -> Self {
        Hour(self.0 + 1)
    }

    /// When the hour starts.
    pub(crate) fn start(self) -> Timestamp {
        let seconds = u64::try_from(self.0.saturating_mul(HOUR_SECONDS)).unwrap_or_default();
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The milliseconds from one time to another, hour by hour; nothing if the second is not later.
pub(super) fn by_hour(from: &Timestamp, to: &Timestamp) -> impl Iterator<Item = (Hour, u64)> {
    let [from, to] = [from, to].map(|time| time.unix_seconds() * 1000 + i64::from(time.subsec_nanos() / 1_000_000));
    let hour = |at: i64| at.div_euclid(HOUR_MILLISECONDS);
    (hour(from)..=hour(to)).filter_map(move |number| {
        let start = number * HOUR_MILLISECONDS;
        let milliseconds = to.min(start + HOUR_MILLISECONDS) - from.max(start);
        u64::try_from(milliseconds).ok().filter(|&milliseconds| milliseconds > 0).map(|time| (Hour(number), time))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    #[test]
    fn time_is_divided_at_whole_hours() {
        for (from, to, expected) in [
            (0, 3600, vec![(0, 3_600_000)]),
            (3500, 3700, vec![(0, 100_000), (1, 100_000)]),
            (3600, 10_800, vec![(1, 3_600_000), (2, 3_600_000)]),
            (10, 10, vec![]),
            (20, 10, vec![]),
            (7000, 10, vec![]),
        ] {
            let hours: Vec<_> = by_hour(&time(from), &time(to)).map(|(hour, time)| (hour.0, time)).collect();
            assert_eq!(hours, expected, "{from} {to}");
        }
    }

    quickcheck::quickcheck! {
        fn hours_add_up_to_the_whole_time(from: u32, length: u16) -> bool {
            let to = u64::from(from) + u64::from(length) * 7;
            by_hour(&time(from.into()), &time(to)).map(|(_, time)| time).sum::<u64>() == u64::from(length) * 7000
        }

        fn an_hour_contains_its_start(number: u16) -> bool {
            // Up to the year 9424: timestamps end with the year 9999.
            let hour = Hour(i64::from(number) * 997);
            Hour::of(&hour.start()) == hour && Hour::of(&hour.next().start()) == hour.next()
        }
    }
}
