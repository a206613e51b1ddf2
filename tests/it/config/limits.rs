//! Timeouts and retries.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::{Config, Error, ErrorKind, Limit, Proxy, TrainingClient};

use super::{FAR, SHORT, adam, connect, except, sample, train};
use crate::support::{Reply, Service, TRIES, healthy_service, listener_with_small_buffers};

/// In real time: 100 ms.
#[test]
fn the_idle_timeout_covers_the_response_head() {
    let service = except("healthz", || Reply::Silence);
    let client = connect(service.config().timeout_idle(SHORT).max_retries(0)).unwrap();
    let error = client.health().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Wait), "{error}");
    assert!(error.to_string().contains("timeout_idle") && error.is_retryable(), "{error}");
    assert_eq!(service.requests_to("healthz").len(), 1);
}

/// In real time: 100 ms.
#[test]
fn a_stalled_response_body_is_a_read_timeout() {
    let (url, accepted) = raw_server(|mut stream| {
        assert!(stream.read(&mut [0; 16 * 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
    });
    let config = Config::builder().api_key("tml-k").proxy(Proxy::Off).timeout_idle(SHORT).max_retries(0).base_url(url);
    let error = served_in_time(|| connect(config.clone()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Read), "{error}");
    drop(accepted);
}

/// In real time: 100 ms.
#[test]
fn an_unread_request_body_is_a_write_timeout() {
    // The service has no settings; then it reads nothing more.
    let (url, accepted) = raw_server(|mut stream| {
        assert!(stream.read(&mut [0; 16 * 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let config = Config::builder().api_key("tml-k").proxy(Proxy::Off).timeout_idle(SHORT).max_retries(0).base_url(url);
    // More than any connection buffers without a reader: on a busy machine, megabytes.
    let config = config.user_metadata("large", "x".repeat(16 << 20));
    let error = served_in_time(|| connect(config.clone()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Write), "{error}");
    drop(accepted);
}

/// The error of the first try whose server responded in time: on a busy machine it may be too slow for [`SHORT`].
fn served_in_time(attempt: impl Fn() -> Error) -> Error {
    let mut tries = (0..TRIES).map(|_| attempt());
    tries.find(|error| error.kind() != ErrorKind::Timeout(Limit::Wait)).expect("no response in time")
}

/// Accepts connections, passes each to this, and keeps them open until the second value is dropped.
fn raw_server(serve: impl Fn(&TcpStream) + Send + 'static) -> (String, Arc<()>) {
    let listener = listener_with_small_buffers();
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

/// In real time: 100 ms. Linux drops new connections once the backlog of an idle listener is full.
#[cfg(target_os = "linux")]
#[test]
fn the_connect_timeout_ends_an_unanswered_connection() {
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
fn retry_count_and_delays_follow_the_configuration() {
    let service = except("healthz", || Reply::Json(503, json!({})));
    let manual = ManualClock::new();
    let (base, cap) = (Duration::from_secs(100), Duration::from_secs(300));
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let client = connect(config.max_retries(4).retry_base(base).retry_cap(cap)).unwrap();
    let failing = thread::spawn(move || client.health().unwrap_err());
    for (attempts, longest) in [(1, 100), (2, 200), (3, 300), (4, 300)] {
        let longest = Duration::from_secs(longest);
        manual.until_waiting(|waits| waits.len() == 2 && waits[0] <= longest && waits[0] >= longest.mul_f64(0.75));
        assert_eq!(service.requests_to("healthz").len(), attempts);
        manual.advance(manual.waits()[0]);
    }
    assert_eq!(failing.join().unwrap().status(), Some(503));
    assert_eq!(service.requests_to("healthz").len(), 5);
}

#[test]
fn the_submit_window_ends_retries_of_a_submission() {
    let service = except("optim_step", || Reply::Json(503, json!({})));
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let client = connect(config.max_retries(0).timeout_submit(Duration::from_secs(10))).unwrap();
    let trainer = train(&client);
    let failing = thread::spawn(move || trainer.optim_step(adam()).unwrap_err());
    // 1 + 2 + 4 s; the next attempt, after another 8 s, would be too late.
    for wait in [1, 2, 4].map(Duration::from_secs) {
        manual.until_waiting(|waits| waits.contains(&wait));
        manual.advance(wait);
    }
    assert_eq!(failing.join().unwrap().status(), Some(503));
    assert_eq!(service.requests_to("optim_step").len(), 4);
}

/// In real time: a window of 100 ms.
#[test]
fn the_submit_window_ends_an_attempt_under_way() {
    let service = except("optim_step", || Reply::Silence);
    let trainer = train(&connect(service.config().timeout_submit(SHORT)).unwrap());
    // On a busy machine the window may end before the request is written.
    let mut tries = (0..TRIES).map(|_| trainer.optim_step(adam()).unwrap_err());
    let error = tries.find(Error::may_have_taken_effect).expect("written in time");
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Submit), "{error}");
}

/// In real time: polls of 100 ms.
#[test]
fn an_unanswered_poll_is_repeated_after_its_timeout() {
    let polls = AtomicUsize::new(0);
    let service = Service::start(move |request| {
        let optim = request.request_id().starts_with("optim_step");
        if optim && polls.fetch_add(1, Ordering::Relaxed) < 2 { Reply::Silence } else { healthy_service(request) }
    });
    let trainer = train(&connect(service.config().timeout_poll(SHORT)).unwrap());
    trainer.optim_step(adam()).unwrap();
    let iterations: Vec<_> = service
        .requests_to("retrieve_future")
        .iter()
        .filter(|request| request.request_id().starts_with("optim_step"))
        .map(|request| request.header("x-tinker-request-iteration").unwrap().to_owned())
        .collect();
    // On a busy machine another one may be too slow.
    assert!(
        iterations.len() >= 3 && iterations.iter().enumerate().all(|(at, n)| *n == at.to_string()),
        "{iterations:?}"
    );
}

/// In real time: polls of 100 ms.
#[test]
fn a_poll_whose_head_drips_is_repeated_too() {
    let polls = AtomicUsize::new(0);
    let service = Service::start(move |request| {
        let optim = request.request_id().starts_with("optim_step");
        let head = b"HTTP/1.1 200 OK\r\n".iter().chain(&[b'x'; 1000]).map(|byte| vec![*byte]).collect();
        let drips = optim && polls.fetch_add(1, Ordering::Relaxed) < 1;
        if drips { Reply::Drip(head, Duration::from_millis(10)) } else { healthy_service(request) }
    });
    let trainer = train(&connect(service.config().timeout_poll(SHORT)).unwrap());
    trainer.optim_step(adam()).unwrap();
}

#[test]
fn the_progress_timeout_gives_up_a_silent_promise() {
    let service = Service::start(|request| match request.request_id().starts_with("optim_step") {
        true => Reply::Close,
        false => healthy_service(request),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).idle_retention(FAR);
    let trainer = train(&connect(config.timeout_progress(Duration::from_secs(100))).unwrap());
    let began = manual.clock().now();
    let step = trainer.submit_optim_step(adam()).unwrap();
    let ready = step.ready();
    while ready.is_empty() {
        manual.until_waiting(|waits| {
            !ready.is_empty() || waits.first().is_some_and(|wait| *wait <= Duration::from_secs(30))
        });
        if ready.is_empty() {
            let next = manual.waits().first().copied().unwrap_or_default();
            manual.advance(next.min(Duration::from_secs(30)));
        }
    }
    let error = step.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Progress), "{error}");
    assert!(error.request_id().is_some() && error.may_have_taken_effect());
    assert!(manual.clock().now() - began >= Duration::from_secs(100));
}

#[test]
fn a_client_may_override_the_operation_timeout() {
    let service = Service::start(|request| match request.request_id() {
        "optim_step:model-0:1" | "optim_step:model-0:2" | "asample:sampler-0:0" => Reply::Silence,
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(FAR).api_key("tml-operation-limit");
    let client = connect(config.timeout_operation(Some(Duration::from_secs(60)))).unwrap();
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let own = trainer.with_timeout_operation(Some(Duration::from_secs(61)));
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
