//! The sequence numbers of the samples of one client.
//!
//! Each sample that the service may have seen has a number of its own. One that never left gives its number back, so that there is
//! no hole.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// The numbers that are not in use.
pub(super) struct SampleNumbers(Mutex<Unused>);

struct Unused {
    next: u64,
    /// Lower ones, which were given back.
    returned: BTreeSet<u64>,
}

impl SampleNumbers {
    pub(super) fn new(first: u64) -> Self {
        SampleNumbers(Mutex::new(Unused { next: first, returned: BTreeSet::new() }))
    }

    /// Takes the lowest one.
    pub(super) fn take(&self) -> u64 {
        let mut unused = self.0.lock();
        if let Some(number) = unused.returned.pop_first() {
            return number;
        }
        unused.next += 1;
        unused.next - 1
    }

    /// Gives a number back that no request had that was written.
    pub(super) fn give_back(&self, number: u64) {
        self.0.lock().returned.insert(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_number_is_taken_first() {
        let numbers = SampleNumbers::new(5);
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [5, 6, 7]);
        numbers.give_back(7);
        numbers.give_back(5);
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [5, 7, 8]);
    }
}
