//! Low-level access: send any request to any path.
//!
//! For what the clients of this crate lack, such as an endpoint that the service has added since. Requests use the same headers,
//! key, retries, timeouts and errors as all others. The service defines the paths and their responses.
//!
//! ```
//! # #[cfg(feature = "local")] {
//! use std::time::Duration;
//! use tinkex::api::{Api, Path};
//! use tinkex::types::HealthResponse;
//!
//! # let server = tinkex::local::LocalServer::start()?;
//! # let config = tinkex::Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
//! let api = Api::new(config)?;
//! let response = api.get("/api/v1/healthz").timeout_operation(Some(Duration::from_secs(5))).max_retries(1).send()?;
//! assert_eq!((response.status(), response.attempts()), (200, 1));
//! let health: HealthResponse = response.json()?;
//! assert_eq!(health.status, "ok");
//!
//! // An id is one segment of the path, whatever it contains.
//! let path = Path::new("/api/v1/training_runs").segment("no/such run");
//! assert_eq!(api.get(path).send().unwrap_err().status(), Some(404));
//! # }
//! # Ok::<(), tinkex::Error>(())
//! ```

mod path;
mod request;
mod request_options;
mod response;
#[cfg(feature = "sse")]
pub mod sse;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use path::Path;
pub use request::Request;
pub use response::Response;

use crate::config::Config;
use crate::error::Result;
use crate::http::{Http, Method};
use crate::session::Session;
use crate::types::QueryValue;
use request_options::Options;

/// Sends requests of any kind. Obtained from [`ServiceClient::api`](crate::ServiceClient::api), or without a session from
/// [`Api::new`]. Cheap to clone.
///
/// The methods `with_…` return a copy with another option, which shares the connections. The original does not change.
///
/// # Examples
///
/// ```no_run
/// use tinkex::api::Api;
///
/// let api = Api::new(tinkex::Config::from_env()?)?;
/// let hasty = api.with_max_retries(0);
/// let runs: serde_json::Value = hasty.get("/api/v1/training_runs").query("limit", 5).send()?.json()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct Api {
    http: Arc<Http>,
    options: Options,
    /// Keeps the session open.
    session: Option<Arc<Session>>,
}

impl Api {
    /// A client without a session, and therefore without telemetry. Makes no request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a proxy or certificate that cannot be used.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::Config;
    /// use tinkex::api::Api;
    ///
    /// let config = Config::builder().base_url("http://127.0.0.1:8000").api_key("tml-local").build()?;
    /// let api = Api::new(config)?;
    /// assert_eq!(api.config().base_url(), "http://127.0.0.1:8000");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn new(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(Api::of(Arc::new(Http::new(&config)?), None, timeout_operation))
    }

    pub(crate) fn of(http: Arc<Http>, session: Option<Arc<Session>>, timeout_operation: Option<Duration>) -> Self {
        let options = Options::new(http.config(), timeout_operation);
        Api { http, options, session }
    }

    /// The configuration.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// println!("{}", api.config().base_url());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// A GET of this path below the base URL. [`send`](Request::send) sends it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// use tinkex::serde_json::Value;
    ///
    /// let runs: Value = api.get("training_runs").query("limit", 1_u64).send()?.json()?;
    /// println!("{runs}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Get, path.into())
    }

    /// A POST to this path below the base URL, with an empty body by default. [`send`](Request::send) sends it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// use tinkex::serde_json::json;
    ///
    /// let request = json!({"tinker_path": "tinker://run-1/weights/epoch-1"});
    /// println!("{}", api.post("weights_info").json(&request).send()?.status());
    /// # Ok(())
    /// # }
    /// ```
    pub fn post(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Post, path.into())
    }

    /// A PUT to this path below the base URL, with an empty body by default. [`send`](Request::send) sends it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// use tinkex::serde_json::json;
    ///
    /// let request = json!({"ttl_seconds": 3600});
    /// api.put("training_runs/run-1/checkpoints/weights/epoch-1/ttl").json(&request).send()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Put, path.into())
    }

    /// A DELETE of this path below the base URL. [`send`](Request::send) sends it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// api.delete("training_runs/run-1/checkpoints/weights/epoch-1").send()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Delete, path.into())
    }

    /// A copy whose requests have this maximum number of retries. Defaults to [`Config::max_retries`](Config::max_retries).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// api.with_max_retries(0).get("healthz").send()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_max_retries(&self, max_retries: u32) -> Self {
        self.with(|options| options.max_retries = Some(max_retries))
    }

    /// A copy whose requests time out after this long without a byte of progress. Defaults to
    /// [`Config::timeout_idle`](Config::timeout_idle).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// api.with_timeout_idle(Duration::from_secs(5)).get("healthz").send()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout_idle(&self, timeout: Duration) -> Self {
        self.with(|options| options.timeout_idle = timeout)
    }

    /// A copy whose requests take at most this long, including retries; `None` for no limit. Defaults to
    /// [`Config::timeout_operation`](Config::timeout_operation), or to that of the service client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// api.with_timeout_operation(Some(Duration::from_secs(5))).get("healthz").send()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        self.with(|options| options.timeout_operation = timeout)
    }

    /// A copy that adds a header to its requests: see [`Request::header`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// api.with_header("x-experiment", "7").get("healthz").send()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_header(&self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.with(|options| options.header(name.as_ref(), Some(value.as_ref())))
    }

    /// A copy that adds a query parameter to its requests: see [`Request::query`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
    /// api.with_query("verbose", true).get("healthz").send()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_query(&self, name: impl Into<String>, value: impl Into<QueryValue>) -> Self {
        self.with(|options| options.query(name.into(), value.into()))
    }

    fn with(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut copy = self.clone();
        change(&mut copy.options);
        copy
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("base_url", &self.config().base_url())
            .field("session_id", &self.session.as_ref().map(|session| session.id()))
            .finish_non_exhaustive()
    }
}
