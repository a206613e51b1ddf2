//! Parsers of numbers on the command line. Those of clap and of the standard library say "invalid digit found in string".

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A parser of whole numbers from this one on.
pub(crate) fn at_least<N>(min: N) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + Display + Copy,
{
    move |text| parse(text, |number| *number >= min).ok_or_else(|| format!("expected a whole number, {min} or more"))
}

/// A parser of whole numbers in this range.
pub(crate) fn within<N>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + Display + Copy,
{
    move |text| {
        let expected = || format!("expected a whole number from {} to {}", range.start(), range.end());
        parse(text, |number| range.contains(number)).ok_or_else(expected)
    }
}

pub(crate) fn finite(text: &str) -> Result<f64, String> {
    parse(text, |number: &f64| number.is_finite()).ok_or_else(|| "expected a number".to_owned())
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    parse(text, |number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "expected a number greater than 0".to_owned())
}

pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    parse(text, |number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "expected a number, 0 or more".to_owned())
}

/// A fraction of a whole, but not all of it.
pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    parse(text, |number| (0.0..1.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to less than 1".to_owned())
}

fn parse<N: FromStr>(text: &str, is_valid: impl Fn(&N) -> bool) -> Option<N> {
    text.parse().ok().filter(is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_part_of_the_range() {
        assert_eq!(at_least(1_u64)("1"), Ok(1));
        assert_eq!(within(1..=9_usize)("9"), Ok(9));
        assert_eq!((fraction("0"), positive("1e-4"), finite("-1")), (Ok(0.0), Ok(1e-4), Ok(-1.0)));
        assert_eq!((not_negative("0"), not_negative("0.1")), (Ok(0.0), Ok(0.1)));
    }

    #[test]
    fn errors_name_the_range() {
        for text in ["0", "-1", "x", "1.5", "", "99999999999999999999"] {
            assert_eq!(at_least(1_u64)(text), Err("expected a whole number, 1 or more".to_owned()));
            assert_eq!(within(1..=9_usize)(text), Err("expected a whole number from 1 to 9".to_owned()));
        }
        assert!(["1", "-0.1", "NaN"].iter().all(|text| fraction(text).is_err()));
        assert!(["0", "inf", "x"].iter().all(|text| positive(text).is_err()));
        assert!(["NaN", "inf", "x"].iter().all(|text| finite(text).is_err()));
        assert!(["-0.1", "inf", "x"].iter().all(|text| not_negative(text).is_err()));
    }
}
