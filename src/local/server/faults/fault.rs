//! One fault rule.

use std::time::Duration;

use serde_json::json;

use crate::local::server::http1::Response;
use crate::local::server::net::{Delivery, DeliveryMode};

/// A rule that makes the server fail, to test how a client handles it.
///
/// A rule names an endpoint, selects some of its requests, and says what happens to them. Rules are tried in the order in
/// which they were added; the first that applies is used.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::local::{Fault, LocalServer};
///
/// # fn main() -> tinkex::Result<()> {
/// let server = LocalServer::builder()
///     .fault(Fault::on("asample").times(2).status(429).header("retry-after-ms", "50"))
///     .fault(Fault::on("optim_step").after(3).times(1).lost_response())
///     .start()?;
/// server.inject(Fault::on("retrieve_future").times(1).delay(Duration::from_millis(20)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) endpoint: String,
    pub(super) after: u64,
    pub(super) times: u64,
    /// Probability that it applies to a request.
    pub(super) rate: f64,
    pub(super) delay: Duration,
    pub(super) action: Action,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    /// The reported queue state and its reason; `try_again` reports them in a `try_again` response instead of a 408.
    queue_state: String,
    reason: Option<String>,
    try_again: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// Execute the request and respond normally; only the delay applies.
    Pass,
    Status(u16),
    QueueState,
    Reset,
    Silence,
    /// Execute the request, but damage the response.
    Damage(DeliveryMode),
}

impl Fault {
    /// A rule for the requests to one endpoint, given by the first or the last segment of its path after `/api/v1/`, such as
    /// `asample`, `training_runs` or `archive`. `*` means every endpoint.
    ///
    /// Without further calls the rule applies to every request and changes nothing.
    #[must_use]
    pub fn on(endpoint: impl Into<String>) -> Self {
        Fault {
            endpoint: endpoint.into(),
            after: 0,
            times: u64::MAX,
            rate: 1.0,
            delay: Duration::ZERO,
            action: Action::Pass,
            headers: Vec::new(),
            body: None,
            queue_state: String::new(),
            reason: None,
            try_again: false,
        }
    }

    /// Skips this number of requests first. Defaults to 0.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.after = requests;
        self
    }

    /// Maximum number of requests that it applies to. Defaults to all.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    /// Probability that it applies to a request, from 0 to 1. Defaults to 1. The
    /// [seed](crate::local::LocalServerBuilder::fault_seed) and the order of the requests determine which are hit.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// Delays the response, or the response or reset of another action. The request itself is executed at once. Defaults to
    /// no delay.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Responds with this status and does not execute the request.
    ///
    /// The body defaults to `{"detail": "injected fault"}`; [`body`](Fault::body) sets another.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.action = Action::Status(status);
        self
    }

    /// Adds a header to the response of [`status`](Fault::status).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body of the response of [`status`](Fault::status).
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Resets the connection once the request has been read, and does not execute it.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.action = Action::Reset;
        self
    }

    /// Never responds and does not execute the request, but keeps the connection open.
    #[must_use]
    pub fn silence(mut self) -> Self {
        self.action = Action::Silence;
        self
    }

    /// Executes the request and closes the connection in the middle of the response body.
    #[must_use]
    pub fn truncate(mut self) -> Self {
        self.action = Action::Damage(DeliveryMode::Truncated);
        self
    }

    /// Executes the request and responds with a body that is not JSON.
    #[must_use]
    pub fn malformed(mut self) -> Self {
        self.action = Action::Damage(DeliveryMode::Malformed);
        self
    }

    /// Executes the request and resets the connection instead of responding.
    #[must_use]
    pub fn lost_response(mut self) -> Self {
        self.action = Action::Damage(DeliveryMode::Reset);
        self
    }

    /// Executes the request and resets the connection in the middle of the response body.
    #[must_use]
    pub fn reset_during(mut self) -> Self {
        self.action = Action::Damage(DeliveryMode::ResetDuring);
        self
    }

    /// Executes the request, sends the complete response, and resets the connection when the client uses it again.
    #[must_use]
    pub fn reset_after(mut self) -> Self {
        self.action = Action::Damage(DeliveryMode::ResetAfter);
        self
    }

    /// Responds to a poll immediately that the result is not ready, with a queue state such as `paused_capacity`.
    #[must_use]
    pub fn queue_state(mut self, state: impl Into<String>) -> Self {
        self.action = Action::QueueState;
        self.queue_state = state.into();
        self
    }

    /// The reason for the state of [`queue_state`](Fault::queue_state). Defaults to none.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Reports the state of [`queue_state`](Fault::queue_state) with status 200 and type `try_again` instead of status 408.
    #[must_use]
    pub fn try_again(mut self) -> Self {
        self.try_again = true;
        self
    }

    /// What happens to a request with this body.
    pub(super) fn decide(&self, body: &[u8]) -> FaultDecision {
        let (response, mode) = match self.action {
            Action::Pass => (None, DeliveryMode::Complete),
            Action::Status(status) => (Some(self.error_response(status)), DeliveryMode::Complete),
            Action::QueueState => (Some(self.not_ready(body)), DeliveryMode::Complete),
            // A request is not executed if there is a response for it; this one is never sent.
            Action::Reset => (Some(self.error_response(503)), DeliveryMode::Reset),
            Action::Silence => (Some(self.error_response(503)), DeliveryMode::Never),
            Action::Damage(mode) => (None, mode),
        };
        FaultDecision { response, delivery: Delivery { delay: self.delay, mode } }
    }

    fn not_ready(&self, body: &[u8]) -> Response {
        let mut response = json!({ "queue_state": self.queue_state });
        if let Some(reason) = &self.reason {
            response["queue_state_reason"] = json!(reason);
        }
        if !self.try_again {
            return Response::json(408, &response);
        }
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        response["type"] = json!("try_again");
        response["request_id"] = body["request_id"].clone();
        Response::json(200, &response)
    }

    fn error_response(&self, status: u16) -> Response {
        let mut response = match &self.body {
            Some(body) => Response::new(status, body.clone()),
            None => Response::with_detail(status, "injected fault"),
        };
        response.headers = self.headers.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect();
        response
    }
}

/// What happens to one request; by default nothing unusual.
#[derive(Debug, Default)]
pub(crate) struct FaultDecision {
    /// The response of a request that is not executed.
    pub(crate) response: Option<Response>,
    pub(crate) delivery: Delivery,
}
