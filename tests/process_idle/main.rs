//! The threads of a session that does nothing. They are listed per process, so this binary has one test.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::thread;
use std::time::Duration;

use support::{Service, healthy_service};
use tinkex::ServiceClient;
use tinkex::clock::{Clock, ManualClock};
use tinkex::types::LoraConfig;

/// The names of the client's threads, if the system lists them.
fn threads() -> Option<Vec<String>> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let mut own: Vec<_> =
        names.map(|name| name.trim_end().to_owned()).filter(|name| name.starts_with("tinkex-")).collect();
    own.sort_unstable();
    Some(own)
}

#[test]
fn an_idle_session_has_few_threads() {
    let service = Service::start(healthy_service);
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).heartbeat_interval(Duration::from_secs(10));
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let _sampler = client.create_sampling_client("base").unwrap();
    let _trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    // What starting needed ends, though each heartbeat leaves an idle connection behind.
    (0..4).for_each(|_| manual.advance(Duration::from_secs(10)));
    let until = Clock::system().now() + Duration::from_secs(30);
    let expected = ["tinkex-heartbea", "tinkex-poller", "tinkex-training"];
    while let Some(threads) = threads().filter(|threads| *threads != expected) {
        assert!(Clock::system().now() < until, "{threads:?}");
        thread::yield_now();
    }
}
