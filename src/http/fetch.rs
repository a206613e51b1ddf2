//! Files from servers other than the service.

use super::exchange::MAX_REDIRECTS;
use super::place::{onward, origin_and_path};
use super::{Call, Deadline, Http, Purpose, Redirects};
use crate::config::{Config, Secret};
use crate::error::{Error, ErrorKind, Result};

/// A GET on a server that is not the service: nothing of the service goes there, neither key nor headers nor parameters.
/// Redirects are followed to anywhere but from https to http; the token goes to the first origin alone.
pub(crate) struct Fetch<'a> {
    pub(crate) operation: &'static str,
    /// For proxy, certificates and time limits.
    pub(crate) config: &'a Config,
    pub(crate) base_url: &'a str,
    /// With a slash in front.
    pub(crate) path: &'a str,
    pub(crate) token: Option<&'a Secret>,
    pub(crate) max_bytes: u64,
    pub(crate) max_retries: u32,
    pub(crate) deadline: Option<Deadline>,
}

impl Fetch<'_> {
    /// Returns the body. Blocks; repeats what the retry policy says.
    pub(crate) fn run(self) -> Result<Vec<u8>> {
        let mut token = self.token;
        let (mut base_url, mut path) = (self.base_url.to_owned(), self.path.to_owned());
        for _ in 0..=MAX_REDIRECTS {
            let http = Http::foreign(&self.config.elsewhere(&base_url, token, self.max_bytes)?)?;
            let call = Call {
                redirects: Redirects::HandBack,
                max_retries: Some(self.max_retries.min(self.config.max_retries())),
                deadline: self.deadline,
                ..Call::get(self.operation, Purpose::Session, &*path, self.config.timeout_idle())
            };
            let answer = http.send(&call)?;
            if !answer.is_redirect() {
                return Ok(answer.body);
            }
            let at = http.first_stop(&call)?.uri;
            let next = answer.header("location").and_then(|location| onward(&at, location));
            let hop = origin_and_path(&at).zip(next.as_ref().and_then(origin_and_path));
            let Some(((here, _), (there, next))) = hop else {
                return Err(answer.into_error(self.operation, self.config.clock().wall()));
            };
            token = token.filter(|_| here == there);
            (base_url, path) = (there, next);
        }
        Err(Error::new(ErrorKind::Connect, "the server redirects without end").with_operation(self.operation))
    }
}
