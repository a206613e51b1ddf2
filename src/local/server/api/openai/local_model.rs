//! A model of this server that answers.

use std::borrow::Cow;
use std::sync::Arc;

use super::refusal::refused;
use crate::local::model::{Cancellation, KvNamespace, Model, Samples, SamplingContext};
use crate::local::openai::{AnsweringModel, ApiError, Exchange, Generation, OnToken, TextFormat};
use crate::local::server::api::decode;
use crate::local::server::compute::{Sampled, count_samples, sampling_adapter};
use crate::local::server::state::{AdapterCache, SamplingSessionRecord, ServerState};
use crate::types::ModelInput;
use crate::types::wire::SampleRequest;

/// A base model, or a checkpoint of one.
pub(super) struct LocalModel {
    pub(super) state: Arc<ServerState>,
    pub(super) model: Arc<dyn Model>,
    pub(super) format: Arc<TextFormat>,
    /// Of no session.
    pub(super) record: SamplingSessionRecord,
    pub(super) adapter: Arc<AdapterCache>,
    pub(super) namespace: KvNamespace,
}

impl AnsweringModel for LocalModel {
    fn format(&self) -> &Arc<TextFormat> {
        &self.format
    }

    fn sample(&self, generation: Generation, exchange: &dyn Exchange, on_token: OnToken) -> Result<Samples, ApiError> {
        let Generation { prompt, count, params, stop_texts, top_logprobs } = generation;
        // The limits are those of Tinker's API.
        let request = SampleRequest {
            num_samples: count,
            prompt: Cow::Owned(ModelInput::from_tokens(prompt)),
            sampling_params: Cow::Owned(params),
            topk_sample_logprobs: top_logprobs,
            ..SampleRequest::default()
        };
        let mut params = decode::sample_params(&*self.model, &request).map_err(|refusal| refused(&refusal))?;
        params.options.stop_strings.extend(stop_texts);

        let adapter = sampling_adapter(&self.state, &self.adapter, "", &self.record).map_err(|error| {
            let (is_user, message) = error.parts();
            ApiError::new(if is_user { 400 } else { 500 }, message)
        })?;
        let cancellation = Cancellation::new();
        let unwanted = cancellation.clone();
        exchange.when_unwanted(Box::new(move || unwanted.cancel()));
        let context = match adapter {
            None => SamplingContext::base(),
            Some(adapter) => SamplingContext::new(adapter).namespace(&self.namespace),
        };
        let context = context.cancellation(&cancellation).on_token(move |token| on_token(token));
        let samples = self.model.sample(&context, &params.prompt, params.num_samples, &params.options);
        let SamplingSessionRecord { owner, base_model, .. } = &self.record;
        let sampled = Sampled { owner, session_id: None, base_model };
        count_samples(&self.state, &sampled, params.prompt.len(), &samples, samples.cached_tokens);
        Ok(samples)
    }
}
