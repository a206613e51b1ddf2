//! A Tinker service in this process: the same protocol over loopback, with a small model that really trains.
//!
//! It is what a program can be tried with before it has a key, what a device without a network runs, and what tests
//! talk to.
//!
//! ```
//! use tinkex::local::LocalServer;
//!
//! # fn main() -> tinkex::Result<()> {
//! let server = LocalServer::start()?;
//! println!("export TINKER_BASE_URL={} TINKER_API_KEY=tml-local", server.base_url());
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! | of | is | beyond it |
//! |---|---|---|
//! | tokens of a sequence | the model's context, 1024 ([`transformer`]) | 400 |
//! | LoRA rank | 1024 | 400 |
//! | samples of one request | 1024 | 400 |
//! | name of a checkpoint | 240 letters | 400 |
//! | training runs in memory | 64 ([`max_models`](LocalServerBuilder::max_models)) | 429 |
//! | body of a request | 64 MiB ([`max_body`](LocalServerBuilder::max_body)) | 413 |
//! | connections | 4096 ([`max_connections`](LocalServerBuilder::max_connections)) | 503 |
//! | a session without a sign of life | 10 min ([`session_time`](LocalServerBuilder::session_time)) | 404 |
//! | a result that was fetched, or not | 10 min, or an hour ([`result_time`](LocalServerBuilder::result_time)) | 410 |
//!
//! What has the wrong form is answered with 422 and the place in the body, what makes no sense with 400, a missing key with
//! 401, what belongs to another key with 403, and what is not there with 404; each with a `detail` that says what to do.
//!
//! The server knows requests, promises and checkpoints; a [`Model`] knows tokens and tensors. Either can be read, and
//! exchanged, without the other.

pub mod adam;
mod checkpoint;
mod loss;
pub mod model;
mod server;
pub mod transformer;

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::model::Model;
pub use self::server::{Activity, Fault, Faults, LoggedRequest, ParseFaultsError};
use self::server::{Server, Settings};
use self::transformer::Transformer;
use crate::{Error, ErrorKind, Result};

/// A Tinker service on a port of this machine.
///
/// Everything it knows is in memory and goes with it, unless it is given a [`data_dir`](LocalServerBuilder::data_dir).
/// It ends when it is dropped: at once, but for a training step or a sample in hand, which runs to its end on a thread
/// of its own.
///
/// It serves plain HTTP and takes any API key, unless told otherwise: it is no server for a network that is not
/// trusted.
#[derive(Debug)]
pub struct LocalServer(Server);

impl LocalServer {
    /// Starts a server on a free port of the loopback interface, with the models `tinkex/bytes-tiny`,
    /// `tinkex/bytes-small` and `tinkex/bytes-medium`, whose sizes are in [`transformer`].
    ///
    /// # Errors
    ///
    /// No socket or no thread could be had ([`ErrorKind::Io`]).
    pub fn start() -> Result<LocalServer> {
        LocalServer::builder().start()
    }

    /// A server to set up first.
    pub fn builder() -> LocalServerBuilder {
        LocalServerBuilder::default()
    }

    /// What to use as `TINKER_BASE_URL`, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.address().port()
    }

    /// The requests that have arrived, in their order; only the newest, when there were more than
    /// [`log_capacity`](LocalServerBuilder::log_capacity).
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.monitor().view(|activity| activity.requests().cloned().collect())
    }

    /// What has arrived and what is open at this moment.
    ///
    /// ```
    /// use tinkex::local::LocalServer;
    /// use tinkex::{Config, ServiceClient};
    ///
    /// # fn main() -> tinkex::Result<()> {
    /// let server = LocalServer::start()?;
    /// let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
    /// ServiceClient::connect(config)?.get_server_capabilities()?;
    ///
    /// let seen = server.activity();
    /// let asked = seen.requests_to("get_server_capabilities").next().expect("it was asked");
    /// assert_eq!((asked.method.as_str(), asked.attempt), ("GET", Some(0)));
    /// assert_eq!(asked.header("x-api-key"), Some("…"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.0.monitor().view(Clone::clone)
    }

    /// Waits until a condition on the requests and connections holds, at most for `timeout`. Returns whether it holds.
    ///
    /// The condition is asked whenever something changes, under a lock: it should be quick, and must not call this
    /// server.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let server = tinkex::local::LocalServer::start().unwrap();
    /// // Two polls are on their way; now the client can be closed under them.
    /// assert!(server.wait_until(Duration::from_secs(10), |seen| seen.held_polls() == 2));
    /// ```
    #[must_use]
    pub fn wait_until(&self, timeout: Duration, condition: impl FnMut(&Activity) -> bool) -> bool {
        self.0.monitor().wait_until(timeout, condition)
    }

    /// Adds a failure to show, after those that were given before.
    pub fn inject(&self, fault: Fault) {
        self.0.faults().add(fault);
    }

    /// Stops listening and closes every connection, as a server that went down, but keeps what it knows and goes on
    /// with the work that it has. New connections are refused until [`resume`](LocalServer::resume).
    ///
    /// # Errors
    ///
    /// The server is paused already, or its port could not be kept ([`ErrorKind::Io`]).
    pub fn pause(&self) -> Result<()> {
        self.0.pause().map_err(|error| failed("LocalServer::pause", error))
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    ///
    /// The server is not paused, or its port could not be had again ([`ErrorKind::Io`]).
    pub fn resume(&self) -> Result<()> {
        self.0.resume().map_err(|error| failed("LocalServer::resume", error))
    }

    /// Ends the server, as dropping it does.
    pub fn stop(self) {
        drop(self);
    }
}

fn failed(operation: &'static str, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the socket or thread could not be had: {error}"))
        .with_hint("choose another address, or port 0 for any free one")
        .with_operation(operation)
        .with_source(error)
}

/// Sets up a [`LocalServer`].
///
/// ```
/// use std::time::Duration;
/// use tinkex::local::{Fault, LocalServer};
///
/// # fn main() -> tinkex::Result<()> {
/// let server = LocalServer::builder()
///     .addr("127.0.0.1:0")
///     .data_dir(std::env::temp_dir().join(format!("tinkex-doc-{}", std::process::id())))
///     .hold_time(Duration::from_secs(5))
///     .api_key_check(|key| key == "tml-mine")
///     .fault(Fault::on("asample").times(1).status(429).header("retry-after", "1"))
///     .start()?;
/// assert_ne!(server.port(), 0);
/// # drop(server);
/// # std::fs::remove_dir_all(std::env::temp_dir().join(format!("tinkex-doc-{}", std::process::id()))).unwrap();
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct LocalServerBuilder {
    address: String,
    settings: Settings,
}

impl Default for LocalServerBuilder {
    fn default() -> Self {
        LocalServerBuilder { address: "127.0.0.1:0".to_owned(), settings: Settings::default() }
    }
}

impl LocalServerBuilder {
    /// Where to listen. Port 0 takes a free one. Defaults to `127.0.0.1:0`.
    pub fn addr(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Adds a model to offer. Defaults to the three sizes of [`Transformer`].
    pub fn model(mut self, model: Arc<dyn Model>) -> Self {
        self.settings.models.push(model);
        self
    }

    /// How long a poll for a result is held before it is answered with "not yet". Defaults to 30 s, as the service
    /// does.
    pub fn hold_time(mut self, hold_time: Duration) -> Self {
        self.settings.hold_time = hold_time;
        self
    }

    /// How long a result can be fetched again after it was handed out. Defaults to 10 min. One that nobody fetches waits
    /// for an hour, or for this time if that is longer. After that, a poll for it is answered with 410.
    pub fn result_time(mut self, result_time: Duration) -> Self {
        self.settings.result_time = result_time;
        self
    }

    /// Keeps sessions, training runs, samplers and checkpoints in this directory, which is made where it is missing,
    /// and goes on from what is there. Defaults to none: everything is in memory and ends with the server.
    ///
    /// Whatever the server has answered is on the disk by then, whole, and survives a crash. What is only in memory
    /// does not: models in training go on from their last checkpoint, and promises that were open have expired. Only
    /// one server may use a directory at a time.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.data_dir = Some(path.into());
        self
    }

    /// How many training runs may be in memory; one more is answered with 429. Defaults to 64.
    pub fn max_models(mut self, models: usize) -> Self {
        self.settings.max_models = models;
        self
    }

    /// How long a session lives without a heartbeat or another request; then its models are unloaded. Clients send a
    /// heartbeat every 10 s. Defaults to 10 min.
    pub fn session_time(mut self, session_time: Duration) -> Self {
        self.settings.session_time = session_time;
        self
    }

    /// How long a link to the archive of a checkpoint holds. Defaults to 15 min.
    pub fn link_time(mut self, link_time: Duration) -> Self {
        self.settings.link_time = link_time;
        self
    }

    /// Which API keys may use the server; an empty one never may. Defaults to all.
    pub fn api_key_check(mut self, check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings.key_check = Arc::new(check);
        self
    }

    /// Adds a failure to show.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.settings.faults.push(fault);
        self
    }

    /// Adds failures to show, such as those that [`Faults::parse`] reads.
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.settings.faults.extend(faults);
        self
    }

    /// Where the random numbers start that decide which requests a [rate](Fault::rate) hits. Defaults to 0.
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.settings.fault_seed = seed;
        self
    }

    /// How many requests the log keeps; 0 turns it off. Defaults to 10 000.
    pub fn log_capacity(mut self, requests: usize) -> Self {
        self.settings.log_capacity = requests;
        self
    }

    /// How many connections may be open at once; more are answered with 503. Defaults to 4096.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections;
        self
    }

    /// The longest body of a request, in bytes; a longer one is answered with 413. Defaults to 64 MiB.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.settings.limits.max_body = bytes;
        self
    }

    /// The time that a request's headers may take. Defaults to 10 s.
    pub fn timeout_header(mut self, timeout: Duration) -> Self {
        self.settings.limits.timeout_header = timeout;
        self
    }

    /// The time after which a connection is closed on which nothing moves. Held polls are not affected. Defaults to 120
    /// s.
    pub fn timeout_idle(mut self, timeout: Duration) -> Self {
        self.settings.limits.timeout_idle = timeout;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// The address makes no sense or is taken, no socket or thread could be had, or the data directory cannot be used
    /// ([`ErrorKind::Io`]); two models have one name ([`ErrorKind::Config`]).
    pub fn start(mut self) -> Result<LocalServer> {
        let operation = "LocalServer::start";
        let models = &mut self.settings.models;
        if models.is_empty() {
            let all = [Transformer::bytes_tiny(), Transformer::bytes_small(), Transformer::bytes_medium()];
            models.extend(all.map(|model| Arc::new(model) as Arc<dyn Model>));
        }
        let twice = models
            .iter()
            .enumerate()
            .find(|(index, model)| models[..*index].iter().any(|other| other.name() == model.name()));
        if let Some((_, model)) = twice {
            return Err(Error::config(format!("two models have the name {:?}", model.name())).with_operation(operation));
        }
        let mut addresses = self.address.to_socket_addrs().map_err(|error| failed(operation, error))?;
        let address = addresses.next().ok_or_else(|| failed(operation, io::ErrorKind::AddrNotAvailable.into()))?;
        Server::start(address, self.settings).map(LocalServer).map_err(|error| failed(operation, error))
    }
}

impl fmt::Debug for LocalServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalServerBuilder")
            .field("address", &self.address)
            .field("models", &self.settings.models)
            .field("faults", &self.settings.faults)
            .finish_non_exhaustive()
    }
}
