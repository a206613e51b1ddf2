//! Saving, loading and describing weights.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Saves weights and optimizer state under a name: `POST save_weights`, returns a promise of
/// [`SaveWeightsResponse`](crate::types::SaveWeightsResponse).
///
/// ```
/// use tinkex::types::wire::SaveWeightsRequest;
///
/// let request = SaveWeightsRequest { model_id: "m-1".into(), path: Some("0001".into()), seq_id: Some(3) };
/// assert_eq!(
///     serde_json::to_string(&request)?,
///     r#"{"type":"save_weights","model_id":"m-1","path":"0001","seq_id":3}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "save_weights")]
pub struct SaveWeightsRequest<'a> {
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The name of the checkpoint, not a whole tinker path. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'a, str>>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// Loads the weights of a training checkpoint: `POST load_weights`, returns a promise of
/// [`LoadWeightsResponse`](crate::types::LoadWeightsResponse).
///
/// ```
/// use tinkex::types::wire::LoadWeightsRequest;
///
/// let request = LoadWeightsRequest {
///     model_id: "m-1".into(),
///     path: "tinker://run-1/weights/0001".into(),
///     optimizer: Some(true),
///     seq_id: Some(4),
/// };
/// let json = serde_json::to_string(&request)?;
/// assert_eq!(serde_json::from_str::<LoadWeightsRequest<'_>>(&json)?, request);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "load_weights")]
pub struct LoadWeightsRequest<'a> {
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The checkpoint's tinker path.
    pub path: Cow<'a, str>,
    /// Whether to load the optimizer state too. Not sent if none, since servers of 0.4.1 do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<bool>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// Saves weights to sample from: `POST save_weights_for_sampler`, returns a promise of
/// [`SaveWeightsForSamplerResponse`].
///
/// Either under a name (`path`), or unnamed for one sampling session (`sampling_session_seq_id`).
///
/// ```
/// use tinkex::types::wire::{SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse};
///
/// let unnamed = SaveWeightsForSamplerRequest {
///     model_id: "m-1".into(),
///     sampling_session_seq_id: Some(0),
///     seq_id: Some(5),
///     ..SaveWeightsForSamplerRequest::default()
/// };
/// assert!(!serde_json::to_string(&unnamed)?.contains("path"));
/// let response: SaveWeightsForSamplerResponse = serde_json::from_str(r#"{"sampling_session_id":"s-1:sample:0"}"#)?;
/// assert_eq!((response.path, response.sampling_session_id.as_deref()), (None, Some("s-1:sample:0")));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "save_weights_for_sampler")]
pub struct SaveWeightsForSamplerRequest<'a> {
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The name of the checkpoint, not a whole tinker path. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'a, str>>,
    /// The number of the sampling session to create, counted from 0 in each session. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_seq_id: Option<u64>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// The response to [`SaveWeightsForSamplerRequest`], with one of the two fields set. The request has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SaveWeightsForSamplerResponse {
    /// The checkpoint's tinker path, `tinker://RUN/sampler_weights/NAME`.
    pub path: Option<String>,
    /// The id of the sampling session for the unnamed weights.
    pub sampling_session_id: Option<String>,
}

/// Asks for the base model and the LoRA rank of weights: `POST weights_info`, returns
/// [`WeightsInfoResponse`](crate::types::WeightsInfoResponse).
///
/// ```
/// use tinkex::types::wire::WeightsInfoRequest;
///
/// let request = WeightsInfoRequest { tinker_path: "tinker://run-1/weights/0001".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"tinker_path":"tinker://run-1/weights/0001"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsInfoRequest<'a> {
    /// The tinker path of the weights.
    pub tinker_path: Cow<'a, str>,
}
