//! Money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};
use std::str::FromStr;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The decimals that are kept: those of a millionth of a microdollar.
const DECIMALS: usize = 12;
const DOLLAR: u128 = 10_u128.pow(DECIMALS as u32);

/// An amount of US dollars, never negative, exact to 10⁻¹² dollars. Sums stay exact; what exceeds 10²⁶ dollars stays there.
///
/// It is parsed from `5`, `5.25`, `$5.25`, `5usd` or `5.25 USD`. It is shown with at least two decimals and as many more as it has; with a
/// precision, rounded to it. As JSON it is a text such as `"5.25"`; numbers are read as well.
///
/// ```
/// use tinkex::cost::Dollars;
///
/// let price: Dollars = "$0.195".parse()?;
/// let budget: Dollars = "5 usd".parse()?;
/// assert_eq!(price.to_string(), "$0.195");
/// assert_eq!((price * 3 + budget).to_string(), "$5.585");
/// assert_eq!(format!("{price:.2} {budget}"), "$0.20 $5.00");
/// assert_eq!(budget.remaining_after(price).to_string(), "$4.805");
/// assert!("five".parse::<Dollars>().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dollars(u128);

impl Dollars {
    /// Nothing.
    pub const ZERO: Dollars = Dollars(0);

    /// This number of 10⁻¹² dollars.
    pub(super) const fn from_picodollars(amount: u128) -> Self {
        Dollars(amount)
    }

    pub(super) const fn picodollars(self) -> u128 {
        self.0
    }

    /// The nearest floating-point number of dollars, for metrics and charts.
    ///
    /// ```
    /// use tinkex::cost::Dollars;
    ///
    /// assert_eq!("0.195".parse::<Dollars>()?.as_f64(), 0.195);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / DOLLAR as f64
    }

    /// What is left of this amount after the other is spent: nothing if the other is larger.
    #[must_use]
    pub fn remaining_after(self, spent: Dollars) -> Dollars {
        Dollars(self.0.saturating_sub(spent.0))
    }
}

impl FromStr for Dollars {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            Error::invalid_input(format!("{text:?} is not an amount of dollars"))
                .with_hint("write it like 5, 0.195, $5 or 5usd, with at most 12 decimals")
        })
    }
}

fn parse(text: &str) -> Option<Dollars> {
    let text = text.trim();
    let (unsigned, has_sign) = text.strip_prefix('$').map_or((text, false), |rest| (rest, true));
    let without_unit = unsigned.len().checked_sub(3).filter(|start| unsigned.is_char_boundary(*start));
    let number = match without_unit.map(|start| unsigned.split_at(start)) {
        Some((number, unit)) if unit.eq_ignore_ascii_case("usd") && !has_sign => number.trim_end(),
        _ => unsigned,
    };
    let (whole, decimals) = number.split_once('.').map_or((number, None), |(whole, decimals)| (whole, Some(decimals)));
    let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_digits(whole) || decimals.is_some_and(|decimals| !is_digits(decimals)) {
        return None;
    }
    let decimals = decimals.unwrap_or_default().trim_end_matches('0');
    if decimals.len() > DECIMALS {
        return None;
    }
    let decimals: u128 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
    Some(Dollars(whole.parse::<u128>().ok()?.checked_mul(DOLLAR)?.checked_add(decimals)?))
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = f.precision().unwrap_or(DECIMALS).min(DECIMALS);
        let unit = 10_u128.pow((DECIMALS - shown) as u32);
        let rounded = self.0 / unit + u128::from(self.0 % unit >= unit.div_ceil(2) && unit > 1);
        let scale = 10_u128.pow(shown as u32);
        let (whole, decimals) = (rounded / scale, rounded % scale);
        let mut decimals = if shown == 0 { String::new() } else { format!(".{decimals:0>shown$}") };
        match f.precision() {
            Some(asked) if asked > DECIMALS => decimals.push_str(&"0".repeat(asked - DECIMALS)),
            Some(_) => {}
            None => {
                let kept = decimals.trim_end_matches('0').len().max(".00".len());
                decimals.truncate(kept);
            }
        }
        write!(f, "${whole}{decimals}")
    }
}

impl Add for Dollars {
    type Output = Dollars;

    fn add(self, other: Dollars) -> Dollars {
        Dollars(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Dollars {
    fn add_assign(&mut self, other: Dollars) {
        *self = *self + other;
    }
}

impl Mul<u64> for Dollars {
    type Output = Dollars;

    fn mul(self, times: u64) -> Dollars {
        Dollars(self.0.saturating_mul(times.into()))
    }
}

impl Sum for Dollars {
    fn sum<I: Iterator<Item = Dollars>>(amounts: I) -> Dollars {
        amounts.fold(Dollars::ZERO, Add::add)
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_string().trim_start_matches('$'))
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Dollars;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount of dollars, such as \"0.195\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Dollars, E> {
        parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, whole: u64) -> Result<Dollars, E> {
        Ok(Dollars(u128::from(whole) * DOLLAR))
    }

    /// The shortest decimal number that is read as this one is what was written.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Dollars, E> {
        parse(&number.to_string()).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, shown) in [
            ("5", "$5.00"),
            ("$5", "$5.00"),
            ("5usd", "$5.00"),
            (" 5.250 USD ", "$5.25"),
            ("0.000000000001", "$0.000000000001"),
            ("007.10", "$7.10"),
            ("0.1000000000000000", "$0.10"),
        ] {
            assert_eq!(text.parse::<Dollars>().unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "$",
            "usd",
            "-5",
            "+5",
            "5.",
            ".5",
            "5,25",
            "1e3",
            "5 eur",
            "$5usd",
            "0.0000000000001",
            "NaN",
            "5€",
            "1000000000000000000000000000",
        ] {
            let error = text.parse::<Dollars>().unwrap_err();
            assert!(error.to_string().contains("is not an amount of dollars"), "{text}: {error}");
        }
    }

    #[test]
    fn a_precision_rounds() {
        let amount = |text: &str| text.parse::<Dollars>().unwrap();
        for (text, shown) in [
            (format!("{:.2}", amount("0.195")), "$0.20"),
            (format!("{:.2}", amount("0.1949")), "$0.19"),
            (format!("{:.0}", amount("1.5")), "$2"),
            (format!("{:.0}", amount("1.499999999999")), "$1"),
            (format!("{:.1}", amount("0.99")), "$1.0"),
            (format!("{:.12}", amount("1.5")), "$1.500000000000"),
            (format!("{:.14}", amount("1.5")), "$1.50000000000000"),
        ] {
            assert_eq!(text, shown);
        }
    }

    #[test]
    fn json_has_texts_and_numbers() {
        let read = |json: &str| serde_json::from_str::<Dollars>(json);
        for (json, text) in [("\"$0.195\"", "0.195"), ("0.195", "0.195"), ("5", "5.00"), ("1e-7", "0.0000001")] {
            assert_eq!(serde_json::to_string(&read(json).unwrap()).unwrap(), format!("{text:?}"));
        }
        for json in ["-1", "-0.5", "null", "\"free\"", "1e-13", "1e300"] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    quickcheck! {
        fn what_is_shown_is_read_again(amount: u128) -> bool {
            let amount = Dollars(amount);
            amount.to_string().parse::<Dollars>().is_ok_and(|read| read == amount)
        }

        fn sums_are_exact(amounts: Vec<u64>) -> bool {
            let sum: Dollars = amounts.iter().map(|amount| Dollars((*amount).into())).sum();
            sum.0 == amounts.iter().map(|amount| u128::from(*amount)).sum::<u128>()
        }

        fn money_does_not_overflow(one: u128, other: u128, times: u64) -> bool {
            let (one, other) = (Dollars(one), Dollars(other));
            one + other >= one && (times == 0 || one * times >= one) && one.remaining_after(other) <= one
        }
    }
}
