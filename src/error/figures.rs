//! Figures in messages for people.

use std::fmt;
use std::time::Duration;

/// A number of tries.
pub(crate) struct Tries(pub(crate) u32);

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 try"),
            tries => write!(f, "{tries} tries"),
        }
    }
}

/// A duration in a unit in which it has two or three digits.
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            ..9.95 => write!(f, "{} s", (seconds * 10.0).round() / 10.0),
            ..599.5 => write!(f, "{seconds:.0} s"),
            ..35_970.0 => write!(f, "{:.0} min", seconds / 60.0),
            _ => write!(f, "{:.0} h", seconds / 3600.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_few_digits() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.24, "0.2 s"),
            (9.96, "10 s"),
            (300.4, "300 s"),
            (600.0, "10 min"),
            (7200.0, "120 min"),
            (36_000.0, "10 h"),
            (1e7, "2778 h"),
        ] {
            assert_eq!(Rounded(Duration::from_secs_f64(seconds)).to_string(), expected);
        }
    }
}
