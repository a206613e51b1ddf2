//! A service for training that takes the formats of one generation, keeps its numbers in one way, and records what it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tinkex::types::ForwardBackwardOutput;
use tinkex::types::wire::protobuf::{self, prost::Message};

use super::{RecordedRequest, Reply, healthy_service};

/// How a service sends the results of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    Json,
    Protobuf,
    ByAccept,
}

/// What a service does with the numbers of training requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// A repeated number gets the promise that was made for it.
    Repeatable,
    /// Only the next number is taken.
    Contiguous,
}

/// A generation of services.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    pub name: &'static str,
    /// The status for `forward_backward` in JSON; 200 takes it.
    pub json: u16,
    /// The status for `forward`.
    pub forward: u16,
    /// The status for protobuf.
    pub protobuf: u16,
    pub results: Results,
    pub numbers: Numbers,
}

/// Servers of 2025.
pub const JSON_ONLY: Generation = Generation {
    name: "SkyRL 0.3.0",
    json: 200,
    forward: 200,
    protobuf: 500,
    results: Results::Json,
    numbers: Numbers::Repeatable,
};

/// The newest servers.
pub const PROTOBUF_ONLY: Generation = Generation {
    name: "SkyRL 0.4.0",
    json: 415,
    forward: 404,
    protobuf: 200,
    results: Results::Protobuf,
    numbers: Numbers::Repeatable,
};

/// A newest server that insists on its numbers.
pub const CONTIGUOUS: Generation =
    Generation { name: "TuFT 0.2.2", results: Results::Json, numbers: Numbers::Contiguous, ..PROTOBUF_ONLY };

/// Servers that take both formats.
pub const BOTH: Generation = Generation { name: "tinker-cloud, open-rl", protobuf: 200, ..JSON_ONLY };

/// One that takes both formats, and has no `forward`.
pub const WITHOUT_FORWARD: Generation = Generation { name: "miles", forward: 404, ..BOTH };

pub const GENERATIONS: [Generation; 5] = [JSON_ONLY, PROTOBUF_ONLY, CONTIGUOUS, BOTH, WITHOUT_FORWARD];

/// A request that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub kind: &'static str,
    pub number: u64,
    /// The tokens of each datum of a pass.
    pub data: Vec<Vec<u32>>,
}

/// What goes wrong with a request.
pub enum Mishap {
    /// This reply, before anything is run.
    Refused(Reply),
    /// It is run, and its response is lost.
    LostResponse,
}

/// A connection that is lost after the response has begun. A reused one that is lost before that says nothing of the service, and
/// the request is sent again at once.
pub fn lost() -> Reply {
    Reply::Raw(b"HTTP/1.1 200 OK\r\n".to_vec())
}

type Mishaps = Box<dyn Fn(&RecordedRequest) -> Option<Mishap> + Send + Sync>;

/// The server. Clones are the same one.
#[derive(Clone)]
pub struct PassServer(Arc<Shared>);

struct Shared {
    generation: Generation,
    settings: Value,
    mishaps: Mishaps,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: Vec<Run>,
}

impl PassServer {
    pub fn new(generation: Generation) -> Self {
        PassServer::with(generation, json!({}), |_| None)
    }

    /// A server with these settings for its clients, and these mishaps.
    pub fn with(
        generation: Generation,
        settings: Value,
        mishaps: impl Fn(&RecordedRequest) -> Option<Mishap> + Send + Sync + 'static,
    ) -> Self {
        let (mishaps, state) = (Box::new(mishaps), Mutex::default());
        PassServer(Arc::new(Shared { generation, settings, mishaps, state }))
    }

    /// What was run, in order.
    pub fn runs(&self) -> Vec<Run> {
        self.0.state.lock().unwrap().runs.clone()
    }

    /// The kind and number of what was run, in order.
    pub fn order(&self) -> Vec<(&'static str, u64)> {
        self.runs().iter().map(|run| (run.kind, run.number)).collect()
    }

    pub fn reply(&self, request: &RecordedRequest) -> Reply {
        match &*request.path {
            "client/config" => Reply::ok(self.0.settings.clone()),
            "client/dynamic_config" => Reply::ok(json!({})),
            "retrieve_future" if request.request_id().starts_with("run-") => self.result(request),
            "forward" | "forward_backward" | "optim_step" | "save_weights" => self.submit(request),
            _ => healthy_service(request),
        }
    }

    fn submit(&self, request: &RecordedRequest) -> Reply {
        let Generation { json, forward, protobuf, .. } = self.0.generation;
        let is_protobuf = request.header("content-type") == Some(protobuf::CONTENT_TYPE);
        let status = match (&*request.path, is_protobuf) {
            ("forward_backward", false) => json,
            ("forward", false) => forward,
            ("forward_backward", true) => protobuf,
            (_, is_protobuf) => {
                if is_protobuf {
                    415
                } else {
                    200
                }
            }
        };
        match status {
            200 => {}
            404 => return Reply::Json(404, json!({"detail": "Not Found"})),
            415 => return Reply::Json(415, json!({"detail": "forward_backward requires another body"})),
            500 => return Reply::Json(500, json!({"detail": "Internal Server Error"})),
            other => panic!("{other}"),
        }
        let mishap = (self.0.mishaps)(request);
        match mishap {
            Some(Mishap::Refused(reply)) => reply,
            Some(Mishap::LostResponse) => {
                self.run(request);
                lost()
            }
            None => self.run(request),
        }
    }

    fn run(&self, request: &RecordedRequest) -> Reply {
        let run = run(request);
        let runs = &mut self.0.state.lock().unwrap().runs;
        let next = runs.len() as u64 + 1;
        let known = runs.iter().position(|known| known.number == run.number);
        let index = match (self.0.generation.numbers, known) {
            (Numbers::Contiguous, _) if run.number != next => {
                let detail = format!("Sequence conflict: expected {next}, got {}", run.number);
                return Reply::Json(409, json!({ "detail": detail }));
            }
            (Numbers::Repeatable, Some(known)) => known,
            _ => {
                runs.push(run);
                runs.len() - 1
            }
        };
        Reply::ok(json!({ "request_id": format!("run-{index}") }))
    }

    fn result(&self, request: &RecordedRequest) -> Reply {
        let index: usize = request.request_id()["run-".len()..].parse().unwrap();
        let run = self.runs()[index].clone();
        if run.kind != "forward" && run.kind != "forward_backward" {
            return Reply::ok(match run.kind {
                "save_weights" => json!({"path": format!("tinker://run/weights/{}", run.number)}),
                _ => json!({"metrics": {"step": run.number}}),
            });
        }
        // One log-probability for each token: minus the token.
        let outputs: Vec<_> = run
            .data
            .iter()
            .map(|tokens| {
                let logprobs: Vec<_> = tokens.iter().map(|&token| -f64::from(token)).collect();
                json!({"logprobs": {"data": logprobs, "dtype": "float32", "shape": [tokens.len()]}})
            })
            .collect();
        let result = json!({
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": outputs,
            "metrics": {"loss:sum": run.number},
        });
        let wants_protobuf = request.header("accept").is_some_and(|accept| accept.contains(protobuf::CONTENT_TYPE));
        if self.0.generation.results == Results::Json
            || (self.0.generation.results == Results::ByAccept && !wants_protobuf)
        {
            return Reply::ok(result);
        }
        let result: ForwardBackwardOutput = serde_json::from_value(result).unwrap();
        let headers = vec![("content-type", protobuf::CONTENT_TYPE.to_owned())];
        Reply::Full { status: 200, headers, body: protobuf::ForwardBackwardOutput::from(&result).encode_to_vec() }
    }
}

/// The body of a protobuf pass.
pub fn pass_message(request: &RecordedRequest) -> protobuf::ForwardBackwardRequest {
    #[cfg(feature = "zstd")]
    if request.header("content-encoding") == Some("zstd") {
        return protobuf::ForwardBackwardRequest::decode(&*zstd::decode_all(&*request.raw).unwrap()).unwrap();
    }
    protobuf::ForwardBackwardRequest::decode(&*request.raw).unwrap()
}

/// What a request asks for.
fn run(request: &RecordedRequest) -> Run {
    if request.header("content-type") == Some(protobuf::CONTENT_TYPE) {
        let message = pass_message(request);
        let kind = if message.forward_only { "forward" } else { "forward_backward" };
        let tokens = |datum: &protobuf::Datum| {
            let chunks = datum.model_input.iter().flat_map(|chunk| match &chunk.chunk {
                Some(protobuf::chunk::Chunk::EncodedText(text)) => text
                    .tokens
                    .chunks_exact(4)
                    .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
                    .collect::<Vec<_>>(),
                _ => Vec::new(),
            });
            chunks.collect()
        };
        let number = u64::try_from(message.seq_id).unwrap();
        return Run { kind, number, data: message.data.iter().map(tokens).collect() };
    }
    let body = &request.body;
    let (kind, input) = match &*request.path {
        "forward" => ("forward", &body["forward_input"]),
        "forward_backward" => ("forward_backward", &body["forward_backward_input"]),
        "optim_step" => ("optim_step", &Value::Null),
        "save_weights" => ("save_weights", &Value::Null),
        other => panic!("{other}"),
    };
    let tokens = |datum: &Value| {
        let chunks = datum["model_input"]["chunks"].as_array().unwrap().iter();
        let tokens = chunks.flat_map(|chunk| chunk["tokens"].as_array().cloned().unwrap_or_default());
        tokens.map(|token| u32::try_from(token.as_u64().unwrap()).unwrap()).collect()
    };
    let data = input["data"].as_array().map(|data| data.iter().map(tokens).collect()).unwrap_or_default();
    Run { kind, number: request.seq_id().unwrap(), data }
}
