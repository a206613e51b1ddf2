//! Parsing ISO 8601.

use super::calendar::{DAY, days, in_range};

/// Parses a text into seconds since 1970, the nanoseconds after that, and the offset in seconds east of UTC.
pub(super) fn parse(text: &str) -> Option<(i64, u32, Option<i32>)> {
    Parser(text).timestamp()
}

/// The part of the text that is not parsed yet.
struct Parser<'a>(&'a str);

impl Parser<'_> {
    fn timestamp(&mut self) -> Option<(i64, u32, Option<i32>)> {
        let date = self.date()?;
        if self.0.is_empty() {
            return in_range(date).then_some((date, 0, None));
        }
        self.eat(&['T', 't', ' ', '_'])?;
        let mut seconds = date + self.number(2, 0..=23)? * 3600;
        self.eat(&[':'])?;
        seconds += self.number(2, 0..=59)? * 60;
        let mut nanos = 0;
        if self.eat(&[':']).is_some() {
            seconds += self.number(2, 0..=59)?;
            if self.eat(&['.', ',']).is_some() {
                nanos = self.fraction()?;
            }
        }
        let offset = self.offset()?;
        seconds -= i64::from(offset.unwrap_or_default());
        (self.0.is_empty() && in_range(seconds)).then_some((seconds, nanos, offset))
    }

    /// A date, as seconds since 1970.
    fn date(&mut self) -> Option<i64> {
        let year = self.number(4, 0..=9999)?;
        self.eat(&['-'])?;
        let month = self.number(2, 1..=12)?;
        self.eat(&['-'])?;
        let day = self.number(2, 1..=31)?;
        let first = days(year, month, 1);
        let length = days(year + month / 12, month % 12 + 1, 1) - first;
        (day <= length).then_some((first + day - 1) * DAY)
    }

    /// The digits after the point, as nanoseconds; digits after the ninth are ignored.
    fn fraction(&mut self) -> Option<u32> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, rest) = self.0.split_at(digits);
        self.0 = rest;
        format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse().ok().filter(|_| digits > 0)
    }

    /// Seconds east of UTC: `Z`, `±HH:MM`, `±HHMM`, `±HH`, or nothing.
    fn offset(&mut self) -> Option<Option<i32>> {
        if self.0.is_empty() {
            return Some(None);
        }
        if self.eat(&['Z', 'z']).is_some() {
            return Some(Some(0));
        }
        let sign = if self.eat(&['-']).is_some() { -1 } else { self.eat(&['+']).map(|()| 1)? };
        let mut offset = self.number(2, 0..=23)? * 3600;
        if self.eat(&[':']).is_some() || !self.0.is_empty() {
            offset += self.number(2, 0..=59)? * 60;
        }
        i32::try_from(sign * offset).ok().map(Some)
    }

    /// Consumes one of these characters.
    fn eat(&mut self, choice: &[char]) -> Option<()> {
        self.0 = self.0.strip_prefix(choice)?;
        Some(())
    }

    /// A number with exactly this many digits, in a range.
    fn number(&mut self, digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let text = self.0.get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        self.0 = &self.0[digits..];
        text.parse().ok().filter(|number| range.contains(number))
    }
}
