//! Damaged requests never make the server panic, nor the tasks behind its promises: recorded requests of both clients, with random
//! changes to their bodies, to what is compressed in them, to their targets and to their heads. `QUICKCHECK_TESTS` sets the number
//! of requests, 100 by default.

use std::iter;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quickcheck::{Arbitrary, Gen, TestResult, quickcheck};
use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, Response};
use super::golden::stock;
use crate::support::damage::{Change, damage};
use crate::support::golden::{FOLDER, FOLDER_2026};

const BASE: &str = "tinkex/bytes-tiny";
const HOLD: Duration = Duration::from_millis(1);
const MAX_POLLS: usize = 2000;

/// A recorded request.
#[derive(Clone, Debug)]
struct Recorded {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// All recorded requests of moderate size, for the model and the sessions of the fuzzed server.
static RECORDED: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for folder in [FOLDER, FOLDER_2026] {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            all.extend(fixture["exchanges"].as_array().into_iter().flatten().filter_map(recorded));
        }
    }
    assert!(all.len() > 500, "{}", all.len());
    all
});

fn recorded(exchange: &Value) -> Option<Recorded> {
    let body = &exchange["body"];
    if body["truncated"] == true {
        return None;
    }
    let path = exchange["path"].as_str()?.split_once("/api/v1/")?.1;
    // Revokes the key that all requests have.
    if path == "auth/apikey/me" {
        return None;
    }
    let query = exchange["query"].as_str().map(|query| format!("?{query}")).unwrap_or_default();
    let kept = ["content-type", "content-encoding", "accept", "x-tinker-request-type"];
    let headers = exchange["headers"].as_object()?.iter().filter(|(name, _)| kept.contains(&name.as_str()));
    Some(Recorded {
        method: exchange["method"].as_str()?.to_owned(),
        target: format!("{path}{query}"),
        headers: headers.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
        body: match body["raw_b64"].as_str() {
            Some(bytes) => STANDARD.decode(bytes).ok()?,
            None => body["raw"].as_str().unwrap_or_default().into(),
        },
    })
}

/// What is changed.
#[derive(Clone, Copy, Debug)]
enum Part {
    Body,
    /// What the body contains, before it is compressed with zstd.
    Content,
    Target,
    Head,
}

impl Arbitrary for Part {
    fn arbitrary(g: &mut Gen) -> Self {
        *g.choose(&[Part::Body, Part::Body, Part::Body, Part::Content, Part::Target, Part::Head]).unwrap()
    }
}

/// A server with the model and the samplers that the recorded requests name, once their session is renamed.
struct Fuzzed {
    server: LocalServer,
    session: String,
    model: String,
}

static FUZZED: LazyLock<Mutex<Fuzzed>> = LazyLock::new(|| {
    let server = LocalServer::builder().hold_time(HOLD).max_body(1 << 20).max_models(10_000).start().unwrap();
    let (session, model) = stocked_model(&server);
    Mutex::new(Fuzzed { server, session, model })
});

/// A new session with a model, its checkpoints and a sampler; returns the ids of session and model.
fn stocked_model(server: &LocalServer) -> (String, String) {
    let mut client = Client::new(server);
    let model = client.model(BASE);
    let session = model.split_once(':').unwrap().0.to_owned();
    stock(&mut client, &model);
    client.ok(
        "create_sampling_session",
        json!({ "session_id": session, "sampling_session_seq_id": 0, "base_model": BASE, "type": "create_sampling_session" }),
    );
    (session, model)
}

/// Replaces all of one run of bytes by another.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(place) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..place]);
        out.extend_from_slice(to);
        rest = &rest[place + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

impl Fuzzed {
    /// The request as one for this server: a pass in protobuf begins with the model, all else names it as text.
    fn translated(&self, recorded: &Recorded) -> Recorded {
        let model = [&[0x0a, u8::try_from(self.model.len()).unwrap()], self.model.as_bytes()].concat();
        let body = replace(&recorded.body, b"\x0a\x18sess-golden-0001:train:0", &model);
        let body = replace(&body, b"sess-golden-0001", self.session.as_bytes());
        let body = replace(&replace(&body, b"run-golden", self.model.as_bytes()), b"Qwen/Qwen3-8B", BASE.as_bytes());
        let target = recorded.target.replace("sess-golden-0001", &self.session).replace("run-golden", &self.model);
        Recorded { body, target, ..recorded.clone() }
    }

    /// Sends a request. Returns the response, unless the head was too damaged for one; it has no body if the head was damaged.
    fn send(&self, part: Part, changes: &[Change], recorded: &Recorded) -> Option<Response> {
        let Recorded { method, target, mut headers, mut body } = self.translated(recorded);
        let mut target = target.into_bytes();
        let mut client = Client::new(&self.server);
        match part {
            Part::Body => damage(&mut body, changes),
            Part::Content => {
                damage(&mut body, changes);
                body = zstd::encode_all(&*body, 0).unwrap();
                headers.push(("content-encoding".to_owned(), "zstd".to_owned()));
            }
            Part::Target => {
                damage(&mut target, changes);
                target.retain(|byte| byte.is_ascii_graphic());
            }
            Part::Head => {
                let mut head = format!("{method} /api/v1/{} HTTP/1.1\r\nx-api-key: tml-test\r\n", recorded.target);
                head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
                let mut bytes = format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes();
                damage(&mut bytes, changes);
                // The server may close the connection in the middle.
                drop(client.write([bytes, body].concat()));
                client.end();
                return client.receive_head().ok();
            }
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.send_with(&method, std::str::from_utf8(&target).unwrap(), &headers, &body);
        Some(client.receive().unwrap())
    }

    /// The panic of the task behind a promise, if there is one.
    fn panic_of_task(&self, response: &Response) -> Option<String> {
        let promise: Value = serde_json::from_slice(&response.body).ok()?;
        let id = promise.get("request_id")?.as_str()?;
        let mut client = Client::new(&self.server);
        let poll = || client.post("retrieve_future", json!({ "request_id": id }));
        // A damaged number can ask for samples that take minutes.
        let Some(result) = iter::repeat_with(poll).take(MAX_POLLS).find(|result| result.status != 408) else {
            client.post("cancel_future", json!({ "request_id": id }));
            return None;
        };
        let error = result.json().get("error")?.to_string();
        error.contains("panicked").then_some(error)
    }

    /// Replaces a model that was unloaded, and one whose session has ended.
    fn renew(&mut self) {
        let mut client = Client::new(&self.server);
        let step = json!({ "model_id": self.model, "adam_params": { "learning_rate": 0.0 } });
        let sampler = client.get(&format!("samplers/{}:sample:0", self.session)).status;
        let response = client.post("optim_step", step);
        if response.status != 200 || sampler != 200 {
            (self.session, self.model) = stocked_model(&self.server);
        }
    }
}

quickcheck! {
    fn damaged_requests_never_panic(which: u16, part: Part, changes: Vec<Change>) -> TestResult {
        let mut fuzzed = FUZZED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let recorded = &RECORDED[usize::from(which) % RECORDED.len()];
        let changes = &changes[..changes.len().min(8)];
        let response = fuzzed.send(part, changes, recorded);
        let failure = response.and_then(|response| match response.status {
            500 => Some("500".to_owned()),
            _ => fuzzed.panic_of_task(&response),
        });
        if let Some(failure) = failure {
            return TestResult::error(format!("{failure} for {part:?} {changes:?} of {recorded:?}"));
        }
        fuzzed.renew();
        TestResult::passed()
    }
}
