//! Whether a promise belongs to one submission alone.
//!
//! Servers name each promise anew. One that gives the same promise for another submission, or a cache in between that does, would
//! let two calls share one result. The last promises are compared: there may be tens of thousands of open ones, and what repeats a
//! response repeats a recent one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::poll_queue::ClientId;

/// How many promises are remembered.
const REMEMBERED: usize = 64;

/// A submission, in all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) client: ClientId,
    pub(crate) operation: &'static str,
    /// The sequence number.
    pub(crate) number: u64,
}

impl fmt::Display for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.number)
    }
}

/// The last promises of a session.
#[derive(Debug, Default)]
pub(crate) struct PromiseIds(VecDeque<(Arc<str>, Submitted)>);

impl PromiseIds {
    /// The server gave this promise for this submission. Returns the other one for which it gave it before.
    pub(crate) fn promised(&mut self, id: &Arc<str>, submitted: Submitted) -> Option<Submitted> {
        let known = self.0.iter().rev().find(|(known, _)| known == id);
        let before = known.map(|(_, before)| *before).filter(|before| *before != submitted);
        if before.is_none() {
            if self.0.len() == REMEMBERED {
                self.0.pop_front();
            }
            self.0.push_back((Arc::clone(id), submitted));
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(client: u64, operation: &'static str, number: u64) -> Submitted {
        Submitted { client: ClientId(client), operation, number }
    }

    #[test]
    fn a_promise_belongs_to_one_submission() {
        let step = submitted(1, "optim_step", 2);
        for (other, expected) in [
            (step, None),
            (submitted(1, "optim_step", 3), Some(step)),
            (submitted(1, "save_state", 2), Some(step)),
            (submitted(2, "optim_step", 2), Some(step)),
        ] {
            let (mut ids, id, another) = (PromiseIds::default(), "r-1".into(), "r-2".into());
            assert_eq!(ids.promised(&id, step), None);
            assert_eq!(ids.promised(&id, other), expected, "{other}");
            assert_eq!(ids.promised(&another, other), None);
            assert_eq!(ids.promised(&id, step), None);
        }
    }

    #[test]
    fn only_the_last_promises_are_remembered() {
        let mut ids = PromiseIds::default();
        let id = |number: u64| -> Arc<str> { number.to_string().into() };
        let count = REMEMBERED as u64 + 1;
        for number in 0..count {
            assert_eq!(ids.promised(&id(number), submitted(1, "sample", number)), None);
        }
        assert_eq!(ids.0.len(), REMEMBERED);
        assert_eq!(ids.promised(&id(1), submitted(1, "sample", count)), Some(submitted(1, "sample", 1)));
        assert_eq!(ids.promised(&id(0), submitted(1, "sample", count)), None);
    }
}
