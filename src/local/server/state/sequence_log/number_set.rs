//! Sets of numbers that are mostly consecutive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// More ranges than this are joined, so that no choice of numbers makes a set grow without end.
const MAX_RANGES: usize = 4096;

/// A set of numbers, kept as the first and last number of each range without gaps.
///
/// A set of more than 4096 ranges also contains the numbers of its smallest gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NumberSet(BTreeMap<u64, u64>);

impl NumberSet {
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    pub(crate) fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let before = self.0.range(..number).next_back().filter(|(_, last)| **last + 1 == number);
        let first = before.map_or(number, |(first, _)| *first);
        let after = number.checked_add(1).and_then(|next| self.0.remove(&next));
        self.0.insert(first, after.unwrap_or(number));
        if self.0.len() > MAX_RANGES {
            self.close_smallest_gap();
        }
    }

    fn close_smallest_gap(&mut self) {
        let neighbors = self.0.iter().zip(self.0.iter().skip(1));
        let gap = neighbors.min_by_key(|((_, end), (start, _))| **start - **end);
        let Some((first, second)) = gap.map(|((first, _), (second, _))| (*first, *second)) else { return };
        if let Some(last) = self.0.remove(&second) {
            self.0.insert(first, last);
        }
    }

    #[cfg(test)]
    pub(crate) fn ranges(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn a_set_contains_what_was_inserted(numbers: Vec<u8>, extremes: Vec<u64>) -> bool {
            let numbers: Vec<u64> = numbers.into_iter().map(u64::from).chain(extremes).collect();
            let (mut set, mut model) = (NumberSet::default(), BTreeSet::new());
            for number in numbers {
                set.insert(number);
                model.insert(number);
            }
            let gaps = model.iter().filter(|number| !number.checked_add(1).is_some_and(|next| model.contains(&next)));
            let near = model.iter().flat_map(|number| [number.saturating_sub(1), *number, number.saturating_add(1)]);
            set.ranges() == gaps.count() && near.clone().all(|number| set.contains(number) == model.contains(&number))
        }
    }

    #[test]
    fn too_many_ranges_close_the_smallest_gap() {
        let mut set = NumberSet::default();
        // To close a gap takes a look at all of them.
        for (clone, count) in [(0, MAX_RANGES as u64), (1, 200)] {
            (0..count).for_each(|number| set.insert(clone * 1_000_000_000 + 3 * number));
        }
        assert_eq!(set.ranges(), MAX_RANGES);
        // The gap between the two clones is the largest.
        assert!(set.contains(1) && !set.contains(999_999_999));
    }
}
