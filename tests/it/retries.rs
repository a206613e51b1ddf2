//! The Python client's scenarios of failed requests, 70 to 77, replayed: how often each request is sent, and after which waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SamplingParams};
use tinkex::{ConfigBuilder, ServiceClient};

use crate::support::{RecordedRequest, Reply, Service, golden, healthy_service};

/// Longer than any wait between two attempts.
const QUIET: Duration = Duration::from_secs(24 * 3600);

/// One scenario, for the requests to one path.
struct Scenario {
    path: &'static str,
    /// How long the Python client waited before each of them.
    waits: Vec<f64>,
    clock: ManualClock,
    service: Service,
}

impl Scenario {
    /// A healthy service that responds to requests to this path as in the scenario.
    fn start(name: &str, path: &'static str) -> Self {
        let exchanges: Vec<Value> = golden::exchanges(name)
            .into_iter()
            .filter(|exchange| exchange["path"] == format!("/api/v1/{path}"))
            .collect();
        let begins = exchanges.iter().map(|exchange| exchange["t"].as_f64().unwrap());
        let ends = exchanges.iter().map(|exchange| exchange["t_resp"].as_f64().or(exchange["t"].as_f64()).unwrap());
        let waits = begins.skip(1).zip(ends).map(|(begin, end)| begin - end).collect();
        let clock = ManualClock::new();
        let wall = clock.clock();
        let responses = Mutex::new(exchanges.into_iter().map(|mut e| e["response"].take()).collect::<VecDeque<_>>());
        let service = Service::start(move |request| {
            if request.path != path {
                return healthy_service(request);
            }
            let response = responses.lock().unwrap().pop_front().expect("too many requests");
            let Some(status) = response["status"].as_u64() else { return Reply::Close };
            if status == 200 {
                return healthy_service(request);
            }
            let header = |name: &str| {
                let value = response["headers"][name].as_str()?;
                // The date was two seconds ahead, truncated to a second.
                let is_date = value.ends_with("GMT");
                let ahead = httpdate::fmt_http_date(wall.wall() + Duration::from_secs(2));
                Some(if is_date { ahead } else { value.to_owned() })
            };
            let headers = ["retry-after", "retry-after-ms", "x-should-retry"];
            let headers = headers.into_iter().filter_map(|name| Some((name, header(name)?))).collect();
            let body = if response["json"].is_null() { Vec::new() } else { response["json"].to_string().into_bytes() };
            Reply::Full { status: status.try_into().unwrap(), headers, body }
        });
        Scenario { path, waits, clock, service }
    }

    /// A client that waits on the clock only between attempts.
    fn config(&self) -> ConfigBuilder {
        self.service.config().clock(self.clock.clock()).heartbeat_interval(QUIET).idle_retention(QUIET)
    }

    fn connect(&self) -> ServiceClient {
        ServiceClient::connect(self.config().build_with(|_| None).unwrap()).unwrap()
    }

    /// Asserts that both waited equally long, except for the random factor of 0.75 to 1 and the recorder's own time.
    fn waited_as_python_did(&self, waits: &[f64]) {
        for (ours, theirs) in waits.iter().zip(&self.waits) {
            assert!(
                (0.74..1.34).contains(&(ours / (theirs - 0.01))),
                "{}: {waits:?}, Python {:?}",
                self.path,
                self.waits
            );
        }
    }

    /// The requests to the path.
    fn requests(&self) -> Vec<RecordedRequest> {
        self.service.requests_to(self.path)
    }

    fn retry_counts(&self) -> Vec<u32> {
        self.requests()
            .iter()
            .map(|request| request.header("x-stainless-retry-count").unwrap().parse().unwrap())
            .collect()
    }
}

/// Makes a call with this number of waits. Returns the waits in seconds and the result.
fn through<T: Send>(clock: &ManualClock, count: usize, call: impl FnOnce() -> T + Send) -> (Vec<f64>, T) {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        let wait = |_| {
            let mut next = QUIET;
            clock.until_waiting(|waits| {
                // A wait that is over may still be listed.
                next = waits.iter().copied().find(|wait| !wait.is_zero()).unwrap_or(QUIET);
                next < QUIET / 2
            });
            clock.advance(next);
            next.as_secs_f64()
        };
        let waits = (0..count).map(wait).collect();
        (waits, call.join().unwrap())
    })
}

/// Whether all are attempts of one request.
fn are_one(requests: &[RecordedRequest]) -> bool {
    let key = |request: &RecordedRequest| request.header("x-idempotency-key").map(str::to_owned);
    requests.iter().all(|other| other.raw == requests[0].raw && key(other) == key(&requests[0]) && key(other).is_some())
}

#[test]
fn scenario_70_every_form_of_retry_after() {
    let scenario = Scenario::start("70_retry_429_retry_after", "create_sampling_session");
    let client = scenario.connect();
    let (waits, sampler) = through(&scenario.clock, 6, || client.create_sampling_client("m"));
    sampler.unwrap();
    assert_eq!(waits[..2], [1.0, 0.3]);
    assert!(waits[4] > 1.0 && waits[4] <= 2.0, "the date");
    // Not the fifth: Python's depends on where in a second its date fell.
    scenario.waited_as_python_did(&waits[..4]);
    assert!((6.0..=16.0).contains(&waits[5]));
    assert!(are_one(&scenario.requests()));
    assert_eq!(scenario.retry_counts(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn scenario_71_conflicts_after_other_failures() {
    let scenario = Scenario::start("71_retry_status_codes", "optim_step");
    let trainer = scenario.connect().create_lora_training_client("m", LoraConfig::default()).unwrap();
    let (waits, step) = through(&scenario.clock, 5, || trainer.optim_step(AdamParams::default()));
    step.unwrap();
    scenario.waited_as_python_did(&waits);
    assert!(are_one(&scenario.requests()));
    assert_eq!((scenario.retry_counts(), scenario.requests()[0].seq_id()), (vec![0, 1, 2, 3, 4, 5], Some(1)));
}

#[test]
fn the_third_conflict_is_final_in_the_window() {
    let (clock, responses) = (ManualClock::new(), Mutex::new(VecDeque::from([500, 409, 503, 409, 409, 200])));
    let service = Service::start(move |request| match request.path.as_str() {
        "optim_step" => match responses.lock().unwrap().pop_front().expect("too many requests") {
            200 => healthy_service(request),
            status => Reply::Json(status, serde_json::json!({"detail": "no"})),
        },
        _ => healthy_service(request),
    });
    // Every third attempt is one of the submit window.
    let config = service.config().clock(clock.clock()).heartbeat_interval(QUIET).idle_retention(QUIET);
    let client = ServiceClient::connect(config.max_retries(2).build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("m", LoraConfig::default()).unwrap();
    let scenario = Scenario { path: "optim_step", waits: Vec::new(), clock, service };
    let (waits, step) = through(&scenario.clock, 4, || trainer.optim_step(AdamParams::default()));
    assert_eq!(step.unwrap_err().status(), Some(409));
    assert_eq!((waits[2], scenario.retry_counts()), (1.0, vec![0, 1, 2, 3, 4]));
    trainer.optim_step(AdamParams::default()).unwrap();
}

#[test]
fn scenario_73_lost_connections_keep_number_and_key() {
    let scenario = Scenario::start("73_retry_connection", "optim_step");
    let trainer = scenario.connect().create_lora_training_client("m", LoraConfig::default()).unwrap();
    let (waits, step) = through(&scenario.clock, 2, || trainer.optim_step(AdamParams::default()));
    step.unwrap();
    scenario.waited_as_python_did(&waits);
    assert!(are_one(&scenario.requests()));
    // The first is lost with a reused connection, and retried at once.
    assert_eq!(scenario.retry_counts(), [0, 0, 1, 2]);
}

#[test]
fn scenario_72_a_refused_number_is_free() {
    let scenario = Scenario::start("72_retry_400", "optim_step");
    let trainer = scenario.connect().create_lora_training_client("m", LoraConfig::default()).unwrap();
    let step = || trainer.optim_step(AdamParams::default());
    let refused = step().unwrap_err();
    assert!(refused.status() == Some(400) && refused.to_string().contains("bad") && refused.is_user_error());
    step().unwrap();
    let numbers: Vec<_> = scenario.requests().iter().map(|request| request.seq_id().unwrap()).collect();
    // Python's are 1 and 2. A server that insists on every number refuses all that follow such a gap.
    assert_eq!((numbers, scenario.retry_counts()), (vec![1, 1], vec![0; 2]));
}

#[test]
fn scenarios_74_and_76_the_window_outlasts_advice() {
    let scenario = Scenario::start("74_retry_x_should_retry", "optim_step");
    let trainer = scenario.connect().create_lora_training_client("m", LoraConfig::default()).unwrap();
    let (waits, step) = through(&scenario.clock, 3, || trainer.optim_step(AdamParams::default()));
    step.unwrap();
    scenario.waited_as_python_did(&waits);
    assert!(are_one(&scenario.requests()), "0.4.1 makes a new key for each round");

    let scenario = Scenario::start("76_execute_with_retries_backoff", "save_weights");
    let trainer = scenario.connect().create_lora_training_client("m", LoraConfig::default()).unwrap();
    let (waits, saved) = through(&scenario.clock, 4, || trainer.save_state("x"));
    saved.unwrap();
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0]);
    scenario.waited_as_python_did(&waits);
    assert!(are_one(&scenario.requests()));

    let scenario = Scenario::start("74_retry_x_should_retry", "healthz");
    let client = scenario.connect();
    let (waits, health) = through(&scenario.clock, 2, || client.health());
    health.unwrap();
    scenario.waited_as_python_did(&waits);
    assert!(scenario.requests().iter().all(|request| request.header("x-idempotency-key").is_none()));
}

#[test]
fn scenario_75_the_last_response_is_the_error() {
    let scenario = Scenario::start("75_retry_exhausted", "healthz");
    let client = ServiceClient::connect(scenario.config().max_retries(2).build_with(|_| None).unwrap()).unwrap();
    let (waits, health) = through(&scenario.clock, 2, || client.health());
    let error = health.unwrap_err();
    assert!(error.status() == Some(500) && error.to_string().contains('3'), "{error}");
    scenario.waited_as_python_did(&waits);
    let client = ServiceClient::connect(scenario.config().max_retries(0).build_with(|_| None).unwrap()).unwrap();
    assert_eq!(client.health().unwrap_err().status(), Some(429));
    // The connection was reused, so the server may have closed it before it saw the request: it is retried at once.
    client.health().unwrap();
    assert_eq!(scenario.retry_counts(), [0, 1, 2, 0, 0, 0]);
}

#[test]
fn scenario_77_a_429_retries_the_same_sample() {
    let scenario = Scenario::start("77_asample_429_backpressure", "asample");
    let sampler = scenario.connect().create_sampling_client("m").unwrap();
    let sample = || sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default());
    let (waits, sampled) = through(&scenario.clock, 2, sample);
    sampled.unwrap();
    // 0.4.1 ignores the header and waits a second. Also, a token takes time after a pause.
    assert!((7.0..7.05).contains(&waits[0]) && (1.0..1.05).contains(&waits[1]), "{waits:?}");
    // The pause has emptied the bucket.
    scenario.clock.advance(Duration::from_secs(1));
    let (waits, sampled) = through(&scenario.clock, 1, sample);
    sampled.unwrap();
    assert_eq!(waits, [1.0]);
    assert_eq!(sample().unwrap_err().status(), Some(400));
    sample().unwrap();
    let seen = scenario.requests();
    assert!(are_one(&seen[..3]) && are_one(&seen[3..5]) && !are_one(&seen[2..4]));
    assert!(seen.iter().all(|request| request.header("x-tinker-sampling-backpressure") == Some("1")));
    // 0.4.1 takes a new number for each attempt.
    assert_eq!(seen.iter().map(|request| request.seq_id().unwrap()).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 2, 3]);
}

/// Makes a call whose waits are over at once.
fn without_waits<T: Send>(clock: &ManualClock, call: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        while !call.is_finished() {
            match clock.waits().into_iter().find(|wait| !wait.is_zero() && *wait < QUIET / 2) {
                Some(wait) => clock.advance(wait),
                None => thread::yield_now(),
            }
        }
        call.join().unwrap()
    })
}

#[test]
fn garbled_responses_of_a_known_server_pass() {
    let (garbled, manual) = (Arc::new(AtomicUsize::new(0)), ManualClock::new());
    let left = Arc::clone(&garbled);
    let service = Service::start_current(move |request| {
        // Not those that the client sends by itself.
        let is_garbled = matches!(&*request.path, "client/config" | "healthz")
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_garbled { Reply::Raw(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()) } else { healthy_service(request) }
    });
    let config = || service.manual_config(&manual).idle_retention(QUIET).build_with(|_| None).unwrap();
    // Of a server that has never responded, a second one ends the call: it is the wrong server.
    garbled.store(4, Ordering::SeqCst);
    let error = without_waits(&manual, || ServiceClient::connect(config()).unwrap_err());
    assert!(error.hint().unwrap().contains("base URL"), "{error}");
    assert_eq!(garbled.swap(0, Ordering::SeqCst), 2);
    // Once it has, something in between is at fault, and may pass.
    let client = ServiceClient::connect(config()).unwrap();
    garbled.store(4, Ordering::SeqCst);
    without_waits(&manual, || client.health().unwrap());
    assert_eq!(service.requests_to("healthz").len(), 5);
}
