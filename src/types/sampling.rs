//! Sampling.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ModelInput;
use crate::{Error, Result};

/// How tokens are sampled.
///
/// ```
/// use tinkex::types::SamplingParams;
///
/// let params = SamplingParams::default().max_tokens(64).temperature(0.7).stop(["\n\n"]);
/// params.validate()?;
/// assert_eq!(
///     serde_json::to_string(&params).unwrap(),
///     r#"{"max_tokens":64,"stop":["\n\n"],"temperature":0.7,"top_k":-1,"top_p":1.0}"#
/// );
/// assert!(params.top_p(1.5).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SamplingParams {
    /// The most tokens to sample. Absent, and the server's choice, when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The seed of the random choice. Absent, and the server's choice, when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Where to stop. Absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// The temperature; 0 takes the most likely token. Defaults to 1.
    pub temperature: f64,
    /// Samples among this many most likely tokens; −1 for all. Defaults to −1.
    pub top_k: i32,
    /// Samples among the most likely tokens that together have this probability. Defaults to 1.
    pub top_p: f64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams { max_tokens: None, seed: None, stop: None, temperature: 1.0, top_k: -1, top_p: 1.0 }
    }
}

impl SamplingParams {
    /// The defaults: no limit, seed or stops, temperature 1, all tokens.
    #[must_use]
    pub fn new() -> Self {
        SamplingParams::default()
    }

    /// The most tokens to sample. Defaults to the server's choice.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// The temperature; 0 takes the most likely token. Defaults to 1.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Samples among this many most likely tokens; −1 for all. Defaults to −1.
    #[must_use]
    pub fn top_k(mut self, top_k: i32) -> Self {
        self.top_k = top_k;
        self
    }

    /// Samples among the most likely tokens that together have this probability. Defaults to 1.
    #[must_use]
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// The seed of the random choice. Defaults to the server's choice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where to stop: a text, texts, or token ids. Defaults to nowhere but at the model's own end.
    #[must_use]
    pub fn stop(mut self, stop: impl Into<Stop>) -> Self {
        self.stop = Some(stop.into());
        self
    }

    /// Checks what can be checked before anything is sent.
    ///
    /// # Errors
    ///
    /// A temperature that is negative or not finite, a `top_p` outside 0 to 1, a `top_k` below −1 or 0, zero
    /// `max_tokens`.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid_input(message));
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse(format!("the temperature must be finite and not negative, it is {}", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return refuse(format!("top_p must be between 0 and 1, it is {}", self.top_p));
        }
        if self.top_k < -1 || self.top_k == 0 {
            return refuse(format!("top_k must be positive, or -1 for all tokens, it is {}", self.top_k));
        }
        if self.max_tokens == Some(0) {
            return refuse("max_tokens must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// Where sampling stops.
///
/// ```
/// use tinkex::types::Stop;
///
/// assert_eq!(Stop::from("\n"), Stop::Text("\n".to_owned()));
/// assert_eq!(Stop::from(["END", "###"]), Stop::Texts(vec!["END".to_owned(), "###".to_owned()]));
/// assert_eq!(Stop::from([151_645_u32]), Stop::Tokens(vec![151_645]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Stop {
    /// At this text.
    Text(String),
    /// At any of these texts.
    Texts(Vec<String>),
    /// At any of these tokens.
    Tokens(Vec<u32>),
}

impl From<&str> for Stop {
    fn from(text: &str) -> Self {
        Stop::Text(text.to_owned())
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Stop::Text(text)
    }
}

impl From<Vec<String>> for Stop {
    fn from(texts: Vec<String>) -> Self {
        Stop::Texts(texts)
    }
}

impl From<&[&str]> for Stop {
    fn from(texts: &[&str]) -> Self {
        Stop::Texts(texts.iter().map(|&text| text.to_owned()).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Stop {
    fn from(texts: [&str; N]) -> Self {
        texts.as_slice().into()
    }
}

impl From<Vec<u32>> for Stop {
    fn from(tokens: Vec<u32>) -> Self {
        Stop::Tokens(tokens)
    }
}

impl<const N: usize> From<[u32; N]> for Stop {
    fn from(tokens: [u32; N]) -> Self {
        Stop::Tokens(tokens.into())
    }
}

/// Samples from a prompt: `POST asample`, answered by a promise of [`SampleResponse`].
///
/// What to sample from is a sampling session, or (0.4.1 has the fields, its high-level client never uses them) a base
/// model or a path of weights.
///
/// ```
/// use std::borrow::Cow;
/// use tinkex::types::{ModelInput, SampleRequest, SamplingParams};
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
    /// How many sequences to sample. Defaults to 1.
    #[serde(default = "one")]
    pub num_samples: u32,
    /// What the model reads first.
    pub prompt: Cow<'a, ModelInput>,
    /// How tokens are sampled.
    pub sampling_params: Cow<'a, SamplingParams>,
    /// The base model to sample from. Absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<Cow<'a, str>>,
    /// The tinker path of the weights to sample from. Absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<Cow<'a, str>>,
    /// The sampling session to sample in. Absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_id: Option<Cow<'a, str>>,
    /// The number of the request in the sampling session, from 0. Absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
    /// Whether the log-probabilities of the prompt are wanted too; null, and the server's choice, when none.
    pub prompt_logprobs: Option<bool>,
    /// For how many most likely tokens at each place of the prompt the log-probabilities are wanted. Defaults to 0.
    #[serde(default)]
    pub topk_prompt_logprobs: u32,
}

fn one() -> u32 {
    1
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
        }
    }
}

/// The most likely tokens at one place, each with its log-probability in nats. [`SampleResponse`] has an example.
pub type TopLogprobs = Vec<(u32, f32)>;

/// What was sampled. Log-probabilities are natural logarithms (nats).
///
/// ```
/// use tinkex::types::{SampleResponse, StopReason};
///
/// let answer: SampleResponse = serde_json::from_str(
///     r#"{
///         "sequences": [{"stop_reason": "length", "tokens": [5, 6], "logprobs": [-0.5, -1.25]}],
///         "prompt_logprobs": [null, -2.5],
///         "topk_prompt_logprobs": [null, [[7, -0.25], [8, -2.5]]]
///     }"#,
/// )?;
/// let sequence = &answer.sequences[0];
/// assert_eq!(sequence.stop_reason, StopReason::Length);
/// assert_eq!(sequence.tokens.len(), sequence.logprobs.as_ref().map_or(0, Vec::len));
/// assert_eq!(answer.prompt_logprobs, Some(vec![None, Some(-2.5)]));
/// assert_eq!(answer.topk_prompt_logprobs, Some(vec![None, Some(vec![(7, -0.25), (8, -2.5)])]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SampleResponse {
    /// The sequences, as many as were asked for.
    pub sequences: Vec<SampledSequence>,
    /// The log-probability of each token of the prompt, as many as it has tokens; none for the first one, which nothing
    /// precedes. Present when it was asked for.
    #[serde(default)]
    pub prompt_logprobs: Option<Vec<Option<f32>>>,
    /// The most likely tokens at each place of the prompt, with their log-probabilities; none where the server has
    /// none.
    #[serde(default)]
    pub topk_prompt_logprobs: Option<Vec<Option<TopLogprobs>>>,
}

/// One sampled sequence. [`SampleResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SampledSequence {
    /// Why it ends.
    pub stop_reason: StopReason,
    /// The token ids.
    pub tokens: Vec<u32>,
    /// The log-probability of each token, as many as `tokens`; NaN where the server sent null.
    #[serde(default, deserialize_with = "super::nan::optional_logprobs")]
    pub logprobs: Option<Vec<f32>>,
}

open_enum! {
    /// Why a sampled sequence ends.
    ///
    /// ```
    /// use tinkex::types::StopReason;
    ///
    /// assert_eq!(StopReason::from("stop"), StopReason::Stop);
    /// assert_eq!(StopReason::Length.as_str(), "length");
    /// ```
    pub enum StopReason {
        /// It has as many tokens as were asked for.
        Length = "length",
        /// It came to a stop text, a stop token or the model's own end.
        Stop = "stop",
    }
}
