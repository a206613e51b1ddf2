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
        assert!(stream.read(&mut [0; 16 * 1024]).unwrap() > 0);
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
    type Call = Box<dyn FnOnce() -> Result<(), Error> + Send>;
    let step = |trainer: TrainingClient| -> Call { Box::new(move || trainer.optim_step(adam()).map(drop)) };
    let calls = [(60, step(trainer)), (60, Box::new(move || sample(&sampler))), (61, step(own))];
    for (limit, call) in calls {
        let limit = Duration::from_secs(limit);
        let failing = thread::spawn(|| call().unwrap_err());
        manual.until_waiting(|waits| waits.contains(&limit));
        manual.advance(limit);
        assert_eq!(failing.join().unwrap().kind(), ErrorKind::Timeout(Limit::Operation));
    }
}

/// A service behind itself as a proxy: ureq asks for a tunnel also for plain http.
fn proxy() -> Service {
    Service::start(|seen| match &*seen.method {
        "CONNECT" => Reply::Full { status: 200, headers: vec![], body: vec![] },
        _ => well(seen),
    })
}

fn tunnels(service: &Service) -> BTreeSet<String> {
    service.seen().into_iter().filter(|seen| seen.method == "CONNECT").map(|seen| seen.path).collect()
}

#[test]
fn requests_go_through_the_proxy() {
    let service = proxy();
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

/// Variables of the environment are the process's, so this test runs itself again in a process with a proxy set.
#[test]
fn the_environments_proxy_is_used_unless_it_is_switched_off() {
    const TARGET: &str = "TINKEX_TEST_TARGET";
    if let Ok(target) = std::env::var(TARGET) {
        connect(Config::builder().api_key("tml-k").base_url(target).proxy(Proxy::Off)).unwrap();
        connect(Config::builder().api_key("tml-k").base_url("http://service.invalid:8123")).unwrap();
        return;
    }
    let (direct, proxy) = (Service::start(well), proxy());
    let mut again = Command::new(std::env::current_exe().unwrap());
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        again.env_remove(name).env_remove(name.to_lowercase());
    }
    let name = "the_environments_proxy_is_used_unless_it_is_switched_off";
    let output = again.args(["--exact", name]).env(TARGET, direct.url()).env("HTTP_PROXY", proxy.url()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(direct.seen_at("create_session").len(), 1);
    assert_eq!(tunnels(&direct), BTreeSet::new());
    assert_eq!(proxy.seen_at("create_session").len(), 1);
    assert_eq!(tunnels(&proxy), BTreeSet::from(["service.invalid:8123".to_owned()]));
}

/// Holds all requests to a path back until the gate opens.
fn gated(path: &'static str) -> (Service, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let service = Service::start(move |seen| {
        if seen.path == path {
            gate.pass();
        }
        well(seen)
    });
    (service, opened)
}

#[test]
fn a_full_queue_refuses_what_is_submitted_and_lets_blocking_calls_wait() {
    for by_bytes in [false, true] {
        let (service, gate) = gated("optim_step");
        let manual = ManualClock::new();
        let config = service.config().clock(manual.clock());
        // Room for one batch, of 48 bytes, and not for two.
        let config = if by_bytes { config.max_queued_bytes(80) } else { config.max_queued(2) };
        let trainer = train(&connect(config).unwrap());
        let first = trainer.submit_optim_step(adam()).unwrap();
        let second = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap();
        let error = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::QueueFull, Some("forward")));
        let remedy = error.hint().unwrap();
        assert!(remedy.contains("max_queued") && remedy.contains("max_queued_bytes"), "{error}");
        let limit = Duration::from_secs(77);
        let patient = trainer.timeout_operation(Some(limit));
        let waiting = thread::spawn(move || patient.forward(batch(), LossFn::CrossEntropy));
        manual.until_waiting(|waits| waits.contains(&limit));
        assert_eq!(service.seen_at("forward").len(), 0);
        gate.open();
        first.wait().unwrap();
        second.wait().unwrap();
        waiting.join().unwrap().unwrap();
        let numbers: Vec<_> = service.seen_at("forward").iter().map(|seen| seen.seq_id().unwrap()).collect();
        assert_eq!(numbers, [2, 3]);
    }
}

#[test]
fn a_wait_for_room_in_the_queue_ends_with_the_operation_limit() {
    let (service, gate) = gated("optim_step");
    let manual = ManualClock::new();
    let trainer = train(&connect(service.config().clock(manual.clock()).max_queued(1)).unwrap());
    let first = trainer.submit_optim_step(adam()).unwrap();
    let limit = Duration::from_secs(77);
    let patient = trainer.timeout_operation(Some(limit));
    let waiting = thread::spawn(move || patient.optim_step(adam()).unwrap_err());
    manual.until_waiting(|waits| waits.contains(&limit));
    manual.advance(limit);
    let error = waiting.join().unwrap();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Timeout(Limit::Operation), false));
    gate.open();
    first.wait().unwrap();
    assert_eq!(trainer.optim_step(adam()).unwrap().metrics.unwrap()["step"], 2.0);
}

#[test]
fn a_queue_of_samples_is_bounded_too() {
    let (service, gate) = gated("asample");
    let config = service.config().api_key("tml-queue-of-samples").max_sampling_threads(1).max_queued(1);
    let sampler = connect(config).unwrap().create_sampling_client("base").unwrap();
    let submit = || {
        let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
        sampler.submit_sample(&prompt, 1, &SamplingParams::default().max_tokens(1))
    };
    let first = submit().unwrap();
    service.until_count("asample", 1);
    let second = submit().unwrap();
    assert_eq!(submit().unwrap_err().kind(), ErrorKind::QueueFull);
    gate.open();
    first.wait().unwrap();
    second.wait().unwrap();
    submit().unwrap().wait().unwrap();
}

#[test]
fn an_answer_larger_than_the_limit_is_refused() {
    let service = except("healthz", || Reply::ok(json!({"status": "x".repeat(2000)})));
    let error = connect(service.config().max_response_bytes(1000)).unwrap().health().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("1000 bytes") && error.to_string().contains("max_response_bytes"), "{error}");
    assert_eq!(service.seen_at("healthz").len(), 1);
    connect(service.config().max_response_bytes(3000)).unwrap().health().unwrap();
}

/// Calls health from two threads at once; their connections.
fn two_at_once(service: &Service, gate: &Gate, client: &ServiceClient) -> BTreeSet<usize> {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| client.health().unwrap());
        }
        let both = service.until_count("healthz", 2);
        gate.open();
        both.iter().map(|seen| seen.connection).collect()
    })
}

#[test]
fn no_more_idle_connections_are_kept_than_configured() {
    let (service, gate) = gated("healthz");
    let client = connect(service.config().max_idle_connections(1)).unwrap();
    let both = two_at_once(&service, &gate, &client);
    assert_eq!(both.len(), 2);
    client.health().unwrap();
    let kept = service.seen_at("healthz")[2].connection;
    for connection in both.into_iter().filter(|connection| *connection != kept) {
        service.until_ended(connection);
    }

    let (service, gate) = gated("healthz");
    let client = connect(service.config().max_idle_connections(2)).unwrap();
    let both = two_at_once(&service, &gate, &client);
    client.health().unwrap();
    assert!(both.contains(&service.seen_at("healthz")[2].connection));
}

#[test]
fn an_idle_connection_is_not_used_after_its_retention() {
    let service = Service::start(well);
    // Real time, which moves on by more than that between any two requests.
    let client = connect(service.config().idle_retention(Duration::from_nanos(1))).unwrap();
    client.health().unwrap();
    client.health().unwrap();
    let connections: BTreeSet<_> = service.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 3);
}

#[test]
fn threads_that_can_not_have_their_stack_are_an_error_and_not_a_panic() {
    let service = Service::start(well);
    // As large as the address space.
    let error = connect(service.config().thread_stack_size(1 << 47)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("thread_stack_size"), "{error}");
    connect(service.config().thread_stack_size(128 * 1024)).unwrap().health().unwrap();
}

#[test]
fn a_small_connection_buffer_carries_everything() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "healthz" => {
            Reply::with_headers(200, &[("x-long", &"y".repeat(3000))], &json!({"status": "x".repeat(100_000)}))
        }
        _ => well(seen),
    });
    let config = || service.config().connection_buffer(4096);
    everything(config().user_metadata("large", "x".repeat(100_000)).header("x-long", "z".repeat(3000)));
    assert_eq!(service.seen_at("create_session")[0].body["user_metadata"]["large"].as_str().unwrap().len(), 100_000);
}

#[test]
fn polls_and_submissions_are_no_more_at_once_than_configured() {
    for (path, config) in [
        ("retrieve_future", Config::builder().max_poll_connections(2)),
        ("asample", Config::builder().max_sampling_threads(2)),
        ("asample", Config::builder().max_sampling_in_flight(2)),
    ] {
        let (service, gate) = gated(path);
        let config = config.base_url(service.url()).api_key("tml-at-once").proxy(Proxy::Off);
        let sampler = connect(config).unwrap().create_sampling_client("base").unwrap();
        let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
        let params = SamplingParams::default().max_tokens(1);
        let replies: Vec<_> = (0..6).map(|_| sampler.submit_sample(&prompt, 1, &params).unwrap()).collect();
        service.until_count(path, 2);
        gate.open();
        // Not by `wait`: a poll gives its connection up to one that is waited for.
        replies.iter().for_each(|reply| reply.ready().recv_timeout(FAR).unwrap());
        let connections: BTreeSet<_> = service.seen_at(path).iter().map(|seen| seen.connection).collect();
        assert_eq!((service.seen_at(path).len(), connections.len()), (6, 2), "{path}");
    }
}

#[test]
fn samples_leave_at_the_configured_rate_after_the_burst() {
    let service = Service::start(well);
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let config = config.api_key("tml-rate").sampling_burst(2).sampling_rate(4);
    let sampler = connect(config).unwrap().create_sampling_client("base").unwrap();
    sample(&sampler).unwrap();
    sample(&sampler).unwrap();
    let third = thread::spawn(move || sample(&sampler));
    manual.until_waiting(|waits| waits.contains(&Duration::from_millis(250)));
    assert_eq!(service.seen_at("asample").len(), 2);
    manual.advance(Duration::from_millis(250));
    third.join().unwrap().unwrap();
}
