//! How many bytes of results may be received at once.
//!
//! A server tells the size of a large result before it sends it. The limit is soft: a result may be fetched while less than the
//! limit is being received, so one that is larger than the limit still comes, and so do results of unknown size.

use std::collections::VecDeque;

use super::poll_queue::Ticket;

/// The results that are being received, and those that wait for it.
#[derive(Debug)]
pub(crate) struct PayloadBudget {
    limit: u64,
    receiving: u64,
    /// In the order in which they became ready.
    waiting: VecDeque<(Ticket, u64)>,
}

impl PayloadBudget {
    pub(crate) fn new(limit: u64) -> Self {
        PayloadBudget { limit, receiving: 0, waiting: VecDeque::new() }
    }

    /// Whether this result may be fetched now. Otherwise [`next`](PayloadBudget::next) returns it later.
    pub(crate) fn reserve(&mut self, ticket: Ticket, size: u64) -> bool {
        let fits = self.waiting.is_empty() && self.receiving <= self.limit;
        if fits {
            self.receiving = self.receiving.saturating_add(size);
        } else {
            self.waiting.push_back((ticket, size));
        }
        fits
    }

    /// A result of this size was received, or is not fetched any more.
    pub(crate) fn release(&mut self, size: u64) {
        self.receiving = self.receiving.saturating_sub(size);
    }

    /// The next result that may be fetched now, with its size, which is then reserved.
    pub(crate) fn next(&mut self) -> Option<(Ticket, u64)> {
        let next = (self.receiving <= self.limit).then(|| self.waiting.pop_front()).flatten()?;
        self.receiving = self.receiving.saturating_add(next.1);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn results_wait_for_those_before_them() {
        let mut budget = PayloadBudget::new(10);
        assert!(budget.reserve(Ticket(1), 1000), "one that is larger than the limit is received alone");
        assert!(!budget.reserve(Ticket(2), 5) && !budget.reserve(Ticket(3), 5));
        assert_eq!(budget.next(), None);
        budget.release(1000);
        assert!(!budget.reserve(Ticket(4), 20), "it comes after those that wait");
        assert_eq!([(); 4].map(|()| budget.next().map(|(ticket, _)| ticket.0)), [Some(2), Some(3), Some(4), None]);
    }

    quickcheck! {
        fn everything_is_received_in_the_end(limit: u32, sizes: Vec<u32>) -> bool {
            let mut budget = PayloadBudget::new(limit.into());
            let mut receiving: VecDeque<_> = (0..).zip(&sizes)
                .filter(|(ticket, size)| budget.reserve(Ticket(*ticket), u64::from(**size)))
                .map(|(_, size)| u64::from(*size))
                .collect();
            let mut received = 0;
            while let Some(size) = receiving.pop_front() {
                received += 1;
                budget.release(size);
                receiving.extend(std::iter::from_fn(|| budget.next()).map(|(_, size)| size));
            }
            received == sizes.len()
        }
    }
}
