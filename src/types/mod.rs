//! The arguments and results of calls: training examples, tensors, parameters, responses.
//!
//! The names and fields are those of the Python client, 0.4.1 and 0.38.0. Parameters are created with `new` and setters, and their
//! fields can be read and changed; responses are only read. Both are `#[non_exhaustive]`, so that they can gain fields.
//! All of them are serialized with serde in the form of the protocol: responses ignore unknown keys, and enums keep words that
//! this version does not know in a variant `Other`.
//!
//! A training batch is a list of [`Datum`]s, each a [`ModelInput`] and the [`TensorData`] that its loss function needs:
//!
//! ```
//! use tinkex::types::{Batch, Datum, ModelInput};
//!
//! # fn main() -> tinkex::Result<()> {
//! let datum = Datum::new(ModelInput::from_tokens([10, 11, 12]))
//!     .input("target_tokens", [11, 12, 13])?
//!     .input("weights", [0.0, 1.0, 1.0])?;
//! let batch = Batch::from(vec![datum]);
//! assert_eq!(batch.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What you write
//!
//! | for | types |
//! |---|---|
//! | a batch | [`Datum`] and [`Batch`]; [`ModelInput`] of [`EncodedTextChunk`], [`ImageChunk`] and [`ImageAssetPointerChunk`] ([`ModelInputChunk`], [`ImageFormat`]); [`TensorData`] of a [`Dtype`] ([`LossInput`], [`Element`]); [`ProvenanceSpan`] and [`ProvenanceSource`] |
//! | a pass | [`LossFn`], or a [`Loss`] with settings ([`LossSetting`]) |
//! | a step | [`AdamParams`] or [`DimuonParams`] ([`OptimParams`]) |
//! | a new model | [`LoraConfig`]; [`OptimizerConfig`]: [`AdamOptimizerConfig`] or [`DimuonOptimizerConfig`] |
//! | samples | [`SamplingParams`] with a [`Stop`]; [`SampleOptions`](crate::SampleOptions) has the rest |
//! | saving and loading | [`SaveOptions`], [`SamplerSaveOptions`], [`SamplerKind`], [`ExternalSaveOptions`], [`LoadOptions`]; [`CheckpointPath`] and [`CheckpointType`] |
//! | what is stored | [`AccessScope`]; [`SessionSearch`] with [`SearchOwner`], [`SessionStatusQuery`] and [`SessionSearchCursor`]; [`AuditEventType`]; [`Query`] and [`QueryValue`] |
//! | sessions, events | [`FinishReason`], [`Severity`]; [`RequestKind`] for [`ServiceClient::pending`](crate::ServiceClient::pending) |
//!
//! # What you read
//!
//! | from | types |
//! |---|---|
//! | passes and steps | [`ForwardBackwardOutput`] with a [`LossFnOutput`] for each datum; [`OptimStepResponse`] |
//! | samples | [`SampleResponse`] with [`SampledSequence`]s ([`StopReason`], [`TokenLogprob`]) and [`PromptAltTokens`] |
//! | saving and loading | [`SaveWeightsResponse`], [`SaveWeightsExternalResponse`], [`LoadWeightsResponse`], [`UnloadModelResponse`] |
//! | the service | [`GetServerCapabilitiesResponse`] with [`SupportedModel`]s, [`HealthResponse`], [`GetInfoResponse`] with [`ModelData`], [`TokenizerPackage`], [`Whoami`], [`QueueState`] |
//! | runs and checkpoints | [`TrainingRun`], [`TrainingRunsResponse`]; [`Checkpoint`], [`CheckpointsListResponse`], [`CheckpointArchiveUrlResponse`], [`ExternalWeightsUrlsResponse`], [`WeightsInfoResponse`]; [`Cursor`], [`Timestamp`] |
//! | sessions | [`SessionResponse`], [`SessionsListResponse`], [`SamplerResponse`]; [`SessionSearchResponse`] with [`SessionSummary`], [`SessionStatus`], [`SessionStatusType`] and [`SessionStatusReason`] |
//! | administration | [`AuditLogResponse`] with [`AuditLogEntry`]; [`BillingUsageResponse`] with [`BillingUsageEvent`] ([`BillingEventInfo`], [`BillingEventType`], [`BillingUsageSession`]); [`CurrentCheckpointStorageUsageResponse`] with [`CurrentCheckpointStorageUsageItem`] |
//! | any of them | [`PromiseResult`]: what a promise can have as its result; [`RequestErrorCategory`] |
//!
//! A number of a response that is not finite arrives as such, whether the service writes `null`, `NaN` or `"NaN"`, and one that is
//! too large for its type, such as `1e39` for a log-probability, is infinite. With serde alone these types read `null` as NaN, where
//! a number must be.
//!
//! The clients check that a result has what was asked for: an output for each datum and a log-probability for each of its targets, as
//! many sequences as requested, a log-probability for each token. A result that has not is an error of kind
//! [`Decode`](crate::ErrorKind::Decode) with the [`request_id`](crate::Error::request_id); the request itself was carried out. What a
//! service says more than it was asked for is ignored, and so are ids in the response to a poll.
//!
//! # The wire
//!
//! The requests themselves are in [`wire`], which is outside semantic versioning.

mod from_text;
#[macro_use]
pub(crate) mod open_enum;

mod access_scope;
mod adam_params;
mod audit_log;
mod billing;
mod checkpoint;
mod checkpoint_path;
mod console;
mod datum;
mod datum_checks;
mod external_weights;
mod finish_reason;
mod image;
mod load_options;
mod lora_config;
mod loss_fn;
mod model_input;
mod nan;
mod optimizer;
mod promise_result;
mod provenance;
mod query;
mod queue_state;
mod request_kind;
mod samples;
mod sampling_params;
mod save_options;
mod server_info;
mod session;
mod session_search;
mod severity;
mod tensor;
mod timestamp;
mod tokenizer_package;
mod training_output;
mod training_run;
mod whoami;
pub mod wire;

pub use crate::error::RequestErrorCategory;
pub use access_scope::AccessScope;
pub use adam_params::AdamParams;
pub use audit_log::{AuditEventType, AuditLogEntry, AuditLogResponse};
pub use billing::{
    BillingEventInfo, BillingEventType, BillingUsageEvent, BillingUsageResponse, BillingUsageSession,
    CurrentCheckpointStorageUsageItem, CurrentCheckpointStorageUsageResponse,
};
pub use checkpoint::{
    Checkpoint, CheckpointArchiveUrlResponse, CheckpointType, CheckpointsListResponse, LoadWeightsResponse,
    SaveWeightsExternalResponse, SaveWeightsResponse, WeightsInfoResponse,
};
pub use checkpoint_path::CheckpointPath;
pub(crate) use checkpoint_path::check_path;
pub(crate) use console::{run_page, session_page};
pub use datum::{Batch, Datum, LossInput};
pub use external_weights::ExternalWeightsUrlsResponse;
pub use finish_reason::FinishReason;
pub(crate) use from_text::from_text;
pub use image::{ImageAssetPointerChunk, ImageChunk, ImageFormat};
pub use load_options::LoadOptions;
pub use lora_config::LoraConfig;
pub use loss_fn::{Loss, LossFn, LossSetting};
pub use model_input::{EncodedTextChunk, ModelInput, ModelInputChunk};
pub use optimizer::{AdamOptimizerConfig, DimuonOptimizerConfig, DimuonParams, OptimParams, OptimizerConfig};
pub use promise_result::PromiseResult;
pub use provenance::{ProvenanceSource, ProvenanceSpan};
pub use query::{Query, QueryValue};
pub use queue_state::QueueState;
pub use request_kind::RequestKind;
pub use samples::{PromptAltTokens, SampleResponse, SampledSequence, StopReason, TokenLogprob};
pub use sampling_params::{SamplingParams, Stop};
pub use save_options::{ExternalSaveOptions, SamplerKind, SamplerSaveOptions, SaveOptions};
pub use server_info::{
    GetInfoResponse, GetServerCapabilitiesResponse, HealthResponse, ModelData, SupportedModel, UnloadModelResponse,
};
pub use session::{SamplerResponse, SessionResponse, SessionsListResponse};
pub use session_search::{
    SearchOwner, SessionSearch, SessionSearchCursor, SessionSearchResponse, SessionStatus, SessionStatusQuery,
    SessionStatusReason, SessionStatusType, SessionSummary,
};
pub use severity::Severity;
pub(crate) use tensor::Stored;
pub use tensor::{Dtype, Element, TensorData};
pub use timestamp::Timestamp;
#[cfg(feature = "chat")]
pub(crate) use timestamp::calendar;
pub use tokenizer_package::TokenizerPackage;
#[cfg(any(feature = "local", feature = "tokenizers"))]
pub(crate) use tokenizer_package::sha256_hex;
pub use training_output::{ForwardBackwardOutput, LossFnOutput, OptimStepResponse};
pub use training_run::{Cursor, TrainingRun, TrainingRunsResponse};
pub use whoami::Whoami;

#[cfg(test)]
mod protobuf_tests;
#[cfg(test)]
mod roundtrip_tests;
#[cfg(test)]
mod sample_tests;
