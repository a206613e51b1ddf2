//! Where a request goes: paths made of ids, joined with the base URL, and redirects.

use ureq::http::Uri;

use super::call::{Answer, Method};

/// Writes a text as one segment of a path: everything but letters, digits and `-_.~` is percent-encoded, and so are the dots
/// of `.` and `..`, which would lead elsewhere.
pub(crate) fn segment(text: &str) -> String {
    if matches!(text, "." | "..") { text.replace('.', "%2E") } else { encode(text, b"-_.~") }
}

/// Encodes what no URL may have in a path or query. Percent codes stay.
fn cleaned(path: &str) -> String {
    encode(path, b"-_.~!$&'()*+,;=:@/?%[]|")
}

fn encode(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Whether this names a host, and is no path.
pub(crate) fn is_url(path: &str) -> bool {
    has_scheme(path) || path.starts_with("//")
}

fn has_scheme(path: &str) -> bool {
    let before_query = path.split(['?', '#']).next().unwrap_or_default();
    before_query.split('/').next().is_some_and(|first| first.contains(':'))
}

/// The URL of a path below the base URL, with both queries. `None` when the path names another host.
pub(super) fn joined(base_url: &str, path: &str, query: &str) -> Option<String> {
    let path = path.split('#').next().unwrap_or_default();
    if is_url(path) {
        return None;
    }
    let path = cleaned(path.strip_prefix('/').unwrap_or(path));
    let query = query.trim_start_matches('?');
    let separator = match (query.is_empty(), path.contains('?')) {
        (true, _) => "",
        (false, false) => "?",
        (false, true) => "&",
    };
    Some(format!("{}/{path}{separator}{query}", cleaned(base_url)))
}

/// One stop of a request, which may lead to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl Stop {
    /// Where this answer sends the request on to, when that is on the same origin and the request can be made there: with its
    /// method and body for 307 and 308, as a GET for 303. After 301 and 302 the meaning of any method but GET is not agreed
    /// upon, so these are not followed.
    pub(super) fn redirected(&self, answer: &Answer) -> Option<Stop> {
        let method = match (answer.status, self.method) {
            (303, _) | (301 | 302, Method::Get) => Method::Get,
            (307 | 308, method) => method,
            _ => return None,
        };
        // Some servers write letters beyond ASCII as they are.
        let location = String::from_utf8_lossy(answer.headers.get("location")?.as_bytes());
        let uri = resolved(&self.uri, &location)?;
        same_origin(&self.uri, &uri).then_some(Stop { method, uri })
    }
}

/// What a `Location` means at this URL (RFC 3986, section 5.2).
fn resolved(at: &Uri, location: &str) -> Option<Uri> {
    let location = cleaned(location.trim().split('#').next().unwrap_or_default());
    let origin = format!("{}://{}", at.scheme_str()?, at.authority()?);
    let target = if has_scheme(&location) {
        location
    } else if location.starts_with("//") {
        format!("{}:{location}", at.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else if location.is_empty() || location.starts_with('?') {
        format!("{origin}{}{location}", at.path())
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{origin}{folder}/{location}")
    };
    let uri: Uri = target.parse().ok()?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}://{}{}{query}", uri.scheme_str()?, uri.authority()?, without_dots(uri.path())).parse().ok()
}

/// Where an answer points that is not followed with our headers, as the server wrote it where it can be used as it is: a
/// signature may cover every byte of it.
pub(crate) fn pointed_at(base_url: &str, location: &str) -> Option<String> {
    let location = location.trim().split('#').next().unwrap_or_default();
    let is_http = |url: &Uri| url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https"));
    if has_scheme(location) {
        return location.parse().ok().filter(is_http).map(|_| location.to_owned());
    }
    let base_url = format!("{}/", cleaned(base_url)).parse().ok()?;
    (!location.is_empty()).then(|| resolved(&base_url, location)).flatten().filter(is_http).map(|url| url.to_string())
}

/// Where a redirect leads that is followed without anything of ours: to any host, but never from https to http.
pub(super) fn onward(at: &Uri, location: &str) -> Option<Uri> {
    let origin = format!("{}://{}", at.scheme_str()?, at.authority()?);
    let path = at.path();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let next: Uri = pointed_at(&format!("{origin}{folder}"), location)?.parse().ok()?;
    is_as_safe(at, &next).then_some(next)
}

/// Whether a request may go on from one URL to the next: https never becomes http.
pub(super) fn is_as_safe(one: &Uri, next: &Uri) -> bool {
    one.scheme_str() != Some("https") || next.scheme_str() == Some("https")
}

/// Carries out the segments `.` and `..`.
fn without_dots(path: &str) -> String {
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

/// Whether both are on one origin and name no user.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str()?;
        let port = uri.port_u16().or(match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })?;
        // A user name could only come from the redirect, and would be sent along.
        let named = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        (!named).then(|| (scheme.to_owned(), uri.host().map(str::to_ascii_lowercase), port))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

#[cfg(test)]
mod tests {
    use ureq::http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::rules::testing::{golden, list};

    #[test]
    fn an_id_is_one_segment() {
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
            assert_eq!(segment(id), expected);
        }
    }

    /// Base URLs that [`Config`](crate::Config) refuses.
    const HAS_TLS: bool = cfg!(any(feature = "rustls", feature = "native-tls"));

    fn is_refused(base: &str) -> bool {
        base.contains(['?', '#'])
    }

    #[test]
    fn base_url_and_path_are_joined_as_in_the_fixture() {
        let mut joins = 0;
        for case in list(&golden("pure_client")["prepare_url"]) {
            let (base, path) = (case["base"].as_str().unwrap(), case["url"].as_str().unwrap());
            let config = crate::Config::builder().api_key("tml-k").base_url(base).build_with(|_| None);
            let Ok(config) = config else {
                // A build without TLS refuses https, too.
                assert!(is_refused(base) || (!HAS_TLS && base.starts_with("https")), "{case}");
                continue;
            };
            let url = joined(config.base_url(), path, "");
            if path.starts_with("//") || path.starts_with("http") {
                // The Python client sends the key to the other host, or drops the first segment as if it were one.
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
        assert_eq!(joined("http://h", "x?a=1#f", "?b=2").unwrap(), "http://h/x?a=1&b=2");
        assert_eq!(joined("http://h", "x", "?b=2").unwrap(), "http://h/x?b=2");
        assert_eq!(joined("http://h", "/x?at=12:30", "").unwrap(), "http://h/x?at=12:30");
        assert_eq!(joined("http://h", "ftp:x", ""), None);
    }

    fn after(status: u16, method: Method, location: &str) -> Option<(Method, String)> {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_bytes(location.as_bytes()).unwrap());
        let stop = Stop { method, uri: "http://host/base/a?q=1".parse().unwrap() };
        let next = stop.redirected(&Answer { status, headers, body: Vec::new() })?;
        Some((next.method, next.uri.to_string()))
    }

    #[test]
    fn a_location_is_read_as_the_rfc_says() {
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
    fn where_an_answer_points_is_kept_as_it_is() {
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
            assert_eq!(pointed_at("http://host/base", location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn a_redirect_without_our_headers_leads_anywhere_but_from_https_to_http() {
        for (at, location, expected) in [
            ("https://a/x/y?s=1", "https://b/z?sig=2", Some("https://b/z?sig=2")),
            ("http://a/x/y", "https://b/z", Some("https://b/z")),
            ("http://a/x/y", "z?sig=2", Some("http://a/x/z?sig=2")),
            ("https://a/x/y", "/z", Some("https://a/z")),
            ("https://a/x", "http://a/x", None),
            ("https://a/x", "ftp://a/x", None),
        ] {
            let next = onward(&at.parse().unwrap(), location).map(|next| next.to_string());
            assert_eq!(next.as_deref(), expected, "{at} {location}");
        }
    }

    #[test]
    fn the_method_after_a_redirect_is_the_one_that_the_status_gives() {
        use Method::{Delete, Get, Post};
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
