//! Sessions, models and what the server offers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Opens a session: `POST create_session`, answered by [`CreateSessionResponse`].
///
/// ```
/// use tinkex::types::{CreateSessionRequest, CreateSessionResponse};
///
/// let tags = ["nightly".to_owned()];
/// let request = CreateSessionRequest { tags: (&tags[..]).into(), sdk_version: "0.4.1".into(), ..Default::default() };
/// assert_eq!(
///     serde_json::to_string(&request)?,
///     r#"{"type":"create_session","tags":["nightly"],"user_metadata":null,"sdk_version":"0.4.1"}"#
/// );
/// let answer: CreateSessionResponse = serde_json::from_str(r#"{"session_id":"s-1","info_message":"welcome"}"#)?;
/// assert_eq!((answer.session_id.as_str(), answer.info_message.as_deref()), ("s-1", Some("welcome")));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "create_session")]
pub struct CreateSessionRequest<'a> {
    /// Tags to find the session by.
    pub tags: Cow<'a, [String]>,
    /// Anything to remember with the session; null when none.
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// The version of the protocol that the client speaks.
    pub sdk_version: Cow<'a, str>,
}

/// The answer to [`CreateSessionRequest`]. The messages are for the user's log. The request has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateSessionResponse {
    /// The session.
    pub session_id: String,
    /// To be logged at level info.
    pub info_message: Option<String>,
    /// To be logged at level warn.
    pub warning_message: Option<String>,
    /// To be logged at level error.
    pub error_message: Option<String>,
}

/// Keeps a session alive: `POST session_heartbeat`, every 10 s, answered by [`HeartbeatResponse`].
///
/// ```
/// use tinkex::types::{HeartbeatRequest, HeartbeatResponse};
///
/// let request = HeartbeatRequest { session_id: "s-1".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"type":"session_heartbeat","session_id":"s-1"}"#);
/// let _answer: HeartbeatResponse = serde_json::from_str(r#"{"type":"session_heartbeat"}"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "session_heartbeat")]
pub struct HeartbeatRequest<'a> {
    /// The session.
    pub session_id: Cow<'a, str>,
}

/// The answer to [`HeartbeatRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "session_heartbeat")]
#[non_exhaustive]
pub struct HeartbeatResponse {}

/// What the server offers: `GET get_server_capabilities`.
///
/// ```
/// use tinkex::types::GetServerCapabilitiesResponse;
///
/// let answer: GetServerCapabilitiesResponse =
///     serde_json::from_str(r#"{"supported_models":[{"model_name":"Qwen/Qwen3-8B"}]}"#)?;
/// let names: Vec<&str> = answer.supported_models.iter().filter_map(|model| model.model_name.as_deref()).collect();
/// assert_eq!(names, ["Qwen/Qwen3-8B"]);
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
    /// Its name, as in [`CreateModelRequest::base_model`].
    pub model_name: Option<String>,
}

/// Whether the server is up: `GET healthz`.
///
/// ```
/// use tinkex::types::HealthResponse;
///
/// let answer: HealthResponse = serde_json::from_str(r#"{"status":"ok"}"#)?;
/// assert_eq!(answer.status, "ok");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthResponse {
    /// `ok`, or what is the matter.
    pub status: String,
}

/// The shape of a LoRA adapter. Defaults to rank 32, the server's seed, and all layers.
///
/// ```
/// use tinkex::types::LoraConfig;
///
/// let attention_only = LoraConfig::new().rank(8).seed(1).train_mlp(false).train_unembed(false);
/// attention_only.validate()?;
/// assert!(attention_only.train_attn(false).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LoraConfig {
    /// The rank, at least 1. Defaults to 32, the Python client's.
    pub rank: u32,
    /// The seed of the initial weights; null, and the server's choice, when none.
    pub seed: Option<u64>,
    /// Whether the unembedding layer is trained. Defaults to true.
    pub train_unembed: bool,
    /// Whether the MLP layers are trained. Defaults to true.
    pub train_mlp: bool,
    /// Whether the attention layers are trained. Defaults to true.
    pub train_attn: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        LoraConfig { rank: 32, seed: None, train_unembed: true, train_mlp: true, train_attn: true }
    }
}

impl LoraConfig {
    /// The defaults: rank 32, a seed of the service's choice, all layers.
    #[must_use]
    pub fn new() -> Self {
        LoraConfig::default()
    }

    /// Sets the rank. Defaults to 32.
    #[must_use]
    pub fn rank(mut self, rank: u32) -> Self {
        self.rank = rank;
        self
    }

    /// Sets the seed of the adapter's random start. Defaults to none: the service picks one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets whether the attention layers are trained. Defaults to true.
    #[must_use]
    pub fn train_attn(mut self, train_attn: bool) -> Self {
        self.train_attn = train_attn;
        self
    }

    /// Sets whether the MLP layers are trained. Defaults to true.
    #[must_use]
    pub fn train_mlp(mut self, train_mlp: bool) -> Self {
        self.train_mlp = train_mlp;
        self
    }

    /// Sets whether the unembedding layer is trained. Defaults to true.
    #[must_use]
    pub fn train_unembed(mut self, train_unembed: bool) -> Self {
        self.train_unembed = train_unembed;
        self
    }

    /// Checks what can be checked before anything is sent.
    ///
    /// # Errors
    ///
    /// A rank of zero, and an adapter that trains no layer.
    pub fn validate(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::invalid_input("the LoRA rank must be at least 1"));
        }
        if !(self.train_unembed || self.train_mlp || self.train_attn) {
            return Err(Error::invalid_input("at least one of train_unembed, train_mlp and train_attn must be true"));
        }
        Ok(())
    }
}

/// Creates a model to train: `POST create_model`, answered by a promise of [`CreateModelResponse`].
///
/// ```
/// use tinkex::types::{CreateModelRequest, CreateModelResponse, LoraConfig};
///
/// let request = CreateModelRequest {
///     session_id: "s-1".into(),
///     base_model: "Qwen/Qwen3-8B".into(),
///     lora_config: Some(LoraConfig::default()),
///     ..CreateModelRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert_eq!(serde_json::from_str::<CreateModelRequest<'_>>(&json)?, request);
/// let answer: CreateModelResponse = serde_json::from_str(r#"{"model_id":"s-1:train:0"}"#)?;
/// assert_eq!(answer.model_id, "s-1:train:0");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "create_model")]
pub struct CreateModelRequest<'a> {
    /// The session.
    pub session_id: Cow<'a, str>,
    /// The number of the model in the session, from 0.
    pub model_seq_id: u64,
    /// The base model.
    pub base_model: Cow<'a, str>,
    /// Anything to remember with the training run; null when none.
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// The adapter. Absent when none; the training client always sends one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_config: Option<LoraConfig>,
}

/// The answer to [`CreateModelRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateModelResponse {
    /// The model.
    pub model_id: String,
}

/// Asks about a model: `POST get_info`, answered by [`GetInfoResponse`] at once.
///
/// [The module](crate::types) has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "get_info")]
pub struct GetInfoRequest<'a> {
    /// The model.
    pub model_id: Cow<'a, str>,
}

/// The answer to [`GetInfoRequest`]. [The module](crate::types) has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GetInfoResponse {
    /// The model.
    pub model_id: String,
    /// Its base model.
    pub model_data: ModelData,
    /// Whether it is a LoRA adapter.
    pub is_lora: Option<bool>,
    /// The rank of the adapter.
    pub lora_rank: Option<u32>,
    /// The name of the base model.
    pub model_name: Option<String>,
}

/// What is known of a base model. [The module](crate::types) has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelData {
    /// The architecture.
    pub arch: Option<String>,
    /// The name.
    pub model_name: Option<String>,
    /// The tokenizer to encode text with.
    pub tokenizer_id: Option<String>,
}

/// Frees a model: `POST unload_model`, answered by a promise of [`UnloadModelResponse`].
///
/// ```
/// use tinkex::types::{UnloadModelRequest, UnloadModelResponse};
///
/// let request = UnloadModelRequest { model_id: "m-1".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"type":"unload_model","model_id":"m-1"}"#);
/// let answer: UnloadModelResponse = serde_json::from_str(r#"{"model_id":"m-1","status":"unloaded"}"#)?;
/// assert_eq!(answer.model_id, "m-1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "unload_model")]
pub struct UnloadModelRequest<'a> {
    /// The model.
    pub model_id: Cow<'a, str>,
}

/// The answer to [`UnloadModelRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnloadModelResponse {
    /// The model that was freed.
    pub model_id: String,
}

/// Opens a session to sample in: `POST create_sampling_session`, answered by [`CreateSamplingSessionResponse`] at once.
///
/// ```
/// use tinkex::types::{CreateSamplingSessionRequest, CreateSamplingSessionResponse};
///
/// let request = CreateSamplingSessionRequest {
///     session_id: "s-1".into(),
///     base_model: Some("Qwen/Qwen3-8B".into()),
///     ..CreateSamplingSessionRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(json.ends_with(r#""base_model":"Qwen/Qwen3-8B","model_path":null}"#));
/// let answer: CreateSamplingSessionResponse = serde_json::from_str(r#"{"sampling_session_id":"s-1:sample:0"}"#)?;
/// assert_eq!(answer.sampling_session_id, "s-1:sample:0");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "create_sampling_session")]
pub struct CreateSamplingSessionRequest<'a> {
    /// The session.
    pub session_id: Cow<'a, str>,
    /// The number of the sampling session in the session, from 0.
    pub sampling_session_seq_id: u64,
    /// The base model to sample from; null when none.
    pub base_model: Option<Cow<'a, str>>,
    /// The tinker path of the weights to sample from; null when none.
    pub model_path: Option<Cow<'a, str>>,
}

/// The answer to [`CreateSamplingSessionRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateSamplingSessionResponse {
    /// The sampling session.
    pub sampling_session_id: String,
}
