//! The configuration: base URL, credentials and every limit of the client.
//!
//! A [`Config`] is built once, validated as a whole, and never changes. Settings in code override the environment, which
//! overrides the defaults.

mod builder;
mod credential;
mod proxy;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod roots;
mod settings;
mod validate;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use builder::ConfigBuilder;
pub use credential::CredentialSource;
pub(crate) use credential::{Credential, checked_key};
pub use proxy::Proxy;
#[cfg(feature = "rustls")]
pub(crate) use roots::Roots;
pub(crate) use settings::{CONNECTION_BUFFER, MAX_DURATION};
#[cfg(any(feature = "tokenizers", feature = "test-util"))]
pub(crate) use validate::base_url as check_url;
#[cfg(feature = "tokenizers")]
pub(crate) use validate::header as check_header;
pub(crate) use validate::is_official;
pub use wire::Wire;

use crate::clock::Clock;
use crate::error::Result;
use crate::observer::Observers;
use crate::rules::proxy::ProxyVariables;
use crate::rules::retry::RetryPolicy;
use crate::threads::ThreadOptions;
use crate::types::Query;

/// The default base URL, the same as the Python client's.
///
/// ```
/// # #[cfg(any(feature = "rustls", feature = "native-tls"))] {
/// let environment = |name: &str| (name == "TINKER_API_KEY").then(|| "tml-example".to_owned());
/// let config = tinkex::Config::builder().build_with(environment)?;
/// assert_eq!(config.base_url(), tinkex::DEFAULT_BASE_URL);
/// # }
/// # Ok::<(), tinkex::Error>(())
/// ```
pub const DEFAULT_BASE_URL: &str = "https://tinker.thinkingmachines.dev/services/tinker-prod";

/// The configuration of a client.
///
/// # Environment
///
/// [`build`](ConfigBuilder::build) reads these variables for settings that the program leaves out:
///
/// | variable | setting |
/// |---|---|
/// | `TINKER_API_KEY` | [`api_key`](ConfigBuilder::api_key) |
/// | `TINKER_CREDENTIAL_CMD` | a shell command that prints the key or a token, used if there is no key otherwise; its end is awaited for 60 s |
/// | `HOME` (Windows: `USERPROFILE`) | where the key of `tinkex auth login` is stored, used if there is neither: `.tinker/credentials.json` |
/// | `TINKER_BASE_URL` | [`base_url`](ConfigBuilder::base_url) |
/// | `TINKER_TAGS` | [`tags`](ConfigBuilder::tags), separated by commas |
/// | `TINKER_WIRE` | [`wire`](ConfigBuilder::wire): `auto`, `json` or `protobuf` |
/// | `TINKER_PROJECT_ID` | [`project_id`](ConfigBuilder::project_id) |
/// | `TINKER_TELEMETRY` | [`telemetry`](ConfigBuilder::telemetry): `1`, `true`, `yes` or `on`, case-insensitive; anything else is off |
/// | `CLOUDFLARE_ACCESS_CLIENT_ID`, `CLOUDFLARE_ACCESS_CLIENT_SECRET` | [`cloudflare_access`](ConfigBuilder::cloudflare_access) |
/// | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case | [`proxy`](ConfigBuilder::proxy): see [`Proxy::Environment`] |
/// | `SSL_CERT_FILE`, `SSL_CERT_DIR` | [`add_root_certificate`](ConfigBuilder::add_root_certificate): a PEM file, and directories of them, separated as in `PATH`; unless there is a [`root_certificate`](ConfigBuilder::root_certificate) |
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
    credential: (Credential, CredentialSource),
    proxies: ProxyVariables,
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    root_variables: roots::RootVariables,
    builder: ConfigBuilder,
}

/// A string that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
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

impl Config {
    /// Creates a builder with the defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// println!("{config:?}");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Builds the configuration from the environment: see [the table](Config#environment).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no key, or a variable has an invalid value.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let service = tinkex::ServiceClient::connect(tinkex::Config::from_env()?)?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn from_env() -> Result<Config> {
        Config::builder().build()
    }

    /// Creates a builder for a device with little memory: two poll connections, two sampling threads, two samples submitted at
    /// once, two idle connections per purpose, 8 KiB buffers, queues of 64 calls and 8 MiB, responses of up to 16 MiB.
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
            .connection_buffer(8 * 1024)
    }

    /// The base URL of the service, without a trailing slash.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// assert_eq!(config.base_url(), "http://127.0.0.1:8000");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// The tags of the session.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").tags(["sweep", "7"]).build()?;
    /// assert_eq!(config.tags(), ["sweep", "7"]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn tags(&self) -> &[String] {
        self.0.builder.tags.as_deref().unwrap_or_default()
    }

    /// Where the credential comes from.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// println!("the key comes from {:?}", config.credential_source());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn credential_source(&self) -> CredentialSource {
        self.0.credential.1
    }

    /// The project of the session.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").project_id("project-1").build()?;
    /// assert_eq!(config.project_id(), Some("project-1"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn project_id(&self) -> Option<&str> {
        self.0.builder.project_id.as_deref()
    }

    /// The name of the session for people.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").display_name("sweep 7").build()?;
    /// assert_eq!(config.display_name(), Some("sweep 7"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn display_name(&self) -> Option<&str> {
        self.0.builder.display_name.as_deref()
    }

    /// The metadata of the session.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").user_metadata("seed", "7").build()?;
    /// assert_eq!(config.user_metadata()["seed"], "7");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn user_metadata(&self) -> &BTreeMap<String, String> {
        &self.0.builder.user_metadata
    }

    /// The clock.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").build()?;
    /// println!("{:?}", config.clock().now());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.builder.clock
    }

    /// Whether the service is the official one.
    pub(crate) fn is_official(&self) -> bool {
        is_official(&self.0.base_url)
    }

    /// How failed requests are retried.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy { max_retries: self.max_retries(), base: self.retry_base(), cap: self.retry_cap() }
    }

    /// The settings of the client's threads.
    pub(crate) fn thread_options(&self) -> ThreadOptions {
        ThreadOptions {
            clock: self.clock().clone(),
            stack_size: self.thread_stack_size(),
            idle_retention: self.idle_retention(),
        }
    }

    pub(crate) fn credential(&self) -> &Credential {
        &self.0.credential.0
    }

    pub(crate) fn cloudflare(&self) -> Option<(&Secret, &Secret)> {
        self.0.builder.cloudflare.as_ref().map(|(id, secret)| (id, secret))
    }

    /// Whether telemetry is sent to the service.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").telemetry(false).build()?;
    /// assert!(!config.telemetry());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn telemetry(&self) -> bool {
        self.0.builder.telemetry.unwrap_or(true)
    }

    /// The wire format of forward and backward passes.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").wire(tinkex::Wire::Json).build()?;
    /// assert_eq!(config.wire(), tinkex::Wire::Json);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.0.builder.wire.unwrap_or_default()
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.0.builder.observers
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
