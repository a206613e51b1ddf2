//! Saving, loading and describing weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{OptimizerConfig, SamplerKind};

/// Saves weights and optimizer state under a name: `POST save_weights`, returns a promise of
/// [`SaveWeightsResponse`](crate::types::SaveWeightsResponse).
///
/// ```
/// use tinkex::types::wire::SaveWeightsRequest;
///
/// let request = SaveWeightsRequest {
///     model_id: "m-1".into(),
///     path: Some("0001".into()),
///     seq_id: Some(3),
///     ..SaveWeightsRequest::default()
/// };
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
    /// How long to keep the checkpoint. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Whether to replace a checkpoint of that name. Not sent if none, which means false: servers of 0.4.1 do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// Metadata to store with the checkpoint. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
}

/// Saves weights in files that other programs read: `POST save_weights_external`, returns a promise of
/// [`SaveWeightsExternalResponse`](crate::types::SaveWeightsExternalResponse).
///
/// ```
/// use tinkex::types::wire::SaveWeightsExternalRequest;
///
/// let request = SaveWeightsExternalRequest { model_id: "m-1".into(), path: "v1".into(), ..Default::default() };
/// assert_eq!(
///     serde_json::to_string(&request)?,
///     r#"{"type":"save_weights_external","model_id":"m-1","path":"v1"}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "save_weights_external")]
pub struct SaveWeightsExternalRequest<'a> {
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The name of the weights, not a whole tinker path.
    pub path: Cow<'a, str>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
    /// How long to keep the weights. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// The public keys to encrypt the files for. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_encryption_recipients: Option<Cow<'a, [String]>>,
}

/// Loads the weights of a training checkpoint: `POST load_weights`, returns a promise of
/// [`LoadWeightsResponse`](crate::types::LoadWeightsResponse).
///
/// Either into a model (`model_id`, `seq_id`), or into a new one that the request creates (`session_id`, `model_seq_id`).
///
/// ```
/// use tinkex::types::wire::LoadWeightsRequest;
///
/// let request = LoadWeightsRequest {
///     model_id: Some("m-1".into()),
///     path: "tinker://run-1/weights/0001".into(),
///     seq_id: Some(4),
///     ..LoadWeightsRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(json.contains(r#""optimizer":false"#));
/// assert_eq!(serde_json::from_str::<LoadWeightsRequest<'_>>(&json)?, request);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "load_weights")]
pub struct LoadWeightsRequest<'a> {
    /// The id of the model. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<Cow<'a, str>>,
    /// The sequence number of the request for this model, from 1. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
    /// The id of the session of the model to create. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Cow<'a, str>>,
    /// The number of the model to create in the session, from 0. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_seq_id: Option<u64>,
    /// The base model of the model to create. Not sent if none: it is the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<Cow<'a, str>>,
    /// Metadata to store with the training run of the model to create. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// The checkpoint's path.
    pub path: Cow<'a, str>,
    /// Whether to load the optimizer's state too. Always sent: without it, servers of today refuse the request or load the
    /// state.
    #[serde(default)]
    pub optimizer: bool,
    /// The optimizer of the model to create. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_config: Option<Cow<'a, OptimizerConfig>>,
    /// A token that gives access to weights of another user. Not sent if none. It is a secret: `Debug` does not print it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_access_token: Option<Cow<'a, str>>,
}

impl fmt::Debug for LoadWeightsRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadWeightsRequest")
            .field("model_id", &self.model_id)
            .field("seq_id", &self.seq_id)
            .field("session_id", &self.session_id)
            .field("model_seq_id", &self.model_seq_id)
            .field("base_model", &self.base_model)
            .field("user_metadata", &self.user_metadata)
            .field("path", &self.path)
            .field("optimizer", &self.optimizer)
            .field("optimizer_config", &self.optimizer_config)
            .field("weights_access_token", &self.weights_access_token.as_ref().map(|_| "..."))
            .finish()
    }
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
    /// What the sampling session follows. Not sent if none, which means a snapshot: servers of 0.4.1 do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SamplerKind>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
    /// How long to keep the checkpoint. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Metadata to store with the checkpoint. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
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
