//! Which proxy a request uses, by the environment's variables.
//!
//! They are read as curl reads them: the variable of the URL's scheme before `ALL_PROXY`, lower case before upper case, empty
//! as unset. Three things differ. `HTTP_PROXY` in upper case counts, as for the Python client, except in a CGI program
//! (`REQUEST_METHOD` is set), where a request's header `Proxy` could set it. A proxy without a port has that of its scheme. And
//! a value that cannot be used is an error.

mod address;
mod no_proxy;

use std::fmt;

pub(crate) use address::{ProxyAddress, ProxyScheme};
use no_proxy::NoProxy;

use crate::error::{Error, Result};

/// The variables, as far as they are set.
#[derive(Clone, Default)]
pub(crate) struct ProxyVariables {
    http: Option<Variable>,
    https: Option<Variable>,
    all: Option<Variable>,
    no_proxy: Option<Variable>,
}

#[derive(Clone)]
struct Variable {
    name: &'static str,
    value: String,
}

/// A proxy, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChosenProxy {
    pub(crate) setting: &'static str,
    pub(crate) address: ProxyAddress,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxyTarget<'a> {
    pub(crate) is_https: bool,
    /// A name, or an address; IPv6 without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

impl ProxyVariables {
    pub(crate) fn read(environment: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| {
                let value = environment(name)?.trim().to_owned();
                (!value.is_empty()).then_some(Variable { name, value })
            };
            names.iter().find_map(set)
        };
        let is_cgi = environment("REQUEST_METHOD").is_some();
        ProxyVariables {
            http: first(if is_cgi { &["http_proxy"] } else { &["http_proxy", "HTTP_PROXY"] }),
            https: first(&["https_proxy", "HTTPS_PROXY"]),
            all: first(&["all_proxy", "ALL_PROXY"]),
            no_proxy: first(&["no_proxy", "NO_PROXY"]),
        }
    }

    /// The proxy of a request, if it uses one. Fails if the variable that counts cannot be used.
    pub(crate) fn choose(&self, target: ProxyTarget<'_>) -> Result<Option<ChosenProxy>> {
        let specific = if target.is_https { &self.https } else { &self.http };
        let Some(variable) = specific.as_ref().or(self.all.as_ref()) else { return Ok(None) };
        if let Some(no_proxy) = &self.no_proxy {
            let list = NoProxy::parse(&no_proxy.value).map_err(|fault| {
                Error::config(format!("{} has the entry {:?}, {}", no_proxy.name, fault.entry, fault.why))
                    .with_hint("use names, .suffixes, addresses, blocks such as 10.0.0.0/8, or *, separated by commas")
            })?;
            if list.covers(target.host, target.port) {
                return Ok(None);
            }
        }
        let address = ProxyAddress::parse(&variable.value, variable.name)?;
        Ok(Some(ChosenProxy { setting: variable.name, address }))
    }
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = [&self.http, &self.https, &self.all, &self.no_proxy];
        f.debug_set().entries(set.into_iter().flatten().map(|variable| variable.name)).finish()
    }
}

impl fmt::Display for ChosenProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(set: &[(&str, &str)], url: &str) -> Result<Option<String>> {
        let variables = ProxyVariables::read(|name| {
            set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        });
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, port) = rest.rsplit_once(':').unwrap();
        let host = host.trim_matches(['[', ']']);
        let target = ProxyTarget { is_https: scheme == "https", host, port: port.parse().unwrap() };
        Ok(variables.choose(target)?.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn the_first_variable_of_the_scheme_counts() {
        const ALL: &[(&str, &str)] = &[("ALL_PROXY", "a"), ("HTTP_PROXY", "h"), ("HTTPS_PROXY", "s")];
        for (set, url, expected) in [
            (ALL, "http://x:80", Some("http://h:80 (HTTP_PROXY)")),
            (ALL, "https://x:443", Some("http://s:80 (HTTPS_PROXY)")),
            (&ALL[..1], "http://x:80", Some("http://a:80 (ALL_PROXY)")),
            (&ALL[..2], "https://x:443", Some("http://a:80 (ALL_PROXY)")),
            (&ALL[1..2], "https://x:443", None),
            (&ALL[2..], "http://x:80", None),
            (&[("http_proxy", "l"), ("HTTP_PROXY", "u")], "http://x:80", Some("http://l:80 (http_proxy)")),
            (&[("http_proxy", " "), ("HTTP_PROXY", "u")], "http://x:80", Some("http://u:80 (HTTP_PROXY)")),
            (&[("all_proxy", "l"), ("HTTP_PROXY", "u")], "http://x:80", Some("http://u:80 (HTTP_PROXY)")),
            (&[("HTTP_PROXY", "u"), ("REQUEST_METHOD", "GET")], "http://x:80", None),
            (&[("http_proxy", "l"), ("REQUEST_METHOD", "GET")], "http://x:80", Some("http://l:80 (http_proxy)")),
            (&[("ALL_PROXY", "a"), ("NO_PROXY", "x")], "http://x:80", None),
            (
                &[("ALL_PROXY", "a"), ("no_proxy", "y"), ("NO_PROXY", "x")],
                "http://x:80",
                Some("http://a:80 (ALL_PROXY)"),
            ),
            (&[("NO_PROXY", "x")], "http://x:80", None),
        ] {
            assert_eq!(chosen(set, url).unwrap().as_deref(), expected, "{set:?} {url}");
        }
    }

    #[test]
    fn only_the_variable_that_counts_must_be_usable() {
        let error = chosen(&[("ALL_PROXY", "ftp://me:word@a")], "http://x:80").unwrap_err().to_string();
        assert!(error.contains("ALL_PROXY") && !error.contains("word"), "{error}");
        assert!(chosen(&[("ALL_PROXY", "ftp://a"), ("NO_PROXY", "x")], "http://x:80").unwrap().is_none());
        assert!(chosen(&[("HTTPS_PROXY", "ftp://a")], "http://x:80").unwrap().is_none());
        let error =
            chosen(&[("ALL_PROXY", "a"), ("no_proxy", "y,10.0.0.0/99")], "http://x:80").unwrap_err().to_string();
        assert!(error.contains("no_proxy") && error.contains("10.0.0.0/99"), "{error}");
    }
}
