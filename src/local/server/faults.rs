//! Failures on request: which request fails, and how.

use std::time::Duration;

use parking_lot::Mutex;

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
    delay: Duration,
    action: Action,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Answer,
    Status(u16),
    Reset,
    Silence,
    Truncate,
    LostAnswer,
}

impl Fault {
    /// A rule for the requests to one endpoint, by the last segment of its path, such as `asample`; `*` means every
    /// endpoint.
    ///
    /// Without further calls it applies to all of them, always, and changes nothing.
    #[must_use]
    pub fn on(endpoint: impl Into<String>) -> Self {
        Fault {
            endpoint: endpoint.into(),
            after: 0,
            times: u64::MAX,
            delay: Duration::ZERO,
            action: Action::Answer,
            headers: Vec::new(),
            body: None,
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
        self.action = Action::Truncate;
        self
    }

    /// Carries out the request and resets the connection in place of the answer.
    #[must_use]
    pub fn lost_answer(mut self) -> Self {
        self.action = Action::LostAnswer;
        self
    }

    fn verdict(&self) -> Verdict {
        let (instead, how) = match self.action {
            Action::Answer => (None, How::Whole),
            Action::Status(status) => (Some(self.refusal(status)), How::Whole),
            // The text is never sent, but what happens to a connection always comes with an answer.
            Action::Reset => (Some(self.refusal(503)), How::Reset),
            Action::Silence => (Some(self.refusal(503)), How::Never),
            Action::Truncate => (None, How::Truncated),
            Action::LostAnswer => (None, How::Reset),
        };
        Verdict { instead, delivery: Delivery { delay: self.delay, how } }
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
    Reset,
    Never,
}

/// The rules that are still in force.
#[derive(Debug, Default)]
pub(in crate::local) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(super) fn new(rules: Vec<Fault>) -> Self {
        Faults(Mutex::new(rules))
    }

    pub(in crate::local) fn add(&self, rule: Fault) {
        self.0.lock().push(rule);
    }

    /// Counts a request to an endpoint and decides what happens to it.
    pub(super) fn judge(&self, endpoint: &str) -> Verdict {
        let mut rules = self.0.lock();
        let mut verdict = None;
        for rule in rules.iter_mut().filter(|rule| rule.endpoint == "*" || rule.endpoint == endpoint) {
            if rule.after > 0 {
                rule.after -= 1;
            } else if rule.times > 0 && verdict.is_none() {
                rule.times -= 1;
                verdict = Some(rule.verdict());
            }
        }
        rules.retain(|rule| rule.times > 0);
        verdict.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(faults: &Faults, endpoint: &str, requests: usize) -> Vec<u16> {
        (0..requests).map(|_| faults.judge(endpoint).instead.map_or(200, |response| response.status)).collect()
    }

    #[test]
    fn a_rule_applies_to_its_endpoint_after_and_as_often_as_it_says() {
        let faults =
            Faults::new(vec![Fault::on("a").after(1).times(2).status(500), Fault::on("*").after(4).status(404)]);
        assert_eq!(statuses(&faults, "b", 2), [200, 200]);
        assert_eq!(statuses(&faults, "a", 5), [200, 500, 500, 404, 404]);
        assert_eq!(statuses(&faults, "b", 1), [404]);
    }

    #[test]
    fn the_first_rule_that_applies_is_used_and_the_others_keep_their_count() {
        let faults = Faults::new(vec![Fault::on("a").times(1).status(500), Fault::on("a").times(1).status(503)]);
        assert_eq!(statuses(&faults, "a", 3), [500, 503, 200]);
    }
}
