//! Failures on request: which request fails, and how.

mod chaos;
mod parse;

use std::str::FromStr;
use std::time::Duration;

use serde_json::json;

pub(in crate::local) use self::chaos::Chaos;
pub use self::parse::ParseFaultsError;
use super::http::Response;

/// A failure that the server shows on request, to test what a client makes of it.
///
/// A rule names an endpoint, says which of its requests are meant, and what happens to them. The rules are asked in the
/// order in which they were given, and the first that applies is used.
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
///     .fault(Fault::on("optim_step").after(3).times(1).lost_answer())
///     .start()?;
/// server.inject(Fault::on("retrieve_future").times(1).delay(Duration::from_millis(20)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    endpoint: String,
    after: u64,
    times: u64,
    /// How probably it applies to a request.
    rate: f64,
    delay: Duration,
    action: Action,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    /// The queue's state, why it is so, and whether that is told as "try again" instead of as status 408.
    queue_state: String,
    reason: Option<String>,
    try_again: bool,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Answer,
    Status(u16),
    QueueState,
    Reset,
    Silence,
    /// Carried out, but the answer arrives like this.
    Spoil(How),
}

impl Fault {
    /// A rule for the requests to one endpoint, by the first or the last segment of its path after `/api/v1/`, such as
    /// `asample`, `training_runs` or `archive`; `*` means every endpoint.
    ///
    /// Without further calls it applies to all of them, always, and changes nothing.
    #[must_use]
    pub fn on(endpoint: impl Into<String>) -> Self {
        Fault {
            endpoint: endpoint.into(),
            after: 0,
            times: u64::MAX,
            rate: 1.0,
            delay: Duration::ZERO,
            action: Action::Answer,
            headers: Vec::new(),
            body: None,
            queue_state: String::new(),
            reason: None,
            try_again: false,
        }
    }

    /// Lets that many requests pass first. Defaults to none.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.after = requests;
        self
    }

    /// Applies to that many requests only. Defaults to all.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    /// Applies to a request with this probability, from 0 to 1. Defaults to 1. Which requests are hit follows from the
    /// [seed](crate::local::LocalServerBuilder::fault_seed) and their order.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// Keeps the answer back for that long; also the answer or the reset of another action. The request itself is
    /// carried out at once.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Answers with this status and does not carry out the request.
    ///
    /// The body is `{"detail": "a fault on request"}` unless [`body`](Fault::body) says otherwise.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.action = Action::Status(status);
        self
    }

    /// Adds a header to the answer of [`status`](Fault::status).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body of the answer of [`status`](Fault::status).
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Resets the connection once the request has been read, and does not carry it out.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.action = Action::Reset;
        self
    }

    /// Never answers and does not carry out the request, but keeps the connection open.
    #[must_use]
    pub fn silence(mut self) -> Self {
        self.action = Action::Silence;
        self
    }

    /// Carries out the request and closes the connection in the middle of the answer's body.
    #[must_use]
    pub fn truncate(mut self) -> Self {
        self.action = Action::Spoil(How::Truncated);
        self
    }

    /// Carries out the request and answers with a body that is no JSON.
    #[must_use]
    pub fn malformed(mut self) -> Self {
        self.action = Action::Spoil(How::Malformed);
        self
    }

    /// Carries out the request and resets the connection in place of the answer.
    #[must_use]
    pub fn lost_answer(mut self) -> Self {
        self.action = Action::Spoil(How::Reset);
        self
    }

    /// Carries out the request and resets the connection in the middle of the answer's body.
    #[must_use]
    pub fn reset_during(mut self) -> Self {
        self.action = Action::Spoil(How::ResetDuring);
        self
    }

    /// Carries out the request, answers it whole, and resets the connection when the client uses it again.
    #[must_use]
    pub fn reset_after(mut self) -> Self {
        self.action = Action::Spoil(How::ResetAfter);
        self
    }

    /// Answers a poll for a result with "not yet" and a state of the queue, such as `paused_capacity`, at once.
    #[must_use]
    pub fn queue_state(mut self, state: impl Into<String>) -> Self {
        self.action = Action::QueueState;
        self.queue_state = state.into();
        self
    }

    /// Tells why the queue is in the state of [`queue_state`](Fault::queue_state). Defaults to nothing.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Tells the state of [`queue_state`](Fault::queue_state) with status 200 and the type `try_again`. Defaults to
    /// status 408.
    #[must_use]
    pub fn try_again(mut self) -> Self {
        self.try_again = true;
        self
    }

    /// What happens to a request with this body.
    fn verdict(&self, body: &[u8]) -> Verdict {
        let (instead, how) = match self.action {
            Action::Answer => (None, How::Whole),
            Action::Status(status) => (Some(self.refusal(status)), How::Whole),
            Action::QueueState => (Some(self.not_yet(body)), How::Whole),
            // The text is never sent, but what happens to a connection always comes with an answer.
            Action::Reset => (Some(self.refusal(503)), How::Reset),
            Action::Silence => (Some(self.refusal(503)), How::Never),
            Action::Spoil(how) => (None, how),
        };
        Verdict { instead, delivery: Delivery { delay: self.delay, how } }
    }

    fn not_yet(&self, body: &[u8]) -> Response {
        let mut answer = json!({ "queue_state": self.queue_state });
        if let Some(reason) = &self.reason {
            answer["queue_state_reason"] = json!(reason);
        }
        if !self.try_again {
            return Response::json(408, &answer);
        }
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        answer["type"] = json!("try_again");
        answer["request_id"] = body["request_id"].clone();
        Response::json(200, &answer)
    }

    fn refusal(&self, status: u16) -> Response {
        let mut response = match &self.body {
            Some(body) => Response::new(status, body.clone()),
            None => Response::detail(status, "a fault on request"),
        };
        response.headers = self.headers.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect();
        response
    }
}

/// What happens to one request.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The answer of a request that is not carried out.
    pub(super) instead: Option<Response>,
    pub(super) delivery: Delivery,
}

/// How an answer leaves the server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    pub(super) delay: Duration,
    pub(super) how: How,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum How {
    #[default]
    Whole,
    Truncated,
    Malformed,
    Reset,
    ResetDuring,
    ResetAfter,
    Never,
}

/// Rules in the order in which they are asked.
///
/// They can be written in one line, for a command or a configuration file. The grammar, in which spaces don't count and
/// a `,` or `;` within a value is written `\,` or `\;`:
///
/// ```text
/// rules    = rule { ";" rule }
/// rule     = endpoint ":" action [ "*" times ] [ "%" percent ] { "," setting "=" value }
/// endpoint = as in Fault::on: "asample", "retrieve_future", "archive", … or "*"
/// action   = a status such as "429" | "reset" | "reset_during" | "reset_after" | "lost_answer" | "truncate"
///          | "malformed" | "silence" | "slow" | "paused_rate_limit" | "paused_capacity"
/// setting  = "after"             requests to let pass first
///          | "delay_ms"          keeps the answer back
///          | "retry_after_ms" | "retry_after" | "should_retry"     headers of a status
///          | "header"            another header of a status, as NAME:VALUE; may be repeated
///          | "detail" | "body"   the text of a status, in the form of the service or as it is
///          | "reason" | "form"   of a queue's state; the form is "408" or "try_again"
/// ```
///
/// # Examples
///
/// ```
/// use tinkex::local::{Faults, LocalServer};
///
/// let faults = Faults::parse("asample:429*3,retry_after_ms=50; retrieve_future:reset%2; *:slow%10,delay_ms=200")?;
/// let server = LocalServer::builder().faults(faults).fault_seed(7).start()?;
///
/// let error = Faults::parse("asample:429*many").unwrap_err();
/// assert_eq!(error.to_string(), "at character 13: \"many\" is not a number of times");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Reads rules from a line of text.
    ///
    /// # Errors
    ///
    /// The line does not follow the grammar; the error names the place.
    pub fn parse(line: &str) -> Result<Self, ParseFaultsError> {
        parse::rules(line).map(Faults)
    }
}

impl FromStr for Faults {
    type Err = ParseFaultsError;

    fn from_str(line: &str) -> Result<Self, ParseFaultsError> {
        Faults::parse(line)
    }
}

impl From<Vec<Fault>> for Faults {
    fn from(rules: Vec<Fault>) -> Self {
        Faults(rules)
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
