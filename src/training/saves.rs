//! Saves of weights: to train on, to sample from, and for other programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::TrainingClient;
use super::requests::Body;
use crate::error::{Error, Result};
use crate::http::to_json;
use crate::pending::{CallMode, Pending, single};
use crate::rules::single_line;
use crate::rules::ttl::ttl_seconds;
use crate::sampling::{SamplerOptions, SamplingClient};
use crate::types::wire::{
    SaveWeightsExternalRequest, SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse, SaveWeightsRequest,
};
use crate::types::{
    ExternalSaveOptions, RequestKind, SamplerKind, SamplerSaveOptions, SaveOptions, SaveWeightsExternalResponse,
    SaveWeightsResponse,
};

/// The path of both ways of saving for a sampler.
const SAVE_FOR_SAMPLER: &str = "save_weights_for_sampler";

impl TrainingClient {
    /// Saves the adapter and the optimizer's state under a name, to resume from later. Returns the checkpoint's path. Blocks.
    ///
    /// The name alone is enough; [`SaveOptions`] add a time limit, metadata, and leave to replace a checkpoint.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name, for a line break in the name, and for a
    /// time limit below 1 hour or above 10 years, before any request; for a name that is taken status 409, after at most two
    /// retries, or 400 from the local server; otherwise any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    /// use tinkex::types::SaveOptions;
    ///
    /// let saved = trainer.save_state("0100")?;
    /// trainer.save_state(SaveOptions::new("latest").overwrite(true).ttl(Duration::from_secs(7 * 24 * 3600)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn save_state(&self, options: impl Into<SaveOptions>) -> Result<SaveWeightsResponse> {
        self.queue_save_state(options.into(), self.blocking())?.wait()
    }

    /// Submits [`save_state`](TrainingClient::save_state).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let saved = trainer.submit_save_state("epoch-1")?;
    /// println!("{}", saved.wait()?.path);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_save_state(&self, options: impl Into<SaveOptions>) -> Result<Pending<SaveWeightsResponse>> {
        self.queue_save_state(options.into(), self.submitting())
    }

    /// Saves the adapter under a name, to sample from. Returns the checkpoint's path. Blocks.
    ///
    /// The name alone is enough; [`SamplerSaveOptions`] add a time limit and metadata.
    ///
    /// # Errors
    ///
    /// As [`save_state`](TrainingClient::save_state).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let path = trainer.save_weights_for_sampler("epoch-1")?.path;
    /// println!("sample from {path}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn save_weights_for_sampler(&self, options: impl Into<SamplerSaveOptions>) -> Result<SaveWeightsResponse> {
        self.queue_save_for_sampler(options.into(), self.blocking())?.wait()
    }

    /// Submits [`save_weights_for_sampler`](TrainingClient::save_weights_for_sampler).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let saved = trainer.submit_save_weights_for_sampler("epoch-1")?;
    /// println!("{}", saved.wait()?.path);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_save_weights_for_sampler(
        &self,
        options: impl Into<SamplerSaveOptions>,
    ) -> Result<Pending<SaveWeightsResponse>> {
        self.queue_save_for_sampler(options.into(), self.submitting())
    }

    /// Saves the adapter without a name and returns a client that samples from these weights. Blocks.
    ///
    /// # Errors
    ///
    /// Any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::{ModelInput, SamplingParams};
    ///
    /// let sampler = trainer.save_weights_and_get_sampling_client()?;
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// println!("{:?}", sampler.sample(&prompt, 1, &SamplingParams::default())?.sequences);
    /// # Ok(())
    /// # }
    /// ```
    pub fn save_weights_and_get_sampling_client(&self) -> Result<SamplingClient> {
        self.save_weights_and_get_sampling_client_with(SamplerKind::Snapshot)
    }

    /// Submits [`save_weights_and_get_sampling_client`](TrainingClient::save_weights_and_get_sampling_client). With some servers
    /// the thread that waits for the client sends one more short request.
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let pending = trainer.submit_save_weights_and_get_sampling_client()?;
    /// let sampler = pending.wait()?;
    /// println!("{}", sampler.sampling_session_id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_save_weights_and_get_sampling_client(&self) -> Result<Pending<SamplingClient>> {
        self.submit_save_weights_and_get_sampling_client_with(SamplerKind::Snapshot)
    }

    /// Saves the adapter without a name and returns a client that samples from these weights, or, for
    /// [`SamplerKind::Inflight`], from whatever was saved last for such clients. Blocks.
    ///
    /// # Errors
    ///
    /// Any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::SamplerKind;
    ///
    /// let rollouts = trainer.save_weights_and_get_sampling_client_with(SamplerKind::Inflight)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn save_weights_and_get_sampling_client_with(&self, kind: SamplerKind) -> Result<SamplingClient> {
        self.queue_sampling_client(kind, self.blocking())?.wait()
    }

    /// Submits [`save_weights_and_get_sampling_client_with`](TrainingClient::save_weights_and_get_sampling_client_with), as
    /// [`submit_save_weights_and_get_sampling_client`](TrainingClient::submit_save_weights_and_get_sampling_client) does.
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::SamplerKind;
    ///
    /// let pending = trainer.submit_save_weights_and_get_sampling_client_with(SamplerKind::Inflight)?;
    /// let sampler = pending.wait()?;
    /// println!("{}", sampler.sampling_session_id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_save_weights_and_get_sampling_client_with(
        &self,
        kind: SamplerKind,
    ) -> Result<Pending<SamplingClient>> {
        self.queue_sampling_client(kind, self.submitting())
    }

    /// Saves the adapter under a name, in files that other programs can read: `adapter_config.json` and
    /// `adapter_model.safetensors`. Returns their path, from which
    /// [`RestClient`](crate::RestClient) gets their URLs. Blocks.
    ///
    /// The name alone is enough; [`ExternalSaveOptions`] add a time limit and encryption. Among servers, the official one of
    /// 2026 has this.
    ///
    /// # Errors
    ///
    /// As [`save_state`](TrainingClient::save_state), and [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty
    /// recipient; status 404 if the server cannot save this way.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let exported = trainer.save_weights_external("release-1")?;
    /// println!("{} bytes at {}", exported.size_bytes.unwrap_or_default(), exported.path);
    /// # Ok(())
    /// # }
    /// ```
    pub fn save_weights_external(
        &self,
        options: impl Into<ExternalSaveOptions>,
    ) -> Result<SaveWeightsExternalResponse> {
        self.queue_save_external(options.into(), self.blocking())?.wait()
    }

    /// Submits [`save_weights_external`](TrainingClient::save_weights_external).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::ExternalSaveOptions;
    ///
    /// let saved = trainer.submit_save_weights_external(ExternalSaveOptions::new("adapter"))?;
    /// println!("{}", saved.wait()?.path);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_save_weights_external(
        &self,
        options: impl Into<ExternalSaveOptions>,
    ) -> Result<Pending<SaveWeightsExternalResponse>> {
        self.queue_save_external(options.into(), self.submitting())
    }

    fn queue_save_state(&self, options: SaveOptions, mode: CallMode) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_state";
        let ttl_seconds = checked(operation, &options.name, options.ttl)?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let request = SaveWeightsRequest {
                model_id: (&*model_id).into(),
                path: Some((&*options.name).into()),
                seq_id: Some(seq_id),
                ttl_seconds,
                overwrite: options.overwrite.then_some(true),
                user_metadata: unless_empty(&options.user_metadata),
            };
            to_json(operation, &request)
        });
        Ok(self.queue_one(operation, "save_weights", RequestKind::SaveWeights, body, mode)?.pending_one())
    }

    fn queue_save_external(
        &self,
        options: ExternalSaveOptions,
        mode: CallMode,
    ) -> Result<Pending<SaveWeightsExternalResponse>> {
        let operation = "save_weights_external";
        let ttl_seconds = checked(operation, &options.name, options.ttl)?;
        let recipients = options.age_encryption_recipients;
        if recipients.iter().any(|recipient| recipient.trim().is_empty()) {
            return Err(Error::invalid_input("an age_encryption_recipient is empty").with_operation(operation));
        }
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let request = SaveWeightsExternalRequest {
                model_id: (&*model_id).into(),
                path: (&*options.name).into(),
                seq_id: Some(seq_id),
                ttl_seconds,
                age_encryption_recipients: (!recipients.is_empty()).then_some(Cow::Borrowed(&*recipients)),
            };
            to_json(operation, &request)
        });
        let kind = RequestKind::SaveWeightsExternal;
        Ok(self.queue_one(operation, "save_weights_external", kind, body, mode)?.pending_one())
    }

    fn queue_save_for_sampler(
        &self,
        options: SamplerSaveOptions,
        mode: CallMode,
    ) -> Result<Pending<SaveWeightsResponse>> {
        let operation = SAVE_FOR_SAMPLER;
        let ttl_seconds = checked(operation, &options.name, options.ttl)?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let request = SaveWeightsForSamplerRequest {
                model_id: (&*model_id).into(),
                path: Some((&*options.name).into()),
                seq_id: Some(seq_id),
                ttl_seconds,
                user_metadata: unless_empty(&options.user_metadata),
                ..SaveWeightsForSamplerRequest::default()
            };
            to_json(operation, &request)
        });
        let kind = RequestKind::SaveWeightsForSampler;
        let call = self.queue_one::<SaveWeightsForSamplerResponse>(operation, SAVE_FOR_SAMPLER, kind, body, mode)?;
        Ok(call.pending(move |saved| {
            let mut saved = single(saved)?;
            let path = saved.result.path.take();
            path.map(|path| SaveWeightsResponse { path })
                .ok_or_else(|| saved.unfit("the service saved the weights but returned no path"))
        }))
    }

    fn queue_sampling_client(&self, sampler: SamplerKind, mode: CallMode) -> Result<Pending<SamplingClient>> {
        let operation = "save_weights_and_get_sampling_client";
        let (session, timeout) = (self.core.session.clone(), self.timeout_operation);
        let model_id = Arc::clone(&self.core.model_id);
        let sampling_sessions = session.inner().sampling_sessions().clone();
        let kind = (sampler != SamplerKind::Snapshot).then_some(sampler);
        let mut number = None;
        let body: Body = Box::new(move |seq_id| {
            let request = SaveWeightsForSamplerRequest {
                model_id: (&*model_id).into(),
                sampling_session_seq_id: Some(*number.get_or_insert_with(|| sampling_sessions.next())),
                kind: kind.clone(),
                seq_id: Some(seq_id),
                ..SaveWeightsForSamplerRequest::default()
            };
            to_json(operation, &request)
        });
        let kind = RequestKind::SaveWeightsForSampler;
        let call = self.queue_one::<SaveWeightsForSamplerResponse>(operation, SAVE_FOR_SAMPLER, kind, body, mode)?;
        Ok(call.pending(move |saved| {
            let mut saved = single(saved)?;
            let client = match (saved.result.sampling_session_id.take(), saved.result.path.take()) {
                (Some(id), _) => SamplingClient::new(&session, id),
                (None, Some(path)) => {
                    SamplingClient::open(operation, &session, SamplerOptions::new().model_path(path), mode.deadline())?
                }
                (None, None) => {
                    let why = "the service saved the weights but returned neither a sampling session nor a path";
                    return Err(saved.unfit(why));
                }
            };
            Ok(client.with_timeout_operation(timeout))
        }))
    }
}

/// Checks a name and a time limit, and returns the limit in seconds.
fn checked(operation: &'static str, name: &str, ttl: Option<Duration>) -> Result<Option<u64>> {
    single_line::check_name("the name of the checkpoint", name).map_err(|error| error.with_operation(operation))?;
    ttl.map(ttl_seconds).transpose().map_err(|error| error.with_operation(operation))
}

fn unless_empty(metadata: &BTreeMap<String, String>) -> Option<Cow<'_, BTreeMap<String, String>>> {
    (!metadata.is_empty()).then_some(Cow::Borrowed(metadata))
}
