//! A request to another server than the service, for something of any size.
//!
//! Nothing of ours goes along, no key, no header or query of the configuration, but a token for that server where the caller
//! has one. What comes is handed on piece by piece.

use std::io::Read;

use ureq::http::{Request, Uri, header};

use super::Http;
use super::call::{Answer, Call};
use super::exchange::{MAX_REDIRECTS, anew};
use super::place::{is_as_safe, onward, same_origin};
use super::repeat::Failed;
use super::secrets::{SecretLines, stars};
use crate::config::{Proxy, Secret, is_loopback};
use crate::error::{Error, ErrorKind, Result};

/// How much is handed on at once.
const PIECE: usize = 64 * 1024;

/// What is asked of the other server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit<'a> {
    /// Where: an absolute URL, which may hold a secret.
    pub(crate) url: &'a str,
    /// Whose answer has the URL, if it is from one: https does not lead to http.
    pub(crate) pointed_by: Option<&'a str>,
    /// An `Authorization`, for the origin of the URL: where that redirects to another, it stays behind.
    pub(crate) authorization: Option<&'a Secret>,
    /// Only what comes after so many bytes, provided that it is still the same thing as this one.
    pub(crate) after: Option<(u64, &'a str)>,
}

/// Takes what comes.
pub(crate) trait Receive {
    /// The answer without its body. Says whether the body is wanted.
    fn head(&mut self, answer: &Answer) -> Result<bool>;

    /// A piece of the body.
    fn piece(&mut self, piece: &[u8]) -> Result<()>;
}

impl Http {
    /// Sends a visit once. Any status that does not redirect is an answer. The call says what it is for, its limits and how
    /// to cut it off; its path, body and headers are not sent.
    pub(crate) fn visit(&self, call: &Call<'_>, visit: &Visit<'_>, receiver: &mut impl Receive) -> Result<()> {
        let named = |error: Error| error.with_operation(call.operation);
        let no_url = || named(Error::new(ErrorKind::Decode, "the address is not a URL"));
        let mut uri: Uri = visit.url.parse().map_err(|_| no_url())?;
        let mut authorization = visit.authorization;
        if let Some(service) = visit.pointed_by {
            let service: Uri = service.parse().map_err(|_| no_url())?;
            if !is_as_safe(&service, &uri) {
                return Err(named(downgraded(&service)));
            }
        }
        for _ in 0..=MAX_REDIRECTS {
            let stop = Visit { authorization, ..*visit };
            let outcome = anew(&call.flight, || self.visit_one(call, &uri, &stop, receiver));
            match outcome.map_err(|failed| failed.into_error(call.operation, self.config.clock().wall()))? {
                None => return Ok(()),
                Some(location) => {
                    let next = onward(&uri, &location).ok_or_else(|| named(downgraded(&uri)))?;
                    authorization = authorization.filter(|_| same_origin(&uri, &next));
                    uri = next;
                }
            }
        }
        Err(named(Error::new(ErrorKind::Decode, format!("{} redirects without end", origin(&uri)))))
    }

    /// One request of a visit, to this URL. Says where the answer redirects, when it does.
    fn visit_one(
        &self,
        call: &Call<'_>,
        uri: &Uri,
        visit: &Visit<'_>,
        receiver: &mut impl Receive,
    ) -> Result<Option<String>, Failed> {
        let clock = self.config.clock();
        let remaining = self.remaining(call, call.deadline).map_err(Failed::Final)?;
        let failed = |error| self.failed(error, call, &origin(uri), call.deadline);
        let request = request(uri, visit.authorization, visit.after).map_err(|error| failed(error.into()));
        let (request, secrets) = request?;
        let _in_the_air = call.flight.take_off(secrets);
        clock.outside(|| {
            let request = self.visitor.configure_request(request);
            let request = match self.config.proxy() {
                Proxy::Environment if is_loopback(&uri.to_string()) => request.proxy(None),
                _ => request,
            };
            let request = request
                .timeout_global(remaining)
                .timeout_per_write(Some(call.idle))
                .timeout_per_read(Some(call.idle))
                .timeout_recv_response(Some(call.idle))
                .build();
            let (head, body) = self.visitor.run(request).map_err(failed)?.into_parts();
            let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: Vec::new() };
            if let Some(location) = answer.headers.get(header::LOCATION).filter(|_| answer.is_redirect()) {
                return Ok(Some(String::from_utf8_lossy(location.as_bytes()).into_owned()));
            }
            if !receiver.head(&answer).map_err(Failed::Final)? {
                return Ok(None);
            }
            let mut body = body.into_with_config().limit(u64::MAX).reader();
            let mut piece = vec![0; PIECE];
            loop {
                match body.read(&mut piece).map_err(|error| failed(error.into()))? {
                    0 => return Ok(None),
                    read => receiver.piece(&piece[..read]).map_err(Failed::Final)?,
                }
            }
        })
    }
}

/// The request, and what its connection is to send in place of stars.
fn request(
    uri: &Uri,
    authorization: Option<&Secret>,
    after: Option<(u64, &str)>,
) -> Result<(Request<()>, SecretLines), ureq::http::Error> {
    let mut request = Request::get(uri.clone())
        .header(header::ACCEPT, "*/*")
        // Lengths and ranges count the bytes as they are stored.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, super::headers::USER_AGENT);
    if let Some((bytes, validator)) = after {
        request = request.header(header::RANGE, format!("bytes={bytes}-")).header(header::IF_RANGE, validator);
    }
    let secret = authorization.map(|secret| (&header::AUTHORIZATION, secret.expose().as_bytes()));
    if let Some((name, secret)) = secret {
        request = request.header(name, stars(secret));
    }
    Ok((request.body(())?, SecretLines::new(secret)))
}

fn downgraded(uri: &Uri) -> Error {
    let message =
        format!("{} redirects to something that is neither https nor http, or from https to http", origin(uri));
    Error::new(ErrorKind::Decode, message).with_hint("this is a fault of the service; its operators should know")
}

/// The part of a URL that is no secret.
fn origin(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", uri.scheme_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::http::Purpose;

    struct Nobody;

    impl Receive for Nobody {
        fn head(&mut self, _: &Answer) -> Result<bool> {
            panic!("nothing may come");
        }

        fn piece(&mut self, _: &[u8]) -> Result<()> {
            panic!("nothing may come");
        }
    }

    #[test]
    fn a_service_behind_https_does_not_lead_to_http_and_the_query_is_not_shown() {
        if !cfg!(any(feature = "rustls", feature = "native-tls")) {
            return;
        }
        let config = Config::builder().api_key("tml-k").base_url("https://service:81/base");
        let http = Http::new(&config.build_with(|_| None).unwrap()).unwrap();
        let call = Call::get("test", Purpose::Session, "", Duration::from_secs(30));
        for url in ["http://127.0.0.1:1/a?sig=hidden", "http://[/?sig=hidden"] {
            let visit = Visit { url, pointed_by: Some("https://service:81/base"), authorization: None, after: None };
            let error = http.visit(&call, &visit, &mut Nobody).unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Decode, Some("test")));
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        }
    }

    #[test]
    fn the_origin_is_all_that_is_shown_of_a_url() {
        let uri = "https://user:word@storage:8443/a?sig=hidden".parse().unwrap();
        assert_eq!(origin(&uri), "https://storage:8443");
    }
}
