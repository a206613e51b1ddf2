//! Timestamps, which are text on the wire.
//!
//! Parsed by hand: of the small date crates, none reads all forms that servers send (`docs/decisions/0007`).

pub(crate) mod calendar;
mod iso8601;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use calendar::{DAY, date, in_range};

const NANOS: i128 = 1_000_000_000;

/// A number above this counts milliseconds since 1970, any other seconds: pydantic's rule, and so the Python client's.
const LAST_SECONDS: u64 = 20_000_000_000;

/// A point in time, with its offset from UTC and the original text.
///
/// Parses ISO 8601 with or without seconds, fraction and offset, a date alone, and seconds or milliseconds since 1970. A
/// text without an offset is in UTC. Written as ISO 8601 with zero, six or nine digits of a second, as needed. Two
/// timestamps are equal if they are the same instant.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tinkex::types::Timestamp;
///
/// let time = "2025-11-01T12:00:00.5+02:00".parse::<Timestamp>()?;
/// assert_eq!(time.system_time(), UNIX_EPOCH + Duration::from_millis(1_761_991_200_500));
/// assert_eq!(time.to_string(), "2025-11-01T12:00:00.500000+02:00");
/// assert_eq!(time, "2025-11-01 10:00:00.500".parse::<Timestamp>()?);
/// assert_eq!((time.unix_seconds(), time.subsec_nanos()), (1_761_991_200, 500_000_000));
/// assert_eq!(time.offset_seconds(), Some(7200));
/// assert_eq!(time.as_str(), "2025-11-01T12:00:00.5+02:00");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct Timestamp {
    /// Seconds since 1970, UTC.
    seconds: i64,
    /// Nanoseconds after that.
    nanos: u32,
    /// Seconds east of UTC. None if the text has no offset.
    offset: Option<i32>,
    raw: Box<str>,
}

impl Timestamp {
    /// The original text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Whole seconds since 1970, UTC.
    #[must_use]
    pub fn unix_seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after the whole second.
    #[must_use]
    pub fn subsec_nanos(&self) -> u32 {
        self.nanos
    }

    /// The offset in seconds east of UTC. None if the text has no offset.
    #[must_use]
    pub fn offset_seconds(&self) -> Option<i32> {
        self.offset
    }

    /// The instant as a [`SystemTime`]. An instant that the platform cannot represent becomes 1970.
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        let seconds = Duration::from_secs(self.seconds.unsigned_abs());
        let whole = if self.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
        whole.and_then(|time| time.checked_add(Duration::new(0, self.nanos))).unwrap_or(UNIX_EPOCH)
    }

    fn instant(&self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }
}

/// Seconds, nanoseconds and offset of a number of nanoseconds since 1970.
fn from_epoch(nanos: i128) -> Option<(i64, u32, Option<i32>)> {
    let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok()?;
    in_range(seconds).then_some((seconds, nanos.rem_euclid(NANOS) as u32, Some(0)))
}

impl From<SystemTime> for Timestamp {
    /// The instant in UTC. An instant outside the years 0 to 9999 becomes 1970.
    fn from(time: SystemTime) -> Self {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let (seconds, nanos, offset) = from_epoch(nanos).unwrap_or((0, 0, Some(0)));
        let mut time = Timestamp { seconds, nanos, offset, raw: "".into() };
        time.raw = time.to_string().into();
        time
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Parses a timestamp.
    ///
    /// # Errors
    ///
    /// A text that is not a timestamp, and a time outside the years 0 to 9999.
    fn from_str(text: &str) -> Result<Self> {
        let time = if let Ok(number) = text.parse::<i64>() {
            from_epoch(i128::from(number) * if number.unsigned_abs() > LAST_SECONDS { NANOS / 1000 } else { NANOS })
        } else if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
            // This far from 1970, a float has a precision of microseconds at best.
            let micros = number * if number.abs() > LAST_SECONDS as f64 { 1e3 } else { 1e6 };
            (micros.round() as i128).checked_mul(1000).and_then(from_epoch)
        } else {
            iso8601::parse(text)
        };
        match time {
            Some((seconds, nanos, offset)) => Ok(Timestamp { seconds, nanos, offset, raw: text.into() }),
            None => Err(Error::invalid_input(format!("{text:?} is not a point in time"))
                .with_hint("use ISO 8601, such as 2025-11-01T10:00:00Z")),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset.unwrap_or_default());
        let ((year, month, day), second) = (date(local.div_euclid(DAY)), local.rem_euclid(DAY));
        write!(f, "{year:04}-{month:02}-{day:02}T")?;
        write!(f, "{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        match self.nanos {
            0 => {}
            nanos if nanos % 1000 == 0 => write!(f, ".{:06}", nanos / 1000)?,
            nanos => write!(f, ".{nanos:09}")?,
        }
        match self.offset {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(offset) => {
                let sign = if offset < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() / 60 % 60)
            }
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.instant() == other.instant()
    }
}

impl Eq for Timestamp {}

impl Hash for Timestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.instant().hash(state);
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.instant().cmp(&other.instant())
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a point in time")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse::<Timestamp>().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Timestamp, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Timestamp, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Timestamp, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_beyond_the_fixtures_are_parsed() {
        for text in [
            "2025-11-01t12:00:00.000000+0200",
            "2025-11-01T12:00+02",
            "2025-11-01T10:00:00,000z",
            "1761991200.0",
            "1761991200000.0",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().unix_seconds(), 1_761_991_200, "{text}");
        }
        assert_eq!(
            "1969-12-31T23:59:59.75Z".parse::<Timestamp>().unwrap().system_time(),
            UNIX_EPOCH - Duration::from_millis(250)
        );
        assert_eq!("-0.25".parse::<Timestamp>().unwrap().to_string(), "1969-12-31T23:59:59.750000Z");
        assert_eq!("2024-02-29".parse::<Timestamp>().unwrap().to_string(), "2024-02-29T00:00:00");
    }

    #[test]
    fn other_texts_are_errors() {
        for text in [
            "",
            "2025-11",
            "2025-02-29",
            "2025-11-00",
            "2025-11-31",
            "2025-11-01T",
            "2025-11-01T24:00:00Z",
            "2025-11-01T10",
            "2025-11-01T10:00:60Z",
            "2025-11-01T10:00:00.",
            "2025-11-01T10:00:00Zjunk",
            "2025-11-01T10:00:00+",
            "2025-11-01T10:00:00+2",
            "2025-11-01T10:00:00+99:00",
            "+2025-11-01",
            "NaN",
            "inf",
            "1e300",
            "9223372036854775807",
            "0000-01-01T00:00:00+01:00",
            "２025-11-01",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn original_text_is_kept() {
        let time = "2025-11-01 10:00".parse::<Timestamp>().unwrap();
        assert_eq!((time.as_str(), time.offset_seconds()), ("2025-11-01 10:00", None));
    }

    #[test]
    fn system_times_round_trip() {
        let now = UNIX_EPOCH + Duration::new(1_761_991_200, 123_456_789);
        assert_eq!(Timestamp::from(now).system_time(), now);
        assert_eq!(Timestamp::from(now).as_str(), "2025-11-01T10:00:00.123456789Z");
    }
}
