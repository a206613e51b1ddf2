//! Answers that are streamed, and clients that go away.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tinkex::local::{Fault, LocalServer};

use super::client::{Client, chat, content, finish_reason};
use super::speaker::Speaker;
use crate::local_server::client::PATIENCE;

#[test]
fn a_token_is_sent_once_it_is_sampled() {
    let (model, gate, _) = Speaker::new("abc");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(server.port());
    client.send("POST", "chat/completions", &chat(&json!({ "stream": true })));
    gate.send(()).unwrap();
    assert_eq!(client.head().status, 200);
    let event: Value = serde_json::from_str(&client.event().unwrap()).unwrap();
    assert_eq!(event["choices"][0]["delta"], json!({ "role": "assistant", "content": "a" }));
    drop(gate);
    let rest: Vec<String> = std::iter::from_fn(|| client.event()).collect();
    // Two tokens, the end, and `[DONE]`.
    assert_eq!(rest.len(), 4, "{rest:?}");
    // The connection serves the next request.
    assert_eq!(client.get("models").0, 200);
}

#[test]
fn a_stream_has_what_a_whole_answer_has() {
    let call = r#"{"name": "f", "arguments": {}}"#;
    let server = Speaker::serve(&format!("<think>\nHm.\n</think>\n\nI ask.\n<tool_call>\n{call}\n</tool_call>"));
    let mut client = Client::new(server.port());
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let more = json!({ "stream": true, "stream_options": { "include_usage": true }, "tools": tools, "n": 2, "logprobs": true });
    client.send("POST", "chat/completions", &chat(&more));
    let mut events = client.events();
    let usage = events.pop().unwrap();
    assert!(usage["choices"] == json!([]) && usage["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{usage}");
    let (_, whole) = client.chat(&json!({ "tools": tools, "n": 2, "logprobs": true }));
    for choice in 0..2 {
        let message = &whole["choices"][choice]["message"];
        assert_eq!(content(&events, choice), message["content"]);
        assert_eq!(finish_reason(&events, choice), "tool_calls");
        let of_choice = || events.iter().map(|event| &event["choices"][0]).filter(|found| found["index"] == choice);
        let reasoning: String = of_choice().filter_map(|found| found["delta"]["reasoning_content"].as_str()).collect();
        assert_eq!(reasoning, message["reasoning_content"]);
        let calls: Vec<&Value> =
            of_choice().filter_map(|found| found["delta"]["tool_calls"].as_array()).flatten().collect();
        assert_eq!(
            (calls.len(), &calls[0]["function"], &calls[0]["index"]),
            (1, &message["tool_calls"][0]["function"], &json!(0))
        );
        let tokens = of_choice().filter_map(|found| found["logprobs"]["content"].as_array()).flatten().count();
        assert_eq!(tokens, whole["choices"][choice]["logprobs"]["content"].as_array().unwrap().len());
    }
}

#[test]
fn an_older_client_reads_up_to_the_end() {
    let server = Speaker::serve("abc");
    let body = chat(&json!({ "stream": true })).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.0\r\nconnection: keep-alive\r\nauthorization: Bearer tml-test";
    write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, events) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nconnection: close") && !head.contains("transfer-encoding"), "{head}");
    assert!(events.starts_with("data: {") && events.ends_with("data: [DONE]\n\n"), "{events:?}");
    assert!(events.split("\n\n").all(|event| event.is_empty() || event.starts_with("data: ")), "{events:?}");
}

#[test]
fn a_client_that_leaves_ends_its_samples() {
    for is_streamed in [true, false] {
        let (model, gate, counts) = Speaker::new("abcdef");
        let server = LocalServer::builder().model(model).start().unwrap();
        let mut client = Client::new(server.port());
        client.send("POST", "chat/completions", &chat(&json!({ "stream": is_streamed })));
        for _ in 0..3 {
            gate.send(()).unwrap();
        }
        if is_streamed {
            client.head();
            for _ in 0..3 {
                client.event().unwrap();
            }
        }
        drop(client);
        // No other token is let through: only the cancellation ends the sample.
        let sampled = counts.recv_timeout(PATIENCE).unwrap();
        assert!(if is_streamed { sampled == 3 } else { sampled <= 3 }, "{sampled}");
    }
}

#[test]
fn a_server_that_stops_cancels_its_answers() {
    let (model, gate, counts) = Speaker::new("abc");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(server.port());
    client.send("POST", "chat/completions", &chat(&json!({ "stream": true })));
    gate.send(()).unwrap();
    client.head();
    server.stop();
    assert_eq!(counts.recv_timeout(PATIENCE).unwrap(), 1);
}

#[test]
fn a_slow_reader_gets_fewer_larger_events() {
    // Far more than fits into the buffers of the sockets.
    const LENGTH: usize = 40_000;
    let (model, _, counts) = Speaker::new(&"a".repeat(LENGTH));
    let server = LocalServer::builder().model(model).start().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address: std::net::SocketAddr = ([127, 0, 0, 1], server.port()).into();
    socket.connect(&SockAddr::from(address)).unwrap();
    let mut client = Client::on(TcpStream::from(socket));
    let request = json!({ "model": "test/speaker", "prompt": "a", "max_tokens": LENGTH, "stream": true });
    client.send("POST", "completions", &request);
    // The model does not wait for the reader, who begins only now.
    assert_eq!(counts.recv_timeout(PATIENCE).unwrap(), LENGTH);
    let events = client.events();
    assert_eq!(content(&events, 0), "a".repeat(LENGTH));
    assert!(events.len() < LENGTH, "{}", events.len());
}

#[test]
fn faults_cut_a_stream() {
    let server = Speaker::serve("abc");
    server.inject(Fault::on("completions").times(1).truncate());
    let mut client = Client::new(server.port());
    client.send("POST", "chat/completions", &chat(&json!({ "stream": true })));
    assert_eq!(client.head().status, 200);
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.event()));
    assert!(cut.is_err(), "{cut:?}");
    server.inject(Fault::on("completions").times(1).status(429));
    assert_eq!(Client::new(server.port()).chat(&json!({})).0, 429);
}
