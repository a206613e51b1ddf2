//! The audit log: who read, changed or removed checkpoints, and moved sessions to projects.
//!
//! Each event is appended to a file of its day before the response, so that a restart loses none. The newest events are kept,
//! up to [`MAX_EVENTS`]; days without a kept event are removed.

use std::collections::VecDeque;
use std::io;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::owner::Owner;
use super::records::timestamp;
use super::store::Store;
use crate::types::{AuditEventType, AuditLogEntry, Timestamp};

const FOLDER: &str = "audit";
const FILE: &str = "audit.jsonl";

/// Maximum number of events, of all keys.
const MAX_EVENTS: usize = 10_000;

/// An event, and who may read about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AuditEvent {
    /// The owner of what the event is about.
    owner: Owner,
    #[serde(flatten)]
    entry: AuditLogEntry,
}

impl AuditEvent {
    /// An event of now, in the form `RESOURCE_ACTION`. `who` is the owner of the key that caused it.
    pub(crate) fn new<'a>(
        event: &str,
        owner: &Owner,
        who: &'a Owner,
        details: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let details = [("who", who.as_str())].into_iter().chain(details);
        let event_details: Map<String, Value> = details.map(|(name, value)| (name.to_owned(), value.into())).collect();
        let detail = |name: &str| event_details.get(name).and_then(Value::as_str).map(str::to_owned);
        let entry = AuditLogEntry {
            timestamp: timestamp(),
            event: event.to_owned(),
            model_id: detail("model_id"),
            tinker_path: detail("tinker_path"),
            purpose: detail("purpose"),
            event_details,
        };
        AuditEvent { owner: owner.clone(), entry }
    }

    fn day(&self) -> String {
        day(&self.entry.timestamp)
    }
}

/// The day of a time in UTC, such as `2025-11-01`.
pub(crate) fn day(time: &Timestamp) -> String {
    let mut text = Timestamp::from(time.system_time()).to_string();
    text.truncate("2025-11-01".len());
    text
}

/// The events of all keys, oldest first.
#[derive(Debug, Default)]
pub(crate) struct AuditLog(Mutex<VecDeque<AuditEvent>>);

impl AuditLog {
    /// Reads the events that earlier servers wrote.
    pub(crate) fn recover(store: &Store) -> io::Result<Self> {
        let mut days = store.list(&[FOLDER])?;
        days.sort();
        let mut events = VecDeque::new();
        for day in days {
            for line in store.read_lines(&[FOLDER, &day], FILE)? {
                // A server that was killed may have cut off its last line.
                events.extend(serde_json::from_str::<AuditEvent>(&line));
            }
        }
        let log = AuditLog(Mutex::new(events));
        log.drop_oldest(&mut log.0.lock(), store);
        Ok(log)
    }

    /// Adds an event. If it cannot be written, it is kept in memory, with a warning.
    pub(crate) fn add(&self, store: &Store, event: AuditEvent) {
        let mut events = self.0.lock();
        let written = serde_json::to_string(&event).map_err(io::Error::from);
        let written = written.and_then(|line| store.append_line(&[FOLDER, &event.day()], FILE, &line));
        if let Err(error) = written {
            log::warn!("failed to write the audit log: {error}");
        }
        events.push_back(event);
        self.drop_oldest(&mut events, store);
    }

    /// The events of a day and a resource that an owner may read, oldest first.
    pub(crate) fn of_day(&self, owner: &Owner, of: &AuditEventType, on: &str) -> Vec<AuditLogEntry> {
        let resource = match of {
            AuditEventType::All => "",
            AuditEventType::Checkpoints => "checkpoint_",
            AuditEventType::Projects => "project_",
            AuditEventType::Teams => "team_",
            AuditEventType::Organizations => "organization_",
            AuditEventType::Other(_) => return Vec::new(),
        };
        let events = self.0.lock();
        let events = events.iter().filter(|event| event.owner == *owner && event.day() == on);
        events.filter(|event| event.entry.event.starts_with(resource)).map(|event| event.entry.clone()).collect()
    }

    fn drop_oldest(&self, events: &mut VecDeque<AuditEvent>, store: &Store) {
        while events.len() > MAX_EVENTS {
            let Some(dropped) = events.pop_front() else { return };
            let day = dropped.day();
            if events.front().is_none_or(|first| first.day() != day) {
                if let Err(error) = store.remove(&[FOLDER, &day]) {
                    log::warn!("failed to remove a day of the audit log: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn event(event: &str, owner: &str) -> AuditEvent {
        AuditEvent::new(
            event,
            &Owner::of_key(owner),
            &Owner::of_key("tml-who"),
            [("tinker_path", "tinker://a/weights/b")],
        )
    }

    fn today() -> String {
        day(&timestamp())
    }

    #[test]
    fn an_owner_reads_events_of_a_day() {
        let (log, store, owner) = (AuditLog::default(), Store::in_memory(), Owner::of_key("tml-a"));
        let day_before = today();
        for (name, key) in
            [("checkpoint_read", "tml-a"), ("checkpoint_read", "tml-b"), ("project_session_set", "tml-a")]
        {
            log.add(&store, event(name, key));
        }
        if today() != day_before {
            return;
        }
        let events = |of| log.of_day(&owner, &of, &today()).into_iter().map(|entry| entry.event).collect::<Vec<_>>();
        assert_eq!(events(AuditEventType::All), ["checkpoint_read", "project_session_set"]);
        assert_eq!(events(AuditEventType::Checkpoints), ["checkpoint_read"]);
        assert_eq!(events(AuditEventType::Teams), [""; 0]);
        assert_eq!(log.of_day(&owner, &AuditEventType::All, "2001-01-01"), []);
        let entry = &log.of_day(&owner, &AuditEventType::Checkpoints, &today())[0];
        assert_eq!(entry.tinker_path.as_deref(), Some("tinker://a/weights/b"));
        assert_eq!(entry.event_details["who"], Owner::of_key("tml-who").as_str());
    }

    #[test]
    fn events_survive_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, lock) = Store::open(scratch.path()).unwrap();
        let log = AuditLog::default();
        (0..3).for_each(|_| log.add(&store, event("checkpoint_read", "tml-a")));
        drop((store, lock));
        let file = scratch.path().join(FOLDER).join(today()).join(FILE);
        let cut_off = File::options().append(true).open(file).unwrap().write_all(b"\n{\"cut off");
        cut_off.unwrap();
        let (store, lock) = Store::open(scratch.path()).unwrap();
        let recovered = AuditLog::recover(&store).unwrap();
        assert_eq!(*recovered.0.lock(), *log.0.lock());
        recovered.add(&store, event("checkpoint_delete", "tml-a"));
        drop((store, lock));
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        assert_eq!(*AuditLog::recover(&store).unwrap().0.lock(), *recovered.0.lock());
    }

    #[test]
    fn the_number_of_events_is_bounded() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        let log = AuditLog::default();
        let mut old = event("checkpoint_read", "tml-a");
        old.entry.timestamp = "2001-01-01".parse().unwrap();
        log.add(&store, old);
        let many = std::iter::repeat_n(event("checkpoint_read", "tml-a"), MAX_EVENTS - 1);
        log.0.lock().extend(many);
        assert!(store.list(&[FOLDER]).unwrap().contains(&"2001-01-01".to_owned()));
        log.add(&store, event("checkpoint_read", "tml-a"));
        assert_eq!(log.0.lock().len(), MAX_EVENTS);
        assert!(!store.list(&[FOLDER]).unwrap().contains(&"2001-01-01".to_owned()));
    }
}
