//! Things of which the first are named, since there may be very many.

use std::fmt;

/// How many are named.
const MAX_NAMED: usize = 20;

/// The number of some things, and the names of the first.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) first: Vec<String>,
    pub(super) count: usize,
}

impl Named {
    pub(super) fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < MAX_NAMED {
            self.first.push(name());
        }
    }
}

impl fmt::Display for Named {
    /// `a, b and 3 more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
