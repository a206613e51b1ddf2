//! Handles: sampling clients of one sampling session in several processes.

use std::hash::{BuildHasher, RandomState};

use log::{debug, warn};

use super::SamplingClient;
use super::submit::Sampler;
use crate::clock::Deadline;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Limits, Purpose, Request};
use crate::pending::PollingSession;
use crate::process::unique_bits;
use crate::rules::sampler_handle::{decode, encode, first_number, random_client};
use crate::session::{Session, normalized_url};
use crate::types::wire::{JoinSamplingSessionRequest, JoinSamplingSessionResponse, SamplerHandle, SamplerHandleHolder};

impl SamplingClient {
    /// A text from which other processes, such as rollout workers, open sampling clients of the same sampling session. It has
    /// neither the key nor the headers of the configuration in it, and the Python client reads it as well. Blocks for one request
    /// if the base model is not known yet.
    ///
    /// The sampling session lives as long as the session of this client: keep the [`ServiceClient`](crate::ServiceClient) open
    /// while workers sample.
    ///
    /// # Errors
    ///
    /// Any error of the request. A service without information about samplers leaves the base model out.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let sampler = trainer.save_weights_and_get_sampling_client()?;
    /// let handle = sampler.get_sampler_handle()?;
    /// let workers: Vec<_> = (0..4).map(|_| std::process::Command::new("rollout-worker").arg(&handle).spawn()).collect();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// In each worker:
    ///
    /// ```no_run
    /// use tinkex::types::{ModelInput, SamplingParams};
    /// use tinkex::{Config, SamplingClient};
    ///
    /// let handle = std::env::args().nth(1).expect("a handle");
    /// let sampler = SamplingClient::from_sampler_handle(Config::from_env()?, &handle)?;
    /// let reply = sampler.sample(&ModelInput::from_tokens([1, 2, 3]), 8, &SamplingParams::default().max_tokens(64))?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn get_sampler_handle(&self) -> Result<String> {
        let operation = "get_sampler_handle";
        let base_model = match self.base_model(operation) {
            Ok(name) => Some(name),
            Err(error) if matches!(error.kind(), ErrorKind::Status | ErrorKind::Decode) => {
                debug!("{error}; the handle has no base model");
                None
            }
            Err(error) => return Err(error),
        };
        let http = self.session.http();
        let has_settings = http.has_client_config();
        let handle = SamplerHandle {
            session_id: self.session.inner().id().to_owned(),
            sampling_session_id: self.sampling_session_id().to_owned(),
            holder: SamplerHandleHolder {
                base_url: self.session.config().base_url().to_owned(),
                client_config: has_settings.then(|| (*http.client_config()).clone()),
                client_dynamic_config: has_settings.then(|| (*http.dynamic_config()).clone()),
                ..SamplerHandleHolder::default()
            },
            base_model,
            record_stability_info: self.record_stability_info,
        };
        encode(&handle).map_err(|error| error.with_operation(operation))
    }

    /// Opens a client from a [handle](SamplingClient::get_sampler_handle), of this or of the Python client. The configuration
    /// has the key; its base URL must be that of the handle, so that no handle can send a key elsewhere.
    ///
    /// It opens no session, sends no heartbeat and reports no telemetry: the process that made the handle keeps the session
    /// alive. Samples of the client have numbers that no other client of the sampling session uses. Blocks for at most one
    /// request.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for text that is not a handle, or a handle for another base URL; otherwise any
    /// error of the request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(handle: String) -> tinkex::Result<()> {
    /// let config = tinkex::Config::builder().api_key("tml-worker").base_url("http://127.0.0.1:8000").build()?;
    /// let sampler = tinkex::SamplingClient::from_sampler_handle(config, &handle)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_sampler_handle(config: Config, handle: &str) -> Result<Self> {
        let operation = "from_sampler_handle";
        let opened = decode(handle).and_then(|handle| open(operation, &config, handle));
        opened.map_err(|error| error.with_operation(operation))
    }
}

fn open(operation: &'static str, config: &Config, handle: SamplerHandle) -> Result<SamplingClient> {
    let SamplerHandle { session_id, sampling_session_id, holder, base_model, record_stability_info } = handle;
    if normalized_url(&holder.base_url) != normalized_url(config.base_url()) {
        let message =
            format!("the handle is for {:?}, and the configuration for {:?}", holder.base_url, config.base_url());
        return Err(Error::invalid_input(message).with_hint("set TINKER_BASE_URL, or call base_url on the builder"));
    }
    if !holder.default_headers_overrides.is_empty() {
        let names: Vec<_> = holder.default_headers_overrides.keys().map(String::as_str).collect();
        warn!("the headers {} of the sampler handle are not used; set them in the configuration", names.join(", "));
    }
    let session = Session::join(config, session_id, holder.client_config, holder.client_dynamic_config)?;
    let session = PollingSession::of(session)?;
    let number = client_number(operation, &session, &sampling_session_id)?;
    let first_seq_id = first_number(number).ok_or_else(|| {
        Error::new(ErrorKind::Decode, format!("the service gave this client the number {number}, which is too large"))
    })?;
    let client = SamplingClient::of(&session, Sampler::new(&session, sampling_session_id, first_seq_id));
    if let Some(base_model) = base_model.filter(|name| !name.trim().is_empty()) {
        client.sampler.know_base_model(base_model);
    }
    Ok(SamplingClient { record_stability_info, ..client })
}

/// The number of this client among those of the sampling session: from the service, if it gives them, or else at random.
fn client_number(operation: &'static str, session: &PollingSession, sampling_session_id: &str) -> Result<u64> {
    let (http, config) = (session.http(), session.config());
    if http.client_config().sample_join_sampling_session {
        let deadline = Deadline::of_operation(config.clock(), config.timeout_operation());
        let limits = Limits { deadline, ..http.limits(operation, Purpose::Session) };
        let request = JoinSamplingSessionRequest { sampling_session_id: sampling_session_id.into() };
        let joined = http.send_json::<JoinSamplingSessionResponse>(
            Request::post("join_sampling_session", &[]),
            &limits,
            &request,
        );
        match joined {
            Ok(JoinSamplingSessionResponse { client_counter: 0, .. }) => {
                let message = "the service gave this client the number of the one that opened the sampling session";
                return Err(Error::new(ErrorKind::Decode, message));
            }
            Ok(joined) => return Ok(joined.client_counter),
            Err(error) if matches!(error.status(), Some(405 | 501)) => {
                debug!("{error}; the client takes a random number");
            }
            Err(error) => return Err(error),
        }
    }
    let seed = (unique_bits(), config.clock().wall());
    Ok(random_client(RandomState::new().hash_one(seed)))
}
