//! The requests of the Tinker protocol, and the responses that only the client itself reads. **Outside semantic versioning.**
//!
//! The clients build these requests; no method takes one. They are public for programs that speak the protocol themselves:
//! a server, a proxy, a test, or a call through [`api`](crate::api). A minor or patch release may add, rename or remove
//! items and fields here, as the protocol changes. Pin the exact version of this crate (`=0.1.0`) if you use this module.
//!
//! The names and fields are those of the Python client, 0.4.1 and 0.38.0. Requests borrow what they can ([`Cow`](std::borrow::Cow)
//! fields), so that a batch is serialized without a copy; a server parses the same types. Responses ignore unknown keys.
//!
//! ```
//! use tinkex::types::GetInfoResponse;
//! use tinkex::types::wire::GetInfoRequest;
//!
//! let request = GetInfoRequest { model_id: "m-1".into() };
//! assert_eq!(serde_json::to_string(&request)?, r#"{"type":"get_info","model_id":"m-1"}"#);
//!
//! let response = r#"{"model_id":"m-1","model_data":{"tokenizer_id":"Qwen/Qwen3-8B"},"lora_rank":32,"later":"ignored"}"#;
//! let info: GetInfoResponse = serde_json::from_str(response)?;
//! assert_eq!(info.lora_rank, Some(32));
//! # Ok::<(), serde_json::Error>(())
//! ```

#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "outside semantic versioning: programs build the requests with struct literals"
)]

mod client_config;
mod futures;
mod model_requests;
mod promise;
pub mod protobuf;
pub(crate) mod request_id;
mod rest_requests;
mod sample_request;
mod sampler_handle;
mod session_duration;
mod session_requests;
mod telemetry_event;
mod training_requests;
mod weights_requests;

pub use client_config::{ClientConfig, ClientConfigRequest, ClientDynamicConfig};
pub use futures::{
    CancelFutureRequest, FutureCompletion, FuturesTarget, RetrieveFuturesRequest, RetrieveFuturesResponse,
};
pub use model_requests::{CreateModelRequest, CreateModelResponse, GetInfoRequest, UnloadModelRequest};
pub use promise::{Promise, RequestFailedResponse, RetrieveFutureRequest, TryAgainResponse};
pub use rest_requests::{
    AssignSessionProjectRequest, CopyWeightsRequest, CopyWeightsResponse, SetCheckpointTtlRequest, TraceExportResponse,
};
pub use sample_request::SampleRequest;
pub use sampler_handle::{JoinSamplingSessionRequest, JoinSamplingSessionResponse, SamplerHandle, SamplerHandleHolder};
pub use session_duration::SessionDuration;
pub use session_requests::{
    CreateSamplingSessionRequest, CreateSamplingSessionResponse, CreateSessionRequest, CreateSessionResponse,
    FinishSessionRequest, HeartbeatRequest, HeartbeatResponse,
};
pub use telemetry_event::{TelemetryEvent, TelemetryEventKind, TelemetryResponse, TelemetrySendRequest};
pub use training_requests::{ForwardBackwardInput, ForwardBackwardRequest, ForwardRequest, OptimStepRequest};
pub use weights_requests::{
    LoadWeightsRequest, SaveWeightsExternalRequest, SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse,
    SaveWeightsRequest, WeightsInfoRequest,
};
