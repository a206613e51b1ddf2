//! Training runs, checkpoints, sessions and samplers: what the service keeps, to list, to look at and to change.
//!
//! [`RestClient`] has a method for each request, [`Listing`] reads a list page by page,
//! [`DownloadOptions`] say where the archive of a checkpoint goes.

mod archive;
mod listing;
mod place;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub use archive::{Canceller, DownloadOptions, DownloadProgress, Downloaded};
pub use listing::Listing;

use crate::clock::Deadline;
use crate::config::Config;
use crate::error::Result;
use crate::http::{Answer, Call, Http, Method, Purpose, Redirects, to_json};
use crate::session::Session;
use crate::types::Query;
use crate::types::wire::WeightsInfoRequest;
use crate::types::{
    Checkpoint, CheckpointArchiveUrlResponse, CheckpointsListResponse, SamplerResponse, SessionResponse,
    SessionsListResponse, TrainingRun, TrainingRunsResponse, WeightsInfoResponse, check_tinker_scheme,
};
use place::Place;

/// Lists, shows and changes what the service keeps. Obtained from
/// [`ServiceClient::create_rest_client`](crate::ServiceClient::create_rest_client), or without a session from
/// [`RestClient::connect`]. Cheap to clone.
///
/// A run is named by its id; a checkpoint by the ids of its run and of itself (`weights/NAME` or `sampler_weights/NAME`),
/// or by its path `tinker://RUN/weights/NAME`. Ids may have any letters in them: they are percent-encoded as one segment of
/// the URL.
///
/// Every method blocks for one request and its retries, at most
/// [`timeout_operation`](RestClient::timeout_operation).
///
/// # Errors
///
/// Every method fails with [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request for an id that is empty and
/// a path that does not parse, with [`Status`](crate::ErrorKind::Status) when the service refuses (404 for what it does not
/// have), and else with whatever ended the request.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "local")] {
/// use tinkex::{Config, RestClient};
///
/// # let server = tinkex::local::LocalServer::start()?;
/// # let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
/// let rest = RestClient::connect(config)?;
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
    /// A client of its own, without a session, and so without telemetry. It has no threads but that of an
    /// [`observer`](crate::ConfigBuilder::observer), which hears everything before the last clone is gone, within
    /// [`timeout_drop`](crate::ConfigBuilder::timeout_drop). Makes no request yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a proxy or certificate that cannot be used.
    pub fn connect(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(RestClient::of(Arc::new(Http::new(&config)?), None, timeout_operation))
    }

    pub(crate) fn of(http: Arc<Http>, session: Option<Arc<Session>>, timeout_operation: Option<Duration>) -> Self {
        RestClient { http, session, timeout_operation }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// A client whose calls end after so long, retries and all; `None` is without end. Defaults to
    /// [`Config::timeout_operation`], or to that of the service client.
    #[must_use]
    pub fn timeout_operation(&self, timeout: Option<Duration>) -> Self {
        RestClient { timeout_operation: timeout, ..self.clone() }
    }

    /// A training run.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn get_training_run(&self, training_run_id: &str) -> Result<TrainingRun> {
        let operation = "get_training_run";
        self.get(operation, place::run(operation, training_run_id)?, None)
    }

    /// The training run that a checkpoint was saved from.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn get_training_run_by_tinker_path(&self, tinker_path: &str) -> Result<TrainingRun> {
        let operation = "get_training_run_by_tinker_path";
        self.get(operation, place::run_of(operation, tinker_path)?, None)
    }

    /// At most `limit` of the user's training runs, the first `offset` left out. The Python client asks for 20 by default.
    /// [`training_runs`](RestClient::training_runs) reads them all.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn list_training_runs(&self, limit: u64, offset: u64) -> Result<TrainingRunsResponse> {
        self.get("list_training_runs", "training_runs".to_owned(), Some(page(limit, offset)))
    }

    /// All of the user's training runs, fetched page by page as they are read.
    pub fn training_runs(&self) -> Listing<TrainingRun> {
        Listing::new(self, |rest, limit, offset| {
            let page = rest.list_training_runs(limit, offset)?;
            Ok((page.training_runs, Some(page.cursor.total_count)))
        })
    }

    /// The checkpoints of a training run.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn list_checkpoints(&self, training_run_id: &str) -> Result<CheckpointsListResponse> {
        let operation = "list_checkpoints";
        let run = place::run(operation, training_run_id)?;
        self.get(operation, format!("{run}/checkpoints"), None)
    }

    /// At most `limit` checkpoints of all the user's training runs, the first `offset` left out. The Python client asks for
    /// 100 by default. [`user_checkpoints`](RestClient::user_checkpoints) reads them all.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn list_user_checkpoints(&self, limit: u64, offset: u64) -> Result<CheckpointsListResponse> {
        self.get("list_user_checkpoints", "checkpoints".to_owned(), Some(page(limit, offset)))
    }

    /// All checkpoints of all the user's training runs, fetched page by page as they are read.
    pub fn user_checkpoints(&self) -> Listing<Checkpoint> {
        Listing::new(self, |rest, limit, offset| {
            let page = rest.list_user_checkpoints(limit, offset)?;
            // Without a cursor, the list is whole.
            let total = page.cursor.map_or(0, |cursor| cursor.total_count);
            Ok((page.checkpoints, Some(total)))
        })
    }

    /// Where the archive of a checkpoint can be fetched for a while. The URL is signed: whoever has it can fetch the archive
    /// without a key.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors); [`Decode`](crate::ErrorKind::Decode) when the service does not redirect to an
    /// archive.
    pub fn get_checkpoint_archive_url(
        &self,
        training_run_id: &str,
        checkpoint_id: &str,
    ) -> Result<CheckpointArchiveUrlResponse> {
        let operation = "get_checkpoint_archive_url";
        self.archive_url(&Place::by_ids(operation, training_run_id, checkpoint_id)?)
    }

    /// The same as [`get_checkpoint_archive_url`](RestClient::get_checkpoint_archive_url), for a path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get_checkpoint_archive_url_from_tinker_path(
        &self,
        tinker_path: &str,
    ) -> Result<CheckpointArchiveUrlResponse> {
        self.archive_url(&Place::by_path("get_checkpoint_archive_url_from_tinker_path", tinker_path)?)
    }

    /// Deletes a checkpoint for good.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors). When an answer was lost, the request is made again, and may then find that the
    /// checkpoint is gone (404): [`may_have_taken_effect`](crate::Error::may_have_taken_effect) tells.
    pub fn delete_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(Method::Delete, &Place::by_ids("delete_checkpoint", training_run_id, checkpoint_id)?, "")
    }

    /// The same as [`delete_checkpoint`](RestClient::delete_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn delete_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(Method::Delete, &Place::by_path("delete_checkpoint_from_tinker_path", tinker_path)?, "")
    }

    /// Lets others use a checkpoint.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn publish_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(Method::Post, &Place::by_ids("publish_checkpoint", training_run_id, checkpoint_id)?, PUBLISH)
    }

    /// The same as [`publish_checkpoint`](RestClient::publish_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn publish_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(Method::Post, &Place::by_path("publish_checkpoint_from_tinker_path", tinker_path)?, PUBLISH)
    }

    /// Keeps a checkpoint to its owner again.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn unpublish_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(Method::Delete, &Place::by_ids("unpublish_checkpoint", training_run_id, checkpoint_id)?, PUBLISH)
    }

    /// The same as [`unpublish_checkpoint`](RestClient::unpublish_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn unpublish_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(Method::Delete, &Place::by_path("unpublish_checkpoint_from_tinker_path", tinker_path)?, PUBLISH)
    }

    /// What kind of weights are behind a path. As with loading and sampling, it only has to begin with `tinker://`.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn get_weights_info_by_tinker_path(&self, tinker_path: &str) -> Result<WeightsInfoResponse> {
        let operation = "get_weights_info_by_tinker_path";
        check_tinker_scheme(tinker_path).map_err(|error| error.with_operation(operation))?;
        let body = to_json(operation, &WeightsInfoRequest { tinker_path: tinker_path.into() })?;
        let call = self.call(operation, "weights_info".to_owned());
        self.http.send(&Call { method: Method::Post, body: &body, ..call })?.json(operation)
    }

    /// The training runs and samplers of a session.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn get_session(&self, session_id: &str) -> Result<SessionResponse> {
        let operation = "get_session";
        self.get(operation, place::item(operation, "sessions", session_id)?, None)
    }

    /// At most `limit` of the user's sessions, the first `offset` left out. The Python client asks for 20 by default.
    /// [`sessions`](RestClient::sessions) reads them all.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn list_sessions(&self, limit: u64, offset: u64) -> Result<SessionsListResponse> {
        self.get("list_sessions", "sessions".to_owned(), Some(page(limit, offset)))
    }

    /// The ids of all the user's sessions, fetched page by page as they are read.
    pub fn sessions(&self) -> Listing<String> {
        Listing::new(self, |rest, limit, offset| Ok((rest.list_sessions(limit, offset)?.sessions, None)))
    }

    /// The model behind a sampler.
    ///
    /// # Errors
    ///
    /// [As every method](RestClient#errors).
    pub fn get_sampler(&self, sampler_id: &str) -> Result<SamplerResponse> {
        let operation = "get_sampler";
        self.get(operation, place::item(operation, "samplers", sampler_id)?, None)
    }

    fn archive_url(&self, checkpoint: &Place) -> Result<CheckpointArchiveUrlResponse> {
        let answer = self.http.send(&self.archive_call(checkpoint))?;
        place::archive_url(checkpoint.operation, self.config(), answer)
    }

    /// Asks where the archive of a checkpoint is.
    fn archive_call(&self, checkpoint: &Place) -> Call<'static> {
        let call = self.call(checkpoint.operation, format!("{}/archive", checkpoint.path));
        Call { headers: vec![("accept", ACCEPT_ARCHIVE.into())], redirects: Redirects::HandBack, ..call }
    }

    /// A request whose answer has nothing to say.
    fn change(&self, method: Method, checkpoint: &Place, below: &str) -> Result<()> {
        let call = self.call(checkpoint.operation, format!("{}{below}", checkpoint.path));
        self.http.send(&Call { method, ..call }).map(drop)
    }

    fn get<T: DeserializeOwned>(&self, operation: &'static str, path: String, query: Option<Query>) -> Result<T> {
        let answer: Answer = self.http.send(&Call { query: query.as_ref(), ..self.call(operation, path) })?;
        answer.json(operation)
    }

    fn call(&self, operation: &'static str, path: String) -> Call<'static> {
        let deadline = Deadline::of_operation(self.config().clock(), self.timeout_operation);
        Call { deadline, ..Call::get(operation, Purpose::Session, path, self.config().timeout_idle()) }
    }
}

/// What the Python client says it takes.
const ACCEPT_ARCHIVE: &str = "application/json, application/gzip";

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
