//! Validates URLs and headers.

use std::net::IpAddr;

use ureq::http::Uri;

use super::DEFAULT_BASE_URL;
use crate::error::{Error, Result};

pub(super) const BUILD_WITH_TLS: &str = "build with the feature `rustls` or `native-tls`";

/// Checks that a header can be sent. `what` names the setting in the error, which never contains the value.
pub(crate) fn header(name: &str, value: &str, what: &str) -> Result<()> {
    use ureq::http::{HeaderName, HeaderValue};
    let allowed = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
    if allowed {
        Ok(())
    } else {
        Err(Error::config(format!("{what} has characters that are not allowed in an HTTP header"))
            .with_hint("copy it again, without quotes or line breaks"))
    }
}

/// Checks the URL of the service, and returns it without a trailing slash.
pub(crate) fn base_url(text: &str) -> Result<String> {
    let text = text.trim();
    let shown = text.strip_suffix('/').unwrap_or(text);
    let invalid = |why: &str| {
        // What precedes the `@` may be a password.
        let shown = if shown.contains('@') { "…" } else { shown };
        Err(Error::config(format!("the base URL {shown:?} {why}"))
            .with_hint(format!("set TINKER_BASE_URL or base_url to something like {DEFAULT_BASE_URL}")))
    };
    let Ok(uri) = shown.parse::<Uri>() else { return invalid("is not a URL") };
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(any(feature = "rustls", feature = "native-tls")) => {}
        Some("https") => {
            return invalid("needs TLS, which this build lacks").map_err(|error| error.with_hint(BUILD_WITH_TLS));
        }
        _ => return invalid("does not start with http:// or https://"),
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return invalid("has no host");
    };
    if authority.as_str().contains('@') {
        return invalid("contains a user name or password");
    }
    if uri.query().is_some() || text.contains('#') {
        return invalid("contains a query or fragment");
    }
    Ok(shown.to_owned())
}

/// Whether data sent to this URL cannot be read in transit: it is encrypted, or does not leave this machine.
pub(super) fn is_private(base_url: &str) -> bool {
    base_url.starts_with("https://") || is_loopback(base_url)
}

/// Whether the URL refers to this machine.
pub(super) fn is_loopback(base_url: &str) -> bool {
    let Ok(uri) = base_url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the URL is on the host of [`DEFAULT_BASE_URL`].
pub(crate) fn is_official(base_url: &str) -> bool {
    let host = |url: &str| url.parse::<Uri>().ok()?.host().map(str::to_ascii_lowercase);
    host(base_url) == host(DEFAULT_BASE_URL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_private() {
        for (url, private) in [
            ("https://example.com", true),
            ("http://localhost:1", true),
            ("http://127.0.0.9", true),
            ("http://[::1]:80", true),
            ("http://example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_private(url), private, "{url}");
        }
    }

    #[test]
    fn the_official_service_is_known_by_its_host() {
        for (url, official) in [
            (DEFAULT_BASE_URL, true),
            ("https://tinker.thinkingmachines.dev/services/tinker-test", true),
            ("https://TINKER.thinkingmachines.dev:443", true),
            ("https://tinker.thinkingmachines.dev.example.com", false),
            ("http://127.0.0.1:8000/services/tinker-prod", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_official(url), official, "{url}");
        }
    }
}
