//! Creating, describing and unloading models.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{LoraConfig, OptimizerConfig};

/// Creates a model to train: `POST create_model`, returns a promise of [`CreateModelResponse`].
///
/// ```
/// use tinkex::types::LoraConfig;
/// use tinkex::types::wire::{CreateModelRequest, CreateModelResponse};
///
/// let request = CreateModelRequest {
///     session_id: "s-1".into(),
///     base_model: "Qwen/Qwen3-8B".into(),
///     lora_config: Some(LoraConfig::default()),
///     ..CreateModelRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert_eq!(serde_json::from_str::<CreateModelRequest<'_>>(&json)?, request);
/// let response: CreateModelResponse = serde_json::from_str(r#"{"model_id":"s-1:train:0"}"#)?;
/// assert_eq!(response.model_id, "s-1:train:0");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "create_model")]
pub struct CreateModelRequest<'a> {
    /// The id of the session.
    pub session_id: Cow<'a, str>,
    /// The number of the model in the session, from 0.
    pub model_seq_id: u64,
    /// The name of the base model.
    pub base_model: Cow<'a, str>,
    /// Metadata to store with the training run. Not sent if none: some servers refuse null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// The adapter. Not sent if none; the training client always sends one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_config: Option<LoraConfig>,
    /// The optimizer. Not sent if none: it is AdamW.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_config: Option<Cow<'a, OptimizerConfig>>,
}

/// The response to [`CreateModelRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateModelResponse {
    /// The id of the model.
    pub model_id: String,
}

/// Asks for a model's name and tokenizer: `POST get_info`, returns
/// [`GetInfoResponse`](crate::types::GetInfoResponse) without a promise.
///
/// [The module](crate::types::wire) has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "get_info")]
pub struct GetInfoRequest<'a> {
    /// The id of the model.
    pub model_id: Cow<'a, str>,
}

/// Unloads a model from the server's memory: `POST unload_model`, returns a promise of
/// [`UnloadModelResponse`](crate::types::UnloadModelResponse).
///
/// ```
/// use tinkex::types::wire::UnloadModelRequest;
///
/// let request = UnloadModelRequest { model_id: "m-1".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"type":"unload_model","model_id":"m-1"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "unload_model")]
pub struct UnloadModelRequest<'a> {
    /// The id of the model.
    pub model_id: Cow<'a, str>,
}
