//! OpenAI's API, of the local server and of the proxy: the keys of those that use it, and that of the service behind it.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use tinkex::chat::{ChatTemplate, Renderer};
use tinkex::local::{LocalServer, OpenAiProxy};
use tinkex::types::{ModelInput, SamplingParams};
use tinkex::{Config, Proxy, ServiceClient, Tokenizer};

use super::{Shown, WORD, assert_hidden, bytes_on_the_wire, taken_log};

const MODEL: &str = "tinkex/bytes-tiny";

/// What comes back for these bytes.
fn exchange(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut response = Vec::new();
    // Requests that are refused may end with a reset.
    stream.read_to_end(&mut response).ok();
    String::from_utf8_lossy(&response).into_owned()
}

/// A request with a key, with these further headers and this body.
fn request(line: &str, key: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: local.test\r\nauthorization: Bearer {key}\r\nconnection: close\r\n");
    format!("{head}{headers}content-length: {length}\r\n\r\n{body}")
}

const CHAT: &str = "POST /v1/chat/completions";

/// The body of a chat, with these further fields.
fn chat(more: &str) -> String {
    format!(
        "{{\"model\": \"{MODEL}\", \"messages\": [{{\"role\": \"user\", \"content\": \"a\"}}], \"max_tokens\": 2{more}}}"
    )
}

/// A request that works.
fn works(key: &str) -> String {
    request(CHAT, key, "", &chat(""))
}

/// Everything that a client of OpenAI's API can get wrong, and something that works, with this key.
fn requests(key: &str) -> Vec<String> {
    let cookie = format!("cookie: session={key}\r\nx-api-key: {key}\r\nproxy-authorization: Basic {key}\r\n");
    vec![
        works(key),
        request(CHAT, key, &cookie, &chat(", \"stream\": true")),
        request(CHAT, key, &cookie, &chat(", \"top_k\": \"many\"")),
        request(CHAT, key, &cookie, "{"),
        request(CHAT, key, "content-encoding: gzip\r\n", "no gzip"),
        request(CHAT, key, "expect: nothing\r\n", &chat("")),
        request(CHAT, key, &cookie, &chat("").replace(MODEL, "tinkex/none")),
        request(&format!("GET /v1/models?key={key}"), key, "", ""),
        request("GET /v1/none", key, &cookie, ""),
        request("DELETE /v1/models", key, &cookie, ""),
        request("GET /v1/models", key, "origin: http://pages.test\r\n", ""),
        request("OPTIONS /v1/models", key, "origin: http://allowed.test\r\naccess-control-request-method: GET\r\n", ""),
        request("GET /v1/models", &format!("{key}\u{1}"), "", ""),
        request("GET /v1/models", key, "x: 1\r\ncontent-length: 9\r\n", ""),
        format!("GET /v1/models HTTP/1.1\r\nauthorization: Bearer {key}"),
        format!("authorization: Bearer {key}\r\n\r\n"),
        request("GET /v1/models", key, &format!("x: {}\r\n", key.repeat(20_000)), ""),
    ]
}

pub fn keys_of_openais_api_are_hidden(key: &str) {
    log::set_max_level(log::LevelFilter::Trace);
    taken_log();
    let (accepted, other) = (format!("{WORD}-of-the-program"), format!("sk-{WORD}-other"));
    let mut shown = Shown::default();

    let (known, known_there) = ([key.to_owned(), accepted.clone()], [key.to_owned(), accepted.clone()]);
    let builder = LocalServer::builder().api_key_check(move |key| known.iter().any(|known| known == key));
    let builder = builder.allow_origin("http://allowed.test");
    shown.debug(&builder);
    let server = builder.start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key(key).proxy(Proxy::Off);
    let service = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let sampler = service.create_sampling_client(MODEL).unwrap();
    let renderer = Renderer::new(ChatTemplate::builtin("plain").unwrap(), Tokenizer::bytes()).unwrap();
    let builder = OpenAiProxy::builder().model(MODEL, sampler.clone(), renderer);
    let builder = builder.api_key_check(move |key| known_there.iter().any(|known| known == key));
    let builder = builder.allow_origin("http://allowed.test");
    shown.debug(&builder);
    let proxy = builder.start().unwrap();
    shown.debug(&(&server, &proxy));

    let mut answers = String::new();
    for port in [server.port(), proxy.port()] {
        for key in [&accepted, &other] {
            for request in requests(key) {
                writeln!(answers, "{}", exchange(port, &request)).unwrap();
            }
        }
    }
    for expected in ["HTTP/1.1 200", "HTTP/1.1 204", "HTTP/1.1 400", "HTTP/1.1 401", "HTTP/1.1 403", "HTTP/1.1 404"] {
        assert!(answers.contains(expected), "no answer was {expected}");
    }
    assert_hidden("an answer", &answers);

    // The proxy's own requests fail once the service does not know its key.
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.header("authorization").is_some()), "no key was recorded");
    shown.debug(&requests);
    let (prompt, params) = (ModelInput::from_tokens(vec![1]), SamplingParams::default().max_tokens(1));
    service.close(Duration::from_secs(60));
    shown.error(&sampler.sample(&prompt, 1, &params).unwrap_err());
    let after = exchange(proxy.port(), &works(&accepted));
    assert!(after.starts_with("HTTP/1.1 5"), "{after}");
    assert_hidden("an answer of a proxy without its service", &after);

    // Origins are no secrets, but whoever mistakes one for an address may give a login or a token with it.
    for origin in [format!("http://me:{WORD}@pages.test"), format!("http://pages.test/?token={WORD}")] {
        let builder = LocalServer::builder().allow_origin(origin.clone());
        shown.error(&builder.start().unwrap_err());
        let builder = OpenAiProxy::builder().allow_origin(origin);
        shown.error(&builder.start().unwrap_err());
    }
    drop((proxy, server));
    assert_hidden("Debug or an error", &shown.0);
    let log = taken_log();
    assert!(log.contains("tinkex"), "the log was not captured");
    assert_hidden("the log", &log);
    assert_hidden("the log of the bytes on the wire", &bytes_on_the_wire(&log));
}
