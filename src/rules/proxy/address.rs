//! The address of a proxy: `[scheme://][user[:password]@]host[:port]`.

use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyScheme {
    Http,
    Https,
    Socks4,
    Socks4a,
    Socks5,
    Socks5h,
}

impl ProxyScheme {
    const ALL: [(&'static str, ProxyScheme, u16); 6] = [
        ("http", ProxyScheme::Http, 80),
        ("https", ProxyScheme::Https, 443),
        ("socks4", ProxyScheme::Socks4, 1080),
        ("socks4a", ProxyScheme::Socks4a, 1080),
        ("socks5", ProxyScheme::Socks5, 1080),
        ("socks5h", ProxyScheme::Socks5h, 1080),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, scheme, _)| *scheme == self).map_or("", |(name, ..)| name)
    }
}

/// The address of a proxy, with what it wants to know. `Display` and `Debug` leave the user name and password out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProxyAddress {
    pub(crate) scheme: ProxyScheme,
    /// IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl ProxyAddress {
    /// Parses a value of `setting`. Without a scheme it is `http`, without a port that of the scheme.
    pub(crate) fn parse(text: &str, setting: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::config(format!("{setting}: the proxy URL {why}")).with_hint(format!(
                "set {setting} to something like http://proxy.example.com:3128 or socks5h://127.0.0.1:1080"
            ))
        };
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let known = ProxyScheme::ALL.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme));
        let Some(&(_, scheme, default_port)) = known else {
            // A colon or an at sign would be a part of a URL without a scheme, perhaps of a password.
            let is_word = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let shown = if is_word { format!(" {scheme:?}") } else { String::new() };
            return Err(invalid(&format!(
                "has the unsupported scheme{shown}, not one of http, https, socks4, socks4a, socks5 and socks5h"
            )));
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if !matches!(path, "" | "/") {
            return Err(invalid("has more than a host and a port"));
        }
        let (login, server) = match authority.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, authority),
        };
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (server, None),
        };
        if host.is_empty() {
            return Err(invalid("has no host"));
        }
        if !is_host(host) {
            return Err(invalid("has a host that is neither a name nor an address; an IPv6 address needs brackets"));
        }
        let port = match port {
            None => default_port,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(invalid("has a port that is not a number from 1 to 65535")),
            },
        };
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(|text| text.into_owned()).map_err(|_| invalid("has a user name or password that is not UTF-8"))
        };
        let (user, password) =
            match login.map(|login| login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)))) {
                None => (None, None),
                Some((user, password)) => (Some(decode(user)?), password.map(decode).transpose()?),
            };
        Ok(ProxyAddress { scheme, host: host.to_ascii_lowercase(), port, user, password })
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_and_a_port() {
        for (text, shown, login) in [
            ("http://127.0.0.1:3128", "http://127.0.0.1:3128", None),
            (" HTTP://Proxy/ ", "http://proxy:80", None),
            ("proxy.example.com:8080", "http://proxy.example.com:8080", None),
            ("me:word@proxy", "http://proxy:80", Some(("me", Some("word")))),
            ("https://proxy", "https://proxy:443", None),
            ("socks5://me:w%40rd@10.0.0.1", "socks5://10.0.0.1:1080", Some(("me", Some("w@rd")))),
            ("socks5h://m@e:a:b@host:1", "socks5h://host:1", Some(("m@e", Some("a:b")))),
            ("socks4a://me@host", "socks4a://host:1080", Some(("me", None))),
            ("socks4://host", "socks4://host:1080", None),
            ("http://[::1]:3128", "http://[::1]:3128", None),
            ("[fe80::1]", "http://[fe80::1]:80", None),
        ] {
            let address = ProxyAddress::parse(text, "HTTP_PROXY").unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(address.user.as_deref().map(|user| (user, address.password.as_deref())), login, "{text}");
        }
    }

    #[test]
    fn unusable_addresses_name_the_setting_only() {
        for (text, why) in [
            ("socks://me:secret@host", "unsupported scheme \"socks\""),
            ("ftp://me:secret@host", "unsupported scheme \"ftp\""),
            ("http//me:secret@host", "more than a host"),
            ("me:secret@", "no host"),
            ("http://me:secret@host:0", "not a number from 1"),
            ("http://me:secret@host:http", "not a number from 1"),
            ("http://me:secret@host:99999", "not a number from 1"),
            ("http://me:secret@::1", "needs brackets"),
            ("http://me:secret@ho st:1", "neither a name"),
            ("http://me:secret@host/path", "more than a host"),
            ("http://me:secret%ff@host", "not UTF-8"),
            ("", "no host"),
        ] {
            let error = ProxyAddress::parse(text, "ALL_PROXY").unwrap_err().to_string();
            assert!(error.starts_with("ALL_PROXY: ") && error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
