//! The builder of a configuration.

mod connection;

use std::collections::BTreeMap;
use std::sync::Arc;

use log::warn;

use super::credential::{self, Credential};
use super::proxy::proxy_for;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
use super::roots;
use super::settings::Settings;
use super::{Checked, Config, DEFAULT_BASE_URL, Proxy, Secret, Wire, validate};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::observer::{Observer, Observers, QueueStateObserver};
use crate::rules::credential::Claims;
use crate::rules::proxy::ProxyVariables;
use crate::rules::single_line;
use crate::types::Query;

/// The minimum stack size of a thread: nested JSON and TLS overflow smaller ones, and an overflow aborts the process.
const MIN_STACK: usize = 128 * 1024;

/// Builds a [`Config`]. Obtained from [`Config::builder`] or [`Config::constrained`].
///
/// Each setting has a getter of the same name on [`Config`], except those that may hold secrets: the API key, the Cloudflare
/// token, headers and query parameters.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::{Config, Proxy};
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000/prod/")
///     .cloudflare_access("id", "secret")
///     .tags(["nightly", "llama"])
///     .display_name("first try")
///     .user_metadata("commit", "388b44d")
///     .header("x-team", "alignment")
///     .query("trace", true)
///     .proxy(Proxy::Off)
///     .timeout_idle(Duration::from_secs(120))
///     .max_retries(3)
///     .build()?;
/// assert_eq!(config.base_url(), "http://127.0.0.1:8000/prod");
/// assert_eq!(config.user_metadata()["commit"], "388b44d");
/// assert_eq!((config.timeout_idle(), config.max_retries()), (Duration::from_secs(120), 3));
///
/// let local = Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000");
/// let error = local.max_queued(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "max_queued must be greater than zero");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConfigBuilder {
    pub(super) base_url: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) cloudflare: Option<(Secret, Secret)>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) project_id: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) user_metadata: BTreeMap<String, String>,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) query: Query,
    pub(super) proxy: Proxy,
    pub(super) root_certificates: Vec<Vec<u8>>,
    pub(super) added_roots: Vec<Vec<u8>>,
    pub(super) clock: Clock,
    pub(super) observers: Observers,
    pub(super) telemetry: Option<bool>,
    pub(super) wire: Option<Wire>,
    pub(super) settings: Settings,
}

impl ConfigBuilder {
    /// The API key, or a token (JWT) in place of one. Defaults to the first of `TINKER_API_KEY`, what the command in
    /// `TINKER_CREDENTIAL_CMD` prints, and the key that `tinkex auth login` stored. Sent in the `x-api-key` header; never logged or
    /// shown.
    ///
    /// If the service asks for tokens in place of keys, the client exchanges the key for one, and renews it in time.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// assert!(!format!("{config:?}").contains("tml-example"), "a key is never shown");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(Secret::new(key));
        self
    }

    /// The URL of the service: `http://` or `https://`, a host, and optionally a port and path. Defaults to `TINKER_BASE_URL`,
    /// or [`DEFAULT_BASE_URL`] if that is unset.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// assert_eq!(config.base_url(), "http://127.0.0.1:8000");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Tags that the service stores with the session. Defaults to `TINKER_TAGS`, or none if that is unset.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").tags(["sweep", "7"]).build()?;
    /// assert_eq!(config.tags(), ["sweep", "7"]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// The project that the session belongs to. Defaults to `TINKER_PROJECT_ID`, or none if that is unset.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").project_id("project-1").build()?;
    /// assert_eq!(config.project_id(), Some("project-1"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn project_id(mut self, project_id: impl Into<String>) -> Self {
        self.project_id = Some(project_id.into());
        self
    }

    /// The name of the session for people. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").display_name("sweep 7").build()?;
    /// assert_eq!(config.display_name(), Some("sweep 7"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = Some(name.into());
        self
    }

    /// Adds an entry to the metadata that the service stores with the session. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").user_metadata("seed", "7").build()?;
    /// assert_eq!(config.user_metadata()["seed"], "7");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }

    /// The clock that every wait of the client uses. Defaults to the system's clock; a test can pass a `ManualClock` (feature
    /// `test-util`).
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").clock(tinkex::clock::Clock::system()).build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// An observer of every event: requests, retries, queue states, results. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").observer(|event: &tinkex::Event| println!("{event:?}")).build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.all = Some(Arc::new(observer));
        self
    }

    /// An observer of the states of the queues that requests wait in. Defaults to none; paused queues are logged anyway.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").queue_state_observer(|update: &tinkex::QueueStateUpdate| println!("{update:?}")).build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn queue_state_observer(mut self, observer: impl QueueStateObserver + 'static) -> Self {
        self.observers.queue_states = Some(Arc::new(observer));
        self
    }

    /// Whether telemetry is sent to the service: start and end of the session, failed requests, and what the program reports
    /// with [`Telemetry`](crate::Telemetry), which describes the content. Defaults to `TINKER_TELEMETRY`, or true if that is
    /// unset, as in the Python client. If false, there is no telemetry thread and no telemetry request.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").telemetry(false).build()?;
    /// assert!(!config.telemetry());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn telemetry(mut self, telemetry: bool) -> Self {
        self.telemetry = Some(telemetry);
        self
    }

    /// The wire format of forward and backward passes. Defaults to `TINKER_WIRE`, or [`Wire::Auto`] if that is unset, which finds
    /// out what the service takes.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::{Config, Wire};
    ///
    /// let builder = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:8000");
    /// let config = builder.wire(Wire::Protobuf).build()?;
    /// assert_eq!(config.wire(), Wire::Protobuf);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Validates the settings. Unset ones are taken from the environment, then from the defaults.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the setting: a missing or empty API key, a base URL without scheme
    /// or host, a proxy that cannot be used, a file of certificates that cannot be read or holds none, a limit of zero, a stack below
    /// 128 KiB, an invalid header, a line break in a tag, in `project_id` or in `display_name`.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// println!("{config:?}");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn build(self) -> Result<Config> {
        self.build_with(|name| std::env::var(name).ok())
    }

    /// As [`build`](ConfigBuilder::build), but reads variables with `environment` instead of from the process.
    ///
    /// # Errors
    ///
    /// As for [`build`](ConfigBuilder::build).
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::Config;
    ///
    /// let config = Config::builder().build_with(|name| match name {
    ///     "TINKER_API_KEY" => Some("tml-example".to_owned()),
    ///     "TINKER_BASE_URL" => Some("http://127.0.0.1:8000".to_owned()),
    ///     "TINKER_TAGS" => Some("nightly, llama".to_owned()),
    ///     _ => None,
    /// })?;
    /// assert_eq!(config.tags(), ["nightly", "llama"]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn build_with(mut self, environment: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let set = |name: &str| environment(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let credential = credential::resolve(self.api_key.take(), &environment)?;
        let base_url = self.base_url.take().or_else(|| set("TINKER_BASE_URL"));
        let base_url = validate::base_url(base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        if self.tags.is_none() {
            self.tags = set("TINKER_TAGS")
                .map(|tags| tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect());
        }
        if self.project_id.is_none() {
            self.project_id = set("TINKER_PROJECT_ID");
        }
        if self.telemetry.is_none() {
            self.telemetry = environment("TINKER_TELEMETRY").map(|word| is_truthy(&word));
        }
        if self.wire.is_none() {
            let wire = set("TINKER_WIRE").map(|word| word.parse());
            self.wire = wire.transpose().map_err(|error: Error| {
                Error::config(format!("TINKER_WIRE: {}", error.message())).with_hint("set it to auto, json or protobuf")
            })?;
        }
        if self.cloudflare.is_none() {
            self.cloudflare = set("CLOUDFLARE_ACCESS_CLIENT_ID")
                .zip(set("CLOUDFLARE_ACCESS_CLIENT_SECRET"))
                .map(|(id, secret)| (Secret::new(id), Secret::new(secret)));
        }
        if let Some((id, secret)) = &self.cloudflare {
            validate::header("cf-access-client-id", id.expose(), "the Cloudflare Access id")?;
            validate::header("cf-access-client-secret", secret.expose(), "the Cloudflare Access secret")?;
        }
        for (name, value) in &self.headers {
            validate::header(name, value.expose(), &format!("the header {name:?}"))?;
        }
        let proxies = ProxyVariables::read(&environment);
        if let Ok(uri) = base_url.parse() {
            proxy_for(&self.proxy, &proxies, &uri)?;
        }
        #[cfg(any(feature = "rustls", feature = "native-tls"))]
        let root_variables = roots::RootVariables::read(&environment);
        #[cfg(any(feature = "rustls", feature = "native-tls"))]
        roots::check(&self, &root_variables, &base_url)?;
        #[cfg(not(any(feature = "rustls", feature = "native-tls")))]
        if !(self.root_certificates.is_empty() && self.added_roots.is_empty()) {
            let message = "root_certificate and add_root_certificate need TLS, which this build lacks";
            return Err(Error::config(message).with_hint(validate::BUILD_WITH_TLS));
        }
        for (name, value) in [("project_id", &self.project_id), ("display_name", &self.display_name)] {
            if value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                return Err(Error::config(format!("{name} is empty")).with_hint("leave it out, or set it to a text"));
            }
        }
        let texts = [("project_id", &self.project_id), ("display_name", &self.display_name)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        let tags = self.tags.iter().flatten().map(|tag| ("a tag", tag));
        let checked = texts.chain(tags).try_for_each(|(name, text)| single_line::check(name, text));
        checked.map_err(|error| Error::config(error.message().to_owned()).with_hint("leave the character out"))?;
        self.settings.check()?;
        self.settings.tie_connections();
        self.settings.cap_durations();
        if self.settings.thread_stack_size < MIN_STACK {
            return Err(Error::config(format!("thread_stack_size must be at least {MIN_STACK} bytes")));
        }
        if let (Credential::Key(key), _) = &credential {
            if !key.expose().starts_with("tml-") && Claims::read(key.expose()).is_none() {
                warn!("the API key does not start with `tml-`, as keys of the Tinker service do");
            }
        }
        if !validate::is_private(&base_url) {
            warn!("{base_url} is plain http: the API key and all data are sent unencrypted; use https");
        }
        Ok(Config(Arc::new(Checked {
            base_url,
            credential,
            proxies,
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            root_variables,
            builder: self,
        })))
    }
}

/// Whether the word means true. As in the Python client, anything else means false.
fn is_truthy(word: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|on| word.eq_ignore_ascii_case(on))
}

#[cfg(test)]
mod tests;
