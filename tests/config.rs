//! Every setting reaches the request or the behaviour that it is about.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{Gate, Reply, Seen, Service, batch, well};
use tinkex::clock::ManualClock;
use tinkex::config::{ConfigBuilder, Proxy};
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Error, ErrorKind, Limit, SamplingClient, ServiceClient, TrainingClient};

/// Far longer than anything here takes.
const FAR: Duration = Duration::from_secs(3600);

/// For limits that are the socket's and so take real time.
const SHORT: Duration = Duration::from_millis(100);

fn connect(builder: ConfigBuilder) -> Result<ServiceClient, Error> {
    ServiceClient::connect(builder.build().unwrap())
}

fn train(client: &ServiceClient) -> TrainingClient {
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn adam() -> AdamParams {
    AdamParams::default()
}

fn sample(sampler: &SamplingClient) -> Result<(), Error> {
    let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
    sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(1)).map(drop)
}

/// A service that is well, except that this path is answered so.
fn except(path: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Service {
    Service::start(move |seen| if seen.path == path { reply() } else { well(seen) })
}

/// Does everything once.
fn everything(builder: ConfigBuilder) {
    let client = connect(builder).unwrap();
    client.health().unwrap();
    client.get_server_capabilities().unwrap();
    let trainer = train(&client);
    trainer.get_info().unwrap();
    trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(adam()).unwrap();
    sample(&client.create_sampling_client("base").unwrap()).unwrap();
    sample(&trainer.save_weights_and_get_sampling_client().unwrap()).unwrap();
}

#[test]
fn tags_and_metadata_are_the_sessions() {
    let service = Service::start(well);
    let config = service.config().tags(["a", "b"]).user_metadata("run", "7").user_metadata("who", "me");
    connect(config).unwrap();
    let session = &service.seen_at("create_session")[0].body;
    assert_eq!(session["tags"], json!(["a", "b"]));
    assert_eq!(session["user_metadata"], json!({"run": "7", "who": "me"}));
    assert_eq!(session["sdk_version"], "0.4.1");
}

#[test]
fn key_gateway_token_headers_query_and_path_are_those_of_every_request() {
    let service = Service::start(|seen| {
        let path = seen.path.strip_prefix("/gateway/tinker/api/v1/").unwrap();
        let path = path.strip_suffix("?team=a%2Cb&x=1").unwrap();
        well(&Seen { path: path.to_owned(), ..seen.clone() })
    });
    let config = service
        .config()
        .api_key("tml-key-of-every-request")
        .base_url(format!("{}/gateway/tinker/", service.url()))
        .cloudflare_access("the-id", "the-secret")
        .header("X-Team", "blue")
        .header("User-Agent", "mine/1")
        .query("team", ["a", "b"])
        .query("x", 1);
    everything(config);
    let seen = service.seen();
    assert!(seen.len() > 15, "{}", seen.len());
    for seen in seen {
        for (name, value) in [
            ("x-api-key", "tml-key-of-every-request"),
            ("cf-access-client-id", "the-id"),
            ("cf-access-client-secret", "the-secret"),
            ("x-team", "blue"),
            ("user-agent", "mine/1"),
        ] {
            let values: Vec<_> = seen.headers.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(values, [value], "{}", seen.path);
        }
    }
}

/// With real time: 100 ms.
#[test]
fn the_idle_limit_ends_a_wait_for_the_head_of_an_answer() {
    let service = except("healthz", || Reply::Silence);
    let client = connect(service.config().timeout_idle(SHORT).max_retries(0)).unwrap();
    let error = client.health().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Wait), "{error}");
    assert!(error.to_string().contains("timeout_idle") && error.is_retryable(), "{error}");
    assert_eq!(service.seen_at("healthz").len(), 1);
}

/// With real time: 100 ms.
#[test]
fn the_idle_limit_ends_an_answer_that_stops_and_a_body_that_nobody_takes() {
    let (url, accepted) = raw_server(|mut stream| {
        stream.read(&mut [0; 16 * 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
    });
    let config = || Config::builder().api_key("tml-k").proxy(Proxy::Off).timeout_idle(SHORT).max_retries(0);
    let error = connect(config().base_url(url)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Read), "{error}");
    drop(accepted);

    let (url, accepted) = raw_server(|_| {});
    // More than the system's buffers take.
    let error = connect(config().base_url(url).user_metadata("large", "x".repeat(32 << 20))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Write), "{error}");
    drop(accepted);
}

/// Accepts connections, does this with each, and keeps them open as long as the second value lives.
fn raw_server(serve: impl Fn(&TcpStream) + Send + 'static) -> (String, Arc<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            serve(&stream);
            open.push(stream);
            if watched.strong_count() == 0 {
                return;
            }
        }
    });
    (url, alive)
}

/// With real time: 100 ms. A queue of connections that nobody accepts fills up, and then Linux drops what comes.
#[cfg(target_os = "linux")]
#[test]
fn the_connect_limit_ends_a_connection_that_is_not_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let queued: Vec<_> = std::iter::from_fn(|| TcpStream::connect_timeout(&address, SHORT).ok()).take(10_000).collect();
    assert!(queued.len() < 10_000);
    let config = Config::builder().api_key("tml-k").proxy(Proxy::Off).base_url(format!("http://{address}"));
    let error = connect(config.timeout_connect(SHORT).max_retries(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Connect), "{error}");
    assert!(!error.may_have_taken_effect());
}

#[test]
fn retries_are_as_many_and_as_far_apart_as_configured() {
    let service = except("healthz", || Reply::Json(503, json!({})));
    let manual = ManualClock::new();
    let (base, cap) = (Duration::from_secs(100), Duration::from_secs(300));
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let client = connect(config.max_retries(4).retry_base(base).retry_cap(cap)).unwrap();
    let failing = thread::spawn(move || client.health().unwrap_err());
    for (attempts, longest) in [(1, 100), (2, 200), (3, 300), (4, 300)] {
        let longest = Duration::from_secs(longest);
        manual.until_waiting(|waits| waits.len() == 2 && waits[0] <= longest && waits[0] >= longest.mul_f64(0.75));
        assert_eq!(service.seen_at("healthz").len(), attempts);
        manual.advance(manual.waits()[0]);
    }
    assert_eq!(failing.join().unwrap().status(), Some(503));
    assert_eq!(service.seen_at("healthz").len(), 5);
}

#[test]
fn the_submit_window_ends_the_repeats_of_a_submission() {
    let service = except("optim_step", || Reply::Json(503, json!({})));
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let client = connect(config.max_retries(0).timeout_submit(Duration::from_secs(10))).unwrap();
    let trainer = train(&client);
    let failing = thread::spawn(move || trainer.optim_step(adam()).unwrap_err());
    // 1 + 2 + 4 s, and the next 8 s would be too late.
    for wait in [1, 2, 4].map(Duration::from_secs) {
        manual.until_waiting(|waits| waits.contains(&wait));
        manual.advance(wait);
    }
    assert_eq!(failing.join().unwrap().status(), Some(503));
    assert_eq!(service.seen_at("optim_step").len(), 4);
}

/// With real time: a window of 100 ms.
#[test]
fn the_submit_window_ends_an_attempt_under_way() {
    let service = except("optim_step", || Reply::Silence);
    let trainer = train(&connect(service.config().timeout_submit(SHORT)).unwrap());
    let error = trainer.optim_step(adam()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Submit), "{error}");
    assert!(error.may_have_taken_effect());
}

/// With real time: polls of 100 ms.
#[test]
fn a_poll_without_an_answer_is_repeated_after_the_poll_limit() {
    let polls = AtomicUsize::new(0);
    let service = Service::start(move |seen| {
        let optim = seen.request_id().starts_with("optim_step");
        if optim && polls.fetch_add(1, Ordering::Relaxed) < 2 { Reply::Silence } else { well(seen) }
    });
    let trainer = train(&connect(service.config().timeout_poll(SHORT)).unwrap());
    trainer.optim_step(adam()).unwrap();
    let iterations: Vec<_> = service
        .seen_at("retrieve_future")
        .iter()
        .filter(|seen| seen.request_id().starts_with("optim_step"))
        .map(|seen| seen.header("x-tinker-request-iteration").unwrap().to_owned())
        .collect();
    assert_eq!(iterations, ["0", "1", "2"]);
}

#[test]
fn a_promise_of_which_nothing_is_heard_is_given_up_after_the_progress_limit() {
    let service = Service::start(|seen| match seen.request_id().starts_with("optim_step") {
        true => Reply::Close,
        false => well(seen),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let trainer = train(&connect(config.timeout_progress(Duration::from_secs(100))).unwrap());
    let began = manual.clock().now();
    let step = trainer.submit_optim_step(adam()).unwrap();
    let ready = step.ready();
    while ready.is_empty() {
        manual.until_waiting(|waits| !ready.is_empty() || waits[0] <= Duration::from_secs(30));
        if ready.is_empty() {
            manual.advance(manual.waits()[0].min(Duration::from_secs(30)));
        }
    }
    let error = step.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Progress), "{error}");
    assert!(error.request_id().is_some() && error.may_have_taken_effect());
    assert!(manual.clock().now() - began >= Duration::from_secs(100));
}

#[test]
fn the_operation_limit_is_the_configurations_unless_a_client_has_its_own() {
    let service = Service::start(|seen| match seen.request_id() {
        "optim_step:model-0:1" | "optim_step:model-0:2" | "asample:sampler-0:0" => Reply::Silence,
        _ => well(seen),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).api_key("tml-operation-limit");
    let client = connect(config.timeout_operation(Some(Duration::from_secs(60)))).unwrap();
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let own = trainer.timeout_operation(Some(Duration::from_secs(61)));
    let calls: [(u64, Box<dyn FnOnce() -> Result<(), Error> + Send>); 3] = [
        (60, Box::new(move || trainer.optim_step(adam()).map(drop))),
        (60, Box::new(move || sample(&sampler))),
        (61, Box::new(move || own.optim_step(adam()).map(drop))),
    ];
    for (limit, call) in calls {
        let limit = Duration::from_secs(limit);
        let failing = thread::spawn(|| call().unwrap_err());
        manual.until_waiting(|waits| waits.contains(&limit));
        manual.advance(limit);
        assert_eq!(failing.join().unwrap().kind(), ErrorKind::Timeout(Limit::Operation));
    }
}

/// The tunnel that ureq asks a proxy for, also for plain http.
fn proxy() -> Service {
    Service::start(|seen| if seen.method == "CONNECT" { Reply::with_headers(200, &[], &json!("")) } else { well(seen) })
}

fn tunnels(service: &Service) -> BTreeSet<String> {
    service.seen().into_iter().filter(|seen| seen.method == "CONNECT").map(|seen| seen.path).collect()
}

#[test]
fn requests_go_through_the_proxy() {
    // ureq takes no body of an answer to CONNECT.
    let service = Service::start(|seen| match &*seen.method {
        "CONNECT" => Reply::Full { status: 200, headers: vec![], body: vec![] },
        _ => well(seen),
    });
    let target = "service.invalid:8123";
    let with_user = service.url().replace("http://", "http://me:word@");
    let config = Config::builder().api_key("tml-k").base_url(format!("http://{target}")).proxy(Proxy::Url(with_user));
    everything(config);
    assert_eq!(tunnels(&service), BTreeSet::from([target.to_owned()]));
    for seen in service.seen() {
        let is_tunnel = seen.method == "CONNECT";
        // me:word
        assert_eq!(seen.header("proxy-authorization"), is_tunnel.then_some("Basic bWU6d29yZA=="));
        assert_eq!(seen.header("x-api-key").is_some(), !is_tunnel);
    }
}
