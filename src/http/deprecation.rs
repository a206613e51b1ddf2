//! What the service says about requests that it will no longer support.

use std::collections::HashSet;

use log::{Level, log};
use parking_lot::Mutex;

use super::response::Response;

/// The maximum number of notes that are remembered. A service that writes more different ones says something else with them.
const MAX_NOTES: usize = 32;

/// The notes that were logged: each is logged once.
#[derive(Default)]
pub(super) struct Deprecations(Mutex<HashSet<String>>);

impl Deprecations {
    /// Logs the note of a response, if it has one that is new: as a warning, or as an error if the service says so.
    pub(super) fn note(&self, operation: &'static str, response: &Response) {
        let Some(note) = response.header("x-deprecation-note").and_then(|note| response.line(note)) else { return };
        let is_error = response.header("x-deprecation-level").is_some_and(|level| level.eq_ignore_ascii_case("error"));
        let is_new = {
            let mut notes = self.0.lock();
            notes.len() < MAX_NOTES && notes.insert(note.clone())
        };
        // Without the lock: the program's logger may use the client.
        if is_new {
            log!(if is_error { Level::Error } else { Level::Warn }, "{operation}: the service says: {note}");
        }
    }
}
