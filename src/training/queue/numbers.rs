//! The sequence numbers of one training client.
//!
//! No number is left out, and none is used for two requests that the server may have seen: for a repeated number it returns the
//! promise that it made for that number before. [`rules::sequence_number`](crate::rules::sequence_number) reads what a failure
//! says about its number.

use super::Message;
use crate::http::RetryMode;
use crate::rules::sequence_number::{NumberFate, Repetitions};
use crate::rules::wire_format::Choice;

/// The next number, and what is unknown about it.
pub(super) struct Numbers {
    next: u64,
    unresolved: Option<Unresolved>,
}

/// A request of which nobody knows whether the server has taken it. It has the next number.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) message: Message,
    /// How it is written.
    pub(super) choice: Choice,
    pub(super) idempotency_key: String,
    /// How it is sent once more.
    pub(super) retry: RetryMode,
    /// How many submissions were lost up to this one.
    pub(super) lost: u64,
    /// What calls have got that sent it once more.
    pub(super) repetitions: Repetitions,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { next: 1, unresolved: None }
    }
}

impl Numbers {
    /// The number of the next request.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The request to send once more before the next one.
    pub(super) fn take_unresolved(&mut self) -> Option<Unresolved> {
        self.unresolved.take()
    }

    /// The server has taken the number.
    pub(super) fn accepted(&mut self) {
        self.next += 1;
    }

    /// A request with the next number has failed.
    pub(super) fn failed(&mut self, fate: NumberFate, request: Unresolved) {
        match fate {
            NumberFate::Free => {}
            NumberFate::Passed => self.next += 1,
            NumberFate::Open => self.unresolved = Some(request),
            NumberFate::Expected(number) | NumberFate::Taken(number) => self.next = number,
        }
    }
}
