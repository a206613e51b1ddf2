//! The duration of a session, in the text form of Python's `timedelta`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

const DAY: u64 = 24 * 60 * 60;

/// The duration of a session in whole microseconds, in the text form of Python's `timedelta`.
/// [`SessionEnd`](super::TelemetryEventKind::SessionEnd) contains it.
///
/// ```
/// use std::time::Duration;
/// use tinkex::types::wire::SessionDuration;
///
/// let day = SessionDuration::from(Duration::from_millis(86_461_500));
/// assert_eq!(day.to_string(), "1 day, 0:01:01.500000");
/// assert_eq!("1 day, 0:01:01.500000".parse::<SessionDuration>()?, day);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionDuration(Duration);

impl From<Duration> for SessionDuration {
    /// Rounds down to whole microseconds.
    fn from(duration: Duration) -> Self {
        SessionDuration(Duration::new(duration.as_secs(), duration.subsec_micros() * 1000))
    }
}

impl From<SessionDuration> for Duration {
    fn from(duration: SessionDuration) -> Self {
        duration.0
    }
}

impl fmt::Display for SessionDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.as_secs() / DAY, self.0.as_secs() % DAY);
        match days {
            0 => {}
            1 => f.write_str("1 day, ")?,
            days => write!(f, "{days} days, ")?,
        }
        write!(f, "{}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        match self.0.subsec_micros() {
            0 => Ok(()),
            micros => write!(f, ".{micros:06}"),
        }
    }
}

impl FromStr for SessionDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::invalid_input(format!("{text:?} is not a duration"))
                .with_hint("use a form such as 1 day, 0:01:01.500000")
        })
    }
}

fn parse(text: &str) -> Option<SessionDuration> {
    let (days, time) = match text.split_once(", ") {
        Some((days, time)) => (number(days.strip_suffix(" days").or_else(|| days.strip_suffix(" day"))?)?, time),
        None => (0, text),
    };
    let (time, micros) = match time.split_once('.') {
        Some((time, micros)) if micros.len() == 6 => (time, number(micros)?),
        Some(_) => return None,
        None => (time, 0),
    };
    let mut parts = time.splitn(3, ':');
    let hours = number(parts.next()?)?;
    let minutes = number(parts.next()?).filter(|&minutes| minutes < 60)?;
    let seconds = number(parts.next()?).filter(|&seconds| seconds < 60)?;
    let seconds = days.checked_mul(DAY)?.checked_add(hours.checked_mul(3600)?)?.checked_add(minutes * 60 + seconds)?;
    Some(SessionDuration(Duration::new(seconds, u32::try_from(micros * 1000).ok()?)))
}

/// A number of digits only, without a sign.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

impl Serialize for SessionDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
