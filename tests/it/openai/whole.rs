//! Whole answers of the local server.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, chat};
use super::speaker::Speaker;

#[test]
fn a_chat_gets_a_message() {
    let server = Speaker::serve("Hello!");
    let (status, body) = Client::new(server.port()).chat(&json!({}));
    assert_eq!((status, &body["object"], &body["model"]), (200, &json!("chat.completion"), &json!("test/speaker")));
    let choice = &body["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("Hello!"), &json!("stop")));
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-") && body["created"].as_u64().unwrap() > 0);
    // The token that ends the text is sampled, too.
    assert_eq!(body["usage"]["completion_tokens"], 7);
    assert!(body["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn the_limit_of_tokens_cuts_an_answer() {
    let server = Speaker::serve("Hello!");
    let (_, body) = Client::new(server.port()).chat(&json!({ "max_completion_tokens": 3, "n": 2 }));
    let choices = body["choices"].as_array().unwrap();
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("Hel"), &json!("length")));
        assert_eq!(choice["index"], index);
    }
    assert_eq!((choices.len(), &body["usage"]["completion_tokens"]), (2, &json!(6)));
}

#[test]
fn a_stop_is_not_part_of_the_answer() {
    let server = Speaker::serve("one END two");
    let mut client = Client::new(server.port());
    for stop in [json!("END"), json!(["nothing", "END"])] {
        let (_, body) = client.chat(&json!({ "stop": stop }));
        let choice = &body["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("one "), &json!("stop")));
    }
}

#[test]
fn reasoning_and_calls_are_apart() {
    let call = r#"{"name": "weather", "arguments": {"city": "Paris"}}"#;
    let server = Speaker::serve(&format!("<think>\nHm.\n</think>\n\nI ask.\n<tool_call>\n{call}\n</tool_call>"));
    let tool = json!({ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } });
    let mut client = Client::new(server.port());
    let (status, body) = client.chat(&json!({ "tools": [tool], "tool_choice": "auto" }));
    let (choice, message) = (&body["choices"][0], &body["choices"][0]["message"]);
    assert_eq!((status, &choice["finish_reason"]), (200, &json!("tool_calls")));
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("Hm."), &json!("I ask.")));
    let called = &message["tool_calls"][0];
    assert_eq!(called["function"], json!({ "name": "weather", "arguments": "{\"city\":\"Paris\"}" }));

    // What the client got goes back with the result, as programs do it.
    let mut messages = chat(&json!({}))["messages"].as_array().unwrap().clone();
    let result = json!({ "role": "tool", "tool_call_id": called["id"], "content": "Rain" });
    messages.extend([message.clone(), result]);
    assert_eq!(client.chat(&json!({ "tools": [tool], "messages": messages })).0, 200);
}

#[test]
fn log_probabilities_are_listed_in_two_forms() {
    let server = Speaker::serve("Hi");
    let mut client = Client::new(server.port());
    let (_, body) = client.chat(&json!({ "logprobs": true, "top_logprobs": 2 }));
    let content = body["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(content.len(), 2);
    assert_eq!(
        (&content[0]["token"], &content[0]["bytes"], &content[0]["logprob"]),
        (&json!("H"), &json!([72]), &json!(-0.5))
    );
    assert_eq!(content[1]["top_logprobs"][1], json!({ "token": "i", "logprob": -1.5, "bytes": [105] }));

    let (_, body) = client.post("completions", &json!({ "model": "test/speaker", "prompt": "a", "logprobs": 1 }));
    let logprobs = &body["choices"][0]["logprobs"];
    assert_eq!((&logprobs["tokens"], &logprobs["text_offset"]), (&json!(["H", "i"]), &json!([0, 1])));
    assert_eq!(logprobs["top_logprobs"][0], json!({ "H": -0.5 }));
}

#[test]
fn each_prompt_of_a_completion_is_continued() {
    let server = Speaker::serve("Hi");
    let body = json!({ "model": "test/speaker", "prompt": ["a", "b"], "n": 2 });
    let (_, body) = Client::new(server.port()).post("completions", &body);
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| &choice["text"]).collect::<Vec<_>>(), [&json!("Hi"); 4]);
    assert_eq!((&body["object"], &body["usage"]["prompt_tokens"]), (&json!("text_completion"), &json!(2)));
}

#[test]
fn a_seed_makes_the_same_answer_again() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(server.port());
    let mut ask = |seed: Value| {
        let body = json!({ "model": "tinkex/bytes-tiny", "prompt": [65, 66], "seed": seed, "max_tokens": 20 });
        client.post("completions", &body).1["choices"][0]["text"].clone()
    };
    assert_eq!(ask(json!(7)), ask(json!(7)));
    assert_ne!(ask(json!(7)), ask(json!(8)));
}

#[test]
fn models_are_listed_with_their_context() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(server.port());
    let (status, body) = client.get("models");
    let models = body["data"].as_array().unwrap();
    assert_eq!((status, models.len(), &models[0]["id"]), (200, 3, &json!("tinkex/bytes-tiny")));
    assert_eq!(models[0]["max_model_len"], 1024);
    assert_eq!(client.get("models/tinkex%2Fbytes-tiny").1, models[0]);
    assert_eq!(client.get("models/tinkex/bytes-tiny").1, models[0]);
    // A model without a template writes chats in the plain format.
    let body =
        json!({ "model": "tinkex/bytes-tiny", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 4 });
    let (status, body) = client.post("chat/completions", &body);
    assert_eq!((status, &body["usage"]["prompt_tokens"]), (200, &json!("User: Hi\n\nAssistant:".len())));
}
