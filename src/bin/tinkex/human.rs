//! Sizes and times for people, in the Python client's words.

use std::time::SystemTime;

use tinkex::types::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// From here on a date says more than an age.
const LONG_AGO: u64 = 30 * DAY;

/// `1023 B`, `117.7 MB`: steps of 1024, one decimal. `N/A` when it is not known.
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

/// `2 hours ago`, or the date when it is long ago or to come.
pub(crate) fn age(time: &Timestamp, now: SystemTime) -> String {
    let Ok(age) = now.duration_since(time.system_time()) else { return date(time) };
    let (count, unit) = match age.as_secs() {
        seconds if seconds >= LONG_AGO => return date(time),
        seconds if seconds > WEEK + DAY => (seconds / WEEK, "week"),
        seconds if seconds >= DAY => (seconds / DAY, "day"),
        seconds if seconds >= HOUR => (seconds / HOUR, "hour"),
        seconds if seconds >= MINUTE => (seconds / MINUTE, "minute"),
        _ => return "just now".to_owned(),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// The day, in the timestamp's own zone.
fn date(time: &Timestamp) -> String {
    time.to_string().chars().take_while(|character| *character != 'T').collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As the Python client 0.4.1 shows them.
    #[test]
    fn sizes_have_one_decimal_and_steps_of_1024() {
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

    /// As the Python client 0.4.1 shows them, but for a time to come, which it takes for one of yesterday.
    #[test]
    fn an_age_is_in_its_largest_unit_and_a_date_when_it_is_long_ago() {
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
