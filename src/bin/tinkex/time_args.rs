//! Parsers of times on the command line.

use std::time::Duration;

use tinkex::types::Timestamp;

/// A point in time: a date or ISO 8601, in UTC unless it says otherwise.
pub(crate) fn point(text: &str) -> Result<Timestamp, String> {
    // A bare number would be seconds since 1970, which nobody means here.
    let is_date = text.find('-').is_some_and(|place| place > 0);
    let parsed = is_date.then(|| text.parse::<Timestamp>().ok()).flatten();
    parsed.ok_or_else(|| "expected a date or a time, such as 2026-01-31 or 2026-01-31T12:00:00Z".to_owned())
}

/// A length of time: a whole number of seconds, or of another unit.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: Option<u64> = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        "w" => Some(7 * 24 * 3600),
        _ => None,
    };
    let seconds = unit.zip(digits.parse::<u64>().ok()).and_then(|(unit, number)| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a length of time, such as 3600, 12h, 7d or 4w".to_owned())
}

/// How long a checkpoint is kept.
pub(crate) fn lifetime(text: &str) -> Result<Duration, String> {
    const HOUR: u64 = 3600;
    let lifetime = length(text)?;
    let is_allowed = (HOUR..=10 * 365 * 24 * HOUR).contains(&lifetime.as_secs());
    is_allowed.then_some(lifetime).ok_or_else(|| "expected 1 hour to 10 years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_a_unit() {
        for (text, seconds) in [("3600", 3600), ("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("4w", 2_419_200)] {
            assert_eq!(length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "d", "1.5h", "-1d", "1 d", "1y", "1dd", "ü", "1ü", "99999999999999999999", "9999999999999999999w"]
        {
            assert!(length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lifetime_is_an_hour_to_ten_years() {
        for (text, is_ok) in [("59m", false), ("1h", true), ("3650d", true), ("3651d", false)] {
            assert_eq!(lifetime(text).is_ok(), is_ok, "{text}");
        }
    }

    #[test]
    fn a_point_is_a_date_or_time() {
        assert_eq!(point("2026-01-31").unwrap(), "2026-01-31T00:00:00Z".parse().unwrap());
        assert_eq!(point("2026-01-31T12:00:00+02:00").unwrap(), "2026-01-31T10:00:00Z".parse().unwrap());
        for text in ["", "7d", "20260131", "1700000000", "-1", "2026-13-01"] {
            assert!(point(text).is_err(), "{text}");
        }
    }
}
