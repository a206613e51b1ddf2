//! A wall clock that is wrong, or is set while a client works: no measured time and no wait depends on it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tinkex::types::{Severity, Timestamp};

use super::support::{self, advance_past_wait};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time by the clock of the service.
fn service_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(4_000_000_000)
}

/// What the clock of a machine may show instead: also times before 1970 and after the year 9999.
fn wrong_times() -> [SystemTime; 6] {
    [
        service_time() - HOUR,
        service_time() + DAY,
        UNIX_EPOCH,
        UNIX_EPOCH - DAY,
        UNIX_EPOCH + Duration::from_secs(253_402_300_799),
        UNIX_EPOCH + Duration::from_secs(1_000_000_000_000),
    ]
}

/// A token of an hour, issued so long after the service's time.
fn token(after: Duration) -> String {
    let issued = 4_000_000_000 + after.as_secs();
    let claims = json!({"iat": issued, "exp": issued + HOUR.as_secs()});
    support::token(&claims, "c2ln")
}

#[test]
fn tokens_are_renewed_by_measured_time() {
    for wrong in wrong_times() {
        let manual = ManualClock::new();
        manual.set_wall(service_time());
        let (clock, start) = (manual.clock(), manual.clock().now());
        let service = Service::start_current(move |request| match &*request.path {
            "client/config" => Reply::ok(json!({"pjwt_auth_enabled": true})),
            "client/dynamic_config" => Reply::ok(json!({"refresh_interval_sec": 1_000_000})),
            "auth/token" => Reply::ok(json!({"jwt": token(clock.now() - start)})),
            path if path.ends_with("/finish") => Reply::ok(json!(null)),
            _ => healthy_service(request),
        });
        let client = connect(service.manual_config(&manual));
        manual.set_wall(wrong);
        client.health().unwrap();
        assert_eq!(service.requests_to("auth/token").len(), 1, "{wrong:?}");
        for count in 2..=4 {
            advance_past_wait(&manual, 1_620_000..=1_980_999);
            service.wait_for_count("auth/token", count);
        }
        client.health().unwrap();
        promptly(move || client.close(FAR));
        assert_eq!(service.requests_to("auth/token").len(), 4, "{wrong:?}");
    }
}

/// Nobody renews a token that the program gave. When its time is over, the clock decides, and the error says so.
#[test]
fn a_given_token_outlives_a_jump() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    manual.set_wall(service_time());
    let client = connect(service.manual_config(&manual).api_key(token(Duration::ZERO)));
    manual.set_wall(service_time() + DAY);
    client.health().unwrap();
    manual.advance(HOUR);
    let error = client.health().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("check the clock of this machine"), "{error}");
    manual.set_wall(service_time());
    client.health().unwrap();
    promptly(move || client.close(FAR));
}

type Call = fn(&ServiceClient, &Path) -> Result<(), Error>;

/// Calls that a service may ask to wait until a date, and the path and the status with which it does.
const CALLS: [(&str, u16, Call); 4] = [
    ("healthz", 503, |client, _| client.health().map(drop)),
    ("retrieve_future", 429, |client, _| client.create_lora_training_client("base", LoraConfig::default()).map(drop)),
    ("asample", 429, |client, _| client.create_sampling_client("base")?.sample(&prompt(), 1, &params()).map(drop)),
    ("training_runs/run/checkpoints/weights/a/archive", 503, |client, folder| {
        let result = client.create_rest_client().download_checkpoint_archive("run", "weights/a", folder.join("out"));
        let missing = result.map(drop).unwrap_err();
        assert_eq!(missing.status(), Some(404), "{missing}");
        Ok(())
    }),
];

#[test]
fn dates_count_from_the_services_clock() {
    for wrong in wrong_times() {
        for (path, status, call) in CALLS {
            let asked = AtomicUsize::new(0);
            let service = Service::start(move |request| match &*request.path {
                seen if seen == path && asked.fetch_add(1, Ordering::SeqCst) == 0 => {
                    let times = [service_time(), service_time() + Duration::from_secs(20)];
                    let [now, until] = times.map(httpdate::fmt_http_date);
                    Reply::with_headers(status, &[("date", &now), ("retry-after", &until)], &json!({"detail": "later"}))
                }
                seen if seen.ends_with("/archive") => Reply::Json(404, json!({"detail": "no such checkpoint"})),
                _ => healthy_service(request),
            });
            let manual = ManualClock::new();
            manual.set_wall(wrong);
            let client = connect(service.manual_config(&manual));
            let folder = tempfile::tempdir().unwrap();
            thread::scope(|scope| {
                let call = scope.spawn(|| call(&client, folder.path()).unwrap());
                // A sample also waits for a token of the limiter.
                let is_due = |wait: &Duration| (20_000..20_100).contains(&wait.as_millis());
                manual.until_waiting(|waits| waits.iter().any(is_due));
                manual.advance(Duration::from_millis(20_100));
                call.join().unwrap();
            });
            promptly(move || client.close(FAR));
        }
    }
}

#[test]
fn telemetry_is_sent_at_any_time() {
    for wrong in wrong_times() {
        let (service, manual) = (Service::start(healthy_service), ManualClock::new());
        let client = connect(service.manual_config(&manual).telemetry(true));
        client.telemetry().log("before", json!({}), Severity::Info);
        manual.set_wall(wrong);
        client.telemetry().log("after", json!({}), Severity::Info);
        manual.advance(HOUR);
        promptly(move || client.close(FAR));
        let sent = service.requests_to("telemetry");
        let events: Vec<_> = sent.iter().flat_map(|request| request.body["events"].as_array().unwrap()).collect();
        assert_eq!(events.len(), 4, "{wrong:?}: {events:?}");
        for event in &events {
            event["timestamp"].as_str().unwrap().parse::<Timestamp>().unwrap();
        }
        assert_eq!(events[3]["duration"], "1:00:00", "{wrong:?}");
    }
}
