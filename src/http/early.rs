//! Lets an answer be read that comes before the whole request is written.
//!
//! A server that refuses a large body answers while the body is still on its way, and then closes the connection or reads no
//! further. Either way a write fails. Here the failure is kept back until the answer, which is there already, was looked for.
//! This sits below TLS: above it, nothing could be read any more, since TLS first writes what it still has to.

use std::fmt;
use std::io;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::flight::{Flight, current};

/// How long an answer is looked for after a write has run out of time. The system has its bytes by then.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Gives each connection the wrapper.
#[derive(Debug)]
pub(super) struct EarlyAnswers;

impl<T: Transport> Connector<T> for EarlyAnswers {
    type Out = EarlyTransport<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| EarlyTransport { inner, broken: false, failure: None }))
    }
}

/// A connection whose writes do not fail before an answer was looked for.
pub(super) struct EarlyTransport<T> {
    inner: T,
    /// A write has failed. What follows is not written.
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
            Err(error) if may_have_an_answer(&error) => {
                (self.broken, self.failure) = (true, Some(error));
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let unheard = !current(Flight::was_heard).unwrap_or_default();
        let timeout = match &self.failure {
            Some(Error::Timeout(_)) if unheard => NextTimeout { after: LAST_LOOK.into(), ..timeout },
            _ => timeout,
        };
        match self.inner.await_input(timeout) {
            Ok(true) => Ok(true),
            other => self.failure.take().filter(|_| unheard).map_or(other, Err),
        }
    }

    fn is_open(&mut self) -> bool {
        !self.broken && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn may_have_an_answer(error: &Error) -> bool {
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
