//! The end of a session.

use std::time::Duration;

use super::ServiceClient;
use crate::types::FinishReason;

impl ServiceClient {
    /// Ends the session, with every request in flight and every thread. Calls and waits that are blocked fail with
    /// [`Closed`](crate::ErrorKind::Closed). So do those of clones, and of the clients that this one created.
    ///
    /// Blocks up to `timeout`, until the threads have ended and the remaining telemetry is sent, or the service stops
    /// accepting it. A thread that cannot be ended in time (a name lookup) is left running with a warning in the log. A second
    /// call does nothing.
    ///
    /// The service learns that the session has ended, and that the program succeeded;
    /// [`close_with`](ServiceClient::close_with) says otherwise. The drop of the last client says so, too, or that the program
    /// failed if its thread is panicking. A program that is killed says nothing; the service then notices by itself.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// // Up to five seconds to tell the service, and to end the threads.
    /// service.close(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self, timeout: Duration) {
        self.session.inner().close(FinishReason::Success, None, timeout);
    }

    /// As [`close`](ServiceClient::close), with the reason that the service shows for the end of the session, and a text about
    /// it. If the session is closed already, nothing is sent: the first reason holds.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient, train: fn() -> tinkex::Result<()>) {
    /// use std::time::Duration;
    /// use tinkex::types::FinishReason;
    ///
    /// match train() {
    ///     Ok(()) => service.close(Duration::from_secs(10)),
    ///     Err(error) => {
    ///         service.close_with(FinishReason::Errored, Some(&error.to_string()), Duration::from_secs(10))
    ///     }
    /// }
    /// # }
    /// ```
    pub fn close_with(&self, reason: FinishReason, detail: Option<&str>, timeout: Duration) {
        self.session.inner().close(reason, detail, timeout);
    }
}
