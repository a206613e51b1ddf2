//! A small HTTP client on a socket, with helpers for common requests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::local::LocalServer;
use tinkex::types::wire::protobuf;

/// Long enough for a loaded machine; a passing test never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The `detail` of an error response.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_else(|| panic!("no detail: {self:?}")).to_owned()
    }
}

pub struct Client {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Client {
    pub fn new(server: &LocalServer) -> Self {
        Client::at(server.port())
    }

    pub fn at(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream), key: "tml-test".to_owned() }
    }

    /// Uses another API key or token from now on.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request without waiting for the response.
    pub fn send(&mut self, method: &str, endpoint: &str, body: &str) {
        self.send_with(method, endpoint, &[], body.as_bytes());
    }

    /// Sends a request with more headers, and any bytes as its body.
    pub fn send_with(&mut self, method: &str, endpoint: &str, headers: &[(&str, &str)], body: &[u8]) {
        let (length, key) = (body.len(), &self.key);
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("host: local.test\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n{headers}");
        let head = format!("{method} /api/v1/{endpoint} HTTP/1.1\r\n{head}\r\n");
        self.write([head.as_bytes(), body].concat()).unwrap();
    }

    /// Posts a pass in protobuf.
    pub fn post_protobuf(&mut self, endpoint: &str, body: &[u8]) -> Response {
        self.send_with("POST", endpoint, &[("content-type", protobuf::CONTENT_TYPE)], body);
        self.receive().unwrap()
    }

    /// Polls once for a result, and accepts protobuf.
    pub fn poll_protobuf(&mut self, request_id: &str) -> Response {
        let body = json!({ "request_id": request_id }).to_string();
        self.send_with("POST", "retrieve_future", &[("accept", protobuf::CONTENT_TYPE)], body.as_bytes());
        self.receive().unwrap()
    }

    pub fn receive(&mut self) -> io::Result<Response> {
        let mut response = self.receive_head()?;
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        response.body.resize(length, 0);
        self.stream.read_exact(&mut response.body)?;
        Ok(response)
    }

    /// Receives a response without a body, whatever its headers say.
    pub fn receive_head(&mut self) -> io::Result<Response> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        Ok(Response { status, headers, body: Vec::new() })
    }

    /// Sends no more.
    pub fn end(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).ok();
    }

    /// Whether the server has closed the connection, without a reset.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    pub fn get(&mut self, endpoint: &str) -> Response {
        self.send("GET", endpoint, "");
        self.receive().unwrap()
    }

    /// Sends a request with any method and no body.
    pub fn request(&mut self, method: &str, endpoint: &str) -> Response {
        self.send(method, endpoint, "");
        self.receive().unwrap()
    }

    /// Follows a link of this server, without an API key.
    pub fn follow(&mut self, link: &str) -> Response {
        let path = link.strip_prefix("http://local.test").unwrap();
        self.write(format!("GET {path} HTTP/1.1\r\n\r\n")).unwrap();
        self.receive().unwrap()
    }

    pub fn post(&mut self, endpoint: &str, body: Value) -> Response {
        self.send("POST", endpoint, &body.to_string());
        self.receive().unwrap()
    }

    /// Posts and expects status 200.
    pub fn ok(&mut self, endpoint: &str, body: Value) -> Value {
        let response = self.post(endpoint, body);
        assert_eq!(response.status, 200, "{endpoint}: {}", String::from_utf8_lossy(&response.body));
        response.json()
    }

    /// Posts a request whose response is a promise; returns the id of the promise.
    pub fn promise(&mut self, endpoint: &str, body: Value) -> String {
        self.ok(endpoint, body)["request_id"].as_str().unwrap().to_owned()
    }

    /// Polls for a result until it is ready.
    pub fn result(&mut self, request_id: &str) -> Value {
        loop {
            let response = self.post("retrieve_future", json!({ "request_id": request_id }));
            match response.status {
                408 => assert_eq!(response.json()["queue_state"], "active"),
                status => {
                    assert_eq!(status, 200, "{request_id}: {}", String::from_utf8_lossy(&response.body));
                    return response.json();
                }
            }
        }
    }

    /// Posts a request whose response is a promise, and waits for the result.
    pub fn call(&mut self, endpoint: &str, body: Value) -> Value {
        let id = self.promise(endpoint, body);
        self.result(&id)
    }

    pub fn session(&mut self) -> String {
        let response = self.ok("create_session", json!({ "tags": [], "user_metadata": null, "sdk_version": "0.4.1" }));
        response["session_id"].as_str().unwrap().to_owned()
    }

    /// A new training run in a new session, of a small rank.
    pub fn model(&mut self, base_model: &str) -> String {
        self.model_of_rank(base_model, 8)
    }

    /// A new training run of this rank in a new session.
    pub fn model_of_rank(&mut self, base_model: &str, rank: usize) -> String {
        let session_id = self.session();
        let response = self.call(
            "create_model",
            json!({
                "session_id": session_id, "model_seq_id": 0, "base_model": base_model, "user_metadata": null,
                "lora_config": { "rank": rank, "seed": 1, "train_unembed": true, "train_mlp": true, "train_attn": true },
            }),
        );
        response["model_id"].as_str().unwrap().to_owned()
    }

    /// A sampling session on a base model, in a new session.
    pub fn sampler(&mut self, base_model: &str) -> String {
        let session_id = self.session();
        let body = json!({
            "session_id": session_id, "sampling_session_seq_id": 0, "base_model": base_model, "model_path": null,
        });
        self.ok("create_sampling_session", body)["sampling_session_id"].as_str().unwrap().to_owned()
    }
}

/// A batch of one text, in which each byte is predicted from those before it.
pub fn batch(text: &str) -> Value {
    let bytes = text.as_bytes();
    let (input, targets) = (&bytes[..bytes.len() - 1], &bytes[1..]);
    let weights = vec![1.0; targets.len()];
    json!({
        "data": [{
            "loss_fn_inputs": {
                "target_tokens": { "data": targets, "dtype": "int64", "shape": [targets.len()] },
                "weights": { "data": weights, "dtype": "float32", "shape": [targets.len()] },
            },
            "model_input": { "chunks": [{ "tokens": input }] },
        }],
        "loss_fn": "cross_entropy",
        "loss_fn_config": null,
    })
}

pub fn forward_backward(model_id: &str, seq_id: u64, text: &str) -> Value {
    json!({ "forward_backward_input": batch(text), "model_id": model_id, "seq_id": seq_id })
}

/// The loss of a model on a text.
pub fn loss(client: &mut Client, model_id: &str, seq_id: u64, text: &str) -> f64 {
    let body = json!({ "forward_input": batch(text), "model_id": model_id, "seq_id": seq_id });
    client.call("forward", body)["metrics"]["loss:sum"].as_f64().unwrap()
}

pub fn optim_step(model_id: &str, seq_id: u64, learning_rate: f64) -> Value {
    json!({ "adam_params": { "learning_rate": learning_rate }, "model_id": model_id, "seq_id": seq_id })
}

pub fn save(model_id: &str, seq_id: u64, name: &str) -> Value {
    json!({ "model_id": model_id, "path": name, "seq_id": seq_id })
}

pub fn sample(sampler_id: &str, seq_id: u64, prompt: &str, params: Value) -> Value {
    json!({
        "sampling_session_id": sampler_id, "seq_id": seq_id, "num_samples": 1, "prompt_logprobs": false, "topk_prompt_logprobs": 0,
        "prompt": { "chunks": [{ "tokens": prompt.as_bytes() }] }, "sampling_params": params,
    })
}
