//! A long run leaves the memory where it was.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Server, Settings};
use crate::local::transformer::Transformer;

struct Client(BufReader<TcpStream>);

impl Client {
    fn post(&mut self, endpoint: &str, body: &Value) -> Value {
        let body = body.to_string();
        let head = format!("x-api-key: tml-test\r\ncontent-length: {}", body.len());
        // One write: the system would wait before it sends the second.
        let request = format!("POST /api/v1/{endpoint} HTTP/1.1\r\n{head}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            length = line.strip_prefix("content-length: ").map_or(length, |length| length.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// The result of a request that gets a promise.
    fn call(&mut self, endpoint: &str, body: &Value) -> Value {
        let promise = self.post(endpoint, body);
        let result = self.post("retrieve_future", &json!({ "request_id": promise["request_id"] }));
        assert!(result.get("error").is_none() && result.get("detail").is_none(), "{promise} {result}");
        result
    }
}

#[test]
fn on_policy_iterations_leave_memory_unchanged() {
    let models = vec![Arc::new(Transformer::bytes_tiny()) as _];
    let settings = Settings { models, result_time: Duration::ZERO, ..Settings::default() };
    let server = Server::start(([127, 0, 0, 1], 0).into(), settings).unwrap();
    let mut client = Client(BufReader::new(TcpStream::connect(server.address()).unwrap()));
    let session = client.post("create_session", &json!({ "tags": [], "sdk_version": "0.38.0" }));
    let create = json!({
        "session_id": session["session_id"], "model_seq_id": 0, "base_model": "tinkex/bytes-tiny",
        "lora_config": { "rank": 1, "train_mlp": false, "train_unembed": false },
    });
    let model = client.call("create_model", &create)["model_id"].clone();
    let datum = json!({
        "model_input": { "chunks": [{ "type": "encoded_text", "tokens": [1] }] },
        "loss_fn_inputs": {
            "target_tokens": { "data": [2], "dtype": "int64", "shape": [1] },
            "weights": { "data": [1.0], "dtype": "float32", "shape": [1] },
        },
    });
    let mut counts = Vec::new();
    for iteration in 0..280 {
        let seq = 3 * iteration;
        let save = json!({ "model_id": model, "seq_id": seq + 1, "sampling_session_seq_id": iteration });
        let sampler = client.call("save_weights_for_sampler", &save)["sampling_session_id"].clone();
        let sample = json!({
            "sampling_session_id": sampler, "seq_id": 0, "num_samples": 1, "sampling_params": { "max_tokens": 1 },
            "prompt": { "chunks": [{ "type": "encoded_text", "tokens": [1] }] },
        });
        client.call("asample", &sample);
        let input = json!({ "data": [datum], "loss_fn": "cross_entropy" });
        let pass = json!({ "model_id": model, "seq_id": seq + 2, "forward_backward_input": input });
        client.call("forward_backward", &pass);
        client.call(
            "optim_step",
            &json!({ "model_id": model, "seq_id": seq + 3, "adam_params": { "learning_rate": 0.1 } }),
        );
        counts.push(server.state.entries());
    }
    // The tables of sequence numbers are cleaned from time to time.
    let (first, second) = counts.split_at(counts.len() / 2);
    assert_eq!(first.iter().max(), second.iter().max());
    assert!(second.iter().max() < Some(&1000), "{:?}", second.iter().max());
}
