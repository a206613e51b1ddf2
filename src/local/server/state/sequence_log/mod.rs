//! Sequence numbers: how a retried request is recognized, so that it is not executed twice.
//!
//! The result of a number is kept as long as a retry can be given it. Afterwards only the fact that the number was used is
//! kept, as ranges: a table does not grow with the number of requests.

mod number_set;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use self::number_set::NumberSet;
use super::promises::{PromiseId, PromiseTable};
use crate::local::server::http1::{Request, Response};

/// How many promises a log remembers after they were evicted: a late retry gets its promise again, and 410 for the result.
const REMEMBERED: usize = 64;

/// The result of each sequence number, with the request that it was used for.
#[derive(Debug)]
pub(crate) struct SequenceLog<T> {
    results: HashMap<u64, (Fingerprint, T)>,
    /// Numbers that were used and whose results were forgotten.
    forgotten: NumberSet,
    /// The number of results at which those of evicted promises are forgotten.
    limit: usize,
}

impl<T> Default for SequenceLog<T> {
    fn default() -> Self {
        SequenceLog { results: HashMap::new(), forgotten: NumberSet::default(), limit: 2 * REMEMBERED }
    }
}

impl<T> SequenceLog<T> {
    /// A log of a server before a restart, which knows only which numbers were used.
    pub(crate) fn recovered(forgotten: NumberSet) -> Self {
        SequenceLog { forgotten, ..SequenceLog::default() }
    }

    /// The result of the first attempt with this number; 400 if the number belongs to a different request, 410 if the result
    /// is forgotten.
    pub(crate) fn find(&self, seq: Option<u64>, fingerprint: Fingerprint) -> Result<Option<&T>, Response> {
        let Some(seq) = seq else { return Ok(None) };
        match self.results.get(&seq) {
            Some((first, result)) if *first == fingerprint => Ok(Some(result)),
            Some(_) => {
                Err(Response::error(400, "this sequence number was used for a different request: use the next one"))
            }
            None if self.forgotten.contains(seq) => {
                let reason = "was used before, and its result has expired: use a number that is new";
                Err(Response::error(410, &format!("sequence number {seq} {reason}")))
            }
            None => Ok(None),
        }
    }

    pub(crate) fn record(&mut self, seq: Option<u64>, fingerprint: Fingerprint, result: T) {
        if let Some(seq) = seq {
            self.results.insert(seq, (fingerprint, result));
        }
    }

    /// Forgets the result of a number, which stays used.
    pub(crate) fn forget(&mut self, seq: u64) {
        self.results.remove(&seq);
        self.forgotten.insert(seq);
    }

    /// The numbers that were used and whose results were forgotten.
    pub(crate) fn forgotten(&self) -> &NumberSet {
        &self.forgotten
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.results.len()
    }
}

impl SequenceLog<PromiseId> {
    /// Forgets the promises that the table has evicted, except the newest, once there are many.
    pub(crate) fn forget_evicted(&mut self, promises: &PromiseTable) {
        if self.results.len() < self.limit {
            return;
        }
        let mut newest: Vec<PromiseId> = self.results.values().map(|(_, id)| *id).collect();
        newest.sort_unstable();
        let remembered = newest[newest.len().saturating_sub(REMEMBERED)];
        let is_forgotten = |id: &PromiseId| *id < remembered && !promises.contains(*id);
        let evicted = self.results.iter().filter(|(_, (_, id))| is_forgotten(id)).map(|(seq, _)| *seq);
        evicted.collect::<Vec<_>>().into_iter().for_each(|seq| self.forget(seq));
        self.limit = 2 * self.results.len().max(REMEMBERED);
    }
}

/// Identifies a request by its path and body. Attempts of one request have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn of(request: &Request) -> Self {
        let mut hasher = DefaultHasher::new();
        (&request.path, &request.body).hash(&mut hasher);
        Fingerprint(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::owner::Owner;
    use super::super::promises::{PromiseSettings, TaskError};
    use super::*;
    use crate::local::server::time::now;

    #[test]
    fn evicted_promises_are_forgotten_but_numbers_stay_used() {
        let (promises, owner) = (PromiseTable::new(PromiseSettings::default(), 0), Owner::of_key("tml-test"));
        let (mut log, fingerprint) = (SequenceLog::default(), Fingerprint(1));
        let pending = promises.create(&owner);
        log.record(Some(0), fingerprint, pending);
        for seq in 1..10_000 {
            let id = promises.create(&owner);
            log.record(Some(seq), fingerprint, id);
            promises.fulfill(id, Err(TaskError::user("expected")));
            promises.evict_expired(now() + Duration::from_secs(3600));
            log.forget_evicted(&promises);
            assert!(log.len() <= 2 * REMEMBERED + 1, "{}", log.len());
        }
        assert_eq!(log.find(Some(0), fingerprint).unwrap(), Some(&pending));
        assert_eq!(log.find(Some(1), fingerprint).unwrap_err().status, 410);
        assert!(log.find(Some(9_999), fingerprint).unwrap().is_some());
        assert_eq!(log.find(Some(9_999), Fingerprint(2)).unwrap_err().status, 400);
        assert_eq!(log.find(Some(10_000), fingerprint).unwrap(), None);
        assert_eq!(log.forgotten().ranges(), 1);
    }
}
