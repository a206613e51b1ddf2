//! Recorded requests of the Python clients are accepted byte for byte, except for ids and model names. Those that are refused are
//! listed, with the reason.

mod of_2025;
mod of_2026;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::Client;

const BASE: &str = "tinkex/bytes-tiny";

/// A request that is refused: its recorded endpoint, the status, and what the detail says.
type Refusal = (&'static str, u16, &'static str);

/// A request that was refused: the same, with the whole detail.
type Refused = (String, u16, String);

/// The name of a fixture, and the requests of it that are refused, in order.
type Scenario = (&'static str, &'static [Refusal]);

/// The recorded server gave each of these another error.
const MISSING_RUNS: &[Refusal] = &[
    ("training_runs/e400", 404, "no training run"),
    ("training_runs/e401", 404, "no training run"),
    ("training_runs/e403", 404, "no training run"),
    ("training_runs/e404", 404, "no training run"),
    ("training_runs/e410", 404, "no training run"),
    ("training_runs/e418", 404, "no training run"),
    ("training_runs/e422", 404, "no training run"),
    ("training_runs/text", 404, "no training run"),
    ("training_runs/empty", 404, "no training run"),
    ("training_runs/badjson", 404, "no training run"),
    ("training_runs/html", 404, "no training run"),
    ("training_runs/schema", 404, "no training run"),
    ("training_runs/extra", 404, "no training run"),
    ("training_runs/redir", 404, "no training run"),
];

const TELEMETRY: &[Scenario] = &[
    ("60_telemetry", &[]),
    ("61_telemetry_batching", &[]),
    ("62_telemetry_failure", &[]),
    ("63_telemetry_future_events", &[]),
];

/// The recorded server failed now and then; this one does not.
const FAULTS: &[Scenario] = &[
    ("70_retry_429_retry_after", &[]),
    ("71_retry_status_codes", &[]),
    ("72_retry_400", &[]),
    ("73_retry_connection", &[]),
    ("74_retry_x_should_retry", &[]),
    ("75_retry_exhausted", &[]),
    ("76_execute_with_retries_backoff", &[]),
    ("77_asample_429_backpressure", &[]),
    ("80_future_poll_cadence", &[]),
    ("81_future_poll_sample_queue_state", &[]),
    ("82_future_request_failed", &[]),
    ("83_future_410", &[]),
    ("84_future_5xx", &[]),
    ("85_future_connection_errors", &[]),
    ("87_future_timeout", &[]),
];

/// Fails if there is a fixture in a folder that has requests and is not among the scenarios.
fn assert_all_are_replayed(folder: &str, scenarios: &[&[Scenario]]) {
    let with_requests = |path: &std::path::Path| {
        let is_fixture = path.extension().is_some_and(|extension| extension == "json");
        is_fixture && serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["exchanges"].is_array()
    };
    let paths = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| with_requests(path));
    let fixtures: BTreeSet<String> = paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let replayed = scenarios.iter().copied().flatten().map(|(name, _)| (*name).to_owned());
    assert_eq!(fixtures, replayed.collect::<BTreeSet<_>>());
}

/// Gives a run the checkpoints that the recorded server had.
pub(super) fn stock(client: &mut Client, run: &str) {
    for (endpoint, name) in [
        ("save_weights", "ckpt-1"),
        ("save_weights", "0001"),
        ("save_weights_for_sampler", "samp-1"),
        ("save_weights_for_sampler", "0002"),
        ("save_weights_external", "e1"),
    ] {
        let response = client.post(endpoint, json!({ "model_id": run, "path": name }));
        match response.status {
            200 => drop(client.result(response.json()["request_id"].as_str().unwrap())),
            status => assert_eq!(status, 400),
        }
    }
}

/// The recorded headers, except for those that belong to the connection or name the key.
fn headers(exchange: &Value) -> Vec<(&str, &str)> {
    let headers = exchange["headers"].as_object().unwrap().iter();
    let own = ["host", "x-api-key", "content-length", "connection"];
    headers
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (&**name, value.as_str().unwrap()))
        .collect()
}

/// Replaces recorded ids and names by those of this server. In a pass in protobuf, the id of the model comes first.
fn translated(body: Vec<u8>, ids: &BTreeMap<String, String>) -> Vec<u8> {
    let recorded = b"\x0a\x18sess-golden-0001:train:0";
    let text = match String::from_utf8(body) {
        Ok(text) if !text.as_bytes().starts_with(recorded) => text,
        other => {
            let body = other.map_or_else(|error| error.into_bytes(), String::into_bytes);
            let rest = body.strip_prefix(recorded).expect("a pass begins with its model");
            let model = format!("{}:train:0", ids["sess-golden-0001"]);
            return [&[0x0a, u8::try_from(model.len()).unwrap()], model.as_bytes(), rest].concat();
        }
    };
    let mut text = with_ids(&text, ids);
    for model in ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B"] {
        text = text.replace(model, BASE);
    }
    text.replace("\"base_model\":\"m\"", &format!("\"base_model\":\"{BASE}\"")).into()
}

fn with_ids(text: &str, ids: &BTreeMap<String, String>) -> String {
    // From the end: an id can begin with another one.
    ids.iter().rev().fold(text.to_owned(), |text, (recorded, own)| text.replace(recorded, own))
}

/// The server of a fixture: it announces the same settings.
fn start(fixture: &Value) -> LocalServer {
    let mut builder = LocalServer::builder();
    if let Ok(config) = serde_json::from_value(fixture["client_config_answer"].clone()) {
        builder = builder.client_config(config);
    }
    if let Ok(config) = serde_json::from_value(fixture["dynamic_config_answer"].clone()) {
        builder = builder.dynamic_config(config);
    }
    builder.start().unwrap()
}

/// Replays scenarios: exactly the expected requests are refused.
fn replay_all(scenarios: &[Scenario], fixture: fn(&str) -> Value, body: fn(&Value) -> Vec<u8>) {
    let mut wrong = Vec::new();
    for (name, expected) in scenarios {
        let refused = replay(name, &fixture(name), body);
        let is_expected = |((endpoint, status, detail), expected): (&Refused, &Refusal)| {
            (endpoint.as_str(), *status) == (expected.0, expected.1) && detail.contains(expected.2)
        };
        if refused.len() != expected.len() || !refused.iter().zip(*expected).all(is_expected) {
            wrong.push((name, refused));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sends every request of a scenario in order, and waits for each promise. Returns the refused ones.
fn replay(name: &str, fixture: &Value, body: fn(&Value) -> Vec<u8>) -> Vec<Refused> {
    let server = start(fixture);
    let mut client = Client::new(&server);
    // The recorded runs have this rank, and load its checkpoints.
    let run = client.model_of_rank(BASE, 32);
    stock(&mut client, &run);
    let mut ids = BTreeMap::from([("run-golden".to_owned(), run.clone())]);
    let mut refused = Vec::new();
    for exchange in fixture["exchanges"].as_array().unwrap() {
        let (method, path) = (exchange["method"].as_str().unwrap(), exchange["path"].as_str().unwrap());
        let recorded = path.split_once("/api/v1/").unwrap().1;
        // Polls are sent for the promises of this server instead. Large passes of 0.38.0 are only described.
        if recorded == "retrieve_future"
            || (exchange["body"]["truncated"] == true && exchange["body"]["json"].is_null())
        {
            continue;
        }
        let query = exchange["query"].as_str().filter(|query| !query.is_empty());
        let target = with_ids(recorded, &ids) + &query.map(|query| format!("?{query}")).unwrap_or_default();
        let headers = headers(exchange);
        let is_compressed = headers.contains(&("content-encoding", "zstd"));
        let body = if is_compressed { zstd::decode_all(&*body(exchange)).unwrap() } else { body(exchange) };
        let body = translated(body, &ids);
        let body = if is_compressed { zstd::encode_all(&*body, 0).unwrap() } else { body };
        client.send_with(method, &target, &headers, &body);
        let response = client.receive().unwrap();
        match response.status {
            200 if !response.body.is_empty() => {
                let response = response.json();
                for key in ["session_id", "request_id"] {
                    let of = |body: &Value| Some(body.get(key)?.as_str()?.to_owned());
                    // All sessions of a recording have one id.
                    if let Some((recorded, own)) = of(&exchange["response"]["json"]).zip(of(&response)) {
                        ids.entry(recorded).or_insert(own);
                    }
                }
                if recorded == "auth/token" {
                    client = client.key(response["jwt"].as_str().unwrap());
                }
                if let Some(id) = response.get("request_id") {
                    let result = client.result(id.as_str().unwrap());
                    assert!(result.get("error").is_none(), "{name} {target}: {result}");
                }
            }
            200 | 204 | 302 => {}
            status => refused.push((recorded.to_owned(), status, response.json()["detail"].to_string())),
        }
        if method == "DELETE" && recorded.contains("/checkpoints/") {
            stock(&mut client, &run);
        }
    }
    refused
}
