//! A session and the poller of its promises.

use std::fmt;
use std::sync::Arc;

use super::call_mode::{CallMode, SubmittedCall};
use super::call_state::CallHandle;
use super::handle::PollerHandle;
use super::poller::Poller;
use crate::config::Config;
use crate::error::Result;
use crate::http::Http;
use crate::session::Session;

/// What service, training and sampling clients share: a session, and the poller of its promises. Cheap to clone.
///
/// The session owns the poller as one of its dependents, so both end together. Threads hold parts of it, never the session
/// itself.
#[derive(Clone)]
pub(crate) struct PollingSession {
    session: Arc<Session>,
    poller: PollerHandle,
}

impl PollingSession {
    /// Opens a session. Blocks for one request and its retries.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        PollingSession::of(Session::open(config)?)
    }

    /// With a poller for its promises.
    pub(crate) fn of(session: Session) -> Result<Self> {
        let session = Arc::new(session);
        let poller = Arc::new(Poller::spawn(session.http(), session.telemetry())?);
        let handle = poller.handle().clone();
        session.adopt(poller);
        Ok(PollingSession { session, poller: handle })
    }

    /// The session itself.
    pub(crate) fn inner(&self) -> &Arc<Session> {
        &self.session
    }

    pub(crate) fn http(&self) -> &Arc<Http> {
        self.session.http()
    }

    pub(crate) fn config(&self) -> &Config {
        self.session.config()
    }

    pub(crate) fn poller(&self) -> &PollerHandle {
        &self.poller
    }

    /// A call of this session, which it keeps alive.
    pub(crate) fn call<R>(&self, operation: &'static str, handle: CallHandle<R>, mode: CallMode) -> SubmittedCall<R> {
        let keep_alive = Arc::clone(&self.session) as Arc<_>;
        SubmittedCall { handle, operation, mode, poller: self.poller.clone(), keep_alive }
    }
}

impl fmt::Debug for PollingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}
