//! Refusals, in OpenAI's shape.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, chat};
use super::speaker::Speaker;

/// The parts of an error that programs look at.
fn parts(response: (u16, Value)) -> (u16, Value, Value) {
    let error = &response.1["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    assert!(error["type"].is_string(), "{error}");
    (response.0, error["code"].clone(), error["param"].clone())
}

#[test]
fn requests_are_refused_by_name() {
    let server = Speaker::serve("Hi");
    let mut client = Client::new(server.port());
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:," } }] }]);
    for (more, status, code, param) in [
        (json!({ "model": "test/none" }), 404, json!("model_not_found"), json!("model")),
        (json!({ "model": "tinker://run/sampler_weights/none" }), 404, json!("model_not_found"), json!("model")),
        (json!({ "temperature": "hot" }), 400, Value::Null, json!("temperature")),
        (json!({ "presence_penalty": 1 }), 400, json!("unsupported_parameter"), json!("presence_penalty")),
        (json!({ "messages": image }), 400, json!("unsupported_parameter"), json!("messages[0].content[0]")),
        (json!({ "tool_choice": "required" }), 400, json!("unsupported_parameter"), json!("tool_choice")),
        (json!({ "max_tokens": 2_000_000 }), 400, json!("context_length_exceeded"), Value::Null),
    ] {
        for is_streamed in [false, true] {
            let mut more = more.clone();
            more["stream"] = is_streamed.into();
            let expected = (status, code.clone(), param.clone());
            assert_eq!(parts(client.chat(&more)), expected, "{more}");
        }
    }
    assert_eq!(parts(client.get("embeddings")).0, 404);
    assert_eq!(parts(client.get("chat/completions")).0, 405);
    for name in ["none", "tinker:%2F%2Frun%2Fsampler_weights%2Fnone"] {
        let found = parts(client.get(&format!("models/{name}")));
        assert_eq!(found, (404, json!("model_not_found"), json!("model")), "{name}");
    }
    // The connection is as good as before.
    assert_eq!(client.chat(&json!({})).0, 200);
}

#[test]
fn a_key_is_needed_and_checked() {
    let server =
        LocalServer::builder().model(Speaker::new("Hi").0).api_key_check(|key| key == "tml-mine").start().unwrap();
    for (key, status) in [("", 401), ("tml-other", 401), ("tml-mine", 200)] {
        let mut client = Client::new(server.port()).key(key);
        client.send("POST", "chat/completions", &chat(&json!({})));
        let response = client.receive();
        assert_eq!(response.0, status, "{key}");
        if status == 401 {
            assert_eq!(parts(response).1, "invalid_api_key");
        }
    }
}
