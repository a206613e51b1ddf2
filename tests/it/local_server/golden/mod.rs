//! Recorded requests of the Python clients are accepted byte for byte, except for ids and model names.

mod of_2025;
mod of_2026;

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::Client;

const BASE: &str = "tinkex/bytes-tiny";

/// A request that was refused: its endpoint, the status and the detail.
type Refused = (String, u16, String);

/// Gives a run the checkpoints that the recorded servers had: two for training and two for samples, and one for other programs.
fn stock(client: &mut Client, run: &str) {
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
            status => assert_eq!(status, 409),
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
fn translated(body: Vec<u8>, session: &str, run: &str) -> Vec<u8> {
    let recorded = b"\x0a\x18sess-golden-0001:train:0";
    let text = match String::from_utf8(body) {
        Ok(text) if !text.as_bytes().starts_with(recorded) => text,
        other => {
            let body = other.map_or_else(|error| error.into_bytes(), String::into_bytes);
            let rest = body.strip_prefix(recorded).expect("a pass begins with its model");
            let model = format!("{session}:train:0");
            return [&[0x0a, u8::try_from(model.len()).unwrap()], model.as_bytes(), rest].concat();
        }
    };
    let mut text = text.replace("sess-golden-0001", session).replace("run-golden", run);
    for model in ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B"] {
        text = text.replace(model, BASE);
    }
    text.replace("\"base_model\":\"m\"", &format!("\"base_model\":\"{BASE}\"")).into()
}

/// Sends every request of a scenario in order, and waits for each promise. Returns the refused ones.
fn replay(name: &str, exchanges: Vec<Value>, body: fn(&Value) -> Vec<u8>) -> Vec<Refused> {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    let mut session = String::new();
    let mut refused = Vec::new();
    for exchange in &exchanges {
        let (method, path) = (exchange["method"].as_str().unwrap(), exchange["path"].as_str().unwrap());
        let endpoint =
            path.split_once("/api/v1/").unwrap().1.replace("run-golden", &run).replace("sess-golden-0001", &session);
        // Polls are sent for the promises of this server instead.
        if endpoint == "retrieve_future" || endpoint == "telemetry" {
            continue;
        }
        stock(&mut client, &run);
        let headers = headers(exchange);
        let is_compressed = headers.contains(&("content-encoding", "zstd"));
        let body = if is_compressed { zstd::decode_all(&*body(exchange)).unwrap() } else { body(exchange) };
        let body = translated(body, &session, &run);
        let body = if is_compressed { zstd::encode_all(&*body, 0).unwrap() } else { body };
        let query = exchange["query"].as_str().filter(|query| !query.is_empty());
        let target = query.map_or_else(|| endpoint.clone(), |query| format!("{endpoint}?{query}"));
        client.send_with(method, &target, &headers, &body);
        let response = client.receive().unwrap();
        if endpoint == "create_session" {
            session = response.json()["session_id"].as_str().unwrap().to_owned();
        }
        match response.status {
            200 if response.json().get("request_id").is_some() => {
                let id = response.json()["request_id"].as_str().unwrap().to_owned();
                let result = client.result(&id);
                assert!(result.get("error").is_none(), "{name} {endpoint}: {result}");
            }
            200 | 204 | 302 => {}
            status => refused.push((endpoint.clone(), status, response.json()["detail"].to_string())),
        }
    }
    refused
}
