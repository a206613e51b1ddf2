//! Calls of the system that nothing can end: to connect, and to look a name up. Each runs on a thread of its own, so that the
//! request that waits for it can be cancelled, and ends at once when the client is closed.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, ShutdownHandle};
use ureq::{Error, Timeout};

use super::current::with_current;
use super::pooling::copy_of;
use crate::clock::Clock;
use crate::config::MAX_DURATION;
use crate::http::cancel::RequestHandle;
use crate::threads::{OwnedThread, ThreadOptions};

/// What the thread itself is given to report a timeout, which says more than that it did not return.
const GRACE: Duration = Duration::from_millis(100);

/// What ends the wait for a thread.
#[derive(Debug)]
enum Message<T> {
    Returned(T),
    Interrupted,
}

/// Where a thread reports.
#[derive(Debug)]
pub(super) struct Reporter<T>(Sender<Message<T>>);

impl<T> Reporter<T> {
    /// Reports, unless nobody waits any more.
    pub(super) fn report(&self, value: T) {
        self.0.try_send(Message::Returned(value)).ok();
    }
}

/// A wait for a thread.
pub(super) struct Wait<T: Send + 'static> {
    messages: Receiver<Message<T>>,
    interrupt: Arc<dyn ShutdownHandle>,
}

struct Interrupt<T>(Sender<Message<T>>);

impl<T: Send> ShutdownHandle for Interrupt<T> {
    fn shutdown(&self) {
        self.0.try_send(Message::Interrupted).ok();
    }
}

impl<T: Send + 'static> Wait<T> {
    /// A wait, which ends when the request of the calling thread is cancelled; and where the thread reports.
    pub(super) fn begin() -> Result<(Self, Reporter<T>), Error> {
        let (sender, messages) = bounded(1);
        let interrupt = Arc::new(Interrupt(sender.clone()));
        let wait = Wait { messages, interrupt };
        with_current(|request| request.use_connection(&wait.interrupt())).transpose()?;
        Ok((wait, Reporter(sender)))
    }

    /// Ends the wait, while it lasts.
    pub(super) fn interrupt(&self) -> Weak<dyn ShutdownHandle> {
        Arc::downgrade(&self.interrupt)
    }

    /// Waits for the report. A timeout has this reason.
    pub(super) fn end(self, limit: Duration, reason: Timeout) -> Result<T, Error> {
        match self.messages.recv_deadline(Clock::system().now() + limit.min(MAX_DURATION)) {
            Ok(Message::Returned(value)) => Ok(value),
            Ok(Message::Interrupted) => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
            Err(_) => Err(Error::Timeout(reason)),
        }
    }
}

/// Connects on a thread of its own. Without a request, this is such a thread already, which connects to a proxy.
pub(super) fn connect<C: Connector<()>>(
    route: &Arc<C>,
    details: &ConnectionDetails<'_>,
    resolver: &(impl Resolver + Clone),
    options: &ThreadOptions,
) -> Result<Option<C::Out>, Error> {
    if with_current(RequestHandle::is_cancelled).is_none() {
        return route.connect(details, None);
    }
    let (wait, reporter) = Wait::begin()?;
    (details.register_shutdown)(wait.interrupt())?;
    let (route_there, resolver, clock) = (Arc::clone(route), resolver.clone(), options.clock.clone());
    let (uri, config) = (details.uri.clone(), details.config.clone());
    let ConnectionDetails {
        addrs, request_level, now, timeout, current_time, run_connector, register_shutdown, ..
    } = copy_of(details);
    let run = move || {
        let details = ConnectionDetails {
            uri: &uri,
            addrs,
            config: &config,
            request_level,
            resolver: &resolver,
            now,
            timeout,
            current_time,
            run_connector,
            register_shutdown,
        };
        reporter.report(clock.outside(|| route_there.connect(&details, None)));
    };
    match OwnedThread::spawn(options, "connect", run) {
        Ok(_) => wait.end(*timeout.after + GRACE, timeout.reason)?,
        // There are no threads left. The call that nothing can end is better than none.
        Err(_) => route.connect(details, None),
    }
}
