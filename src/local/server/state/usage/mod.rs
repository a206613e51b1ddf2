//! What was used, hour by hour: tokens, saved checkpoints, and stored bytes.
//!
//! Amounts are counted where the work is done. The hours of five weeks are kept. They are written to the store now and then, not
//! with each amount: a server that is killed loses the last [`WRITE_INTERVAL`].

mod hours;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use self::hours::Hour;
use self::hours::by_hour;
use super::owner::Owner;
use super::records::timestamp;
use super::store::Store;
use crate::types::Timestamp;

const FOLDER: &str = "usage";
const FILE: &str = "usage.json";

/// How many hours are kept.
const KEPT_HOURS: i64 = 35 * 24;

/// Beyond this number of amounts, the oldest hours are dropped, and an hour counts new sessions as none.
const MAX_AMOUNTS: usize = 100_000;

/// How often changed hours are written.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UsageKind {
    /// Tokens of passes.
    Training,
    /// Tokens of prompts that were computed.
    Prefill,
    /// Tokens of prompts that were in a cache.
    CachedPrefill,
    /// Sampled tokens.
    Sample,
    /// Saved checkpoints.
    Checkpoint,
    /// Stored bytes, times milliseconds.
    Storage,
}

/// Whose usage of what an amount is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct UsageKey {
    pub(crate) owner: Owner,
    pub(crate) session_id: Option<String>,
    pub(crate) base_model: String,
    pub(crate) kind: UsageKind,
}

/// An amount of an hour, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Amount {
    #[serde(flatten)]
    key: UsageKey,
    amount: u64,
}

/// What all keys used.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<Amounts>);

#[derive(Debug, Default)]
struct Amounts {
    hours: BTreeMap<Hour, HashMap<UsageKey, u64>>,
    /// The hours that have changed since they were written, also those that were dropped.
    changed: BTreeSet<Hour>,
    written: Option<Instant>,
}

impl Usage {
    /// Reads what earlier servers counted.
    pub(crate) fn recover(store: &Store) -> io::Result<Self> {
        let mut amounts = Amounts::default();
        for name in store.list(&[FOLDER])? {
            let Some(hour) = Hour::parse(&name) else { continue };
            let stored: Option<Vec<Amount>> = store.read_record(&[FOLDER, &name], FILE)?;
            let stored = stored.unwrap_or_default().into_iter().map(|Amount { key, amount }| (key, amount));
            amounts.hours.insert(hour, stored.collect());
        }
        amounts.drop_oldest();
        Ok(Usage(Mutex::new(amounts)))
    }

    /// Counts an amount now.
    pub(crate) fn count(&self, key: UsageKey, amount: u64) {
        self.0.lock().add(Hour::of(&timestamp()), key, amount);
    }

    /// Counts the storage of this many bytes from one time to another.
    pub(crate) fn count_storage(&self, key: &UsageKey, bytes: u64, from: &Timestamp, to: &Timestamp) {
        let kept = Hour::of(to).back(KEPT_HOURS);
        let mut amounts = self.0.lock();
        for (hour, milliseconds) in by_hour(from, to).filter(|(hour, _)| *hour >= kept) {
            amounts.add(hour, key.clone(), bytes.saturating_mul(milliseconds));
        }
    }

    /// What an owner used in these hours.
    pub(crate) fn of(&self, owner: &Owner, hours: &Range<Hour>) -> HashMap<(Hour, UsageKey), u64> {
        let amounts = self.0.lock();
        let all =
            amounts.hours.range(hours.clone()).flat_map(|(hour, of)| of.iter().map(move |(key, of)| (*hour, key, of)));
        all.filter(|(_, key, _)| key.owner == *owner).map(|(hour, key, of)| ((hour, key.clone()), *of)).collect()
    }

    /// Writes the changed hours, unless they were written a moment ago.
    pub(crate) fn write_now_and_then(&self, store: &Store, now: Instant) {
        let mut amounts = self.0.lock();
        if amounts.written.is_none_or(|written| now.duration_since(written) >= WRITE_INTERVAL) {
            amounts.written = Some(now);
            amounts.write(store);
        }
    }

    /// Writes the changed hours.
    pub(crate) fn write(&self, store: &Store) {
        self.0.lock().write(store);
    }
}

/// The storage of this many bytes, hour by hour within these hours.
pub(crate) fn storage(
    bytes: u64,
    from: &Timestamp,
    to: &Timestamp,
    hours: &Range<Hour>,
) -> impl Iterator<Item = (Hour, u64)> {
    let hours = hours.clone();
    by_hour(from, to)
        .filter(move |(hour, _)| hours.contains(hour))
        .map(move |(hour, milliseconds)| (hour, bytes.saturating_mul(milliseconds)))
}

impl Amounts {
    fn add(&mut self, hour: Hour, mut key: UsageKey, amount: u64) {
        if amount == 0 {
            return;
        }
        let of_hour = self.hours.entry(hour).or_default();
        if of_hour.len() >= MAX_AMOUNTS && !of_hour.contains_key(&key) {
            key.session_id = None;
        }
        let total = of_hour.entry(key).or_default();
        *total = total.saturating_add(amount);
        self.changed.insert(hour);
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        let Some((newest, _)) = self.hours.last_key_value() else { return };
        let kept = newest.back(KEPT_HOURS);
        let mut amounts: usize = self.hours.values().map(HashMap::len).sum();
        while self.hours.len() > 1
            && (amounts > MAX_AMOUNTS || self.hours.keys().next().is_some_and(|hour| *hour < kept))
        {
            let Some((hour, dropped)) = self.hours.pop_first() else { return };
            amounts -= dropped.len();
            self.changed.insert(hour);
        }
    }

    fn write(&mut self, store: &Store) {
        for hour in std::mem::take(&mut self.changed) {
            let name = hour.to_string();
            let written = match self.hours.get(&hour) {
                None => store.remove(&[FOLDER, &name]),
                Some(amounts) => {
                    let amounts: Vec<_> =
                        amounts.iter().map(|(key, &amount)| Amount { key: key.clone(), amount }).collect();
                    store.write_record(&[FOLDER, &name], FILE, &amounts)
                }
            };
            if let Err(error) = written {
                log::warn!("failed to write the usage of an hour: {error}");
                self.changed.insert(hour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: UsageKind) -> UsageKey {
        let (owner, session_id) = (Owner::of_key("tml-test"), Some("session-1".to_owned()));
        UsageKey { owner, session_id, base_model: "m".to_owned(), kind }
    }

    fn hour(number: i64) -> Hour {
        Hour::parse(&number.to_string()).unwrap()
    }

    #[test]
    fn amounts_of_an_hour_are_added_up() {
        let usage = Usage::default();
        let owner = Owner::of_key("tml-test");
        let mut amounts = usage.0.lock();
        for (at, kind, amount) in [
            (7, UsageKind::Sample, 2),
            (8, UsageKind::Sample, 4),
            (7, UsageKind::Sample, 3),
            (7, UsageKind::Prefill, 0),
        ] {
            amounts.add(hour(at), key(kind), amount);
        }
        drop(amounts);
        let expected = HashMap::from([((hour(7), key(UsageKind::Sample)), 5)]);
        assert_eq!(usage.of(&owner, &(hour(7)..hour(8))), expected);
        assert_eq!(usage.of(&owner, &(hour(0)..hour(99))).len(), 2);
        assert!(usage.of(&Owner::of_key("tml-other"), &(hour(0)..hour(99))).is_empty());
    }

    #[test]
    fn written_usage_survives_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, lock) = Store::open(scratch.path()).unwrap();
        let usage = Usage::default();
        usage.0.lock().add(hour(7), key(UsageKind::Training), 12);
        usage.write(&store);
        drop((store, lock));
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        let usage = Usage::recover(&store).unwrap();
        let expected = HashMap::from([((hour(7), key(UsageKind::Training)), 12)]);
        assert_eq!(usage.of(&Owner::of_key("tml-test"), &(hour(0)..hour(99))), expected);
    }

    #[test]
    fn old_hours_are_dropped_from_memory_and_disk() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        let usage = Usage::default();
        for at in [0, 8, 9, KEPT_HOURS, KEPT_HOURS + 9] {
            usage.0.lock().add(hour(at), key(UsageKind::Training), 1);
            usage.write(&store);
        }
        let kept = [9, KEPT_HOURS, KEPT_HOURS + 9];
        assert_eq!(usage.0.lock().hours.keys().copied().collect::<Vec<_>>(), kept.map(hour));
        let mut stored = store.list(&[FOLDER]).unwrap();
        stored.sort_by_key(|name| name.parse::<i64>().unwrap());
        assert_eq!(stored, kept.map(|hour| hour.to_string()));
    }

    #[test]
    fn the_number_of_amounts_is_bounded() {
        let mut amounts = Amounts::default();
        let of = |session: usize| UsageKey { session_id: Some(session.to_string()), ..key(UsageKind::Sample) };
        amounts.add(hour(1), of(0), 1);
        for session in 0..MAX_AMOUNTS + 5 {
            amounts.add(hour(2), of(session), 1);
        }
        assert_eq!(amounts.hours.len(), 1, "the older hour is dropped");
        assert_eq!(amounts.hours[&hour(2)].len(), MAX_AMOUNTS + 1);
        assert_eq!(amounts.hours[&hour(2)][&UsageKey { session_id: None, ..key(UsageKind::Sample) }], 5);
    }
}
