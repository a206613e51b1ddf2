//! What the server reports about itself and its models.

use serde::{Deserialize, Serialize};

use super::{OptimizerConfig, TokenizerPackage};

/// What the server offers, from
/// [`ServiceClient::get_server_capabilities`](crate::ServiceClient::get_server_capabilities).
///
/// ```
/// use tinkex::types::GetServerCapabilitiesResponse;
///
/// let response: GetServerCapabilitiesResponse =
///     serde_json::from_str(r#"{"supported_models":[{"model_name":"Qwen/Qwen3-8B","trainable":true}]}"#)?;
/// let names: Vec<&str> = response.supported_models.iter().filter_map(|model| model.model_name.as_deref()).collect();
/// assert_eq!(names, ["Qwen/Qwen3-8B"]);
/// assert_eq!((response.supported_models[0].trainable, response.supported_models[0].sampleable), (Some(true), None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GetServerCapabilitiesResponse {
    /// The base models.
    pub supported_models: Vec<SupportedModel>,
}

/// A base model that the server offers. [`GetServerCapabilitiesResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SupportedModel {
    /// The name to create training and sampling clients with.
    pub model_name: Option<String>,
    /// The maximum length of a prompt and its samples, in tokens. None if the server does not say.
    pub max_context_length: Option<u64>,
    /// Whether training clients can be created. None if the server does not say.
    pub trainable: Option<bool>,
    /// Whether sampling clients can be created. None if the server does not say.
    pub sampleable: Option<bool>,
    /// The files of its tokenizer, if the service itself has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_package: Option<TokenizerPackage>,
}

/// The server's health, from [`ServiceClient::health`](crate::ServiceClient::health).
///
/// ```
/// use tinkex::types::HealthResponse;
///
/// let response: HealthResponse = serde_json::from_str(r#"{"status":"ok"}"#)?;
/// assert_eq!(response.status, "ok");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthResponse {
    /// `ok`, or a description of the problem.
    pub status: String,
}

/// A model's base model, tokenizer and adapter, from
/// [`TrainingClient::get_info`](crate::TrainingClient::get_info).
///
/// ```
/// use tinkex::types::GetInfoResponse;
///
/// let response = r#"{"model_id":"m-1","model_data":{"tokenizer_id":"Qwen/Qwen3-8B"},"lora_rank":32,"later":"ignored"}"#;
/// let info: GetInfoResponse = serde_json::from_str(response)?;
/// assert_eq!((info.lora_rank, info.model_data.tokenizer_id.as_deref()), (Some(32), Some("Qwen/Qwen3-8B")));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GetInfoResponse {
    /// The id of the model.
    pub model_id: String,
    /// The base model.
    pub model_data: ModelData,
    /// Whether the model is a LoRA adapter.
    pub is_lora: Option<bool>,
    /// The rank of the adapter.
    pub lora_rank: Option<u32>,
    /// The name of the base model.
    pub model_name: Option<String>,
    /// The model's optimizer. Defaults to AdamW, the only one of servers that do not say.
    #[serde(default)]
    pub optimizer_config: OptimizerConfig,
}

/// A base model, as the server describes it. [`GetInfoResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelData {
    /// The name of the architecture.
    pub arch: Option<String>,
    /// The name of the base model.
    pub model_name: Option<String>,
    /// The id of the tokenizer to encode text with.
    pub tokenizer_id: Option<String>,
    /// The maximum length of a sequence, in tokens. None if the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_length: Option<u64>,
    /// The files of its tokenizer, if the service itself has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_package: Option<TokenizerPackage>,
}

/// Confirms that a model is unloaded, from [`TrainingClient::unload_model`](crate::TrainingClient::unload_model).
///
/// ```
/// use tinkex::types::UnloadModelResponse;
///
/// let response: UnloadModelResponse = serde_json::from_str(r#"{"model_id":"m-1","status":"unloaded"}"#)?;
/// assert_eq!(response.model_id, "m-1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnloadModelResponse {
    /// The id of the unloaded model.
    pub model_id: String,
}
