//! Reads a response that arrives before the whole request is written.
//!
//! A server that refuses a large body (413, 429) responds while the body is still on its way, and then closes the connection or
//! stops reading. Either way a write fails, and ureq would report a reset although the response is already in the
//! system's buffer. So reading continues after a failed write: the failure is held back until a read has failed too.
//!
//! This sits below TLS. Above it nothing could be read any more, since a TLS connection first writes what it still has to.

use std::fmt;
use std::io;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::super::cancel::RequestHandle;
use super::current::with_current;

/// How long to look for a response after a write has timed out. The system already has its bytes.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Wraps each connection.
#[derive(Debug)]
pub(super) struct EarlyResponses;

impl<T: Transport> Connector<T> for EarlyResponses {
    type Out = EarlyTransport<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| EarlyTransport { inner, broken: false, failure: None }))
    }
}

/// A connection whose writes do not fail before a response was looked for.
pub(super) struct EarlyTransport<T> {
    inner: T,
    /// A write has failed. Nothing more is written.
    broken: bool,
    /// Why it failed, until a read fails too.
    failure: Option<Error>,
}

impl<T: Transport> Transport for EarlyTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.broken {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(error) if may_have_a_response(&error) => {
                (self.broken, self.failure) = (true, Some(error));
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let waiting = !with_current(RequestHandle::has_response_started).unwrap_or_default();
        let timeout = match &self.failure {
            Some(Error::Timeout(_)) if waiting => NextTimeout { after: LAST_LOOK.into(), ..timeout },
            _ => timeout,
        };
        match self.inner.await_input(timeout) {
            Ok(true) => Ok(true),
            other => self.failure.take().filter(|_| waiting).map_or(other, Err),
        }
    }

    fn is_open(&mut self) -> bool {
        !self.broken && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn may_have_a_response(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error {
        Error::Io(error) => matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted),
        Error::Timeout(_) => true,
        _ => false,
    }
}

impl<T: fmt::Debug> fmt::Debug for EarlyTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
