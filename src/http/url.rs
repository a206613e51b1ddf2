//! Where a request goes: paths made of ids, joined with the base URL, and redirects.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;
use ureq::http::uri::{Authority, PathAndQuery, Scheme};

use super::request::Method;
use super::response::Response;

/// What is encoded in one segment: everything but the unreserved characters of RFC 3986 (section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What is encoded in a whole path with its query: everything that no URL may have, except percent codes and `|`, which
/// the Python client leaves as they are.
const PATH_AND_QUERY: &AsciiSet = &SEGMENT
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b'?')
    .remove(b'%')
    .remove(b'[')
    .remove(b']')
    .remove(b'|');

/// Percent-encodes a text as one segment of a path. The dots of `.` and `..` are encoded too: as segments, they would lead elsewhere.
pub(crate) fn encode_segment(text: &str) -> String {
    match text {
        "." | ".." => text.replace('.', "%2E"),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// Encodes what no URL may have in a path or query. Percent codes stay.
fn encode_path(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, PATH_AND_QUERY).into()
}

/// Whether this names a host rather than a path.
pub(crate) fn is_url(path: &str) -> bool {
    has_scheme(path) || path.starts_with("//")
}

fn has_scheme(path: &str) -> bool {
    let before_query = path.split(['?', '#']).next().unwrap_or_default();
    before_query.split('/').next().is_some_and(|first| first.contains(':'))
}

/// The longest URL that [`Uri`] takes, in bytes.
const MAX_URL: usize = u16::MAX as usize - 1;

/// The base URL, of which requests need the parts: only the path differs among them.
pub(super) struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Without the slash before the path of a request.
    path: String,
}

impl BaseUrl {
    /// `None` if it is no absolute URL.
    pub(super) fn new(base_url: &str) -> Option<Self> {
        let base_url = encode_path(base_url);
        let uri: Uri = base_url.parse().ok()?;
        let after_scheme = base_url.split_once("://")?.1;
        let path = after_scheme.find('/').map_or("", |at| &after_scheme[at..]).to_owned();
        Some(BaseUrl { scheme: uri.scheme()?.clone(), authority: uri.authority()?.clone(), path })
    }

    /// The URL of a path below it, with both queries. `None` if the path names a host, or is too long.
    pub(super) fn join(&self, path: &str, query: &str) -> Option<Uri> {
        let path = path.split('#').next().unwrap_or_default();
        if is_url(path) {
            return None;
        }
        let path = encode_path(path.strip_prefix('/').unwrap_or(path));
        let query = query.trim_start_matches('?');
        let separator = match (query.is_empty(), path.contains('?')) {
            (true, _) => "",
            (false, false) => "?",
            (false, true) => "&",
        };
        let path = [&*self.path, "/", &*path, separator, query].concat();
        if self.authority.as_str().len() + path.len() + "https://".len() > MAX_URL {
            return None;
        }
        let path = PathAndQuery::try_from(path).ok()?;
        Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path).build().ok()
    }
}

/// One hop of a request. A redirect leads to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl Target {
    /// The next hop, if this response redirects to the same origin: with the same method and body for 307 and 308, as a GET
    /// for 303. Clients disagree on the method after a 301 or 302 to anything but a GET, so these are not followed.
    pub(super) fn redirected(&self, response: &Response) -> Option<Target> {
        let method = match (response.status, self.method) {
            (303, _) | (301 | 302, Method::Get) => Method::Get,
            (307 | 308, method) => method,
            _ => return None,
        };
        // Some servers send characters beyond ASCII unencoded.
        let location = String::from_utf8_lossy(response.headers.get("location")?.as_bytes());
        let uri = resolve_reference(&self.uri, &location)?;
        same_origin(&self.uri, &uri).then_some(Target { method, uri })
    }
}

/// Resolves a `Location` against the URL it was received from (RFC 3986, section 5.2).
fn resolve_reference(base: &Uri, location: &str) -> Option<Uri> {
    let location = encode_path(location.trim().split('#').next().unwrap_or_default()).into_owned();
    let origin = format!("{}://{}", base.scheme_str()?, base.authority()?);
    let target = if has_scheme(&location) {
        location
    } else if location.starts_with("//") {
        format!("{}:{location}", base.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else if location.is_empty() || location.starts_with('?') {
        format!("{origin}{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{origin}{folder}/{location}")
    };
    let uri: Uri = target.parse().ok()?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}://{}{}{query}", uri.scheme_str()?, uri.authority()?, remove_dot_segments(uri.path())).parse().ok()
}

/// The absolute URL of a `Location` on any host, to be fetched without our headers. An absolute one stays byte for byte as the
/// server wrote it: a signature may cover all of it.
pub(crate) fn external_url(base_url: &str, location: &str) -> Option<String> {
    let location = location.trim().split('#').next().unwrap_or_default();
    let is_http = |url: &Uri| url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https"));
    if has_scheme(location) {
        return location.parse().ok().filter(is_http).map(|_| location.to_owned());
    }
    let base_url = format!("{}/", encode_path(base_url)).parse().ok()?;
    (!location.is_empty())
        .then(|| resolve_reference(&base_url, location))
        .flatten()
        .filter(is_http)
        .map(|url| url.to_string())
}

/// The next URL of a download: a redirect may lead to any host, but never from https to http.
pub(super) fn external_redirect(from: &Uri, location: &str) -> Option<Uri> {
    let origin = format!("{}://{}", from.scheme_str()?, from.authority()?);
    let path = from.path();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let next: Uri = external_url(&format!("{origin}{folder}"), location)?.parse().ok()?;
    keeps_https(from, &next).then_some(next)
}

/// Whether the next URL is as safe as this one: https never becomes http.
pub(super) fn keeps_https(from: &Uri, next: &Uri) -> bool {
    from.scheme_str() != Some("https") || next.scheme_str() == Some("https")
}

/// Removes the segments `.` and `..` (RFC 3986, section 5.2.4).
fn remove_dot_segments(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Whether both have the same origin and no user name.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str()?;
        let port = uri.port_u16().or(match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })?;
        // A user name could only come from the redirect, and would be sent along.
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        (!has_user).then(|| (scheme.to_owned(), uri.host().map(str::to_ascii_lowercase), port))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

#[cfg(test)]
mod tests {
    use ureq::http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::rules::testing::{golden, list};

    #[test]
    fn an_id_becomes_one_segment() {
        for (id, expected) in [
            ("run-1", "run-1"),
            ("a/b", "a%2Fb"),
            ("a?b#c", "a%3Fb%23c"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("...", "..."),
            ("../x", "..%2Fx"),
            ("a b", "a%20b"),
            ("ü✓", "%C3%BC%E2%9C%93"),
            ("100%", "100%25"),
            ("a:0\r\n", "a%3A0%0D%0A"),
        ] {
            assert_eq!(encode_segment(id), expected);
        }
    }

    const HAS_TLS: bool = cfg!(any(feature = "rustls", feature = "native-tls"));

    /// Whether [`Config`](crate::Config) refuses this base URL in every build.
    fn is_refused(base: &str) -> bool {
        base.contains(['?', '#'])
    }

    #[test]
    fn joining_matches_the_fixture() {
        let mut joins = 0;
        for case in list(&golden("pure_client")["prepare_url"]) {
            let (base, path) = (case["base"].as_str().unwrap(), case["url"].as_str().unwrap());
            let config = crate::config::Config::builder().api_key("tml-k").base_url(base).build_with(|_| None);
            let Ok(config) = config else {
                // A build without TLS refuses https, too.
                assert!(is_refused(base) || (!HAS_TLS && base.starts_with("https")), "{case}");
                continue;
            };
            let url = BaseUrl::new(config.base_url()).unwrap().join(path, "").map(|url| url.to_string());
            if path.starts_with("//") || path.starts_with("http") {
                // The Python client sends the key to that host, or mistakes the first segment for one and drops it.
                assert_eq!(url, None, "{case}");
            } else {
                assert_eq!(url.unwrap(), case["out"].as_str().unwrap(), "{case}");
                joins += 1;
            }
        }
        assert!(joins >= if HAS_TLS { 25 } else { 1 }, "{joins}");
    }

    #[test]
    fn queries_are_joined() {
        let base = BaseUrl::new("http://h").unwrap();
        for (path, query, expected) in [
            ("x?a=1#f", "?b=2", Some("http://h/x?a=1&b=2")),
            ("x", "?b=2", Some("http://h/x?b=2")),
            ("/x?at=12:30", "", Some("http://h/x?at=12:30")),
            ("ftp:x", "", None),
        ] {
            assert_eq!(base.join(path, query).map(|url| url.to_string()).as_deref(), expected, "{path} {query}");
        }
    }

    #[test]
    fn the_length_of_a_url_is_limited() {
        let base = BaseUrl::new("http://h/base").unwrap();
        let longest = "x".repeat(MAX_URL - "https://h/base/".len());
        assert_eq!(base.join(&longest, "").unwrap().path().len(), "/base/".len() + longest.len());
        assert_eq!(base.join(&longest, "y"), None);
    }

    fn after(status: u16, method: Method, location: &str) -> Option<(Method, String)> {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_bytes(location.as_bytes()).unwrap());
        let target = Target { method, uri: "http://host/base/a?q=1".parse().unwrap() };
        let next = target.redirected(&Response { status, headers, body: Vec::new(), hidden: Default::default() })?;
        Some((next.method, next.uri.to_string()))
    }

    #[test]
    fn a_location_is_resolved_as_in_rfc_3986() {
        for (location, expected) in [
            ("http://host/x", Some("http://host/x")),
            ("HTTP://HOST:80/x", Some("http://HOST:80/x")),
            ("//host/x?y#z", Some("http://host/x?y")),
            ("/x/../y/./z", Some("http://host/y/z")),
            ("b", Some("http://host/base/b")),
            ("../..", Some("http://host/")),
            ("b c/ü", Some("http://host/base/b%20c/%C3%BC")),
            ("?r=2", Some("http://host/base/a?r=2")),
            ("/login?next=http://other", Some("http://host/login?next=http://other")),
            ("https://host/x", None),
            ("http://host:81/x", None),
            ("http://other/x", None),
            ("//other/x", None),
            ("http://me@host/x", None),
            ("http://host@other/x", None),
            ("http://host.other/x", None),
            ("mailto:x", None),
        ] {
            let next = after(307, Method::Post, location).map(|(_, uri)| uri);
            assert_eq!(next.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn an_external_url_stays_byte_for_byte() {
        for (location, expected) in [
            ("https://storage/a%2fb?sig=A%2B/=", Some("https://storage/a%2fb?sig=A%2B/=")),
            (" http://storage/../a#x ", Some("http://storage/../a")),
            ("/archives/a?sig=b", Some("http://host/archives/a?sig=b")),
            ("a", Some("http://host/base/a")),
            ("//storage/a", Some("http://storage/a")),
            ("ftp://storage/a", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(external_url("http://host/base", location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn an_external_redirect_keeps_https() {
        for (at, location, expected) in [
            ("https://a/x/y?s=1", "https://b/z?sig=2", Some("https://b/z?sig=2")),
            ("http://a/x/y", "https://b/z", Some("https://b/z")),
            ("http://a/x/y", "z?sig=2", Some("http://a/x/z?sig=2")),
            ("https://a/x/y", "/z", Some("https://a/z")),
            ("https://a/x", "http://a/x", None),
            ("https://a/x", "ftp://a/x", None),
        ] {
            let next = external_redirect(&at.parse().unwrap(), location).map(|next| next.to_string());
            assert_eq!(next.as_deref(), expected, "{at} {location}");
        }
    }

    #[test]
    fn an_origin_has_its_schemes_port() {
        for (one, other, expected) in [
            ("https://a/x", "https://A:443/y", true),
            ("https://a:443", "https://a", true),
            ("https://a", "https://a", true),
            ("http://a", "http://a:80", true),
            ("https://a", "https://a:80", false),
            ("https://a", "http://a:443", false),
            ("https://a:8443", "https://a", false),
            ("https://a", "https://b", false),
            ("https://a", "https://me@a", false),
            ("ftp://a", "ftp://a", false),
        ] {
            assert_eq!(same_origin(&one.parse().unwrap(), &other.parse().unwrap()), expected, "{one} {other}");
        }
    }

    #[test]
    fn the_status_decides_the_method_after_redirects() {
        use Method::{Delete, Get, Post, Put};
        for (status, method, expected) in [
            (301, Get, Some(Get)),
            (302, Get, Some(Get)),
            (303, Get, Some(Get)),
            (307, Get, Some(Get)),
            (308, Get, Some(Get)),
            (301, Post, None),
            (302, Post, None),
            (303, Post, Some(Get)),
            (307, Post, Some(Post)),
            (308, Post, Some(Post)),
            (301, Put, None),
            (303, Put, Some(Get)),
            (307, Put, Some(Put)),
            (303, Delete, Some(Get)),
            (308, Delete, Some(Delete)),
            (300, Get, None),
            (304, Get, None),
            (200, Get, None),
        ] {
            assert_eq!(after(status, method, "/x").map(|(method, _)| method), expected, "{status} {method:?}");
        }
    }
}
