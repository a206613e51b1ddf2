//! Sequence numbers: how a retried request is recognized, so that it is not executed twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::local::server::http1::{Request, Response};

/// The result of each sequence number, with the request that it was used for.
#[derive(Debug)]
pub(crate) struct SequenceLog<T>(HashMap<u64, (Fingerprint, T)>);

impl<T> Default for SequenceLog<T> {
    fn default() -> Self {
        SequenceLog(HashMap::new())
    }
}

impl<T> SequenceLog<T> {
    /// The result of the first attempt with this number; 409 if the number belongs to a different request.
    pub(crate) fn find(&self, seq: Option<u64>, fingerprint: Fingerprint) -> Result<Option<&T>, Response> {
        match seq.and_then(|seq| self.0.get(&seq)) {
            None => Ok(None),
            Some((first, result)) if *first == fingerprint => Ok(Some(result)),
            Some(_) => Err(Response::error(409, "this sequence number was used for a different request")),
        }
    }

    pub(crate) fn record(&mut self, seq: Option<u64>, fingerprint: Fingerprint, result: T) {
        if let Some(seq) = seq {
            self.0.insert(seq, (fingerprint, result));
        }
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
