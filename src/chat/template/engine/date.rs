//! Dates, as `strftime` prints them.

use std::fmt::Write;
use std::time::SystemTime;

use crate::types::{Timestamp, calendar};

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A date and time of day, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct DateTime {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From 0, Monday.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: u32,
}

impl From<SystemTime> for DateTime {
    /// A time outside the years 0 to 9999 becomes 1970.
    fn from(time: SystemTime) -> Self {
        let time = Timestamp::from(time);
        let seconds = time.unix_seconds();
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = calendar::date(days);
        DateTime {
            year,
            month,
            day,
            day_of_year: days - calendar::days(year, 1, 1) + 1,
            // The first day of 1970 was a Thursday.
            weekday: usize::try_from((days + 3).rem_euclid(7)).unwrap_or_default(),
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            microsecond: time.subsec_nanos() / 1000,
        }
    }
}

impl DateTime {
    /// The date in this format, in English; the part that is not known if there is one.
    pub(in super::super) fn format(&self, format: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let next = characters.next();
            // `-` leaves out the leading zeros.
            let (is_plain, directive) = if next == Some('-') { (true, characters.next()) } else { (false, next) };
            let directive = directive.ok_or("%")?;
            self.write(&mut text, directive, is_plain).ok_or_else(|| format!("%{directive}"))?;
        }
        Ok(text)
    }

    fn write(&self, text: &mut String, directive: char, is_plain: bool) -> Option<()> {
        let hour_of_12 = match self.hour % 12 {
            0 => 12,
            hour => hour,
        };
        let (number, width) = match directive {
            'Y' => (self.year, 4),
            'y' => (self.year.rem_euclid(100), 2),
            'm' => (self.month, 2),
            'd' => (self.day, 2),
            'H' => (self.hour, 2),
            'I' => (hour_of_12, 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'f' => (i64::from(self.microsecond), 6),
            'j' => (self.day_of_year, 3),
            'w' => (i64::try_from((self.weekday + 1) % 7).ok()?, 1),
            'u' => (i64::try_from(self.weekday + 1).ok()?, 1),
            _ => return self.write_word(text, directive),
        };
        if is_plain { write!(text, "{number}").ok() } else { write!(text, "{number:0width$}").ok() }
    }

    fn write_word(&self, text: &mut String, directive: char) -> Option<()> {
        let (day, month) = (*DAYS.get(self.weekday)?, *MONTHS.get(usize::try_from(self.month - 1).ok()?)?);
        let composed = match directive {
            'A' => day.to_owned(),
            'a' => day.get(..3)?.to_owned(),
            'B' => month.to_owned(),
            'b' | 'h' => month.get(..3)?.to_owned(),
            'p' => (if self.hour < 12 { "AM" } else { "PM" }).to_owned(),
            'e' => format!("{:2}", self.day),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            // A date without a time zone, as Python's `datetime.now()`.
            'Z' | 'z' => String::new(),
            'F' => self.format("%Y-%m-%d").ok()?,
            'T' | 'X' => self.format("%H:%M:%S").ok()?,
            'R' => self.format("%H:%M").ok()?,
            'D' | 'x' => self.format("%m/%d/%y").ok()?,
            'c' => self.format("%a %b %e %H:%M:%S %Y").ok()?,
            _ => return None,
        };
        text.push_str(&composed);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::DateTime;

    #[test]
    fn dates_are_those_of_python() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 Thursday 001"),
            (951_827_696, "2000-02-29 12:34:56 Tuesday 060"),
            (1_795_651_199, "2026-11-25 23:59:59 Wednesday 329"),
            (4_107_542_400, "2100-03-01 00:00:00 Monday 060"),
        ] {
            let date = DateTime::from(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(date.format("%Y-%m-%d %H:%M:%S %A %j").as_deref(), Ok(expected));
        }
    }

    #[test]
    fn dates_before_1970_are_right() {
        for (milliseconds, expected) in [
            (500, "1969-12-31 23:59:59.500000"),
            (86_400_000, "1969-12-31 00:00:00.000000"),
            (86_400_001, "1969-12-30 23:59:59.999000"),
        ] {
            let date = DateTime::from(UNIX_EPOCH - Duration::from_millis(milliseconds));
            assert_eq!(date.format("%Y-%m-%d %H:%M:%S.%f").as_deref(), Ok(expected));
        }
    }

    #[test]
    fn formats_have_words_and_plain_numbers() {
        let date = DateTime::from(UNIX_EPOCH + Duration::from_secs(1_772_528_465));
        assert_eq!(date.format("%-d %B %y, %b %e, %I:%M %p 100%%").as_deref(), Ok("3 March 26, Mar  3, 09:01 AM 100%"));
        assert_eq!(date.format("%Q"), Err("%Q".to_owned()));
        assert_eq!(date.format("%"), Err("%".to_owned()));
    }
}
