//! A service for training that takes the formats of one generation, keeps its numbers in one way, and records what it runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tinkex::types::wire::protobuf;

use super::double::{Numbers, Results, SeenDatum, SeenPass, pass_message};
use super::{RecordedRequest, Reply, healthy_service};

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
    numbers: Numbers::Keyed,
};

/// The newest servers.
pub const PROTOBUF_ONLY: Generation = Generation {
    name: "SkyRL 0.4.0",
    json: 415,
    forward: 404,
    protobuf: 200,
    results: Results::Protobuf,
    numbers: Numbers::Keyed,
};

/// A newest server that insists on its numbers.
pub const CONTIGUOUS: Generation =
    Generation { name: "TuFT 0.2.2", results: Results::Json, numbers: Numbers::Contiguous, ..PROTOBUF_ONLY };

/// Servers that take both formats, and send results in JSON whatever is asked for.
pub const BOTH: Generation = Generation { name: "both, results in JSON", protobuf: 200, ..JSON_ONLY };

/// Servers that take both formats, and send results as they are asked for.
pub const BOTH_BY_ACCEPT: Generation = Generation { name: "tinker-cloud, open-rl", results: Results::Protobuf, ..BOTH };

/// A server that has protobuf for results alone.
pub const PROTOBUF_RESULTS: Generation =
    Generation { name: "protobuf for results alone", results: Results::Protobuf, ..JSON_ONLY };

/// One that takes both formats, and has no `forward`.
pub const WITHOUT_FORWARD: Generation = Generation { name: "miles", forward: 404, ..BOTH };

pub const GENERATIONS: [Generation; 7] =
    [JSON_ONLY, PROTOBUF_ONLY, CONTIGUOUS, BOTH, BOTH_BY_ACCEPT, PROTOBUF_RESULTS, WITHOUT_FORWARD];

/// A request that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub kind: &'static str,
    pub number: u64,
    /// The batch of a pass.
    pub data: Vec<SeenDatum>,
}

/// What goes wrong with a request.
pub enum Mishap {
    /// This reply, before anything is run.
    Refused(Reply),
    /// It is run, and this is the response.
    Answered(Reply),
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
    runs: Mutex<Vec<Run>>,
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
        let (mishaps, runs) = (Box::new(mishaps), Mutex::default());
        PassServer(Arc::new(Shared { generation, settings, mishaps, runs }))
    }

    /// A server with these settings, where this happens to requests to a path, in turn.
    pub fn in_turn(
        generation: Generation,
        settings: Value,
        path: &'static str,
        mishaps: impl Fn(usize) -> Option<Mishap> + Send + Sync + 'static,
    ) -> Self {
        let count = AtomicUsize::new(0);
        PassServer::with(generation, settings, move |request| {
            (request.path == path).then(|| mishaps(count.fetch_add(1, Ordering::SeqCst))).flatten()
        })
    }

    /// What was run, in order.
    pub fn runs(&self) -> Vec<Run> {
        self.0.runs.lock().unwrap().clone()
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
            422 => return Reply::Json(422, json!({"detail": "the body is no JSON"})),
            500 => return Reply::Json(500, json!({"detail": "Internal Server Error"})),
            other => panic!("{other}"),
        }
        let mishap = (self.0.mishaps)(request);
        match mishap {
            Some(Mishap::Refused(reply)) => reply,
            Some(Mishap::Answered(reply)) => {
                self.run(request);
                reply
            }
            None => self.run(request),
        }
    }

    fn run(&self, request: &RecordedRequest) -> Reply {
        let run = run(request);
        let mut runs = self.0.runs.lock().unwrap();
        let next = runs.len() as u64 + 1;
        let known = runs.iter().position(|known| known.number == run.number);
        let index = match (self.0.generation.numbers, known) {
            (Numbers::Contiguous, _) if run.number != next => {
                let detail = format!("Sequence conflict: expected {next}, got {}", run.number);
                return Reply::Json(409, json!({ "detail": detail }));
            }
            (Numbers::Keyed, Some(known)) => known,
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
            .map(|datum| {
                let logprobs: Vec<_> = datum.tokens.iter().map(|&token| -(token as f64)).collect();
                json!({"logprobs": {"data": logprobs, "dtype": "float32", "shape": [datum.tokens.len()]}})
            })
            .collect();
        let first = run.data.first().and_then(|datum| datum.tokens.first());
        let result = json!({
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": outputs,
            // Of the first token, so that the weight of each chunk shows.
            "metrics": {"loss:sum": run.number, "first:mean": first, "first:slack": first},
        });
        let accepts_protobuf = request.header("accept").is_some_and(|accept| accept.contains(protobuf::CONTENT_TYPE));
        let is_asked = self.0.generation.json == 415 || accepts_protobuf;
        if self.0.generation.results == Results::Json || !is_asked {
            return Reply::ok(result);
        }
        Reply::typed(protobuf::CONTENT_TYPE, pass_message(result))
    }
}

/// What a request asks for.
fn run(request: &RecordedRequest) -> Run {
    let kind = match &*request.path {
        "optim_step" => "optim_step",
        "save_weights" => "save_weights",
        _ => {
            let pass = SeenPass::read(request).unwrap();
            let kind = if pass.forward_only { "forward" } else { "forward_backward" };
            return Run { kind, number: pass.seq_id, data: pass.data };
        }
    };
    Run { kind, number: request.seq_id().unwrap(), data: Vec::new() }
}
