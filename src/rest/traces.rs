//! Exports of a session's timeline.

use std::time::Duration;

use log::Level;

use super::client::RestClient;
use super::endpoint;
use crate::clock::Deadline;
use crate::config::{Config, MAX_DURATION};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::http::{Limits, Request, Response, RetryDecision, external_url};
use crate::observer::WaitKind;
use crate::types::wire::TraceExportResponse;

/// How often the service is asked whether the trace is ready (Python client).
const INTERVAL: Duration = Duration::from_secs(5);

impl RestClient {
    /// Has the service export the timeline of a session's requests, and returns the temporary URL of the file, a Perfetto
    /// trace. The URL is signed: it gives access without a key.
    /// [`download_session_trace`](RestClient::download_session_trace) saves the file.
    ///
    /// Blocks until the trace is ready, and asks every 5 s, for up to this timeout or the client's, whichever ends first.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`Timeout`](ErrorKind::Timeout) if the trace is not ready in time,
    /// [`RequestFailed`](ErrorKind::RequestFailed) if the service cannot export it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// println!("{}", rest.export_session_trace("session-1", Duration::from_secs(600))?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn export_session_trace(&self, session_id: &str, timeout: Duration) -> Result<String> {
        let operation = "export_session_trace";
        self.wait_for_trace(&trace_request(operation, session_id)?, &self.limits(operation), timeout)
    }

    /// Waits for the URL of a trace, for up to this timeout.
    pub(super) fn wait_for_trace(&self, request: &Request<'_>, limits: &Limits, timeout: Duration) -> Result<String> {
        let now = self.config().clock().now();
        let wait = Deadline { at: now + timeout.min(MAX_DURATION), limit: Limit::Operation };
        let is_own = limits.deadline.is_none_or(|client| wait.at < client.at);
        let limits = Limits {
            deadline: Some(wait.earlier(limits.deadline)),
            waits_for: Some(WaitKind::Download),
            ..limits.clone()
        };
        let limits = self.http().waiting(&limits);
        let trace = self.http().with_retries(
            &limits,
            |_, _| {},
            || {
                let response = self.http().send(request, &limits)?;
                read_trace(limits.operation, self.config(), &response)?.ok_or_else(|| RetryDecision {
                    level: Level::Info,
                    notice: Some("the trace is being exported"),
                    ..RetryDecision::new(not_ready(), Some(INTERVAL))
                })
            },
        );
        trace.map_err(|error| match error.kind() {
            ErrorKind::Timeout(Limit::Operation) if is_own => {
                Error::new(error.kind(), format!("the trace was not ready within {timeout:?}"))
                    .with_operation(limits.operation)
                    .with_hint("a long session takes minutes; raise the timeout")
            }
            _ => error,
        })
    }
}

/// Asks for the export of a session's trace.
pub(super) fn trace_request(operation: &'static str, session_id: &str) -> Result<Request<'static>> {
    let path = format!("{}/trace_export", endpoint::item(operation, "sessions", session_id)?);
    Ok(Request { gives_secret: true, ..Request::get(path) })
}

/// Reads the URL of a trace; `None` if it is not ready yet.
pub(super) fn read_trace(operation: &'static str, config: &Config, response: &Response) -> Result<Option<String>> {
    // Neither the body nor its values are in the error: a URL gives access like a key.
    let export: TraceExportResponse = serde_json::from_slice(&response.body).map_err(|_| {
        Error::new(ErrorKind::Decode, "the response does not say whether the trace is ready").with_operation(operation)
    })?;
    let unusable =
        || Error::new(ErrorKind::Decode, "the trace is ready, but has no http URL").with_operation(operation);
    match &*export.status {
        "ready" => {
            let url = export.url.and_then(|url| external_url(config.base_url(), &url));
            url.map(Some).ok_or_else(unusable)
        }
        "failed" => {
            let why = export.error.map(|why| format!(": {why}")).unwrap_or_default();
            Err(Error::new(ErrorKind::RequestFailed, format!("the service cannot export the trace{why}"))
                .with_operation(operation))
        }
        _ => Ok(None),
    }
}

/// The service is still exporting.
pub(super) fn not_ready() -> Error {
    Error::new(ErrorKind::RequestFailed, "the trace is not ready yet")
}
