//! The low-level door: any path, any body, any answer.
//!
//! For what the clients of this crate lack, for instance an endpoint that the service has added since. A request goes through
//! the same layer as all others: the same headers, key, retries and time limits, and the same errors. Which paths there are and
//! what they answer is the service's matter.
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
//! let answer = api.get("/api/v1/healthz").timeout_operation(Some(Duration::from_secs(5))).max_retries(1).send()?;
//! assert_eq!((answer.status(), answer.attempts()), (200, 1));
//! let health: HealthResponse = answer.json()?;
//! assert_eq!(health.status, "ok");
//!
//! // An id is one segment of the path, whatever is in it.
//! let path = Path::new("/api/v1/training_runs").segment("no/such run");
//! assert_eq!(api.get(path).send().unwrap_err().status(), Some(404));
//! # }
//! # Ok::<(), tinkex::Error>(())
//! ```

mod options;
mod path;
mod request;
mod response;
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
use options::Options;

/// Makes requests of any kind. Obtained from [`ServiceClient::api`](crate::ServiceClient::api), or without a session from
/// [`Api::new`].
///
/// It is cheap to clone. The methods that change an option return a changed copy: the original stays as it is, and both use
/// the same connections.
///
/// # Examples
///
/// ```no_run
/// use tinkex::api::Api;
///
/// let api = Api::new(tinkex::Config::from_env()?)?;
/// let hasty = api.max_retries(0);
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
    /// A door of its own, without a session, and so without telemetry. Makes no request yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a proxy or certificate that cannot be used.
    pub fn new(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(Api::of(Arc::new(Http::new(&config)?), None, timeout_operation))
    }

    pub(crate) fn of(http: Arc<Http>, session: Option<Arc<Session>>, timeout_operation: Option<Duration>) -> Self {
        let options = Options::new(http.config(), timeout_operation);
        Api { http, options, session }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// A GET of this path below the base URL. It is sent by [`send`](Request::send).
    pub fn get(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Get, path.into())
    }

    /// A POST to this path below the base URL, without a body until it is given one. It is sent by [`send`](Request::send).
    pub fn post(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Post, path.into())
    }

    /// A DELETE of this path below the base URL. It is sent by [`send`](Request::send).
    pub fn delete(&self, path: impl Into<Path>) -> Request {
        Request::new(self, Method::Delete, path.into())
    }

    /// A copy whose requests repeat so often at most after a retryable failure. Defaults to
    /// [`Config::max_retries`](Config::max_retries).
    #[must_use]
    pub fn max_retries(&self, max_retries: u32) -> Self {
        self.with(|options| options.max_retries = Some(max_retries))
    }

    /// A copy whose requests may go so long without a byte of progress. Defaults to
    /// [`Config::timeout_idle`](Config::timeout_idle).
    #[must_use]
    pub fn timeout_idle(&self, timeout: Duration) -> Self {
        self.with(|options| options.timeout_idle = timeout)
    }

    /// A copy whose requests end after so long, retries and all; `None` is without end. Defaults to
    /// [`Config::timeout_operation`](Config::timeout_operation), or to that of the service client.
    #[must_use]
    pub fn timeout_operation(&self, timeout: Option<Duration>) -> Self {
        self.with(|options| options.timeout_operation = timeout)
    }

    /// A copy that adds a header to its requests: see [`Request::header`].
    #[must_use]
    pub fn header(&self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.with(|options| options.header(name.as_ref(), Some(value.as_ref())))
    }

    /// A copy that adds a query parameter to its requests: see [`Request::query`].
    #[must_use]
    pub fn query(&self, name: impl Into<String>, value: impl Into<QueryValue>) -> Self {
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
