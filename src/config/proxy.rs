//! The proxy setting, and which proxy it means for a URL.

use std::fmt;

use ureq::http::Uri;

use super::Config;
use super::validate::{BUILD_WITH_TLS, is_loopback};
use crate::error::{Error, Result};
use crate::rules::proxy::{ChosenProxy, ProxyAddress, ProxyScheme, ProxyTarget, ProxyVariables};

/// The proxy for the client's requests.
///
/// ```
/// use tinkex::{Config, Proxy};
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000")
///     .proxy(Proxy::Url("http://user:secret@proxy.example.com:3128".to_owned()))
///     .build()?;
/// assert_eq!(format!("{:?}", config.proxy()), "Url(***)");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// The proxy named by the environment, if any. Requests to this machine (loopback) use none.
    ///
    /// The variables are read as curl reads them. `https_proxy` is for https URLs and `http_proxy` for http URLs, `all_proxy` for
    /// both if the other is unset; in lower or upper case, of which lower case counts first. An empty variable is unset.
    ///
    /// A value is `[scheme://][user:password@]host[:port]`, with user name and password percent-encoded. The scheme is `http`
    /// (the default), `https` for TLS to the proxy itself, `socks5h` (the proxy looks names up), `socks5` (this machine does),
    /// `socks4a` or `socks4`. The port defaults to 80, 443 or 1080, by the scheme.
    ///
    /// `no_proxy` lists hosts that are reached without a proxy, separated by commas or blanks: names, which cover their
    /// subdomains too (`example.com`, `.example.com`), addresses, blocks of addresses (`10.0.0.0/8`, `fd00::/8`), each of the
    /// former with a port if only that one is meant (`example.com:8443`), or `*` for all hosts.
    ///
    /// Unlike in curl, `HTTP_PROXY` counts in upper case too, as for the Python client, except in a CGI program
    /// (`REQUEST_METHOD` is set), where the header of a request could set it. A value that cannot be used is an error that names
    /// the variable; curl ignores some.
    #[default]
    Environment,
    /// No proxy.
    Off,
    /// This proxy, for all hosts: as the value of a variable above.
    Url(String),
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proxy::Environment => "Environment",
            Proxy::Off => "Off",
            Proxy::Url(_) => "Url(***)",
        })
    }
}

impl Config {
    /// The proxy.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").proxy(tinkex::Proxy::Off).build()?;
    /// assert!(matches!(config.proxy(), tinkex::Proxy::Off));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.0.builder.proxy
    }

    /// The proxy that requests to the service use, with the setting that names it; `None` if they use none. Without user name
    /// and password: for logs and diagnosis.
    ///
    /// # Examples
    ///
    /// ```
    /// let environment = |name: &str| match name {
    ///     "TINKER_API_KEY" => Some("tml-example".to_owned()),
    ///     "TINKER_BASE_URL" => Some("http://tinker.example.com".to_owned()),
    ///     "http_proxy" => Some("http://me:secret@proxy.example.com:3128".to_owned()),
    ///     _ => None,
    /// };
    /// let config = tinkex::Config::builder().build_with(environment)?;
    /// assert_eq!(config.proxy_in_use().as_deref(), Some("http://proxy.example.com:3128 (http_proxy)"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn proxy_in_use(&self) -> Option<String> {
        let uri = self.base_url().parse().ok()?;
        self.proxy_for(&uri).ok()?.map(|proxy| proxy.to_string())
    }

    /// The proxy of requests to this URL. Fails if the setting cannot be used, which [`build`](super::ConfigBuilder::build)
    /// has checked for the base URL.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Result<Option<ChosenProxy>> {
        proxy_for(self.proxy(), &self.0.proxies, uri)
    }
}

pub(super) fn proxy_for(setting: &Proxy, variables: &ProxyVariables, uri: &Uri) -> Result<Option<ChosenProxy>> {
    let chosen = match setting {
        Proxy::Off => None,
        Proxy::Environment if is_loopback(&uri.to_string()) => None,
        Proxy::Environment => {
            let is_https = uri.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
            variables.choose(ProxyTarget { is_https, host, port })?
        }
        Proxy::Url(url) => Some(ChosenProxy { setting: "proxy", address: ProxyAddress::parse(url, "proxy")? }),
    };
    if let Some(ChosenProxy { setting, address }) = &chosen {
        if address.scheme == ProxyScheme::Https && !cfg!(any(feature = "rustls", feature = "native-tls")) {
            let message = format!("{setting}: an https proxy needs TLS, which this build lacks");
            return Err(Error::config(message).with_hint(BUILD_WITH_TLS));
        }
    }
    Ok(chosen)
}
