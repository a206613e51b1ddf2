//! A small client of OpenAI's API on a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::local_server::client::PATIENCE;

pub struct Client {
    stream: BufReader<TcpStream>,
    key: String,
    /// More headers, each line with its end.
    headers: String,
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    headers: Vec<String>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |line: &&String| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
        self.headers.iter().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }
}

impl Client {
    pub fn new(port: u16) -> Self {
        Client::on(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream), key: "tml-test".to_owned(), headers: String::new() }
    }

    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn send(&mut self, method: &str, path: &str, body: &Value) {
        let (body, key) = (if body.is_null() { String::new() } else { body.to_string() }, &self.key);
        let length = body.len();
        let authorization = if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
        let headers = &self.headers;
        let head = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: local.test\r\n{authorization}{headers}content-length: {length}\r\n"
        );
        self.stream.get_mut().write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    }

    pub fn head(&mut self) -> Head {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty())).collect();
        Head { status: status.expect("a status line"), headers }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The status and body of a whole response.
    pub fn receive(&mut self) -> (u16, Value) {
        let head = self.head();
        let length = head.header("content-length").expect("a length").parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (head.status, serde_json::from_slice(&body).unwrap())
    }

    /// The data of the next event; `None` at the end of the stream. Each event is a chunk.
    pub fn event(&mut self) -> Option<String> {
        let size = usize::from_str_radix(&self.line(), 16).expect("the size of a chunk");
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        let text = String::from_utf8(chunk).unwrap();
        let data = text.trim_end().strip_prefix("data: ").map(str::to_owned);
        assert_eq!(data.is_none(), size == 0, "{text:?}");
        data
    }

    /// The events of a stream in JSON; the last one must be `[DONE]`.
    pub fn events(&mut self) -> Vec<Value> {
        let head = self.head();
        assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")), "{head:?}");
        assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{head:?}");
        let mut events: Vec<String> = std::iter::from_fn(|| self.event()).collect();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    pub fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, body);
        self.receive()
    }

    pub fn get(&mut self, path: &str) -> (u16, Value) {
        self.send("GET", path, &Value::Null);
        self.receive()
    }

    /// Asks the scripted model, with these parameters besides.
    pub fn chat(&mut self, more: &Value) -> (u16, Value) {
        self.post("chat/completions", &chat(more))
    }
}

/// A request to the scripted model.
pub fn chat(more: &Value) -> Value {
    let mut body = json!({ "model": "test/speaker", "messages": [{ "role": "user", "content": "Hi" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The joined contents of a choice in events.
pub fn content(events: &[Value], choice: usize) -> String {
    let of_choice = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    let of_choice = of_choice.filter(|found| found["index"] == choice);
    of_choice.filter_map(|found| found["delta"]["content"].as_str().or(found["text"].as_str())).collect()
}

/// The reason for which a choice ended, which is told once.
pub fn finish_reason(events: &[Value], choice: usize) -> String {
    let of_choice = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    let reasons: Vec<&str> = of_choice
        .filter(|found| found["index"] == choice)
        .filter_map(|found| found["finish_reason"].as_str())
        .collect();
    assert_eq!(reasons.len(), 1, "{events:?}");
    reasons[0].to_owned()
}
