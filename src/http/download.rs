//! Downloads from other servers than the service, of any size.
//!
//! Nothing of the configuration is sent, no key, header or query; only a token for that server if the caller has one. The body is
//! passed on in chunks.

use std::io::Read;

use ureq::http::{Uri, header};

use super::Http;
use super::attempt::{Failed, MAX_REDIRECTS, MAX_STALE_CONNECTIONS};
use super::request::Limits;
use super::response::Response;
use super::transport::{Body, CurrentRequest, Hidden, SecretLines, mask, proxy_for, without_query};
use super::url::{external_redirect, keeps_https, same_origin};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// The size of a chunk in bytes.
const CHUNK: usize = 64 * 1024;

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Download<'a> {
    /// An absolute URL, which may hold a secret.
    pub(crate) url: &'a str,
    /// The server that redirected to this URL, if any: https does not lead to http.
    pub(crate) redirected_from: Option<&'a str>,
    /// The `Authorization` for the URL's origin. It is not sent to any other origin that redirects lead to.
    pub(crate) authorization: Option<&'a Secret>,
    /// Fetches only what follows this number of bytes, if the content still has this validator (an entity tag or a date). Without a
    /// validator, the content never changes.
    pub(crate) resume_from: Option<(u64, Option<&'a str>)>,
}

/// Receives a response.
pub(crate) trait BodySink {
    /// The response without its body. Returns whether to read the body.
    fn head(&mut self, response: &Response) -> Result<bool>;

    /// The next bytes of the body.
    fn chunk(&mut self, chunk: &[u8]) -> Result<()>;
}

impl Http {
    /// Makes one attempt, and follows redirects. Any other status is passed to the sink.
    pub(crate) fn download(&self, download: &Download<'_>, limits: &Limits, sink: &mut impl BodySink) -> Result<()> {
        let named = |error: Error| error.with_operation(limits.operation);
        let no_url = || named(Error::new(ErrorKind::Decode, "the address is not a URL"));
        let mut uri: Uri = download.url.parse().map_err(|_| no_url())?;
        if let Some(server) = download.redirected_from {
            let server: Uri = server.parse().map_err(|_| no_url())?;
            if !keeps_https(&server, &uri) {
                return Err(named(downgraded(&server)));
            }
        }
        let mut authorization = download.authorization;
        let (mut redirects, mut stale) = (0, 0);
        loop {
            let hop = Download { authorization, ..*download };
            let location = match self.download_hop(&uri, &hop, limits, sink) {
                Ok(None) => return Ok(()),
                Ok(Some(location)) if redirects < MAX_REDIRECTS => location,
                Ok(Some(_)) => {
                    let message = format!("{} redirects more than {MAX_REDIRECTS} times", origin(&uri));
                    return Err(named(Error::new(ErrorKind::Decode, message)));
                }
                // As for requests to the service: see `Http::attempt`.
                Err(Failed::Connection(_)) if limits.handle.is_connection_stale() && stale < MAX_STALE_CONNECTIONS => {
                    stale += 1;
                    continue;
                }
                Err(failed) => return Err(failed.into_error(limits.operation, self.config.clock().wall())),
            };
            let next = external_redirect(&uri, &location).ok_or_else(|| named(downgraded(&uri)))?;
            authorization = authorization.filter(|_| same_origin(&uri, &next));
            (uri, redirects, stale) = (next, redirects + 1, 0);
        }
    }

    /// One round trip to this URL. Returns where the response redirects, if it does.
    fn download_hop(
        &self,
        uri: &Uri,
        download: &Download<'_>,
        limits: &Limits,
        sink: &mut impl BodySink,
    ) -> Result<Option<String>, Failed> {
        let clock = self.config.clock();
        let left = self.time_left(limits).map_err(Failed::Final)?;
        let failed = |error| self.failed(error, limits, &origin(uri));
        let proxy = proxy_for(&self.config, uri).map_err(Failed::Final)?;
        let (head, secrets) = head(uri, download).map_err(|error| failed(error.into()))?;
        let hidden = Hidden::new(secrets.clone(), Vec::new());
        let current = CurrentRequest::set(&limits.handle, secrets);
        current.veil(&hidden, Body::File);
        clock.outside(|| {
            let agent = self.agents.external();
            let head = agent
                .configure_request(head)
                .proxy(proxy)
                .timeout_global(left)
                .timeout_per_write(Some(limits.idle))
                .timeout_per_read(Some(limits.idle))
                .timeout_recv_response(limits.head)
                .build();
            let (head, body) = agent.run(head).map_err(failed)?.into_parts();
            let mut response =
                Response { status: head.status.as_u16(), headers: head.headers, body: Vec::new(), hidden };
            current.lift(&mut response.headers, &mut response.body);
            self.reached.insert(&origin(uri));
            if let Some(location) = response.headers.get(header::LOCATION).filter(|_| response.is_redirect()) {
                return Ok(Some(String::from_utf8_lossy(location.as_bytes()).into_owned()));
            }
            if !sink.head(&response).map_err(Failed::Final)? {
                return Ok(None);
            }
            let is_success = response.is_success();
            let mut body = body.into_with_config().limit(u64::MAX).reader();
            let mut chunk = vec![0; CHUNK];
            loop {
                match body.read(&mut chunk).map_err(|error| failed(error.into()))? {
                    0 => return Ok(None),
                    read => {
                        // The body of an error is no progress.
                        limits.wait.iter().filter(|_| is_success).for_each(|wait| wait.progress());
                        sink.chunk(&chunk[..read]).map_err(Failed::Final)?;
                    }
                }
            }
        })
    }
}

/// The request with masked secrets, and the secrets for the connection to put in.
fn head(uri: &Uri, download: &Download<'_>) -> Result<(ureq::http::Request<()>, SecretLines), ureq::http::Error> {
    let mut head = ureq::http::Request::get(without_query(uri))
        .header(header::ACCEPT, "*/*")
        // Lengths and ranges count the bytes as they are stored.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, super::headers::USER_AGENT);
    if let Some((bytes, validator)) = download.resume_from {
        head = head.header(header::RANGE, format!("bytes={bytes}-"));
        head = validator.into_iter().fold(head, |head, validator| head.header(header::IF_RANGE, validator));
    }
    let secret = download.authorization.map(|secret| (&header::AUTHORIZATION, secret.expose().as_bytes()));
    if let Some((name, secret)) = secret {
        head = head.header(name, mask(secret));
    }
    Ok((head.body(())?, SecretLines::new(secret).and_request_line("GET", uri)))
}

fn downgraded(uri: &Uri) -> Error {
    let message =
        format!("{} redirects to something that is neither https nor http, or from https to http", origin(uri));
    Error::new(ErrorKind::Decode, message).with_hint("this is a fault of the service; report it to its operators")
}

/// The part of a URL that holds no secret.
fn origin(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", uri.scheme_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::http::Purpose;

    struct Unreachable;

    impl BodySink for Unreachable {
        fn head(&mut self, _: &Response) -> Result<bool> {
            panic!("no request may be sent");
        }

        fn chunk(&mut self, _: &[u8]) -> Result<()> {
            panic!("no request may be sent");
        }
    }

    #[test]
    fn https_never_leads_to_http() {
        if !cfg!(any(feature = "rustls", feature = "native-tls")) {
            return;
        }
        let config = Config::builder().api_key("tml-k").base_url("https://service:81/base");
        let http = Http::new(&config.build_with(|_| None).unwrap()).unwrap();
        let limits = http.limits("test", Purpose::Session);
        for url in ["http://127.0.0.1:1/a?sig=hidden", "http://[/?sig=hidden"] {
            let redirected_from = Some("https://service:81/base");
            let download = Download { url, redirected_from, authorization: None, resume_from: None };
            let error = http.download(&download, &limits, &mut Unreachable).unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Decode, Some("test")));
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        }
    }

    #[test]
    fn the_origin_has_no_secret() {
        let uri = "https://user:word@storage:8443/a?sig=hidden".parse().unwrap();
        assert_eq!(origin(&uri), "https://storage:8443");
    }
}
