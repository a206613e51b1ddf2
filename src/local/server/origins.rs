//! Which web pages may use OpenAI's API: a browser says the page's origin, and obeys the response (the Fetch standard, "CORS protocol").

use super::http1::{Request, Response};
use super::net::Responder;
use crate::error::{Error, Result};
use crate::local::openai::ApiError;

/// How long a browser may remember that it may send requests, in seconds.
const REMEMBERED: &str = "600";

/// The origins of pages that may use the API, such as `http://localhost:3000`; `*` stands for all.
#[derive(Clone, Debug, Default)]
pub(in crate::local) struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    pub(in crate::local) fn add(&mut self, origin: String) {
        self.0.push(origin);
    }

    /// Refuses what no browser sends as an origin.
    pub(in crate::local) fn check(&self) -> Result<()> {
        match self.0.iter().find(|origin| !is_origin(origin)) {
            None => Ok(()),
            Some(origin) => Err(Error::config(format!("{:?} is no origin of web pages", without_secrets(origin))).with_hint(
                "give scheme, host and port alone, such as http://localhost:3000; null for files, or * for all pages",
            )),
        }
    }

    /// The responder for a request, which lets the page that sent it read the response. `None` if the request has its response: the
    /// page may not use the API, or the browser only asked whether it may.
    pub(in crate::local) fn admit(&self, request: &Request, responder: &Responder) -> Option<Responder> {
        let mut responder = responder.clone();
        let Some(origin) = request.header("origin") else { return Some(responder) };
        if !self.0.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
            let message = format!(
                "pages of {origin} may not use this API: allow them with `tinkex serve --allow-origin` or `tinkex proxy --allow-origin`"
            );
            let error = ApiError::new(403, message);
            responder.respond(Response::new(error.status, error.body()));
            return None;
        }
        responder.headers = vec![("access-control-allow-origin", origin.to_owned()), ("vary", "origin".to_owned())];
        if request.method == "OPTIONS" {
            responder.respond(permission(request));
            return None;
        }
        Some(responder)
    }
}

/// The response to a browser that asks whether it may send a request.
fn permission(request: &Request) -> Response {
    let mut response = Response::new(204, "")
        .header("access-control-allow-methods", "GET, POST")
        .header("access-control-max-age", REMEMBERED);
    if let Some(names) = request.header("access-control-request-headers") {
        response = response.header("access-control-allow-headers", names);
    }
    if request.header("access-control-request-private-network").is_some() {
        response = response.header("access-control-allow-private-network", "true");
    }
    response
}

/// The text without what may be a login or, in an address, a token.
fn without_secrets(text: &str) -> String {
    let (start, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let host = start.rfind('@').map_or(0, |at| at + 1);
    let scheme = start.find("://").map_or(0, |at| at + 3).min(host);
    let mask = |part: &str| if part.is_empty() { "" } else { "…" };
    format!("{}{}{}{}", &start[..scheme], mask(&start[scheme..host]), &start[host..], mask(rest))
}

/// Whether a browser can send this as an origin, or it is `*`.
fn is_origin(text: &str) -> bool {
    if matches!(text, "*" | "null") {
        return true;
    }
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_part = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    is_part(scheme, b"+-.") && is_part(host, b"-._~:[]%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_no_path() {
        for (text, expected) in [
            ("*", true),
            ("null", true),
            ("http://localhost:3000", true),
            ("https://chat.example.org", true),
            ("http://[::1]:8080", true),
            ("app://obsidian.md", true),
            ("http://localhost:3000/", false),
            ("https://example.org/chat", false),
            ("https://user@example.org", false),
            ("localhost:3000", false),
            ("http://", false),
            ("http://a\r\nb", false),
            ("*.example.org", false),
            ("", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_refusal_shows_no_login_and_no_token() {
        for (text, shown) in [
            ("https://me:word@example.org", "https://…example.org"),
            ("me@a@example.org/chat?token=word@#x", "…example.org/chat…"),
            ("localhost:3000", "localhost:3000"),
            ("http://", "http://"),
        ] {
            assert_eq!(without_secrets(text), shown, "{text:?}");
        }
    }
}
