//! What a sampling client samples from.

use super::RetryConfig;
use crate::types::from_text;

/// What a sampling client samples from, for
/// [`ServiceClient::create_sampling_client`](crate::ServiceClient::create_sampling_client): a base model, saved weights by their
/// path, or both. A text is enough: with `://` it is a path, else the name of a base model.
///
/// # Examples
///
/// ```no_run
/// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
/// use tinkex::{RetryConfig, SamplerOptions};
///
/// let options = SamplerOptions::from("tinker://run-1/sampler_weights/0100").retry_config(RetryConfig::off());
/// let sampler = service.create_sampling_client(options)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct SamplerOptions {
    pub(super) base_model: Option<String>,
    pub(super) model_path: Option<String>,
    pub(super) retry: Option<RetryConfig>,
    pub(super) record_stability_info: bool,
}

impl SamplerOptions {
    /// Neither a base model nor a path: set one of them.
    pub fn new() -> Self {
        SamplerOptions::default()
    }

    /// The base model. With a path, a service may check that the weights are for this model. Defaults to none.
    pub fn base_model(mut self, name: impl Into<String>) -> Self {
        self.base_model = Some(name.into());
        self
    }

    /// The path of saved weights, as the service gave it. Defaults to none.
    pub fn model_path(mut self, path: impl Into<String>) -> Self {
        self.model_path = Some(path.into());
        self
    }

    /// How the client retries expired samples. Defaults to that of the configuration: see
    /// [`SamplingClient::with_retry_config`](crate::SamplingClient::with_retry_config).
    pub fn retry_config(mut self, retry: RetryConfig) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Whether the service keeps data of the client's samples, to analyze differences between sampling and training. Defaults to
    /// false. Services of 2025 do not know it.
    pub fn record_stability_info(mut self, record: bool) -> Self {
        self.record_stability_info = record;
        self
    }
}

/// Text with `://` is a path, any other the name of a base model.
fn of_text(model: &str) -> SamplerOptions {
    match model.contains("://") {
        true => SamplerOptions::new().model_path(model),
        false => SamplerOptions::new().base_model(model),
    }
}

from_text!(SamplerOptions, of_text);
