//! The client of the REST endpoints.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Pages;
use super::endpoint;
use crate::clock::Deadline;
use crate::config::Config;
use crate::error::Result;
use crate::http::{Http, Limits, Method, Purpose, Request, to_json};
use crate::session::Session;
use crate::types::Query;
use crate::types::wire::WeightsInfoRequest;
use crate::types::{
    AccessScope, Checkpoint, CheckpointsListResponse, GetServerCapabilitiesResponse, SamplerResponse,
    WeightsInfoResponse, check_path,
};

/// Lists, shows and changes what the service stores. Obtained from
/// [`ServiceClient::create_rest_client`](crate::ServiceClient::create_rest_client), or without a session from
/// [`RestClient::new`]. Cheap to clone.
///
/// A run is named by its id; a checkpoint by the ids of its run and of itself (`weights/NAME`, `sampler_weights/NAME` or
/// `external_weights/NAME`), or by its path `tinker://RUN/weights/NAME`. Ids may contain any characters but line breaks: they
/// are percent-encoded as one segment of the URL.
///
/// Every method blocks for one request and its retries, up to the timeout set by
/// [`with_timeout_operation`](RestClient::with_timeout_operation).
///
/// # Errors
///
/// Every method fails with [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request if an id is empty or has a line
/// break, a path does not parse, with [`Status`](crate::ErrorKind::Status) if the service refuses (404 if it does not exist),
/// and otherwise with the error that ended the request.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "local")] {
/// use tinkex::{Config, RestClient};
///
/// # let server = tinkex::local::LocalServer::start()?;
/// # let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
/// let rest = RestClient::new(config)?;
/// for run in rest.training_runs().limit(10) {
///     let run = run?;
///     println!("{} on {}", run.training_run_id, run.base_model);
/// }
/// let error = rest.delete_checkpoint_from_tinker_path("tinker://no-such-run/weights/0001").unwrap_err();
/// assert_eq!(error.status(), Some(404));
/// # }
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct RestClient {
    http: Arc<Http>,
    /// Keeps the session open.
    session: Option<Arc<Session>>,
    timeout_operation: Option<Duration>,
    access_scope: Option<AccessScope>,
}

impl RestClient {
    /// A client without a session, and therefore without telemetry. Makes no request.
    ///
    /// It has no threads, except for an [`observer`](crate::ConfigBuilder::observer). Dropping the last clone waits up to
    /// [`timeout_drop`](crate::ConfigBuilder::timeout_drop) until the observer has received all events.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a proxy or certificate that cannot be used.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::{Config, RestClient};
    ///
    /// let config = Config::builder().base_url("http://127.0.0.1:8000").api_key("tml-local").build()?;
    /// let rest = RestClient::new(config)?;
    /// assert_eq!(rest.config().base_url(), "http://127.0.0.1:8000");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn new(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(RestClient::of(Arc::new(Http::new(&config)?), None, timeout_operation))
    }

    pub(crate) fn of(http: Arc<Http>, session: Option<Arc<Session>>, timeout_operation: Option<Duration>) -> Self {
        RestClient { http, session, timeout_operation, access_scope: None }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// The configuration.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{}", rest.config().base_url());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// A copy whose calls take at most this long, including retries; `None` for no limit. Defaults to
    /// [`Config::timeout_operation`], or to that of the service client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// let hasty = rest.with_timeout_operation(Some(Duration::from_secs(10)));
    /// hasty.list_training_runs(1, 0)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        RestClient { timeout_operation: timeout, ..self.clone() }
    }

    /// A copy whose [`get_training_run`](RestClient::get_training_run), [`list_training_runs`](RestClient::list_training_runs),
    /// [`get_session`](RestClient::get_session), [`list_sessions`](RestClient::list_sessions) and their variants have this
    /// scope. By default none is sent, and the service takes the user's own; services of 2025 know no other.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::types::AccessScope;
    ///
    /// let team = rest.with_access_scope(AccessScope::Accessible);
    /// println!("{} runs", team.list_training_runs(1, 0)?.cursor.total_count);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_access_scope(&self, scope: AccessScope) -> Self {
        RestClient { access_scope: Some(scope), ..self.clone() }
    }

    /// The models that the service offers, without a session.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// for model in rest.get_server_capabilities()?.supported_models {
    ///     println!("{:?}", model.model_name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_server_capabilities(&self) -> Result<GetServerCapabilitiesResponse> {
        self.get("get_server_capabilities", "get_server_capabilities".to_owned(), None)
    }

    /// The checkpoints of a training run.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// for checkpoint in rest.list_checkpoints("run-1")?.checkpoints {
    ///     println!("{} {:?}", checkpoint.tinker_path, checkpoint.expires_at);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_checkpoints(&self, training_run_id: &str) -> Result<CheckpointsListResponse> {
        let operation = "list_checkpoints";
        let run = endpoint::run(operation, training_run_id)?;
        self.get(operation, format!("{run}/checkpoints"), None)
    }

    /// Up to `limit` checkpoints of all the user's training runs, without the first `offset`. The Python client's default
    /// limit is 100. [`user_checkpoints`](RestClient::user_checkpoints) reads all of them.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{} checkpoints", rest.list_user_checkpoints(20, 0)?.checkpoints.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_user_checkpoints(&self, limit: u64, offset: u64) -> Result<CheckpointsListResponse> {
        self.get("list_user_checkpoints", "checkpoints".to_owned(), Some(page(limit, offset)))
    }

    /// All checkpoints of all the user's training runs, fetched page by page while they are read.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let mut bytes = 0;
    /// for checkpoint in rest.user_checkpoints() {
    ///     bytes += checkpoint?.size_bytes.unwrap_or_default();
    /// }
    /// println!("{bytes} bytes");
    /// # Ok(())
    /// # }
    /// ```
    pub fn user_checkpoints(&self) -> Pages<Checkpoint> {
        Pages::new(self, |rest, limit, offset| {
            let page = rest.list_user_checkpoints(limit, offset)?;
            // Without a cursor, the list is complete.
            let total = page.cursor.map_or(0, |cursor| cursor.total_count);
            Ok((page.checkpoints, Some(total)))
        })
    }

    /// The kind of weights at a path. As for loading and sampling, any path that a service gave is accepted.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let info = rest.get_weights_info_by_tinker_path("tinker://run-1/weights/epoch-1")?;
    /// println!("{}, rank {:?}", info.base_model, info.lora_rank);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_weights_info_by_tinker_path(&self, tinker_path: &str) -> Result<WeightsInfoResponse> {
        let operation = "get_weights_info_by_tinker_path";
        check_path(tinker_path).map_err(|error| error.with_operation(operation))?;
        let request = WeightsInfoRequest { tinker_path: tinker_path.into() };
        self.http.send_json(Request::reading("weights_info", &[]), &self.limits(operation), &request)
    }

    /// The model behind a sampler.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{}", rest.get_sampler("session-1:sample:0")?.base_model);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_sampler(&self, sampler_id: &str) -> Result<SamplerResponse> {
        let operation = "get_sampler";
        self.get(operation, endpoint::item(operation, "samplers", sampler_id)?, None)
    }

    pub(super) fn scoped(&self, query: Query) -> Query {
        query.field("access_scope", self.access_scope.as_ref().map(AccessScope::as_str))
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: String,
        query: Option<Query>,
    ) -> Result<T> {
        let request = Request { query: query.as_ref(), ..Request::get(path) };
        let response = self.http.send(&request, &self.limits(operation))?;
        response.parse().map_err(|error| error.with_operation(operation))
    }

    /// A request with a JSON body whose response has no content.
    pub(super) fn put(&self, operation: &'static str, path: String, body: &impl Serialize) -> Result<()> {
        let body = to_json(operation, body)?;
        let request = Request { method: Method::Put, body: &body, ..Request::get(path) };
        self.http.send(&request, &self.limits(operation)).map(drop)
    }

    pub(super) fn limits(&self, operation: &'static str) -> Limits {
        let deadline = Deadline::of_operation(self.config().clock(), self.timeout_operation);
        Limits { deadline, ..self.http.limits(operation, Purpose::Session) }
    }
}

pub(super) fn page(limit: u64, offset: u64) -> Query {
    Query::new().field("limit", limit).field("offset", offset)
}

impl fmt::Debug for RestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestClient")
            .field("base_url", &self.config().base_url())
            .field("session_id", &self.session.as_ref().map(|session| session.id()))
            .finish_non_exhaustive()
    }
}
