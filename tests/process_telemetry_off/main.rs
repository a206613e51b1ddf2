//! Disabled telemetry has no thread and makes no request. Threads are listed per process, so this binary has one test.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Service, healthy_service};
use tinkex::clock::ManualClock;
use tinkex::types::Severity;
use tinkex::{Config, Proxy, ServiceClient};

/// The names of this process's threads, if the system lists them.
fn threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
}

#[test]
fn disabled_telemetry_has_no_thread_or_request() {
    let service = Service::start(healthy_service);
    let by_environment = |word: &'static str| move |name: &str| (name == "TINKER_TELEMETRY").then(|| word.to_owned());
    let manual = ManualClock::new();
    let builder = || Config::builder().api_key("tml-k").base_url(service.url()).proxy(Proxy::Off).clock(manual.clock());
    for (config, is_on) in [
        (builder().telemetry(false).build_with(|_| None).unwrap(), false),
        (builder().build_with(by_environment("0")).unwrap(), false),
        (builder().build_with(by_environment("False")).unwrap(), false),
        (builder().telemetry(false).build_with(by_environment("1")).unwrap(), false),
        (builder().build_with(|_| None).unwrap(), true),
    ] {
        let client = ServiceClient::connect(config).unwrap();
        let telemetry = client.telemetry();
        telemetry.log("e", Value::Null, Severity::Error);
        telemetry.log_exception(&std::io::Error::other("e"));
        telemetry.flush();
        assert_eq!(telemetry.is_on(), is_on);
        // Threads that wait have their names already.
        manual.until_waiting(|waits| !waits.is_empty());
        service.wait_until(|requests| !is_on || requests.iter().any(|request| request.path == "telemetry"));
        let threads = threads();
        if threads.iter().any(|name| name.starts_with("tinkex-heart")) {
            assert_eq!(threads.iter().any(|name| name.starts_with("tinkex-telem")), is_on, "{threads:?}");
        }
        client.close(Duration::from_secs(30));
        assert_eq!(service.requests_to("telemetry").is_empty(), !is_on);
    }
}
