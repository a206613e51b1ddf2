//! Lines of the data file that cannot be used: the first of them are named together.

use crate::failure::Failure;

/// How many lines are named.
const NAMED: usize = 20;

/// Lines that cannot be used, with the reasons.
#[derive(Debug, Default)]
pub(crate) struct BadLines {
    reasons: Vec<String>,
    count: usize,
}

impl BadLines {
    /// Adds a line; the reason begins with its place.
    pub(crate) fn add(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.reasons.len() < NAMED {
            self.reasons.push(reason());
        }
    }

    /// Fails if there are any.
    pub(crate) fn check(self) -> Result<(), Failure> {
        let BadLines { reasons, count } = self;
        let named = reasons.len();
        let mut reasons = reasons.into_iter();
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
