//! Takes a connection from the idle ones, or makes one; and gives it back.
//!
//! This is the outermost connector. ureq's own pool keeps nothing, and drops each connection when it is done with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::connect_error::ConnectError;
use super::connections::{Connections, Group, Route};
use super::current::with_current;
use crate::clock::Clock;
use crate::config::MAX_DURATION;
use crate::http::cancel::RequestHandle;

/// How long to wait for a descriptor before a poll has to give its own up.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct PoolingConnector<C> {
    fresh: Arc<C>,
    connections: Arc<Connections>,
    group: Group,
}

impl<C> PoolingConnector<C> {
    pub(super) fn new(fresh: C, connections: &Arc<Connections>, group: Group) -> Self {
        PoolingConnector { fresh: Arc::new(fresh), connections: Arc::clone(connections), group }
    }
}

impl<C: Connector<()>> PoolingConnector<C> {
    /// Makes a connection. If the process has no descriptors left, idle ones are closed for it; then it waits for one that another
    /// request gives up, and soon a poll does. A poll does not wait for other polls: the poller lets fewer run.
    fn fresh(&self, details: &ConnectionDetails<'_>) -> Result<Option<Box<dyn Transport>>, Error> {
        let clock = Clock::system();
        let until = clock.now() + (*details.timeout.after).min(MAX_DURATION);
        let mut details = copy_of(details);
        // The connection to a proxy, below that to the server, is not one of the pool.
        let fresh = Arc::clone(&self.fresh);
        details.run_connector = Arc::new(move |details: &ConnectionDetails<'_>| {
            fresh.connect(details, None)?.map(|made| made.boxed()).ok_or(Error::ConnectionFailed)
        });
        loop {
            let given_up = self.connections.given_up();
            let error = match self.fresh.connect(&details, None) {
                Err(error) if ConnectError::is_out_of_files(&error) => error,
                made => return Ok(made?.map(|made| made.boxed())),
            };
            let is_wanted = || clock.now() < until && !with_current(RequestHandle::is_cancelled).unwrap_or_default();
            let mut is_free = clock.now() < until && self.connections.close_idle() > 0;
            while !is_free && is_wanted() && self.connections.is_worth_waiting(self.group) {
                is_free = self.connections.wait_for_descriptor(given_up, until.min(clock.now() + LOOK));
                if !is_free {
                    self.connections.yield_poll(LOOK);
                }
            }
            if !is_free {
                return Err(error);
            }
            // What was waited for is taken off once: connectors count from `now`.
            let left = until.saturating_duration_since(clock.now());
            (details.timeout.after, details.now) = (left.into(), (details.current_time)());
        }
    }
}

impl<C: Connector<()>> Connector<()> for PoolingConnector<C> {
    type Out = PooledTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let route = Route::of(details);
        let idle = route.as_ref().and_then(|route| self.connections.take(self.group, route));
        let Some(inner) = idle.map_or_else(|| self.fresh(details), |idle| Ok(Some(idle)))? else { return Ok(None) };
        self.connections.begin_use(self.group);
        let (connections, group) = (Arc::clone(&self.connections), self.group);
        Ok(Some(PooledTransport { inner, route, is_idle: false, connections, group }))
    }
}

/// A connection that becomes idle again when it is dropped, if ureq saw that it is still open.
pub(super) struct PooledTransport {
    inner: Box<dyn Transport>,
    route: Option<Route>,
    /// ureq is done with it, and saw that it is open.
    is_idle: bool,
    connections: Arc<Connections>,
    group: Group,
}

impl Transport for PooledTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.is_idle = false;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    /// ureq asks once a response was read to its end.
    fn is_open(&mut self) -> bool {
        self.is_idle = self.inner.is_open();
        self.is_idle
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl Drop for PooledTransport {
    fn drop(&mut self) {
        let inner = std::mem::replace(&mut self.inner, Box::new(()));
        let route = self.route.take().filter(|_| self.is_idle);
        self.connections.end_use(self.group, inner, route);
    }
}

impl fmt::Debug for PooledTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The same details, to change some of them.
pub(super) fn copy_of<'a>(details: &ConnectionDetails<'a>) -> ConnectionDetails<'a> {
    ConnectionDetails {
        uri: details.uri,
        addrs: details.addrs.clone(),
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: details.now,
        timeout: details.timeout,
        current_time: Arc::clone(&details.current_time),
        run_connector: Arc::clone(&details.run_connector),
        register_shutdown: Arc::clone(&details.register_shutdown),
    }
}
