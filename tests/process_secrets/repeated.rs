//! A service that repeats every secret it has seen, with control characters, wherever it can say something.

use std::fmt::Write;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::json;
use tinkex::types::{AdamParams, LoraConfig, LossFn};
use tinkex::{Error, ErrorKind, Event, Proxy, ServiceClient};

use super::support::{RecordedRequest, Reply, Service, batch, captured_log, healthy_service, result, tunnelling_proxy};
use super::{Shown, WORD, assert_hidden, bytes_on_the_wire, reported, taken_log};

/// Ends a line, clears a terminal, and writes backwards.
const HOSTILE: &str = "\r\nERROR forged\u{1b}[2J\u{9b}31m\u{202e}\u{2028}";

/// The longest line for a person, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// What a service says: something that may be in a header, and anything.
struct Said<'a> {
    header: &'a str,
    text: &'a str,
}

/// The query of a redirect, which only [`Error::header`] shows.
const SIGNATURE: &str = "sig=of-the-address";

const OF_CALL: &str = "-of-a-call";

type Place = (&'static str, fn(&Said<'_>) -> Reply);

fn detail(status: u16, said: &Said<'_>) -> Reply {
    Reply::Json(status, json!({"detail": said.text, "category": said.text}))
}

fn plain(status: u16, body: String) -> Reply {
    Reply::Full { status, headers: Vec::new(), body: body.into_bytes() }
}

fn moved(status: u16, said: &Said<'_>) -> Reply {
    let path = said.header.replace(' ', "/");
    let location = format!("http://me:{WORD}-word@127.0.0.1:1/{path}?{SIGNATURE}");
    let headers = vec![("location", location)];
    Reply::Full { status, headers, body: b"moved".to_vec() }
}

/// Where a service can repeat something in the response to a call.
const PLACES: [Place; 13] = [
    ("detail", |said| detail(400, said)),
    ("unauthorized", |said| detail(401, said)),
    ("billing", |said| detail(402, said)),
    ("busy", |said| Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({"error": said.text}))),
    ("validation", |said| Reply::Json(422, json!({"detail": [{"loc": ["body", said.text], "msg": said.text}]}))),
    ("plain", |said| plain(404, said.header.to_owned())),
    ("page", |said| plain(500, format!("<html>{}", said.text))),
    ("header", |said| Reply::with_headers(400, &[("x-echo", said.header)], &json!({}))),
    ("status line", |said| {
        Reply::Raw(format!("HTTP/1.1 409 {}\r\ncontent-length: 0\r\n\r\n", said.header).into_bytes())
    }),
    ("moved", |said| moved(307, said)),
    ("of another shape", |said| Reply::ok(json!({"kind": said.text}))),
    ("no JSON", |said| plain(200, format!("{} {}", said.text, "x".repeat(10_000)))),
    ("cut", |said| Reply::Raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n\"{}", said.text).into_bytes())),
];

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "it is never read")]
struct Known {
    kind: Kind,
}

#[derive(Debug, Deserialize)]
enum Kind {}

/// The secrets that a service has seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    /// Remembers those of a request, and returns all.
    fn add(&self, request: &RecordedRequest) -> String {
        let mut seen = self.0.lock().unwrap();
        let secrets = request.headers.iter().map(|(_, value)| value).filter(|value| value.contains(WORD));
        // No other request knows a header of one call.
        let (of_call, of_client): (Vec<_>, Vec<_>) = secrets.partition(|value| value.ends_with(OF_CALL));
        for value in of_client {
            if !seen.contains(value) {
                seen.push(value.clone());
            }
        }
        seen.iter().chain(of_call).cloned().collect::<Vec<_>>().join(" ")
    }
}

/// What a person sees of an error has no control character, and fits on a page.
fn assert_readable(what: &str, text: &str) {
    for line in text.split('\n') {
        let is_hostile = |letter: char| letter.is_control() || "\u{202e}\u{2028}".contains(letter);
        let found = line.find(is_hostile).map(|at| &line[..at]);
        assert_eq!(found, None, "{what} has a control character after this");
        assert!(line.len() <= MAX_LINE, "{what} has a line of {} bytes", line.len());
    }
}

fn check(shown: &mut Shown, what: &str, error: &Error) {
    shown.error(error);
    for text in [error.to_string(), format!("{error:?}"), error.message().to_owned()] {
        assert_readable(what, &text);
    }
    assert!(!error.to_string().contains(['\n', '\r']) && !error.to_string().contains(SIGNATURE), "{what}: {error}");
    assert_hidden(what, &format!("{error} {error:#?} {:?} {:?}", error.body(), error.header("location")));
}

/// The errors, events, telemetry and log of a client whose service repeats all that it has seen, at every level.
pub fn repeated_secrets_are_hidden(key: &str) {
    log::set_max_level(log::LevelFilter::Trace);
    taken_log();
    let seen = Seen::default();
    let (polls, known) = (AtomicU32::new(0), seen.clone());
    let service = Service::start_current(move |request| {
        let header = known.add(request);
        let text = format!("{HOSTILE}{header}");
        let said = Said { header: &header, text: &text };
        match &*request.path {
            "client/config" => Reply::ok(json!({"pjwt_auth_enabled": true})),
            "client/dynamic_config" => Reply::ok(json!({})),
            "auth/token" => Reply::ok(json!({"jwt": format!("eyJhbGciOiJIUzI1NiJ9.e30.{WORD}-token")})),
            "create_session" => {
                let message = json!(text);
                let body = json!({"session_id": "session-1", "info_message": message, "warning_message": message});
                Reply::with_headers(200, &[("x-deprecation-note", &header)], &body)
            }
            "session_heartbeat" => detail(500, &said),
            "retrieve_future" if request.request_id().starts_with("optim_step") => {
                Reply::ok(json!({"error": text, "category": "user"}))
            }
            "retrieve_future" => match polls.fetch_add(1, Ordering::SeqCst) {
                count @ (0 | 1) => {
                    let queue =
                        json!({"queue_state": "paused_capacity", "queue_state_reason": text, "type": "try_again"});
                    Reply::Json(if count == 0 { 408 } else { 200 }, queue)
                }
                2 => detail(503, &said),
                _ => result(request.request_id()),
            },
            path if path.starts_with("echo/") => {
                let number: usize = path.trim_start_matches("echo/").parse().unwrap();
                PLACES[number].1(&said)
            }
            path if path.ends_with("/finish") => detail(500, &said),
            _ => healthy_service(request),
        }
    });
    let events = Arc::new(Mutex::new(String::new()));
    let observed = Arc::clone(&events);
    let config = service
        .config()
        .api_key(key)
        .cloudflare_access(format!("{WORD}-client-id"), format!("{WORD}-client-secret"))
        .header("authorization", format!("Bearer {WORD}-bearer"))
        .header("x-gateway", format!("{WORD}-gateway"))
        .heartbeat_interval(Duration::from_millis(5))
        .timeout_billing(Some(Duration::ZERO))
        .telemetry(true)
        .max_retries(1)
        .retry_base(Duration::from_millis(1))
        .retry_cap(Duration::from_millis(2))
        .observer(move |event: &Event| writeln!(observed.lock().unwrap(), "{event:?}").unwrap());
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let mut shown = Shown::default();
    let api = client.api().with_header("x-copy", format!("{WORD}{OF_CALL}"));
    for (number, (name, _)) in PLACES.iter().enumerate() {
        let response = api.get(format!("/api/v1/echo/{number}")).send();
        let error = response.and_then(|response| response.json::<Known>()).unwrap_err();
        check(&mut shown, name, &error);
        client.telemetry().log_exception(&error);
    }
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    assert!(error.message().contains("****"), "{error}");
    check(&mut shown, "a failed request", &error);
    service.wait_for_count("session_heartbeat", 2);
    client.close(Duration::from_secs(60));
    assert_eq!(seen.0.lock().unwrap().len(), 6, "the key, the token, and what a gateway wants: {:?}", seen.0);

    assert_hidden("Debug or an error", &shown.0);
    assert_hidden("the telemetry", &reported(&service));
    let events = events.lock().unwrap();
    assert!(events.contains("PollFailed") && events.contains("QueueState"), "events are missing");
    assert_hidden("an event", &events);
    let lines = captured_log::take();
    for line in lines.iter().filter(|line| line.target.starts_with("tinkex")) {
        assert_readable("the log", &line.text);
    }
    let log: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for expected in ["the service says:", "is paused:", "was not told that the session has ended"] {
        assert!(log.contains(expected), "{expected:?} was not logged");
    }
    assert_hidden("the log", &log);
    let wire = bytes_on_the_wire(&log);
    assert!(wire.contains("HTTP/1.1.307") && wire.contains("*0000*"), "the bytes on the wire were not captured");
    assert_hidden("the log of the bytes on the wire", &wire);
}

/// A proxy wants a password, which is sent in base64.
pub fn the_login_of_a_proxy_is_hidden() {
    log::set_max_level(log::LevelFilter::Trace);
    taken_log();
    let service = Service::start(healthy_service);
    let (proxy, tunnels) = tunnelling_proxy(str::to_owned);
    let login = format!("me:{WORD}-proxy");
    let config = service.config().proxy(Proxy::Url(format!("http://{login}@127.0.0.1:{proxy}")));
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap().close(Duration::from_secs(60));
    let encoded = STANDARD.encode(login);
    assert!(tunnels.lock().unwrap()[0].contains(&encoded), "the login was not sent");
    let log = taken_log();
    for text in [bytes_on_the_wire(&log), log] {
        assert_hidden("the log", &text);
        assert!(!text.contains(&encoded), "the login of the proxy shows");
    }
}

/// A promise whose id is a megabyte of control characters, whatever becomes of it.
pub fn a_hostile_id_is_not_shown() {
    log::set_max_level(log::LevelFilter::Debug);
    let id = HOSTILE.repeat(40_000);
    let sent = id.clone();
    let service = Service::start(move |request| match &*request.path {
        "optim_step" => Reply::ok(json!({ "request_id": sent })),
        "retrieve_future" if request.request_id() == sent && request.iteration() == Some(0) => Reply::Close,
        "retrieve_future" if request.request_id() == sent => Reply::Json(422, json!({"detail": "no"})),
        _ => healthy_service(request),
    });
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert_eq!(error.request_id(), Some(&*id), "programs get the whole id");
    check(&mut Shown::default(), "an error with an id", &error);
    client.close(Duration::from_secs(60));
    let lines = captured_log::take();
    assert!(lines.iter().any(|line| line.text.contains("poll 0 of")), "the poll was not logged");
    for line in lines.iter().filter(|line| line.target.starts_with("tinkex")) {
        assert_readable("the log", &line.text);
    }
}

/// A body with asterisks that is compressed, though nobody asked for that.
pub fn compressed_bodies_stay_whole() {
    log::set_max_level(log::LevelFilter::Trace);
    let text = |number: u32| format!("{{\"number\": {number}}}").into_bytes();
    let compress = |text: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let (text, compressed) = (0..)
        .map(|number| (text(number), compress(&text(number))))
        .find(|(_, compressed)| compressed.windows(2).any(|pair| pair == b"**"))
        .unwrap();
    let body = compressed.clone();
    let service = Service::start(move |request| match &*request.path {
        "compressed" => Reply::Full {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned()), ("content-encoding", "gzip".to_owned())],
            body: body.clone(),
        },
        _ => healthy_service(request),
    });
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let response = client.api().get("/api/v1/compressed").send().unwrap();
    assert_eq!(response.bytes(), if cfg!(feature = "gzip") { &text } else { &compressed });
    assert_eq!(service.requests_to("compressed")[0].header("accept-encoding"), Some("identity"));
    client.close(Duration::from_secs(60));
}

/// A hub that repeats the token, and one that redirects elsewhere.
#[cfg(feature = "tokenizers")]
pub fn the_token_of_the_hub_is_hidden() {
    log::set_max_level(log::LevelFilter::Trace);
    taken_log();
    let elsewhere = Service::start(|request| {
        let path = request.path.clone();
        Reply::Json(403, json!({"error": format!("no {path} for you")}))
    });
    let target = elsewhere.url();
    let hub = Service::start(move |request| {
        let token = request.header("authorization").unwrap_or_default();
        match request.path.split('/').nth(2).unwrap_or_default() {
            "repeats" => Reply::with_headers(403, &[("x-echo", token)], &json!({"error": format!("{token}{HOSTILE}")})),
            _ => {
                let location = format!("{target}/file?sig={WORD}-0123456789-signature");
                Reply::with_headers(302, &[("location", &location)], &serde_json::Value::Null)
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let source = tinkex::TokenizerSource::from_env_with(|_| None).endpoint(hub.url()).token(format!("hf_{WORD}"));
    let source = source.cache_dir(folder.path());
    let mut shown = Shown::default();
    for id in ["acme/repeats", "acme/moved"] {
        check(&mut shown, id, &source.load(id).unwrap_err());
    }
    let moved = &elsewhere.requests()[0];
    assert_eq!(moved.header("authorization"), None, "the token went to another origin");
    assert_eq!(moved.path, format!("/file?sig={WORD}-0123456789-signature"));
    assert_hidden("Debug or an error", &shown.0);
    let log = taken_log();
    assert_hidden("the log", &log);
    let wire = bytes_on_the_wire(&log);
    assert!(wire.contains("/file?****"), "the bytes on the wire were not captured");
    assert_hidden("the log of the bytes on the wire", &wire);
}

/// A service behind a proxy, which also says something before its response.
pub fn secrets_repeated_through_a_proxy_are_hidden(key: &str) {
    log::set_max_level(log::LevelFilter::Trace);
    taken_log();
    let link = format!("</a?sig={WORD}-0123456789-signature>");
    let (known, link_there) = (Seen::default(), link.clone());
    let service = Service::start(move |request| match &*request.path {
        "healthz" => {
            let (said, link) = (known.add(request), &link_there);
            let body = json!({"detail": said}).to_string();
            let headers = format!("link: {link}\r\nx-echo: {said}\r\n");
            let length = body.len();
            let interim = format!("HTTP/1.1 103 Early Hints\r\n{headers}\r\n");
            let last = format!("HTTP/1.1 409 No\r\n{headers}content-length: {length}\r\n\r\n{body}");
            Reply::Raw(format!("HTTP/1.1 100 Continue\r\n\r\n{interim}{last}").into_bytes())
        }
        _ => healthy_service(request),
    });
    let (port, tunnels) = tunnelling_proxy(str::to_owned);
    for (proxy, count) in [(Proxy::Off, 0), (Proxy::Url(format!("http://127.0.0.1:{port}")), 1)] {
        let config = service.config().api_key(key).header("x-gateway", format!("{WORD}-gateway"));
        let client = ServiceClient::connect(config.proxy(proxy).max_retries(0).build_with(|_| None).unwrap()).unwrap();
        let error = client.health().unwrap_err();
        assert_eq!((error.status(), error.header("link")), (Some(409), Some(&*link)), "programs get what came");
        assert_eq!(tunnels.lock().unwrap().len(), count);
        check(&mut Shown::default(), "through a proxy", &error);
        client.close(Duration::from_secs(60));
        let log = taken_log();
        assert_hidden("the log", &log);
        let wire = bytes_on_the_wire(&log);
        assert!(wire.contains("HTTP/1.1.103") && wire.contains("*0000*"), "the bytes on the wire were not captured");
        assert_hidden("the log of the bytes on the wire", &wire);
    }
}
