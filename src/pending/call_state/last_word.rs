//! What was heard last of a request, for the error of a call that ends without a result.

use std::sync::Arc;

use super::{CallState, Completer, abandoned};
use crate::error::Result;
use crate::http::RequestHandle;

/// Why the last tries of a request failed, while others follow.
#[derive(Clone, Debug)]
pub(crate) struct LastWord {
    /// In a few words.
    pub(crate) reason: Arc<str>,
    /// Those that failed in a row.
    pub(crate) tries: u32,
}

/// A running submission.
pub(in crate::pending) struct Submission {
    pub(super) request: Arc<RequestHandle>,
    /// Whether abandoning the call cancels it, even if it was written.
    pub(super) is_withdrawn: bool,
}

impl Submission {
    /// Ends the request with its call.
    pub(in crate::pending) fn end(&self) {
        if self.is_withdrawn {
            self.request.cancel();
        } else {
            self.request.end_retries();
        }
    }
}

impl CallState {
    /// What was heard last of a request that is not completed; `None` if nothing is wrong with it.
    pub(in crate::pending) fn last_word(&self) -> Option<LastWord> {
        self.requests().filter(|request| !request.completed).find_map(|request| {
            let attempts = request.attempts.as_ref()?;
            Some(LastWord { reason: attempts.failure()?, tries: attempts.attempts() })
        })
    }
}

impl Completer {
    /// Takes the reason of a timeout from this submission, and sends it no more than once if the call ends before any of its
    /// requests is accepted. Fails if it has ended like this already.
    pub(crate) fn watch_submission(&self, request: &Arc<RequestHandle>) -> Result<()> {
        let mut state = self.state.lock();
        if state.has_ended_unaccepted() {
            return Err(abandoned());
        }
        let own = state.request(self.index);
        (own.attempts, own.is_withdrawn) = (Some(Arc::clone(request)), false);
        Ok(())
    }

    /// What was heard last of the promise; `None` if nothing is wrong with it.
    pub(in crate::pending) fn set_last_word(&self, last_word: Option<LastWord>) {
        let attempts = last_word.map(|LastWord { reason, tries }| Arc::new(RequestHandle::failed(reason, tries)));
        self.state.lock().request(self.index).attempts = attempts;
    }
}
