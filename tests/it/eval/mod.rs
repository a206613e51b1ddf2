//! Evaluation: through the public API, and by the program.

#[cfg(feature = "cli")]
mod program;
mod samples;

use serde_json::json;
use tinkex::eval::Task;

use crate::support::{RecordedRequest, Reply, Service, healthy_service};

/// The prompt of which no sample succeeds.
const UNLUCKY: &str = "unlucky";

/// A service whose model of bytes says what it was asked, in each sample.
fn parrot() -> Service {
    Service::start(|request| match request.path.as_str() {
        "asample" => {
            let id = format!("{}:{}", request.body["num_samples"], asked(request));
            Reply::ok(json!({"request_id": id}))
        }
        "retrieve_future" => {
            let (samples, text) = request.request_id().split_once(':').unwrap();
            let sequence =
                json!({"stop_reason": "stop", "tokens": text.as_bytes(), "logprobs": vec![-0.5; text.len()]});
            match text {
                UNLUCKY => Reply::ok(json!({"error": "out of luck", "category": "user"})),
                _ => Reply::ok(json!({"sequences": vec![sequence; samples.parse().unwrap()]})),
            }
        }
        _ => healthy_service(request),
    })
}

/// The text of a prompt in bytes.
fn asked(request: &RecordedRequest) -> String {
    let chunks = request.body["prompt"]["chunks"].as_array().unwrap();
    let tokens = chunks.iter().flat_map(|chunk| chunk["tokens"].as_array().unwrap());
    let bytes = tokens.map(|token| u8::try_from(token.as_u64().unwrap()).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// A task for each prompt and grade, as lines of a file.
fn lines(tasks: &[(&str, serde_json::Value)]) -> String {
    tasks.iter().map(|(prompt, grade)| json!({"prompt": prompt, "grade": grade}).to_string() + "\n").collect()
}

fn tasks(tasks: &[(&str, serde_json::Value)]) -> Vec<Task> {
    Task::from_jsonl(&lines(tasks)).unwrap()
}
