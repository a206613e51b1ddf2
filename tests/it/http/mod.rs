//! Single HTTP requests, through the public clients: headers, retries, timeouts, connections and responses of every kind.

mod build_request;
mod connections;
mod early_responses;
mod headers;
mod limits;
mod responses;
mod retries;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::{ConfigBuilder, Error, Result, ServiceClient};

use crate::support::{Reply, Service, healthy_service};

/// Longer than any wait in a test, so that everything else stays idle.
const QUIET: Duration = Duration::from_secs(24 * 3600);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A configuration that waits on the clock only between attempts.
fn quiet(service: &Service, clock: &ManualClock) -> ConfigBuilder {
    service.config().clock(clock.clock()).heartbeat_interval(QUIET).idle_retention(QUIET)
}

fn connect(config: ConfigBuilder) -> Result<ServiceClient> {
    ServiceClient::connect(config.build_with(|_| None).unwrap())
}

/// A healthy service that first responds to `healthz` with these replies, in order.
fn replying(replies: impl IntoIterator<Item = Reply>) -> Service {
    let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
    Service::start(move |request| match request.path.as_str() {
        "healthz" => replies.lock().unwrap().pop_front().unwrap_or_else(|| healthy_service(request)),
        _ => healthy_service(request),
    })
}

fn error_reply(status: u16, headers: &[(&'static str, &str)]) -> Reply {
    Reply::with_headers(status, headers, &json!({"detail": "not now"}))
}

/// Returns the next wait between two attempts, after it has ended.
fn finish_wait(clock: &ManualClock) -> Duration {
    let mut next = Duration::ZERO;
    clock.until_waiting(|waits| {
        next = waits.iter().copied().find(|wait| !wait.is_zero()).unwrap_or(QUIET);
        next < QUIET / 2
    });
    clock.advance(next);
    next
}

/// Makes a call with this number of waits. Returns the waits and the call's result.
fn through_waits<T: Send>(clock: &ManualClock, count: usize, call: impl FnOnce() -> T + Send) -> (Vec<Duration>, T) {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        let waits = (0..count).map(|_| finish_wait(clock)).collect();
        (waits, call.join().unwrap())
    })
}

/// The waits and the result of a health check that gets these replies.
fn health_after(replies: Vec<Reply>, waits: usize) -> (Vec<Duration>, Result<()>, Service) {
    let clock = ManualClock::new();
    let service = replying(replies);
    let client = connect(quiet(&service, &clock)).unwrap();
    let (waits, health) = through_waits(&clock, waits, || client.health().map(drop));
    (waits, health, service)
}

/// Whether this is the client's own wait before the attempt with this number.
fn is_own_wait(wait: Duration, attempt: i32) -> bool {
    let full = (0.5 * 2_f64.powi(attempt)).min(10.0);
    (0.75 * full..=full).contains(&wait.as_secs_f64())
}

/// The error of `create_session`, without retries, if every response is like this.
fn refused_session(
    config: impl Fn(ConfigBuilder) -> ConfigBuilder,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> Error {
    let service = Service::start(move |_| reply());
    connect(config(service.config().max_retries(0))).unwrap_err()
}
