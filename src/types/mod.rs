//! The wire types: what travels between this crate and a Tinker server.
//!
//! Requests and answers have the names and the fields of the Python client 0.4.1. Requests borrow what they can
//! ([`Cow`](std::borrow::Cow) fields), so that a batch is written without being copied; the same types parse, for a
//! server. Answers ignore keys and keep words that this version does not know.
//!
//! Every request and answer is plain data with public fields. Requests are made with `..Default::default()`; answers,
//! which may gain fields, are read:
//!
//! ```
//! use tinkex::types::{GetInfoRequest, GetInfoResponse};
//!
//! let request = GetInfoRequest { model_id: "m-1".into() };
//! assert_eq!(serde_json::to_string(&request)?, r#"{"type":"get_info","model_id":"m-1"}"#);
//!
//! let answer = r#"{"model_id":"m-1","model_data":{"tokenizer_id":"Qwen/Qwen3-8B"},"lora_rank":32,"later":"ignored"}"#;
//! let info: GetInfoResponse = serde_json::from_str(answer)?;
//! assert_eq!((info.lora_rank, info.model_data.tokenizer_id.as_deref()), (Some(32), Some("Qwen/Qwen3-8B")));
//! # Ok::<(), serde_json::Error>(())
//! ```
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

#[macro_use]
mod open_enum;

mod checkpoint_path;
mod datum;
mod future;
mod image;
mod model_input;
mod nan;
mod request_kind;
mod rest;
mod sampling;
mod session;
mod session_duration;
mod telemetry;
mod tensor;
mod timestamp;
mod training;
mod weights;

pub use crate::error::RequestErrorCategory;
pub use checkpoint_path::{CheckpointPath, check_tinker_scheme};
pub use datum::{Batch, Datum, LossInput};
pub use future::{Promise, QueueState, RequestFailedResponse, RetrieveFutureRequest, TryAgainResponse};
pub use image::{ImageAssetPointerChunk, ImageChunk, ImageFormat};
pub use model_input::{EncodedTextChunk, ModelInput, ModelInputChunk};
pub use request_kind::RequestKind;
pub use rest::{
    Checkpoint, CheckpointArchiveUrlResponse, CheckpointType, CheckpointsListResponse, Cursor, SamplerResponse,
    SessionResponse, SessionsListResponse, TrainingRun, TrainingRunsResponse, WeightsInfoRequest, WeightsInfoResponse,
};
pub use sampling::{SampleRequest, SampleResponse, SampledSequence, SamplingParams, Stop, StopReason, TopLogprobs};
pub use session::{
    CreateModelRequest, CreateModelResponse, CreateSamplingSessionRequest, CreateSamplingSessionResponse,
    CreateSessionRequest, CreateSessionResponse, GetInfoRequest, GetInfoResponse, GetServerCapabilitiesResponse,
    HealthResponse, HeartbeatRequest, HeartbeatResponse, LoraConfig, ModelData, SupportedModel, UnloadModelRequest,
    UnloadModelResponse,
};
pub use session_duration::SessionDuration;
pub use telemetry::{Severity, TelemetryEvent, TelemetryEventKind, TelemetryResponse, TelemetrySendRequest};
pub use tensor::{Dtype, Element, TensorData};
pub use timestamp::Timestamp;
pub use training::{
    AdamParams, ForwardBackwardInput, ForwardBackwardOutput, ForwardBackwardRequest, ForwardRequest, Loss, LossFn,
    LossFnOutput, OptimStepRequest, OptimStepResponse,
};
pub use weights::{
    LoadWeightsRequest, LoadWeightsResponse, SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse,
    SaveWeightsRequest, SaveWeightsResponse,
};

#[cfg(test)]
mod roundtrip_tests;
