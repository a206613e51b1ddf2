//! The client of the REST endpoints.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Pages;
use super::endpoint::{self, CheckpointEndpoint};
use crate::clock::Deadline;
use crate::config::Config;
use crate::error::Result;
use crate::http::{Http, Limits, Method, Purpose, Request, to_json};
use crate::session::Session;
use crate::types::Query;
use crate::types::wire::WeightsInfoRequest;
use crate::types::{
    Checkpoint, CheckpointArchiveUrlResponse, CheckpointsListResponse, SamplerResponse, SessionResponse,
    SessionsListResponse, TrainingRun, TrainingRunsResponse, WeightsInfoResponse, check_path,
};

/// Lists, shows and changes what the service stores. Obtained from
/// [`ServiceClient::create_rest_client`](crate::ServiceClient::create_rest_client), or without a session from
/// [`RestClient::new`]. Cheap to clone.
///
/// A run is named by its id; a checkpoint by the ids of its run and of itself (`weights/NAME` or `sampler_weights/NAME`),
/// or by its path `tinker://RUN/weights/NAME`. Ids may contain any characters: they are percent-encoded as one segment of
/// the URL.
///
/// Every method blocks for one request and its retries, up to the timeout set by
/// [`with_timeout_operation`](RestClient::with_timeout_operation).
///
/// # Errors
///
/// Every method fails with [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request if an id is empty or a path
/// does not parse, with [`Status`](crate::ErrorKind::Status) if the service refuses (404 if it does not exist), and otherwise
/// with the error that ended the request.
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
    pub fn new(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(RestClient::of(Arc::new(Http::new(&config)?), None, timeout_operation))
    }

    pub(crate) fn of(http: Arc<Http>, session: Option<Arc<Session>>, timeout_operation: Option<Duration>) -> Self {
        RestClient { http, session, timeout_operation }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// A copy whose calls take at most this long, including retries; `None` for no limit. Defaults to
    /// [`Config::timeout_operation`], or to that of the service client.
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        RestClient { timeout_operation: timeout, ..self.clone() }
    }

    /// A training run.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn get_training_run(&self, training_run_id: &str) -> Result<TrainingRun> {
        let operation = "get_training_run";
        self.get(operation, endpoint::run(operation, training_run_id)?, None)
    }

    /// The training run that a checkpoint was saved from.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn get_training_run_by_tinker_path(&self, tinker_path: &str) -> Result<TrainingRun> {
        let operation = "get_training_run_by_tinker_path";
        self.get(operation, endpoint::run_of(operation, tinker_path)?, None)
    }

    /// Up to `limit` of the user's training runs, without the first `offset`. The Python client's default limit is 20.
    /// [`training_runs`](RestClient::training_runs) reads all of them.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn list_training_runs(&self, limit: u64, offset: u64) -> Result<TrainingRunsResponse> {
        self.get("list_training_runs", "training_runs".to_owned(), Some(page(limit, offset)))
    }

    /// All of the user's training runs, fetched page by page while they are read.
    pub fn training_runs(&self) -> Pages<TrainingRun> {
        Pages::new(self, |rest, limit, offset| {
            let page = rest.list_training_runs(limit, offset)?;
            Ok((page.training_runs, Some(page.cursor.total_count)))
        })
    }

    /// The checkpoints of a training run.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
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
    pub fn list_user_checkpoints(&self, limit: u64, offset: u64) -> Result<CheckpointsListResponse> {
        self.get("list_user_checkpoints", "checkpoints".to_owned(), Some(page(limit, offset)))
    }

    /// All checkpoints of all the user's training runs, fetched page by page while they are read.
    pub fn user_checkpoints(&self) -> Pages<Checkpoint> {
        Pages::new(self, |rest, limit, offset| {
            let page = rest.list_user_checkpoints(limit, offset)?;
            // Without a cursor, the list is complete.
            let total = page.cursor.map_or(0, |cursor| cursor.total_count);
            Ok((page.checkpoints, Some(total)))
        })
    }

    /// The temporary URL of a checkpoint's archive. The URL is signed: it gives access to the archive without a key.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`Decode`](crate::ErrorKind::Decode) if the service does not redirect to an
    /// archive.
    pub fn get_checkpoint_archive_url(
        &self,
        training_run_id: &str,
        checkpoint_id: &str,
    ) -> Result<CheckpointArchiveUrlResponse> {
        let operation = "get_checkpoint_archive_url";
        self.archive_url(&CheckpointEndpoint::by_ids(operation, training_run_id, checkpoint_id)?)
    }

    /// Like [`get_checkpoint_archive_url`](RestClient::get_checkpoint_archive_url), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    pub fn get_checkpoint_archive_url_from_tinker_path(
        &self,
        tinker_path: &str,
    ) -> Result<CheckpointArchiveUrlResponse> {
        self.archive_url(&CheckpointEndpoint::by_path("get_checkpoint_archive_url_from_tinker_path", tinker_path)?)
    }

    /// Deletes a checkpoint permanently.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors). If a response was lost, the retry may find that the checkpoint no longer exists
    /// (404); [`may_have_taken_effect`](crate::Error::may_have_taken_effect) is then true.
    pub fn delete_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_ids("delete_checkpoint", training_run_id, checkpoint_id)?,
            "",
        )
    }

    /// Like [`delete_checkpoint`](RestClient::delete_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    pub fn delete_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_path("delete_checkpoint_from_tinker_path", tinker_path)?,
            "",
        )
    }

    /// Makes a checkpoint public: others can use it.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn publish_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(
            Method::Post,
            &CheckpointEndpoint::by_ids("publish_checkpoint", training_run_id, checkpoint_id)?,
            PUBLISH,
        )
    }

    /// Like [`publish_checkpoint`](RestClient::publish_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    pub fn publish_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(
            Method::Post,
            &CheckpointEndpoint::by_path("publish_checkpoint_from_tinker_path", tinker_path)?,
            PUBLISH,
        )
    }

    /// Makes a checkpoint private again.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn unpublish_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_ids("unpublish_checkpoint", training_run_id, checkpoint_id)?,
            PUBLISH,
        )
    }

    /// Like [`unpublish_checkpoint`](RestClient::unpublish_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    pub fn unpublish_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_path("unpublish_checkpoint_from_tinker_path", tinker_path)?,
            PUBLISH,
        )
    }

    /// The kind of weights at a path. As for loading and sampling, any path that a service gave is accepted.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn get_weights_info_by_tinker_path(&self, tinker_path: &str) -> Result<WeightsInfoResponse> {
        let operation = "get_weights_info_by_tinker_path";
        check_path(tinker_path).map_err(|error| error.with_operation(operation))?;
        let body = to_json(operation, &WeightsInfoRequest { tinker_path: tinker_path.into() })?;
        self.http.send(&Request::post("weights_info", &body), &self.limits(operation))?.json(operation)
    }

    /// The training runs and samplers of a session.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn get_session(&self, session_id: &str) -> Result<SessionResponse> {
        let operation = "get_session";
        self.get(operation, endpoint::item(operation, "sessions", session_id)?, None)
    }

    /// Up to `limit` of the user's sessions, without the first `offset`. The Python client's default limit is 20.
    /// [`sessions`](RestClient::sessions) reads all of them.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn list_sessions(&self, limit: u64, offset: u64) -> Result<SessionsListResponse> {
        self.get("list_sessions", "sessions".to_owned(), Some(page(limit, offset)))
    }

    /// The ids of all the user's sessions, fetched page by page while they are read.
    pub fn sessions(&self) -> Pages<String> {
        Pages::new(self, |rest, limit, offset| Ok((rest.list_sessions(limit, offset)?.sessions, None)))
    }

    /// The model behind a sampler.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    pub fn get_sampler(&self, sampler_id: &str) -> Result<SamplerResponse> {
        let operation = "get_sampler";
        self.get(operation, endpoint::item(operation, "samplers", sampler_id)?, None)
    }

    fn archive_url(&self, checkpoint: &CheckpointEndpoint) -> Result<CheckpointArchiveUrlResponse> {
        let operation = checkpoint.operation;
        let response = self.http.send(&checkpoint.archive_request(), &self.limits(operation))?;
        endpoint::archive_url(operation, self.config(), response)
    }

    /// A request whose response has no content.
    fn change(&self, method: Method, checkpoint: &CheckpointEndpoint, below: &str) -> Result<()> {
        let request = Request { method, ..Request::get(format!("{}{below}", checkpoint.path)) };
        self.http.send(&request, &self.limits(checkpoint.operation)).map(drop)
    }

    fn get<T: DeserializeOwned>(&self, operation: &'static str, path: String, query: Option<Query>) -> Result<T> {
        let request = Request { query: query.as_ref(), ..Request::get(path) };
        self.http.send(&request, &self.limits(operation))?.json(operation)
    }

    pub(super) fn limits(&self, operation: &'static str) -> Limits {
        let deadline = Deadline::of_operation(self.config().clock(), self.timeout_operation);
        Limits { deadline, ..self.http.limits(operation, Purpose::Session) }
    }
}

/// Below a checkpoint.
const PUBLISH: &str = "/publish";

fn page(limit: u64, offset: u64) -> Query {
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
