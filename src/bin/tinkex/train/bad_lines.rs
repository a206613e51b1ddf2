//! Lines of the data file that cannot be used: the first of them are named together.

use super::named::Named;
use crate::failure::Failure;

/// Lines that cannot be used, by their reasons.
#[derive(Debug, Default)]
pub(crate) struct BadLines(Named);

impl BadLines {
    /// Adds a line; the reason begins with its place.
    pub(crate) fn add(&mut self, reason: impl FnOnce() -> String) {
        self.0.add(reason);
    }

    /// Fails if there are any.
    pub(crate) fn check(self) -> Result<(), Failure> {
        let Named { first, count } = self.0;
        let named = first.len();
        let mut reasons = first.into_iter();
        let Some(first) = reasons.next() else { return Ok(()) };
        let failure = Failure::usage(first).and(reasons);
        Err(match count {
            1 => failure,
            _ if named < count => {
                failure.hint(format!("correct or remove these lines: {count} are bad, and the first {named} are named"))
            }
            _ => failure.hint(format!("correct or remove these {count} lines")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_lines_are_named() {
        let failure = |count: usize| {
            let mut bad = BadLines::default();
            (1..=count).for_each(|line| bad.add(|| format!("d:{line}: bad")));
            bad.check().unwrap_err()
        };
        assert!(BadLines::default().check().is_ok());
        assert_eq!((failure(1).message(), failure(1).hint_text()), ("d:1: bad", ""));
        assert_eq!((failure(2).message(), failure(2).hint_text()), ("d:1: bad", "correct or remove these 2 lines"));
        assert!(failure(21).hint_text().contains("21 are bad, and the first 20 are named"));
    }
}
