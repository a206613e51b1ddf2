//! The results of sampling.

use serde::{Deserialize, Deserializer, Serialize};

use super::TensorData;
use super::nan::Number;

/// The result of a sample request. Log-probabilities are natural logarithms (nats).
///
/// ```
/// use tinkex::types::{SampleResponse, StopReason, TokenLogprob};
///
/// let response: SampleResponse = serde_json::from_str(
///     r#"{
///         "sequences": [{"stop_reason": "length", "tokens": [5, 6], "logprobs": [-0.5, -1.25]}],
///         "prompt_logprobs": [null, -2.5],
///         "topk_prompt_logprobs": [null, [[7, -0.25], [8, -2.5]]]
///     }"#,
/// )?;
/// let sequence = &response.sequences[0];
/// assert_eq!(sequence.stop_reason, StopReason::Length);
/// assert_eq!(sequence.tokens.len(), sequence.logprobs.as_ref().map_or(0, Vec::len));
/// assert_eq!(response.prompt_logprobs, Some(vec![None, Some(-2.5)]));
/// let top = response.topk_prompt_logprobs.unwrap_or_default();
/// assert_eq!(top, [None, Some(vec![TokenLogprob::new(7, -0.25), TokenLogprob::new(8, -2.5)])]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SampleResponse {
    /// The sampled sequences, as many as requested: any other number is an error of the call.
    pub sequences: Vec<SampledSequence>,
    /// The log-probability of each token of the prompt; `None` for the first token, which has no predecessor, and NaN for a value
    /// that is not a number. Present if requested: otherwise the call is an error.
    #[serde(default)]
    pub prompt_logprobs: Option<Vec<Option<f32>>>,
    /// The most likely tokens at each position of the prompt, most likely first; `None` where the server sent null.
    /// Present if requested and the service knows the option.
    #[serde(default)]
    pub topk_prompt_logprobs: Option<Vec<Option<Vec<TokenLogprob>>>>,
    /// The number of tokens of the prompt that the server had in its cache. 0 if it does not say.
    #[serde(default, deserialize_with = "number_or_null", skip_serializing_if = "is_zero")]
    pub prompt_cache_hit_tokens: u32,
    /// The log-probabilities of the requested tokens at each position of the prompt, in the shape of the request. Present if
    /// requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_prompt_logprobs: Option<TensorData>,
    /// Other tokens at each position of the prompt. Present if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_alt_tokens: Option<PromptAltTokens>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The most likely tokens at each position. A position without any may be null.
fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Vec<TokenLogprob>>>, D::Error> {
    let rows = Option::<Vec<Option<_>>>::deserialize(deserializer)?;
    Ok(rows.map(|rows| rows.into_iter().map(Option::unwrap_or_default).collect()))
}

/// Other tokens at each position of a prompt, and their log-probabilities in nats. Both tensors have a row for each token of
/// the prompt but the first.
///
/// ```
/// use tinkex::types::SampleResponse;
///
/// let response: SampleResponse = serde_json::from_str(
///     r#"{
///         "sequences": [],
///         "prompt_alt_tokens": {
///             "tokens": {"data": [7, 8], "dtype": "int64", "shape": [1, 2]},
///             "logprobs": {"data": [-0.25, -2.5], "dtype": "float32", "shape": [1, 2]}
///         }
///     }"#,
/// )?;
/// let alternatives = response.prompt_alt_tokens.unwrap();
/// assert_eq!(alternatives.tokens.as_i64(), Some(&[7, 8][..]));
/// assert_eq!(alternatives.logprobs.as_f32(), Some(&[-0.25, -2.5][..]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PromptAltTokens {
    /// The token ids, as int64.
    pub tokens: TensorData,
    /// The log-probability of each token, as float32.
    pub logprobs: TensorData,
}

/// A token and its log-probability in nats; `[token, logprob]` on the wire. [`SampleResponse`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u32, Number<f32>)", into = "(u32, f32)")]
#[non_exhaustive]
pub struct TokenLogprob {
    /// The token id.
    pub token: u32,
    /// The log-probability of the token in nats; NaN where the server sent null.
    pub logprob: f32,
}

impl TokenLogprob {
    /// A token with its log-probability in nats.
    #[must_use]
    pub fn new(token: u32, logprob: f32) -> Self {
        TokenLogprob { token, logprob }
    }
}

impl From<(u32, f32)> for TokenLogprob {
    fn from((token, logprob): (u32, f32)) -> Self {
        TokenLogprob { token, logprob }
    }
}

impl From<(u32, Number<f32>)> for TokenLogprob {
    fn from((token, Number(logprob)): (u32, Number<f32>)) -> Self {
        TokenLogprob { token, logprob }
    }
}

impl From<TokenLogprob> for (u32, f32) {
    fn from(TokenLogprob { token, logprob }: TokenLogprob) -> Self {
        (token, logprob)
    }
}

/// One sampled sequence. [`SampleResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SampledSequence {
    /// Why sampling stopped.
    pub stop_reason: StopReason,
    /// The token ids.
    pub tokens: Vec<u32>,
    /// The log-probability of each token in nats, one for each of `tokens`; NaN where the server sent null. None if it sent none.
    #[serde(default, deserialize_with = "super::nan::optional_logprobs")]
    pub logprobs: Option<Vec<f32>>,
    /// The most likely tokens in place of each of `tokens`, most likely first. Present if requested.
    #[serde(
        rename = "topk_sampled_logprobs",
        alias = "topk_logprobs",
        default,
        deserialize_with = "rows",
        skip_serializing_if = "Option::is_none"
    )]
    pub topk_logprobs: Option<Vec<Vec<TokenLogprob>>>,
    /// The id of the sequence on the server, for the provenance of training examples. None if the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_id: Option<String>,
}

impl SampledSequence {
    /// Returns what is wrong if some tokens lack their log-probabilities.
    pub(crate) fn check(&self) -> Result<(), String> {
        let tokens = self.tokens.len();
        let lengths = [self.logprobs.as_ref().map(Vec::len), self.topk_logprobs.as_ref().map(Vec::len)];
        match lengths.into_iter().flatten().find(|&length| length != tokens) {
            Some(length) => Err(format!("a sequence of {tokens} tokens has {length} log-probabilities")),
            None => Ok(()),
        }
    }
}

open_enum! {
    /// Why the sampling of a sequence stopped.
    ///
    /// ```
    /// use tinkex::types::StopReason;
    ///
    /// assert_eq!(StopReason::from("stop"), StopReason::Stop);
    /// assert_eq!(StopReason::Length.as_str(), "length");
    /// ```
    pub enum StopReason {
        /// It reached the maximum number of tokens.
        Length = "length",
        /// It reached a stop text, a stop token or the model's end-of-text token.
        Stop = "stop",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_server_leaves_open_may_be_null() {
        let json = json!({
            "sequences": [
                {"stop_reason": "stop", "tokens": [5], "logprobs": null, "topk_sampled_logprobs": [null], "sequence_id": null},
                {"stop_reason": "stop", "tokens": [6], "topk_logprobs": [[[7, -0.5]]], "sequence_id": "s-1"},
            ],
            "prompt_cache_hit_tokens": null,
            "target_prompt_logprobs": null,
            "prompt_alt_tokens": null,
        });
        let response: SampleResponse = serde_json::from_value(json).unwrap();
        assert_eq!((response.prompt_cache_hit_tokens, &response.target_prompt_logprobs), (0, &None));
        assert_eq!(response.sequences[0].topk_logprobs, Some(vec![vec![]]));
        assert_eq!(response.sequences[1].topk_logprobs, Some(vec![vec![TokenLogprob::new(7, -0.5)]]));
        assert_eq!(response.sequences[1].sequence_id.as_deref(), Some("s-1"));
    }

    #[test]
    fn a_logprob_that_is_null_is_nan() {
        let json = json!({
            "sequences": [{"stop_reason": "stop", "tokens": [5], "logprobs": [null], "topk_logprobs": [[[5, null], [6, -1.5]]]}],
            "topk_prompt_logprobs": [null, [[7, null]]],
        });
        let response: SampleResponse = serde_json::from_value(json).unwrap();
        let top = &response.sequences[0].topk_logprobs.as_ref().unwrap()[0];
        assert!(top[0].token == 5 && top[0].logprob.is_nan() && top[1] == TokenLogprob::new(6, -1.5));
        let top = response.topk_prompt_logprobs.unwrap()[1].as_ref().unwrap()[0];
        assert!(top.token == 7 && top.logprob.is_nan());
    }
}
