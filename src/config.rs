//! Where the service is, who is asking, and every limit the client keeps.
//!
//! A [`Config`] is built once, checked as a whole, and then never changes. What the program sets wins over the
//! environment, and the environment over the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use ureq::http::Uri;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::query::{Query, Value};

/// The service that the Python client talks to when it is not told otherwise.
pub const DEFAULT_BASE_URL: &str = "https://tinker.thinkingmachines.dev/services/tinker-prod";

/// The smallest stack a thread of the library may have: nested JSON and TLS overflow less, and an overflow aborts.
const MIN_STACK: usize = 128 * 1024;

/// Everything a client needs to know before its first request.
///
/// # Environment
///
/// Read by [`build`](ConfigBuilder::build) for what the program did not set:
///
/// | variable | setting |
/// |---|---|
/// | `TINKER_API_KEY` | [`api_key`](ConfigBuilder::api_key) |
/// | `TINKER_BASE_URL` | [`base_url`](ConfigBuilder::base_url) |
/// | `TINKER_TAGS` | [`tags`](ConfigBuilder::tags), separated by commas |
/// | `CLOUDFLARE_ACCESS_CLIENT_ID`, `CLOUDFLARE_ACCESS_CLIENT_SECRET` | [`cloudflare_access`](ConfigBuilder::cloudflare_access) |
/// | `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` | [`proxy`](ConfigBuilder::proxy) |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::Config;
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000")
///     .timeout_operation(Some(Duration::from_secs(600)))
///     .build()?;
/// assert_eq!(config.base_url(), "http://127.0.0.1:8000");
/// assert!(!format!("{config:?}").contains("tml-example"));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct Config(Arc<Checked>);

struct Checked {
    base_url: String,
    api_key: Secret,
    builder: ConfigBuilder,
}

/// Builds a [`Config`]. Obtained from [`Config::builder`] or [`Config::constrained`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConfigBuilder {
    base_url: Option<String>,
    api_key: Option<Secret>,
    cloudflare: Option<(Secret, Secret)>,
    tags: Option<Vec<String>>,
    user_metadata: BTreeMap<String, String>,
    headers: Vec<(String, Secret)>,
    query: Query,
    proxy: Proxy,
    clock: Clock,
    settings: Settings,
}

/// Which proxy the client's requests go through.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// The one that the environment names, if any: `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, except for `NO_PROXY`. None
    /// where the service is on this machine (loopback).
    #[default]
    Environment,
    /// None.
    Off,
    /// This one: `http://[user:password@]host:port` or `https://…`.
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

/// A text that never shows in `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    fn new(text: impl Into<String>) -> Self {
        Secret(text.into().into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Defines each plain setting once: its documentation on getter and setter, its type, default and whether zero is allowed.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, zero $zero:ident;)*) => {
        #[derive(Clone, Debug)]
        struct Settings { $($name: $type,)* }

        impl Default for Settings {
            fn default() -> Self {
                Settings { $($name: $default,)* }
            }
        }

        impl Settings {
            /// Durations are cut at a year, so that every instant can be computed.
            fn cut(&mut self) {
                $(self.$name.cut();)*
            }

            fn check(&self) -> Result<()> {
                $(if !zero_is!($zero) && self.$name.is_zero_limit() {
                    return Err(Error::config(concat!(stringify!($name), " must be greater than zero")));
                })*
                Ok(())
            }
        }

        impl Config {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> $type { self.0.builder.settings.$name })*
        }

        impl ConfigBuilder {
            $($(#[$doc])* pub fn $name(mut self, $name: $type) -> Self {
                self.settings.$name = $name;
                self
            })*
        }
    };
}

macro_rules! zero_is {
    (allowed) => {
        true
    };
    (refused) => {
        false
    };
}

settings! {
    /// How long resolving a name may take, and after it connecting with the TLS handshake. Defaults to 5 s, the Python client's.
    timeout_connect: Duration = Duration::from_secs(5), zero refused;
    /// How long a request may go without a byte of progress while it is sent, waited for or read. Not a total: a large body
    /// over a slow link gets through. Defaults to 60 s, the Python client's.
    timeout_idle: Duration = Duration::from_secs(60), zero refused;
    /// How long a submission is sent again after retryable failures, from the first attempt on. Attempts are cut off at its
    /// end. While the service asks all sampling to wait (429), the window of a sample does not run. Defaults to 300 s.
    timeout_submit: Duration = Duration::from_secs(300), zero refused;
    /// How long a poll waits for the head of its answer before it is repeated. Must be longer than the server holds a poll
    /// without answering. Defaults to 45 s, the Python client's.
    timeout_poll: Duration = Duration::from_secs(45), zero refused;
    /// How long nothing at all may be heard of a promise, not even "not yet", before it is given up. Defaults to 30 min.
    timeout_progress: Duration = Duration::from_secs(30 * 60), zero refused;
    /// How long a whole blocking call may take; `None` waits as long as it takes. Defaults to `None`. Clients have a method
    /// of the same name that overrides it for their calls.
    timeout_operation: Option<Duration> = None, zero refused;
    /// How long dropping the last handle waits for the client's threads. Defaults to 500 ms.
    timeout_drop: Duration = Duration::from_millis(500), zero refused;
    /// The time between two heartbeats. Defaults to 10 s, the Python client's.
    heartbeat_interval: Duration = Duration::from_secs(10), zero refused;
    /// How often one request is repeated after a retryable failure, and how often a sample is submitted anew when its promise
    /// has expired. Defaults to 10. With 0, submissions are still sent again within
    /// [`timeout_submit`](ConfigBuilder::timeout_submit).
    max_retries: u32 = 10, zero allowed;
    /// The wait before the first repeat; it doubles with each. Defaults to 500 ms.
    retry_base: Duration = Duration::from_millis(500), zero refused;
    /// The longest wait between two repeats. Defaults to 10 s.
    retry_cap: Duration = Duration::from_secs(10), zero refused;
    /// How many promises are polled at once, each on a thread and connection of its own. Defaults to 128.
    max_poll_connections: usize = 128, zero refused;
    /// How many threads submit samples and models for `submit_` calls. Defaults to 32.
    max_sampling_threads: usize = 32, zero refused;
    /// How many sample submissions of this base URL and key are under way at once in the process. Of several clients with one
    /// base URL and key, the first decides this, `sampling_burst` and `sampling_rate`. Defaults to 400.
    max_sampling_in_flight: usize = 400, zero refused;
    /// How many sample submissions may leave at once before `sampling_rate` holds them back. Defaults to 400.
    sampling_burst: u32 = 400, zero refused;
    /// How many sample submissions leave per second in the long run. Defaults to 10 000.
    sampling_rate: u32 = 10_000, zero refused;
    /// How many calls may wait in the queue of a training client, or of all sampling clients of a service client together.
    /// Defaults to 10 000.
    max_queued: usize = 10_000, zero refused;
    /// How many bytes of input may wait in such a queue. Defaults to 1 GiB. A single call may be larger.
    max_queued_bytes: usize = 1 << 30, zero refused;
    /// The largest answer that is read. Defaults to 1 GiB.
    max_response_bytes: u64 = 1 << 30, zero refused;
    /// How many idle connections each purpose (training, sampling, session, futures, telemetry) keeps open. Defaults to 128.
    max_idle_connections: usize = 128, zero refused;
    /// How long an idle connection or pool thread is kept. Defaults to 15 s.
    idle_retention: Duration = Duration::from_secs(15), zero refused;
    /// How long a resolved address is used before the name is looked up again. Defaults to 60 s.
    dns_retention: Duration = Duration::from_secs(60), zero refused;
    /// The size of each connection's input and output buffer in bytes; the head of an answer must fit. Defaults to 16 KiB.
    connection_buffer: usize = 16 * 1024, zero refused;
    /// The stack of each thread of the library in bytes. Defaults to 256 KiB; less than 128 KiB is refused.
    thread_stack_size: usize = 256 * 1024, zero refused;
}

/// The longest time that a limit means: longer ones are as good as none.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

trait Limited {
    fn is_zero_limit(&self) -> bool;

    fn cut(&mut self) {}
}

impl Limited for Duration {
    fn is_zero_limit(&self) -> bool {
        self.is_zero()
    }

    fn cut(&mut self) {
        *self = (*self).min(MAX_DURATION);
    }
}

impl Limited for Option<Duration> {
    fn is_zero_limit(&self) -> bool {
        self.is_some_and(|limit| limit.is_zero())
    }

    fn cut(&mut self) {
        *self = self.map(|limit| limit.min(MAX_DURATION));
    }
}

macro_rules! limited_integers {
    ($($type:ty)*) => {$(impl Limited for $type {
        fn is_zero_limit(&self) -> bool {
            *self == 0
        }
    })*};
}
limited_integers!(u32 u64 usize);

impl Config {
    /// Starts a configuration with the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The configuration that the environment describes: see [the table](Config#environment).
    ///
    /// # Errors
    ///
    /// When `TINKER_API_KEY` is missing or empty, or a variable has an invalid value.
    pub fn from_env() -> Result<Config> {
        Config::builder().build()
    }

    /// Starts a configuration for a device with little memory: two poll connections, two sampling threads and submissions in
    /// flight, two idle connections per purpose, 4 KiB buffers, queues of 64 calls and 8 MiB, answers up to 16 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::constrained().api_key("tml-k").base_url("http://127.0.0.1:8000").build()?;
    /// assert_eq!(config.max_poll_connections(), 2);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn constrained() -> ConfigBuilder {
        Config::builder()
            .max_poll_connections(2)
            .max_sampling_threads(2)
            .max_sampling_in_flight(2)
            .max_idle_connections(2)
            .max_queued(64)
            .max_queued_bytes(8 << 20)
            .max_response_bytes(16 << 20)
            .connection_buffer(4 * 1024)
    }

    /// The service's base URL, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// The tags of the session.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        self.0.builder.tags.as_deref().unwrap_or_default()
    }

    /// The metadata of the session.
    #[must_use]
    pub fn user_metadata(&self) -> &BTreeMap<String, String> {
        &self.0.builder.user_metadata
    }

    /// The proxy.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.0.builder.proxy
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.builder.clock
    }

    /// Whether the service is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.0.base_url)
    }

    pub(crate) fn api_key(&self) -> &Secret {
        &self.0.api_key
    }

    pub(crate) fn cloudflare(&self) -> Option<(&Secret, &Secret)> {
        self.0.builder.cloudflare.as_ref().map(|(id, secret)| (id, secret))
    }

    pub(crate) fn headers(&self) -> &[(String, Secret)] {
        &self.0.builder.headers
    }

    pub(crate) fn query(&self) -> &Query {
        &self.0.builder.query
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("base_url", &self.0.base_url).field("settings", &self.0.builder).finish()
    }
}

impl ConfigBuilder {
    /// The API key. Defaults to `TINKER_API_KEY`. It is sent in the `x-api-key` header and shown nowhere.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(Secret::new(key));
        self
    }

    /// Where the service is: `http://` or `https://`, a host and perhaps a port and path. Defaults to `TINKER_BASE_URL`,
    /// else [`DEFAULT_BASE_URL`].
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The service token of a Cloudflare Access gateway, as an id and a secret. Defaults to the environment's.
    pub fn cloudflare_access(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.cloudflare = Some((Secret::new(id), Secret::new(secret)));
        self
    }

    /// Tags that the service keeps with the session. Defaults to `TINKER_TAGS`, else none.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Adds one entry to the metadata that the service keeps with the session.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }

    /// Adds a header to every request. It overrides the library's own of that name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Secret::new(value)));
        self
    }

    /// Adds a query parameter to every request.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.query = self.query.field(name, value);
        self
    }

    /// The proxy. Defaults to the one that the environment names.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// The clock that every wait of the client goes by. Defaults to the system's; tests drive one of their own.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the settings, with the environment for what is unset.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), saying what to set: a missing or empty key, a base URL without
    /// scheme or host, a limit of zero, a stack below 128 KiB, a header that HTTP does not allow.
    pub fn build(self) -> Result<Config> {
        self.build_with(|name| std::env::var(name).ok())
    }

    /// The same as [`build`](ConfigBuilder::build), with another environment than the process's.
    ///
    /// # Errors
    ///
    /// The same as of [`build`](ConfigBuilder::build).
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::Config;
    ///
    /// let config = Config::builder().build_with(|name| match name {
    ///     "TINKER_API_KEY" => Some("tml-example".to_owned()),
    ///     "TINKER_TAGS" => Some("nightly, llama".to_owned()),
    ///     _ => None,
    /// })?;
    /// assert_eq!(config.tags(), ["nightly", "llama"]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn build_with(mut self, environment: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let set = |name: &str| environment(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let api_key = match self.api_key.take().or_else(|| environment("TINKER_API_KEY").map(Secret::new)) {
            None => return Err(Error::config("no API key; set TINKER_API_KEY, or call api_key on the builder")),
            Some(key) if key.expose().trim().is_empty() => {
                return Err(Error::config("the API key is empty; set TINKER_API_KEY, or pass one to api_key"));
            }
            Some(key) => Secret::new(key.expose().trim()),
        };
        check_header("x-api-key", api_key.expose(), "the API key")?;
        let base_url = self.base_url.take().or_else(|| set("TINKER_BASE_URL"));
        let base_url = checked_base_url(base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        if self.tags.is_none() {
            self.tags = set("TINKER_TAGS")
                .map(|tags| tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect());
        }
        if self.cloudflare.is_none() {
            self.cloudflare = set("CLOUDFLARE_ACCESS_CLIENT_ID")
                .zip(set("CLOUDFLARE_ACCESS_CLIENT_SECRET"))
                .map(|(id, secret)| (Secret::new(id), Secret::new(secret)));
        }
        if let Some((id, secret)) = &self.cloudflare {
            check_header("cf-access-client-id", id.expose(), "the Cloudflare Access id")?;
            check_header("cf-access-client-secret", secret.expose(), "the Cloudflare Access secret")?;
        }
        for (name, value) in &self.headers {
            check_header(name, value.expose(), &format!("the header {name:?}"))?;
        }
        if let Proxy::Url(url) = &self.proxy {
            check_proxy(url)?;
        }
        self.settings.check()?;
        self.settings.cut();
        if self.settings.thread_stack_size < MIN_STACK {
            return Err(Error::config(format!("thread_stack_size must be at least {MIN_STACK} bytes")));
        }
        if !api_key.expose().starts_with("tml-") {
            warn!("the API key does not begin with `tml-`, as keys of the Tinker service do");
        }
        if !is_private(&base_url) {
            warn!("{base_url} is plain http: the API key and all data travel unencrypted; use https");
        }
        Ok(Config(Arc::new(Checked { base_url, api_key, builder: self })))
    }
}

fn check_header(name: &str, value: &str, what: &str) -> Result<()> {
    use ureq::http::{HeaderName, HeaderValue};
    let allowed = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
    if allowed {
        Ok(())
    } else {
        Err(Error::config(format!(
            "{what} has characters that no HTTP header may have; copy it again, without quotes or line breaks"
        )))
    }
}

fn check_proxy(url: &str) -> Result<()> {
    let refused = |why: &str| Err(Error::config(format!("the proxy URL {why}; use http://host:port")));
    let Ok(proxy) = ureq::Proxy::new(url) else { return refused("is not valid") };
    match proxy.protocol() {
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => Ok(()),
        _ => refused("names a kind of proxy that is not supported"),
    }
}

fn checked_base_url(text: &str) -> Result<String> {
    let shown = text.trim().trim_end_matches('/');
    let refused = |why: &str| {
        let shown = if shown.contains('@') { "…" } else { shown };
        Err(Error::config(format!(
            "the base URL {shown:?} {why}; set TINKER_BASE_URL or base_url to something like {DEFAULT_BASE_URL}"
        )))
    };
    let Ok(uri) = shown.parse::<Uri>() else { return refused("is not a URL") };
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(any(feature = "rustls", feature = "native-tls")) => {}
        Some("https") => return refused("needs TLS, which this build lacks (feature `rustls` or `native-tls`)"),
        _ => return refused("does not begin with http:// or https://"),
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return refused("has no host");
    };
    if authority.as_str().contains('@') {
        return refused("has a user name or password in it");
    }
    if uri.query().is_some() || text.contains('#') {
        return refused("has a query or fragment");
    }
    Ok(shown.to_owned())
}

/// Whether nobody else can read what is sent to this URL.
fn is_private(base_url: &str) -> bool {
    base_url.starts_with("https://") || is_loopback(base_url)
}

/// Whether this URL is on this machine.
fn is_loopback(base_url: &str) -> bool {
    let Ok(uri) = base_url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn build(builder: ConfigBuilder) -> Result<Config> {
        builder.build_with(|_| None)
    }

    fn valid() -> ConfigBuilder {
        Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1")
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_to_set() {
        for (builder, expected) in [
            (Config::builder(), "set TINKER_API_KEY"),
            (Config::builder().api_key(" "), "set TINKER_API_KEY"),
            (valid().api_key("tml-\u{7f}"), "no HTTP header may have"),
            (valid().base_url("example.com"), "does not begin with http"),
            (valid().base_url("ftp://example.com"), "does not begin with http"),
            (valid().base_url("http://"), "base URL"),
            (valid().base_url("http://me:secret@example.com"), "user name or password"),
            (valid().base_url("http://example.com/?a=b"), "query"),
            (valid().timeout_idle(Duration::ZERO), "timeout_idle must be greater"),
            (valid().timeout_operation(Some(Duration::ZERO)), "timeout_operation must be greater"),
            (valid().max_poll_connections(0), "max_poll_connections must be greater"),
            (valid().sampling_rate(0), "sampling_rate must be greater"),
            (valid().thread_stack_size(64 * 1024), "at least 131072 bytes"),
            (valid().header("a b", "c"), "no HTTP header may have"),
            (valid().proxy(Proxy::Url("socks5://127.0.0.1:1".into())), "not supported"),
        ] {
            let error = build(builder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn zero_retries_are_a_setting_like_any_other() {
        assert_eq!(build(valid().max_retries(0)).unwrap().max_retries(), 0);
    }

    #[test]
    fn code_wins_over_the_environment_and_the_environment_over_defaults() {
        let environment = |name: &str| {
            Some(match name {
                "TINKER_API_KEY" => "tml-env".to_owned(),
                "TINKER_BASE_URL" => "http://localhost:9/path/".to_owned(),
                "TINKER_TAGS" => "a, b,".to_owned(),
                "CLOUDFLARE_ACCESS_CLIENT_ID" => "id".to_owned(),
                "CLOUDFLARE_ACCESS_CLIENT_SECRET" => "hidden".to_owned(),
                _ => return None,
            })
        };
        let from_env = Config::builder().build_with(environment).unwrap();
        assert_eq!(from_env.base_url(), "http://localhost:9/path");
        assert_eq!(from_env.api_key().expose(), "tml-env");
        assert_eq!(from_env.tags(), ["a", "b"]);
        assert_eq!(from_env.cloudflare().unwrap().1.expose(), "hidden");
        let from_code = valid().tags(["c"]).cloudflare_access("x", "y").build_with(environment).unwrap();
        assert_eq!(from_code.base_url(), "http://127.0.0.1:1");
        assert_eq!(from_code.api_key().expose(), "tml-k");
        assert_eq!(from_code.tags(), ["c"]);
        assert_eq!(from_code.cloudflare().unwrap().1.expose(), "y");
    }

    #[test]
    fn secrets_do_not_show() {
        let config = build(
            valid()
                .api_key("tml-hidden")
                .cloudflare_access("hidden-id", "hidden-secret")
                .header("authorization", "hidden-token")
                .proxy(Proxy::Url("http://hidden-user:hidden@127.0.0.1:1".into())),
        )
        .unwrap();
        assert!(!format!("{config:?} {config:#?}").contains("hidden"), "{config:?}");
    }

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
}
