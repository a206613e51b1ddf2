//! No secret appears in `Debug`, errors, the log or telemetry, whatever fails.
//!
//! The logger is global, so this binary has one test.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "pretrained")]
mod openai;
mod repeated;

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use support::{Reply, Service, batch, captured_log, healthy_service};
use tinkex::rest::CopyWeights;
use tinkex::types::{
    AdamParams, LoadOptions, LoraConfig, LossFn, ModelInput, OptimStepResponse, RequestKind, SamplingParams,
};
use tinkex::{Config, Error, Event, Proxy, SampleOptions, ServiceClient};

/// All secrets contain this word, which no other text contains.
const WORD: &str = "Xq7Zk";

/// All text that was shown.
#[derive(Default)]
struct Shown(String);

impl Shown {
    fn debug(&mut self, value: &impl Debug) {
        writeln!(self.0, "{value:?}\n{value:#?}").unwrap();
    }

    fn error(&mut self, error: &Error) {
        self.debug(error);
        writeln!(self.0, "{error} {:?} {:?} {:?}", error.body(), error.hint(), error.header("x-echo")).unwrap();
        let mut source = error.source();
        while let Some(error) = source {
            writeln!(self.0, "{error} {error:?}").unwrap();
            source = error.source();
        }
    }
}

#[test]
fn no_secret_is_shown_anywhere() {
    captured_log::start(log::LevelFilter::Trace);
    let key = format!("tml-{WORD}-key");
    let seen_before = Mutex::new(HashMap::<String, u32>::new());
    let service = Service::start(move |request| {
        let path = request.path.as_str();
        let before = {
            let mut counts = seen_before.lock().unwrap();
            let count = counts.entry(path.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        match (path, before) {
            ("session_heartbeat", _) => Reply::Json(500, json!({"detail": "no beat"})),
            ("get_info", _) => Reply::Json(400, json!({"detail": "no info"})),
            ("healthz", _) => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
            ("get_server_capabilities", _) => Reply::Json(302, json!({})),
            ("retrieve_future" | "forward_backward" | "optim_step", 0) => Reply::Close,
            ("create_session" | "create_model" | "optim_step", 0 | 1) => {
                Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({"detail": "busy"}))
            }
            ("asample" | "forward_backward", 0 | 1) => Reply::with_headers(429, &[("retry-after-ms", "1")], &json!({})),
            _ => healthy_service(request),
        }
    });
    let config = service
        .config()
        .api_key(&key)
        .cloudflare_access(format!("{WORD}-id"), format!("{WORD}-secret"))
        .header("authorization", format!("Bearer {WORD}"))
        .header("x-team", format!("{WORD}-team"))
        .heartbeat_interval(Duration::from_millis(5))
        .telemetry(true)
        .retry_base(Duration::from_millis(1))
        .retry_cap(Duration::from_millis(2));
    let mut shown = Shown::default();
    shown.debug(&config);
    let config = config.max_retries(20).build_with(|_| None).unwrap();
    shown.debug(&config);

    let client = ServiceClient::connect(config).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
    let options = SampleOptions::new(&prompt).sampling_params(SamplingParams::default().max_tokens(1));
    for _ in 0..5 {
        let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
        shown.debug(&pass);
        pass.wait().unwrap();
        trainer.optim_step(AdamParams::default()).unwrap();
        sampler.sample_with(options.clone()).unwrap();
    }
    let pending = client.pending::<OptimStepResponse>("optim_step:model-0:1", RequestKind::OptimStep);
    for shows in [&client as &dyn Debug, &trainer, &sampler, &options, &pending, &client.config().clock()] {
        shown.debug(&shows);
    }
    for error in [
        client.health().unwrap_err(),
        client.get_server_capabilities().unwrap_err(),
        trainer.get_info().unwrap_err(),
        client.with_timeout_operation(Some(Duration::from_nanos(1))).health().unwrap_err(),
    ] {
        shown.error(&error);
    }
    client.telemetry().log_exception(&client.health().unwrap_err());
    // Headers of one call may be credentials, too.
    let api = client.api().with_header("x-copy", format!("{WORD}-copy"));
    let names = ["authorization", "x-api-key", "cookie", "cf-access-client-secret", "x-own"];
    let request = names
        .iter()
        .fold(api.post("/api/v1/echo").json(&"x"), |request, name| request.header(name, format!("{WORD}-{name}")));
    shown.debug(&api);
    shown.debug(&request);
    shown.debug(&request.clone().send().unwrap());
    shown.error(&request.header("x-bad", format!("{WORD}\n")).send().unwrap_err());
    let sent = &service.requests_to("echo")[0];
    for name in names.into_iter().chain(["x-copy"]) {
        assert!(sent.header(name).unwrap().starts_with(WORD), "{name} was not sent");
    }
    assert_eq!(sent.header("x-team"), Some(&*format!("{WORD}-team")));
    client.close(Duration::from_secs(60));
    let reported = reported(&service);
    for event in ["SESSION_START", "execute_with_retries", "connection_error", "user_error", "SESSION_END"] {
        assert!(reported.contains(event), "{event} was not reported");
    }
    assert_hidden("the telemetry", &reported);
    shown.error(&trainer.optim_step(AdamParams::default()).unwrap_err());
    shown.error(&pending.wait().err().unwrap_or_else(|| client.health().unwrap_err()));

    // An unreachable service, a proxy with a password, and settings that are refused before any request.
    let builder = || Config::builder().api_key(&key).base_url("http://127.0.0.1:1").proxy(Proxy::Off).max_retries(1);
    shown.error(&ServiceClient::connect(builder().build_with(|_| None).unwrap()).unwrap_err());
    let url = format!("http://{WORD}:{WORD}@127.0.0.1:1");
    let proxied = builder().proxy(Proxy::Url(url.clone()));
    shown.debug(&proxied);
    shown.error(&ServiceClient::connect(proxied.build_with(|_| None).unwrap()).unwrap_err());
    for refused in [
        builder().api_key(format!("{WORD}\u{7f}")),
        builder().header("x-bad", format!("{WORD}\n")),
        builder().base_url(url),
        builder().proxy(Proxy::Url(format!("nonsense://{WORD}@"))),
        builder().cloudflare_access(format!("{WORD}\n"), "x"),
    ] {
        shown.error(&refused.build_with(|_| None).unwrap_err());
    }

    #[cfg(feature = "tokenizers")]
    {
        let source = tinkex::TokenizerSource::from_env_with(|_| None).endpoint(service.url());
        let source = source.token(format!("hf_{WORD}"));
        shown.debug(&source);
        shown.error(&source.load("acme/words").unwrap_err());
        shown.error(&source.token(format!("{WORD}\n")).load("acme/words").unwrap_err());
        let asked = &service.requests_to("/acme/words/resolve/main/tokenizer.json")[0];
        assert_eq!(asked.header("authorization"), Some(&*format!("Bearer hf_{WORD}")));
    }

    assert_hidden("Debug or an error", &shown.0);
    let log = taken_log();
    assert!(log.contains("tinkex::http") && log.contains("retrying in"), "the log was not captured");
    let wire = bytes_on_the_wire(&log);
    assert!(wire.contains("x-api-key:.***"), "the bytes on the wire were not captured");
    assert_hidden("the log", &log);
    assert_hidden("the log of the bytes on the wire", &wire);
    access_to_weights_is_hidden(&key);
    tokens_are_hidden(&key);
    #[cfg(feature = "ndarray")]
    panics_are_hidden(&key);
    repeated::repeated_secrets_are_hidden(&key);
    repeated::a_hostile_id_is_not_shown();
    repeated::the_login_of_a_proxy_is_hidden();
    repeated::compressed_bodies_stay_whole();
    repeated::secrets_repeated_through_a_proxy_are_hidden(&key);
    #[cfg(feature = "tokenizers")]
    repeated::the_token_of_the_hub_is_hidden();
    #[cfg(feature = "pretrained")]
    openai::keys_of_openais_api_are_hidden(&key);
}

/// Tokens for weights of another user, and signed URLs.
fn access_to_weights_is_hidden(key: &str) {
    let refused = AtomicU32::new(0);
    let service = Service::start_current(move |request| {
        let signed = |file: &str| format!("http://{}/files/{file}?sig={WORD}", request.header("host").unwrap());
        let is_refused = || refused.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        match (&*request.method, &*request.path) {
            (_, "load_weights" | "copy_weights") if is_refused() => Reply::Json(403, json!({"detail": "no"})),
            (_, "load_weights") => Reply::ok(json!({"request_id": "load_weights:model-0:1"})),
            (_, "copy_weights") => Reply::ok(json!({"tinker_path": "tinker://run/weights/b"})),
            (_, path) if path.ends_with("/cut/external_weights_urls") => {
                cut(Reply::ok(json!({"urls": {"a.json": signed("a")}})))
            }
            (_, path) if path.ends_with("/cut/archive") => {
                cut(Reply::with_headers(302, &[("location", "/elsewhere")], &json!({"url": signed("archive")})))
            }
            (_, path) if path.ends_with("/external_weights_urls") => {
                Reply::ok(json!({"urls": {"a.json": signed("a")}, "expires": "2999-01-01T00:00:00Z"}))
            }
            (_, path) if path.ends_with("/archive") => {
                Reply::with_headers(302, &[("location", &signed("archive"))], &json!({}))
            }
            (_, path) if path.ends_with("/trace_export") => {
                Reply::ok(json!({"status": "ready", "url": signed("trace")}))
            }
            (_, path) if path.starts_with("/files/a?") => Reply::Close,
            (_, path) if path.starts_with("/files/") => Reply::Json(403, json!({"detail": "expired"})),
            _ => healthy_service(request),
        }
    });
    let events = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&events);
    let config = service.config().api_key(key).telemetry(true).max_retries(1).retry_base(Duration::from_millis(1));
    let config = config.observer(move |event: &Event| writeln!(seen.lock().unwrap(), "{event:?}").unwrap());
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let (trainer, rest) =
        (client.create_lora_training_client("base", LoraConfig::default()).unwrap(), client.create_rest_client());
    let mut shown = Shown::default();
    let path = "tinker://other/weights/a";
    let load = LoadOptions::new(path).weights_access_token(format!("{WORD}-load"));
    let copy = CopyWeights::new(path).destination_project_id("p").weights_access_token(format!("{WORD}-copy"));
    let created = client.training_client().from_state(path).weights_access_token(format!("{WORD}-state"));
    shown.debug(&(&load, &copy, &created));
    shown.debug(&trainer.load_state(load.clone()).unwrap());
    shown.error(&trainer.load_state_with_optimizer(load).unwrap_err());
    shown.debug(&created.clone().create().unwrap());
    shown.error(&created.create().unwrap_err());
    shown.debug(&rest.copy_weights(&copy).unwrap());
    shown.error(&rest.copy_weights(&copy).unwrap_err());
    let unusable = CopyWeights::new(path).destination_project_id("p").weights_access_token(format!("{WORD}\n"));
    shown.error(&rest.copy_weights(&unusable).unwrap_err());
    let bodies: Vec<_> = service.requests_to("load_weights").into_iter().map(|request| request.body).collect();
    for token in ["load", "state"] {
        assert!(bodies.iter().any(|body| body["weights_access_token"] == format!("{WORD}-{token}")), "{bodies:?}");
    }
    let sent = &service.requests_to("copy_weights")[0];
    assert_eq!(sent.header("x-tinker-weights-access-token"), Some(&*format!("{WORD}-copy")));
    let log = taken_log();
    let wire = bytes_on_the_wire(&log);
    assert!(wire.contains("x-tinker-weights-access-token:.***"), "the bytes on the wire were not captured");
    assert_hidden("the log", &log);
    assert_hidden("the log of the bytes on the wire", &wire);

    let external = rest.get_external_weights_urls("tinker://run/external_weights/e").unwrap();
    let archive = rest.get_checkpoint_archive_url("run", "weights/a").unwrap();
    assert!(external.urls["a.json"].contains(WORD) && archive.url.contains(WORD));
    shown.debug(&(&external, &archive));
    shown.error(&rest.get_external_weights_urls("tinker://run/external_weights/cut").unwrap_err());
    shown.error(&rest.get_checkpoint_archive_url("run", "weights/cut").unwrap_err());
    let folder = tempfile::tempdir().unwrap();
    for checkpoint in ["external_weights/e", "weights/a"] {
        let out = folder.path().join("out");
        shown.error(&rest.download_checkpoint_archive("run", checkpoint, out).unwrap_err());
    }
    shown.error(&rest.download_session_trace("session-1", folder.path().join("trace")).unwrap_err());
    for file in ["a", "archive", "trace"] {
        assert!(!service.requests_to(&format!("/files/{file}?sig={WORD}")).is_empty(), "{file} was not fetched");
    }
    client.close(Duration::from_secs(60));
    assert_hidden("the telemetry", &reported(&service));
    assert_hidden("Debug or an error", &shown.0);
    let events = events.lock().unwrap();
    assert!(events.contains("copy_weights"), "no event was seen");
    assert_hidden("an event", &events);
    let log = taken_log();
    assert!(log.contains("retrying in"), "the log was not captured");
    assert_hidden("the log", &log);
    assert_hidden("the log of the bytes on the wire", &bytes_on_the_wire(&log));
}

/// Functions of the caller that panic with all that they see, in a client with a key.
#[cfg(feature = "ndarray")]
fn panics_are_hidden(key: &str) {
    let service = Service::start(|request| match request.request_id().split_once(':') {
        Some(("forward", _)) if request.path == "retrieve_future" => Reply::ok(json!({
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": [{"logprobs": {"data": [-1.0, -1.0, -1.0], "dtype": "float32", "shape": [3]}}],
            "metrics": {},
        })),
        _ => healthy_service(request),
    });
    let panics = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&panics);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| writeln!(seen.lock().unwrap(), "{panic}\n{panic:?}").unwrap()));
    let config = service.config().api_key(key).header("authorization", format!("Bearer {WORD}"));
    let config = config.cloudflare_access(format!("{WORD}-id"), format!("{WORD}-secret")).telemetry(true);
    let config = config.observer(|event: &Event| panic!("observed {event:?}")).build_with(|_| None).unwrap();
    let run = || {
        let client = ServiceClient::connect(config.clone())?;
        let trainer = client.create_lora_training_client("base", LoraConfig::default())?;
        let loss = |_: &[_], _: &[_]| -> Result<tinkex::CustomLoss, Error> {
            panic!("computed with {client:?}, {trainer:?} and {config:#?}")
        };
        let failed = trainer.forward_backward_custom(batch(), loss).unwrap_err();
        client.close(Duration::from_secs(60));
        Ok::<Error, Error>(failed)
    };
    let failed = run();
    std::panic::set_hook(usual);
    let mut shown = Shown::default();
    shown.error(&failed.unwrap());
    let panics = panics.lock().unwrap();
    assert!(panics.contains("observed ") && panics.contains("computed with "), "{panics}");
    assert_hidden("a panic", &panics);
    assert_hidden("the error of a panic", &shown.0);
    assert_hidden("the telemetry", &reported(&service));
    assert_hidden("the log", &taken_log());
}

/// What ureq logs at trace: the bytes on the wire, in rows of 16, in hex and as text.
fn bytes_on_the_wire(log: &str) -> String {
    let rows = log.lines().filter_map(|line| line.strip_prefix("TRACE ureq_proto::util "));
    rows.filter_map(|row| row.get(row.len().checked_sub(16)?..)).collect()
}

/// Tokens that the service gives in exchange for the key, and stored keys.
fn tokens_are_hidden(key: &str) {
    let given = AtomicU32::new(0);
    let service = Service::start_current(move |request| match request.path.as_str() {
        "client/config" => Reply::ok(json!({"pjwt_auth_enabled": true})),
        "auth/token" => match given.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({"detail": "busy"})),
            2 => Reply::ok(json!({"token": format!("eyJ.{WORD}")})),
            4 | 5 => cut(Reply::ok(json!({"jwt": format!("eyJ.{WORD}")}))),
            count => Reply::ok(json!({"jwt": format!("eyJhbGciOiJIUzI1NiJ9.e30.{WORD}-{count}")})),
        },
        "get_info" => {
            let header = ("www-authenticate", "Bearer error=\"invalid_token\"");
            Reply::with_headers(401, &[header], &json!({"detail": "expired"}))
        }
        "healthz" => Reply::Json(500, json!({"detail": "no"})),
        path if path.ends_with("/finish") => Reply::Json(500, json!({})),
        _ => healthy_service(request),
    });
    let mut shown = Shown::default();
    let config = service.config().api_key(key).telemetry(true).max_retries(1).retry_base(Duration::from_millis(1));
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let sent = service.requests_to("create_model")[0].header("x-api-key").unwrap().to_owned();
    assert!(sent.ends_with(&format!("{WORD}-1")), "{sent}");
    // The token is refused, and then the exchange brings none; later another one, which is refused, too, and half of one.
    shown.error(&trainer.get_info().unwrap_err());
    shown.error(&trainer.get_info().unwrap_err());
    shown.error(&client.health().unwrap_err());
    shown.debug(&client);
    shown.debug(&client.create_rest_client().whoami().unwrap());
    client.close(Duration::from_secs(60));
    assert_hidden("the telemetry", &reported(&service));

    // Commands that print a key and fail, a stored key, and a store that cannot be read.
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".tinker/credentials.json");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let build = |name: &'static str, value: String| {
        let home = home.path().to_str().unwrap().to_owned();
        Config::builder().base_url("http://127.0.0.1:1").proxy(Proxy::Off).max_retries(0).build_with(move |variable| {
            match variable {
                "HOME" | "USERPROFILE" => Some(home.clone()),
                _ => (variable == name).then(|| value.clone()),
            }
        })
    };
    for command in [format!("echo tml-{WORD}"), format!("echo {WORD}; exit 1"), format!("printf '{WORD}\\001{WORD}'")] {
        let config = build("TINKER_CREDENTIAL_CMD", command).unwrap();
        shown.debug(&config);
        shown.error(&ServiceClient::connect(config).unwrap_err());
    }
    let entry = json!({"type": "manual", "key": format!("tml-{WORD}"), "name": "x"});
    std::fs::write(&file, json!({"version": 1, "default": "a", "keys": {"a": entry}}).to_string()).unwrap();
    shown.debug(&build("", String::new()).unwrap());
    std::fs::write(&file, WORD).unwrap();
    shown.error(&build("", String::new()).unwrap_err());
    assert_hidden("Debug or an error", &shown.0);
    let log = taken_log();
    assert!(log.contains("exchanged for a token"), "the log was not captured");
    assert_hidden("the log", &log);
    assert_hidden("the log of the bytes on the wire", &bytes_on_the_wire(&log));
}

/// A response that ends before its last byte.
fn cut(reply: Reply) -> Reply {
    let mut bytes = reply.into_bytes();
    bytes.pop();
    Reply::Raw(bytes)
}

/// The lines that were logged since the last call.
fn taken_log() -> String {
    captured_log::take().iter().map(|line| format!("{line}\n")).collect()
}

/// All telemetry that this service got.
fn reported(service: &Service) -> String {
    let reports = service.requests_to("telemetry");
    reports.iter().map(|request| String::from_utf8_lossy(&request.raw).into_owned()).collect()
}

fn assert_hidden(place: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(WORD)).map(|line| {
        let at = line.find(WORD).unwrap_or_default();
        line.chars().skip(at.saturating_sub(100)).take(200).collect::<String>()
    });
    assert_eq!(line, None, "a secret shows in {place}");
}
