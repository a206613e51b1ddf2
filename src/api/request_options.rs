//! The options that a client and its requests share.

use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue};

use crate::config::{Config, MAX_DURATION};
use crate::error::Error;
use crate::http::Redirects;
use crate::types::{Query, QueryValue};

#[derive(Clone)]
pub(super) struct Options {
    pub(super) max_retries: Option<u32>,
    pub(super) timeout_idle: Duration,
    pub(super) timeout_operation: Option<Duration>,
    pub(super) headers: Vec<(HeaderName, Option<HeaderValue>)>,
    pub(super) query: Query,
    pub(super) redirects: Redirects,
    /// The first invalid option. It is reported when a request is sent.
    pub(super) invalid: Option<Error>,
}

impl Options {
    pub(super) fn new(config: &Config, timeout_operation: Option<Duration>) -> Self {
        Options {
            max_retries: None,
            timeout_idle: config.timeout_idle(),
            timeout_operation,
            headers: Vec::new(),
            query: Query::new(),
            redirects: Redirects::Follow,
            invalid: None,
        }
    }

    /// Sets or removes a header. The last call for a name counts.
    pub(super) fn header(&mut self, name: &str, value: Option<&str>) {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(match value {
            Some(value) => HeaderValue::from_str(value).ok().map(Some),
            None => Some(None),
        });
        match parsed {
            Some((name, mut value)) => {
                if let Some(value) = &mut value {
                    // It may be a credential: `Debug` does not show it.
                    value.set_sensitive(true);
                }
                self.headers.retain(|(other, _)| *other != name);
                self.headers.push((name, value));
            }
            None => self.reject(format!("the header {name:?} has characters that are not allowed in an HTTP header")),
        }
    }

    pub(super) fn query(&mut self, name: String, value: QueryValue) {
        self.query = Query::new().field(name, value).over(&self.query);
    }

    pub(super) fn reject(&mut self, why: String) {
        self.invalid.get_or_insert_with(|| Error::invalid_input(why));
    }

    /// The timeouts, short enough to add them to any instant.
    pub(super) fn timeouts(&self) -> (Duration, Option<Duration>) {
        (self.timeout_idle.min(MAX_DURATION), self.timeout_operation.map(|limit| limit.min(MAX_DURATION)))
    }
}
