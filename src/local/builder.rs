//! The builder of a local server.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use super::model::Model;
use super::server::{Server, Settings};
use super::transformer::Transformer;
use super::{Fault, Flag, LocalServer, WireFormats, io_error};
use crate::error::{Error, Result};
use crate::types::wire::{ClientConfig, ClientDynamicConfig};

/// Configures a [`LocalServer`].
///
/// ```
/// use std::time::Duration;
/// use tinkex::local::{Fault, LocalServer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let server = LocalServer::builder()
///     .addr("127.0.0.1:0")
///     .data_dir(directory.path())
///     .hold_time(Duration::from_secs(5))
///     .api_key_check(|key| key == "tml-mine")
///     .fault(Fault::on("asample").times(1).status(429).header("retry-after", "1"))
///     .start()?;
/// assert_ne!(server.port(), 0);
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
    /// The address to listen on. Port 0 takes any free port. Defaults to `127.0.0.1:0`.
    pub fn addr(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Adds a model: one of [`Transformer`], a real one that a `ModelLoader` of the feature `pretrained` has loaded, or one of your own.
    /// Defaults to the three sizes of [`Transformer`] if none is added.
    pub fn model(mut self, model: Arc<dyn Model>) -> Self {
        self.settings.models.push(model);
        self
    }

    /// How long a poll is held open while its result is not ready, before the server responds with 408. Defaults to 30 s,
    /// like the service.
    pub fn hold_time(mut self, hold_time: Duration) -> Self {
        self.settings.hold_time = hold_time;
        self
    }

    /// How long a result can be retrieved again after its first retrieval. Defaults to 10 min. A result that is never
    /// retrieved is kept for an hour, or for this time if that is longer. After that, a poll for it gets 410.
    pub fn result_time(mut self, result_time: Duration) -> Self {
        self.settings.result_time = result_time;
        self
    }

    /// The size of a result, in bytes, above which a client that allows it first gets the size alone (`complete_metadata`). The
    /// client asks for the result when it has room for it. Defaults to 1 MiB.
    pub fn metadata_above(mut self, bytes: usize) -> Self {
        self.settings.metadata_above = bytes;
        self
    }

    /// Keeps sessions, training runs, sampling sessions and checkpoints in this directory, and recovers them from it. Creates
    /// the directory if it does not exist. Defaults to none: everything is in memory and lost when the server stops.
    ///
    /// A record is on disk before the server responds, and survives a crash. So do the numbers that were used: no model, save or
    /// step runs twice. The rest does not survive: training must continue from the last checkpoint, and promises expire; a sample
    /// that is asked for again is computed again. A client that polls for all its samples at once (`retrieve_futures`) is not told
    /// which of them were lost. Only one server can use a directory at a time.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.data_dir = Some(path.into());
        self
    }

    /// Maximum number of training runs in memory. Before one more gets there, the idle one that was used least recently makes room:
    /// it is written to the [`data_dir`](LocalServerBuilder::data_dir), if there is one, or at least gives up its thread, and comes
    /// back with its next request, with its optimizer state and the gradient since its last step. Defaults to 64.
    pub fn max_models(mut self, models: usize) -> Self {
        self.settings.max_models = models;
        self
    }

    /// How long a session lives without a heartbeat or other request; then its models are unloaded, its samples cancelled and
    /// its unnamed saves removed. A sample that nobody polls for lives as long. Clients send a heartbeat every 10 s. Defaults to 10 min.
    pub fn session_time(mut self, session_time: Duration) -> Self {
        self.settings.session_time = session_time;
        self
    }

    /// How long a signed link is valid: to the archive of a checkpoint, or to a file. Defaults to 15 min.
    pub fn link_time(mut self, link_time: Duration) -> Self {
        self.settings.link_time = link_time;
        self
    }

    /// The shortest time to live that a save or a client may give a checkpoint, in whole seconds; a shorter one gets 400, as
    /// does one of more than ten years. Defaults to 1 h, like the service. With less, a test sees a checkpoint expire.
    pub fn min_ttl(mut self, ttl: Duration) -> Self {
        self.settings.min_ttl = ttl;
        self
    }

    /// How long a token (JWT) is valid, which clients exchange their API key for if the flag `pjwt_auth_enabled` is set. Defaults
    /// to 1 h. The Python client exchanges the key again for each request once a token has no more than a minute left.
    pub fn token_time(mut self, token_time: Duration) -> Self {
        self.settings.token_time = token_time;
        self
    }

    /// Decides which API keys may use the server. Defaults to all. An empty key is always refused, and so is one that begins with
    /// `eyJ`, as tokens do.
    pub fn api_key_check(mut self, check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings.key_check = Some(Arc::new(check));
        self
    }

    /// Lets web pages of this origin use OpenAI's API from a browser, such as `http://localhost:3000`, `null` for pages in files, or `*`
    /// for all; can be repeated. Defaults to none: requests that a browser sends for a page get 403.
    ///
    /// ```
    /// tinkex::local::LocalServer::builder().allow_origin("http://localhost:3000");
    /// ```
    #[cfg(feature = "pretrained")]
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.settings.allowed_origins.add(origin.into());
        self
    }

    /// The wire formats that the server takes, as a server of one generation does. Defaults to both.
    pub fn wire(mut self, formats: WireFormats) -> Self {
        self.settings.wire = formats;
        self
    }

    /// Computes nothing, so that a program can measure what clients cost: passes, optimizer steps and samples are not checked, and their
    /// results have the right form and size, with numbers that mean nothing. They are ready after `delay`; everything else is done as
    /// usual. The log of requests is off, unless [`log_capacity`](LocalServerBuilder::log_capacity) is set after this. The flag
    /// `sample_use_retrieve_futures` must be off, and [`metadata_above`](LocalServerBuilder::metadata_above) has no effect.
    ///
    /// `GET /stub` returns what [`activity`](LocalServer::activity) counts, and `POST /stub/release` makes all results ready from then on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tinkex::local::LocalServer;
    /// use tinkex::types::{Datum, LoraConfig, LossFn, ModelInput};
    /// use tinkex::{Config, ServiceClient};
    ///
    /// # fn main() -> tinkex::Result<()> {
    /// let server = LocalServer::builder().stub(Duration::ZERO).start()?;
    /// let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
    /// let trainer = ServiceClient::connect(config)?.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default())?;
    /// let datum = Datum::new(ModelInput::from_tokens([1, 2])).input("target_tokens", [2, 3])?.input("weights", [1, 1])?;
    /// let outputs = trainer.forward_backward([datum.clone(), datum], LossFn::CrossEntropy)?.loss_fn_outputs;
    /// assert_eq!(outputs.iter().map(|output| output.logprobs().unwrap().len()).collect::<Vec<_>>(), [2, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stub(mut self, delay: Duration) -> Self {
        self.settings.stub = Some(delay);
        self.log_capacity(0)
    }

    /// Sets a flag that the server announces to its clients.
    pub fn flag(mut self, flag: Flag) -> Self {
        flag.set(&mut self.settings.flags);
        self
    }

    /// Sets all flags that clients read once, at their start. Defaults to [`ClientConfig::default`].
    pub fn client_config(mut self, config: ClientConfig) -> Self {
        self.settings.flags.client_config = config;
        self
    }

    /// Sets all flags that clients read again from time to time. Defaults to [`ClientDynamicConfig::default`].
    pub fn dynamic_config(mut self, config: ClientDynamicConfig) -> Self {
        self.settings.flags.dynamic_config = config;
        self
    }

    /// Adds a fault rule.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.settings.faults.push(fault);
        self
    }

    /// Adds fault rules, such as [`Faults`](super::Faults) parsed from text.
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.settings.faults.extend(faults);
        self
    }

    /// Seed of the random numbers that decide which requests a [rate](Fault::rate) hits. Defaults to 0.
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.settings.fault_seed = seed;
        self
    }

    /// Maximum number of requests in the log; 0 disables it. Requests with more than 8 KiB of headers and ids take the room of
    /// several. Defaults to 10 000.
    pub fn log_capacity(mut self, requests: usize) -> Self {
        self.settings.log_capacity = requests;
        self
    }

    /// Maximum number of open connections; further ones get 503. Defaults to 4096.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections;
        self
    }

    /// Maximum size of a request body in bytes; a larger one gets 413. Defaults to 64 MiB.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.settings.limits.max_body = bytes;
        self
    }

    /// Maximum time from the first byte of a request to the end of its headers. Defaults to 10 s.
    pub fn timeout_header(mut self, timeout: Duration) -> Self {
        self.settings.limits.timeout_header = timeout;
        self
    }

    /// How long a connection may be idle before it is closed. Held polls are not affected. Defaults to 120 s.
    pub fn timeout_idle(mut self, timeout: Duration) -> Self {
        self.settings.limits.timeout_idle = timeout;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// The address is invalid or in use, a socket could not be opened or a thread not started, or the data directory cannot be
    /// used ([`ErrorKind::Io`](crate::ErrorKind::Io)); two models have the same name, an allowed origin is none, or a
    /// [`stub`](LocalServerBuilder::stub) has the flag `sample_use_retrieve_futures` ([`ErrorKind::Config`](crate::ErrorKind::Config)).
    pub fn start(mut self) -> Result<LocalServer> {
        const OPERATION: &str = "LocalServer::start";
        let start_error = |error| io_error(OPERATION, "start", error);
        let address_error = |error: io::Error| {
            let error = io::Error::new(error.kind(), format!("{:?}: {error}", self.address));
            start_error(error).with_hint("use an address HOST:PORT, such as 127.0.0.1:8000")
        };
        #[cfg(feature = "pretrained")]
        self.settings.allowed_origins.check().map_err(|error| error.with_operation(OPERATION))?;
        if self.settings.stub.is_some() && self.settings.flags.client_config.sample_use_retrieve_futures {
            return Err(Error::config("a server that computes nothing has no polls for all samples of a session")
                .with_operation(OPERATION)
                .with_hint("leave the flag sample_use_retrieve_futures off"));
        }
        let models = &mut self.settings.models;
        if models.is_empty() {
            let all = [Transformer::bytes_tiny(), Transformer::bytes_small(), Transformer::bytes_medium()];
            models.extend(all.map(|model| Arc::new(model) as Arc<dyn Model>));
        }
        let duplicate = models
            .iter()
            .enumerate()
            .find(|(index, model)| models[..*index].iter().any(|other| other.name() == model.name()));
        if let Some((_, model)) = duplicate {
            return Err(Error::config(format!("two models have the name {:?}", model.name()))
                .with_operation(OPERATION)
                .with_hint("give one of them another name"));
        }
        let mut addresses = self.address.to_socket_addrs().map_err(address_error)?;
        let address = addresses.next().ok_or_else(|| start_error(io::ErrorKind::AddrNotAvailable.into()))?;
        Server::start(address, self.settings).map(LocalServer).map_err(start_error)
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
