//! Sizes and times for people, in the format of the Python client's program.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tinkex::types::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// From this age on, the date is shown instead.
const MAX_AGE: u64 = 30 * DAY;

/// `1023 B`, `117.7 MB`: units of 1024, one decimal; `N/A` if unknown.
pub(crate) fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "N/A".to_owned() };
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = ["KB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    format!("{amount:.1} {unit}")
}

/// `2 hours ago`; the date if that is 30 days or more ago, or in the future.
pub(crate) fn age(time: &Timestamp, now: SystemTime) -> String {
    let Ok(age) = now.duration_since(time.system_time()) else { return date(time) };
    match age.as_secs() {
        seconds if seconds >= MAX_AGE => date(time),
        ..MINUTE => "just now".to_owned(),
        seconds => format!("{} ago", length(seconds)),
    }
}

/// When something expires: `in 3 days`, or the date if that is 30 days or more away.
pub(crate) fn expiry(time: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(time) = time else { return "Never".to_owned() };
    let Ok(left) = time.system_time().duration_since(now) else { return "Expired".to_owned() };
    match left.as_secs() {
        seconds if seconds >= MAX_AGE => date(time),
        seconds => format!("in {}", length(seconds)),
    }
}

/// A length of time in its largest unit, such as `3 days`.
pub(crate) fn length(seconds: u64) -> String {
    let (count, unit) = match seconds {
        seconds if seconds > WEEK + DAY => (seconds / WEEK, "week"),
        seconds if seconds >= DAY => (seconds / DAY, "day"),
        seconds if seconds >= HOUR => (seconds / HOUR, "hour"),
        seconds if seconds >= MINUTE => (seconds / MINUTE, "minute"),
        seconds => (seconds, "second"),
    };
    counted(count, unit)
}

/// A length of time in the largest unit that it is a whole number of, such as `90 minutes`.
pub(crate) fn exact_length(seconds: u64) -> String {
    let units = [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (1, "second")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds % size == 0).unwrap_or((1, "second"));
    counted(seconds / size, unit)
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Metadata in one line: `purpose=eval, seed=1`.
pub(crate) fn metadata(entries: Option<&BTreeMap<String, String>>) -> String {
    let entries = entries.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    entries.collect::<Vec<_>>().join(", ")
}

/// The date, in the timestamp's own time zone.
fn date(time: &Timestamp) -> String {
    time.to_string().chars().take_while(|character| *character != 'T').collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// From the Python client 0.4.1.
    #[test]
    fn sizes_have_one_decimal_in_units_of_1024() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KB"),
            (1536, "1.5 KB"),
            (1_000_000, "976.6 KB"),
            (123_456_789, "117.7 MB"),
            (3_000_000_000, "2.8 GB"),
            (10_000_000_000_000, "9.1 TB"),
            (u64::MAX, "16777216.0 TB"),
        ] {
            assert_eq!(size(Some(bytes)), text);
        }
        assert_eq!(size(None), "N/A");
    }

    #[test]
    fn an_exact_length_loses_nothing() {
        for (seconds, text) in
            [(3600, "1 hour"), (5400, "90 minutes"), (3661, "3661 seconds"), (604_800, "7 days"), (0, "0 days")]
        {
            assert_eq!(exact_length(seconds), text);
        }
    }

    #[test]
    fn an_expiry_is_a_time_left() {
        let time = "2026-01-31T12:00:00Z".parse::<Timestamp>().unwrap();
        for (left, text) in [
            (1, "in 1 second"),
            (7200, "in 2 hours"),
            (3 * 86_400, "in 3 days"),
            (20 * 86_400, "in 2 weeks"),
            (30 * 86_400, "2026-01-31"),
        ] {
            assert_eq!(expiry(Some(&time), time.system_time() - Duration::from_secs(left)), text);
        }
        assert_eq!(expiry(Some(&time), time.system_time() + Duration::from_secs(1)), "Expired");
        assert_eq!(expiry(None, time.system_time()), "Never");
    }

    /// From the Python client 0.4.1, except for a time in the future, which it shows as one of yesterday.
    #[test]
    fn ages_use_the_largest_unit_or_a_date() {
        let time = "2025-11-01T23:30:00+02:00".parse::<Timestamp>().unwrap();
        for (seconds, text) in [
            (0, "just now"),
            (59, "just now"),
            (65, "1 minute ago"),
            (3599, "59 minutes ago"),
            (3700, "1 hour ago"),
            (86_399, "23 hours ago"),
            (86_400, "1 day ago"),
            (7 * 86_400 + 5, "7 days ago"),
            (8 * 86_400 + 5, "1 week ago"),
            (20 * 86_400, "2 weeks ago"),
            (29 * 86_400, "4 weeks ago"),
            (40 * 86_400, "2025-11-01"),
        ] {
            assert_eq!(age(&time, time.system_time() + Duration::from_secs(seconds)), text);
        }
        assert_eq!(age(&time, time.system_time() - Duration::from_secs(1)), "2025-11-01");
    }
}
