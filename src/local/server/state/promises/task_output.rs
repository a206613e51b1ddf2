//! The results of tasks, and the formats in which they are sent.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::Value;

use super::json_output::{Words, to_json, words_of_losses, words_of_samples};
use crate::local::server::http1::Response;
use crate::rules::wire_format::WireFormat;
use crate::types::wire::RequestFailedResponse;
use crate::types::wire::protobuf::{self, prost::Message};
use crate::types::{ForwardBackwardOutput, OptimStepResponse, SampleResponse};

/// The result of a task.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum TaskOutput {
    Losses(ForwardBackwardOutput),
    Samples(Tagged<SampleResponse>),
    OptimStep(OptimStepResponse),
    Other(Tagged<Value>),
}

/// A response with its type: `{"type": …, …}`.
#[derive(Debug, Serialize)]
pub(crate) struct Tagged<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    fields: T,
}

pub(crate) fn tagged<T: Serialize>(kind: &'static str, fields: T) -> Tagged<T> {
    Tagged { kind, fields }
}

impl TaskOutput {
    /// The result of `unload_model`.
    pub(crate) fn unloaded(model_id: &str) -> Self {
        TaskOutput::Other(tagged("unload_model", serde_json::json!({ "model_id": model_id })))
    }

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let words = match self {
            TaskOutput::Losses(losses) => words_of_losses(losses),
            TaskOutput::Samples(samples) => words_of_samples(&samples.fields),
            TaskOutput::OptimStep(_) | TaskOutput::Other(_) => Words::default(),
        };
        to_json(self, words)
    }

    /// The response to a poll that accepts protobuf; `None` if there is no message for this result.
    fn to_protobuf(&self) -> Option<Response> {
        let body = match self {
            TaskOutput::Losses(output) => protobuf::ForwardBackwardOutput::from(output).encode_to_vec(),
            TaskOutput::Samples(samples) => protobuf::SampleResponse::from(&samples.fields).encode_to_vec(),
            TaskOutput::OptimStep(_) | TaskOutput::Other(_) => return None,
        };
        Some(Response::new(200, body).header("content-type", protobuf::CONTENT_TYPE))
    }
}

/// The result of a promise. The first poll for it encodes it, in the format that the poll accepts; further polls get the same
/// bytes.
#[derive(Debug)]
pub(crate) struct StoredResult {
    output: Result<TaskOutput, RequestFailedResponse>,
    json: OnceLock<Response>,
    /// `None` if there is no message for this result.
    protobuf: OnceLock<Option<Response>>,
    size_told: AtomicBool,
}

impl StoredResult {
    pub(crate) fn new(output: Result<TaskOutput, RequestFailedResponse>) -> Self {
        StoredResult { output, json: OnceLock::new(), protobuf: OnceLock::new(), size_told: AtomicBool::new(false) }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.output.is_err()
    }

    /// Whether the size of this result is still to be told: true once.
    pub(super) fn tell_size(&self) -> bool {
        !self.size_told.swap(true, Ordering::Relaxed)
    }

    /// The response to a poll that accepts this format. Failures are JSON in any case, and so are results that protobuf has no
    /// message for.
    pub(crate) fn response(&self, format: WireFormat) -> Response {
        let protobuf = match format {
            WireFormat::Json => None,
            WireFormat::Protobuf => {
                self.protobuf.get_or_init(|| self.output.as_ref().ok().and_then(TaskOutput::to_protobuf)).clone()
            }
        };
        let json = || match &self.output {
            Ok(output) => match output.to_json() {
                Ok(body) => Response::new(200, body),
                Err(error) => Response::temporary(500, &format!("the result could not be serialized: {error}")),
            },
            Err(failure) => Response::json(200, failure),
        };
        protobuf.unwrap_or_else(|| self.json.get_or_init(json).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RequestErrorCategory;

    fn content_type(response: &Response) -> Option<&str> {
        response.headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str())
    }

    #[test]
    fn only_passes_and_samples_become_protobuf() {
        let failure = RequestFailedResponse { error: "no".to_owned(), category: RequestErrorCategory::User };
        for (output, expected) in [
            (Ok(TaskOutput::Losses(ForwardBackwardOutput::default())), Some(protobuf::CONTENT_TYPE)),
            (Ok(TaskOutput::Samples(tagged("sample", SampleResponse::default()))), Some(protobuf::CONTENT_TYPE)),
            (Ok(TaskOutput::OptimStep(OptimStepResponse::default())), None),
            (Ok(TaskOutput::Other(tagged("create_model", Value::Null))), None),
            (Err(failure), None),
        ] {
            let result = StoredResult::new(output);
            assert_eq!(content_type(&result.response(WireFormat::Json)), None);
            assert_eq!(content_type(&result.response(WireFormat::Protobuf)), expected);
        }
    }
}
