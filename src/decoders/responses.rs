//! Bodies of responses, in both wires.

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::HeaderMap;
use ureq::http::header::{CONTENT_TYPE, HeaderValue};

use super::{taken, taken_of_service};
use crate::error::{Error, ErrorKind};
use crate::http::Response;
use crate::rules::error_message::reason;
use crate::rules::poll_response::{PollOutcome, classify};
use crate::rules::session_poll::{SessionPoll, classify_completions};
use crate::rules::{error_message, json_numbers, service_settings};
use crate::types::wire::protobuf::{self, PassRequest, prost::Message};
use crate::types::wire::{self, ClientConfig, ClientDynamicConfig};
use crate::types::{self, PromiseResult};

/// Reads a body as each of these types.
macro_rules! any_of {
    ($body:expr, $($Type:ty),* $(,)?) => { [$(json::<$Type>($body)),*].contains(&true) };
}

/// Results of passes in JSON.
pub(super) fn passes(body: &[u8]) -> bool {
    json::<types::ForwardBackwardOutput>(body)
}

/// Results of samples in JSON.
pub(super) fn samples(body: &[u8]) -> bool {
    json::<types::SampleResponse>(body)
}

/// The other results of promises.
pub(super) fn results(body: &[u8]) -> bool {
    any_of!(
        body,
        types::LoadWeightsResponse,
        types::OptimStepResponse,
        types::SaveWeightsExternalResponse,
        types::SaveWeightsResponse,
        types::UnloadModelResponse,
        wire::CreateModelResponse,
        wire::SaveWeightsForSamplerResponse,
        Value,
    )
}

/// Responses to submissions, and to what creates sessions.
pub(super) fn submissions(body: &[u8]) -> bool {
    any_of!(
        body,
        wire::CreateSamplingSessionResponse,
        wire::CreateSessionResponse,
        wire::HeartbeatResponse,
        wire::JoinSamplingSessionResponse,
        wire::Promise,
        wire::TelemetryResponse,
        types::GetInfoResponse,
        types::GetServerCapabilitiesResponse,
        types::HealthResponse,
    )
}

/// Responses about stored data.
pub(super) fn stored(body: &[u8]) -> bool {
    any_of!(
        body,
        types::AuditLogResponse,
        types::BillingUsageResponse,
        types::CheckpointArchiveUrlResponse,
        types::CheckpointsListResponse,
        types::CurrentCheckpointStorageUsageResponse,
        types::ExternalWeightsUrlsResponse,
        types::SamplerResponse,
        types::SessionResponse,
        types::SessionSearchResponse,
        types::SessionsListResponse,
        types::TokenizerPackage,
        types::TrainingRun,
        types::TrainingRunsResponse,
        types::WeightsInfoResponse,
        types::Whoami,
        wire::CopyWeightsResponse,
        wire::TraceExportResponse,
    )
}

/// The settings that a service announces.
pub(super) fn settings(body: &[u8]) -> bool {
    let fixed = service_settings::read::<ClientConfig>(body).is_ok();
    let dynamic = service_settings::read::<ClientDynamicConfig>(body);
    if let Ok(settings) = &dynamic {
        service_settings::refresh_after(settings);
    }
    fixed || dynamic.is_ok()
}

/// Responses to polls, of one promise and of a session's samples.
pub(super) fn polls(body: &[u8]) -> bool {
    let mut is_known = false;
    for status in [200, 202, 400, 408, 410, 429, 503] {
        let outcome = classify(status, body, None).resolve(
            |body| json_numbers::read::<Value>(body).map_err(|error| error.to_string()),
            |failure| Error::new(ErrorKind::Decode, format!("{failure:?}")),
        );
        is_known |= matches!((status, &outcome), (200, PollOutcome::Ready(_) | PollOutcome::NotReady(_)));
        if let PollOutcome::Failed(error) = outcome {
            taken_of_service::<()>(Err(error));
        }
        if let PollOutcome::Ready(response) = classify_completions(status, body, None) {
            let mut poll = SessionPoll::new(0);
            poll.completed(response);
            is_known = true;
        }
    }
    is_known
}

/// The explanation of a failure.
pub(super) fn error_message(body: &[u8]) -> bool {
    for text in [error_message::error_message(503, body), reason(503, body)] {
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(!text.is_empty() && text.len() < 1100, "{}", text.len());
    }
    error_message::json_message(body).is_some()
}

/// Results of passes in protobuf.
pub(super) fn protobuf_passes(body: &[u8]) -> bool {
    let result = types::ForwardBackwardOutput::from_protobuf(body.to_vec());
    if let Ok(output) = &result {
        let again = protobuf::ForwardBackwardOutput::from(output).encode_to_vec();
        let again = types::ForwardBackwardOutput::from_protobuf(again).map(|again| again.loss_fn_outputs);
        // As text, in which NaN is NaN.
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, String>(&output.loss_fn_outputs)));
    }
    result.is_ok()
}

/// Results of samples in protobuf.
pub(super) fn protobuf_samples(body: &[u8]) -> bool {
    let result = types::SampleResponse::from_protobuf(body.to_vec());
    if let Ok(response) = &result {
        let again = protobuf::SampleResponse::from(response).encode_to_vec();
        let again = types::SampleResponse::from_protobuf(again).map(|again| again.sequences);
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, String>(&response.sequences)));
    }
    result.is_ok()
}

/// Passes over a batch in protobuf, as a server reads them.
pub(super) fn protobuf_requests(body: &[u8]) -> bool {
    protobuf::ForwardBackwardRequest::decode(body).is_ok_and(|message| taken(PassRequest::try_from(message)))
}

fn json<T: DeserializeOwned>(body: &[u8]) -> bool {
    let kind = HeaderValue::from_static("application/json");
    let response = Response::made(200, HeaderMap::from_iter([(CONTENT_TYPE, kind)]), body);
    let named = |error: Error| error.with_operation("decode");
    // As a type that holds floats, and as one that holds none.
    taken_of_service(response.parse::<T>().map_err(named)) | taken_of_service(response.json::<T>("decode"))
}
