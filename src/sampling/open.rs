//! Opens a sampling session on a base model or on saved weights.

use std::sync::Arc;

use super::submit::Sampler;
use super::{RetryConfig, SamplerOptions, SamplingClient};
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::http::{Limits, Purpose, Request, RetryMode};
use crate::pending::PollingSession;
use crate::rules::single_line;
use crate::types::check_path;
use crate::types::wire::{CreateSamplingSessionRequest, CreateSamplingSessionResponse};

impl SamplingClient {
    pub(crate) fn new(session: &PollingSession, sampling_session_id: String) -> Self {
        SamplingClient::of(session, Sampler::new(session, sampling_session_id, 0))
    }

    pub(super) fn of(session: &PollingSession, sampler: Sampler) -> Self {
        SamplingClient {
            session: session.clone(),
            sampler: Arc::new(sampler),
            retry: Arc::new(RetryConfig::of(session.config())),
            timeout_operation: session.config().timeout_operation(),
            waiting_submits: false,
            record_stability_info: false,
        }
    }

    /// Opens a sampling session on a base model, a path, or both.
    pub(crate) fn open(
        operation: &'static str,
        session: &PollingSession,
        options: SamplerOptions,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        options.validate().map_err(|error| error.with_operation(operation))?;
        let SamplerOptions { base_model, model_path, retry, record_stability_info } = options;
        let request = CreateSamplingSessionRequest {
            session_id: session.inner().id().into(),
            sampling_session_seq_id: session.inner().sampling_sessions().next(),
            base_model: base_model.as_deref().map(Into::into),
            model_path: model_path.map(Into::into),
        };
        let http = session.http();
        let limits = Limits { deadline, ..http.limits(operation, Purpose::Session) };
        let post = Request { retry: RetryMode::Submit, ..Request::post("create_sampling_session", &[]) };
        let opened: CreateSamplingSessionResponse = http.send_json(post, &limits, &request)?;
        let client = SamplingClient::new(session, opened.sampling_session_id);
        if let Some(base_model) = base_model {
            client.sampler.know_base_model(base_model);
            client.sampler.know_tokenizer_package(opened.tokenizer_package);
        }
        let retry = retry.map_or_else(|| Arc::clone(&client.retry), Arc::new);
        Ok(SamplingClient { retry, record_stability_info, ..client })
    }
}

impl SamplerOptions {
    fn validate(&self) -> Result<()> {
        if self.base_model.is_none() && self.model_path.is_none() {
            return Err(Error::invalid_input("neither a base model nor a path is given"));
        }
        if let Some(name) = &self.base_model {
            single_line::check_name("the name of the model", name)?;
        }
        self.model_path.as_deref().map_or(Ok(()), check_path)
    }
}
