//! Sampling from a prompt.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::types::{ModelInput, SamplingParams, TensorData};

/// Samples from a prompt: `POST asample`, returns a promise of [`SampleResponse`](crate::types::SampleResponse).
///
/// It samples from a sampling session, or from a base model or a path of weights. The Python client 0.4.1 has the fields
/// for the latter two, but its high-level client never uses them.
///
/// ```
/// use std::borrow::Cow;
/// use tinkex::types::wire::SampleRequest;
/// use tinkex::types::{ModelInput, SamplingParams};
///
/// let (prompt, params) = (ModelInput::from_tokens([1, 2]), SamplingParams::default().max_tokens(8));
/// let request = SampleRequest {
///     prompt: Cow::Borrowed(&prompt),
///     sampling_params: Cow::Borrowed(&params),
///     sampling_session_id: Some("s-1:sample:0".into()),
///     seq_id: Some(0),
///     ..SampleRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(json.starts_with(r#"{"type":"sample","num_samples":1,"prompt":{"chunks":["#));
/// assert_eq!(serde_json::from_str::<SampleRequest<'_>>(&json)?, request);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "sample")]
pub struct SampleRequest<'a> {
    /// The number of sequences to sample. Defaults to 1.
    #[serde(default = "one")]
    pub num_samples: u32,
    /// The prompt.
    pub prompt: Cow<'a, ModelInput>,
    /// How tokens are sampled.
    pub sampling_params: Cow<'a, SamplingParams>,
    /// The base model to sample from. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<Cow<'a, str>>,
    /// The tinker path of the weights to sample from. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<Cow<'a, str>>,
    /// The id of the sampling session to sample in. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_id: Option<Cow<'a, str>>,
    /// The sequence number of the request in the sampling session, from 0. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
    /// Whether to return the log-probabilities of the prompt; null if none, and the server chooses.
    pub prompt_logprobs: Option<bool>,
    /// The number of most likely tokens to return for each position of the prompt. Defaults to 0.
    #[serde(default)]
    pub topk_prompt_logprobs: u32,
    /// The number of most likely tokens to return for each sampled token. Not sent if 0, which servers of 2025 do not know.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub topk_sample_logprobs: u32,
    /// The token ids whose log-probabilities to return for each position of the prompt but the first. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_prompt_logprobs: Option<Cow<'a, TensorData>>,
    /// The number of other tokens to draw for each position of the prompt but the first. Not sent if 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prompt_alt_tokens_k: u32,
    /// Restricts the log-probabilities of the prompt to this many of its last tokens. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs_last_n: Option<u32>,
    /// Whether the service keeps data of the samples for its own analysis. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_stability_info: Option<bool>,
}

fn one() -> u32 {
    1
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for SampleRequest<'_> {
    fn default() -> Self {
        SampleRequest {
            num_samples: 1,
            prompt: Cow::default(),
            sampling_params: Cow::default(),
            base_model: None,
            model_path: None,
            sampling_session_id: None,
            seq_id: None,
            prompt_logprobs: None,
            topk_prompt_logprobs: 0,
            topk_sample_logprobs: 0,
            target_prompt_logprobs: None,
            prompt_alt_tokens_k: 0,
            prompt_logprobs_last_n: None,
            record_stability_info: None,
        }
    }
}
