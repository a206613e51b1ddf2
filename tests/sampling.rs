//! Sampling through the public API: what is sent, how much at once, and what a 429 and an expired promise do.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Gate, Gauge, Reply, Seen, Service, result, well};
use tinkex::clock::ManualClock;
use tinkex::config::ConfigBuilder;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SampleResponse, SamplingParams};
use tinkex::{ErrorKind, Limit, Pending, RetryConfig, SampleOptions, SamplingClient, ServiceClient};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// How long a promise that someone waits for keeps a poll connection that others want.
const SLICE: Duration = Duration::from_secs(2);

fn sampler(config: ConfigBuilder) -> SamplingClient {
    let client = ServiceClient::connect(config.build().unwrap()).unwrap();
    client.create_sampling_client("base").unwrap()
}

fn prompt(tokens: &[u32]) -> ModelInput {
    ModelInput::from_tokens(tokens.to_vec())
}

fn submit(sampler: &SamplingClient, token: u32) -> Pending<SampleResponse> {
    sampler.submit_sample(&prompt(&[token]), 1, &SamplingParams::default()).unwrap()
}

fn sample(sampler: &SamplingClient, token: u32) -> SampleResponse {
    sampler.sample(&prompt(&[token]), 1, &SamplingParams::default()).unwrap()
}

/// A blocking call on a thread of its own; gives the number of its request.
fn in_thread(sampler: &SamplingClient, token: u32) -> JoinHandle<u64> {
    let sampler = sampler.clone();
    thread::spawn(move || number(&sample(&sampler, token)))
}

/// The scripted sample is one token: the number of the request.
fn number(response: &SampleResponse) -> u64 {
    u64::from(response.sequences[0].tokens[0])
}

/// The number of a submitted sample once it is there. Nobody counts as waiting for it, so that no poll is cut off for it:
/// the service counts such a poll for a moment longer than the client.
fn ready(pending: &Pending<SampleResponse>) -> u64 {
    pending.ready().recv().unwrap();
    number(&pending.try_get().unwrap().unwrap())
}

fn is_sample(seen: &Seen) -> bool {
    seen.path == "retrieve_future" && seen.request_id().starts_with("asample")
}

/// The prompt's first token, by which a test tells its calls apart.
fn asked(seen: &Seen) -> u64 {
    seen.body["prompt"]["chunks"][0]["tokens"][0].as_u64().unwrap()
}

/// Asserts that `ours` has all that `theirs` has, and returns what it has besides, as paths.
fn besides(ours: &Value, theirs: &Value, path: &str) -> Vec<String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            theirs.keys().for_each(|key| assert!(ours.contains_key(key), "{path}.{key} is missing"));
            let each = ours.iter().flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                theirs.get(key).map_or_else(|| vec![path.clone()], |theirs| besides(value, theirs, &path))
            });
            each.collect()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{path}");
            ours.iter().zip(theirs).flat_map(|(ours, theirs)| besides(ours, theirs, path)).collect()
        }
        _ => {
            assert_eq!(ours, theirs, "{path}");
            Vec::new()
        }
    }
}

/// The bodies of the Python client's asample requests in a fixture, with the session's name as our service has it.
fn golden(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/golden/v0.4.1/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let samples = fixture["exchanges"].as_array().unwrap().iter().filter(|e| e["path"] == "/api/v1/asample");
    samples
        .map(|exchange| {
            assert_eq!(exchange["headers"]["x-tinker-sampling-backpressure"], "1");
            let mut body = exchange["body"]["json"].clone();
            body["sampling_session_id"] = json!("sampler-0");
            body
        })
        .collect()
}

#[test]
fn samples_are_sent_as_the_python_client_sends_them_blocking_and_submitted() {
    let golden = golden("40_sample_default");
    let service = Service::start(well);
    let sampler = sampler(service.config());
    assert_eq!(sampler.sampling_session_id(), "sampler-0");
    let prompt = prompt(&[1, 2, 3]);
    let plain = sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap();
    assert_eq!((number(&plain), plain.sequences[0].logprobs.as_deref()), (0, Some(&[-0.25][..])));
    let five = SamplingParams::default().max_tokens(5);
    let submitted = sampler.submit_sample(&prompt, 1, &five).unwrap();
    assert_eq!(number(&submitted.wait().unwrap()), 1);
    let asked = service.seen_at("asample");
    for (seen, golden) in asked.iter().zip(&golden) {
        assert_eq!(
            besides(&seen.body, golden, ""),
            [
                ".prompt.chunks.type",
                ".sampling_params.temperature",
                ".sampling_params.top_k",
                ".sampling_params.top_p",
                ".type",
            ]
        );
        assert_eq!(seen.header("x-tinker-sampling-backpressure"), Some("1"));
        assert_eq!(seen.header("x-stainless-retry-count"), Some("0"));
    }
    let keys: HashSet<_> = asked.iter().map(|seen| seen.header("x-idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 2);
}

#[test]
fn every_option_of_a_sample_reaches_the_service() {
    let service = Service::start(well);
    let sampler = sampler(service.config());
    let prompt = prompt(&[7, 8]);
    let options = SampleOptions::new(&prompt)
        .num_samples(4)
        .sampling_params(SamplingParams::default().temperature(0.5).stop(["\n"]).seed(3).top_k(2).top_p(0.5))
        .prompt_logprobs(true)
        .topk_prompt_logprobs(5);
    sampler.sample_with(options.clone()).unwrap();
    sampler.submit_sample_with(options).unwrap().wait().unwrap();
    for (seq_id, seen) in service.seen_at("asample").iter().enumerate() {
        assert_eq!(
            seen.body,
            json!({
                "type": "sample",
                "num_samples": 4,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [7, 8]}]},
                "sampling_params": {"temperature": 0.5, "stop": ["\n"], "seed": 3, "top_k": 2, "top_p": 0.5},
                "sampling_session_id": "sampler-0",
                "seq_id": seq_id,
                "prompt_logprobs": true,
                "topk_prompt_logprobs": 5,
            })
        );
    }
}

/// A service whose samples have these log-probabilities of the prompt.
fn with_prompt_logprobs(logprobs: Value) -> Service {
    Service::start(move |seen| {
        if is_sample(seen) {
            return Reply::ok(json!({"sequences": [], "prompt_logprobs": logprobs}));
        }
        well(seen)
    })
}

#[test]
fn compute_logprobs_gives_one_entry_a_token_and_pads_what_is_one_short_in_front() {
    for (served, expected) in [
        (json!([null, -1.0, -2.0]), Some([None, Some(-1.0), Some(-2.0)])),
        (json!([-1.0, -2.0]), Some([None, Some(-1.0), Some(-2.0)])),
        (json!([-1.0]), None),
        (json!([null, -1.0, -2.0, -3.0]), None),
        (Value::Null, None),
    ] {
        let service = with_prompt_logprobs(served.clone());
        let sampler = sampler(service.config());
        let prompt = prompt(&[1, 2, 3]);
        let blocking = sampler.compute_logprobs(&prompt);
        let submitted = sampler.submit_compute_logprobs(&prompt).unwrap().wait();
        let sampled = sampler.sample_with(SampleOptions::new(&prompt).prompt_logprobs(true));
        for outcome in [blocking, submitted] {
            match expected {
                Some(expected) => assert_eq!(outcome.unwrap(), expected, "{served}"),
                None => {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Decode, "{served}");
                    assert_eq!(error.operation(), Some("compute_logprobs"));
                }
            }
        }
        match expected {
            Some(expected) => assert_eq!(sampled.unwrap().prompt_logprobs.unwrap(), expected, "{served}"),
            None if served.is_null() => assert_eq!(sampled.unwrap().prompt_logprobs, None),
            None => assert_eq!(sampled.unwrap_err().kind(), ErrorKind::Decode, "{served}"),
        }
        let golden = golden("43_compute_logprobs");
        for seen in &service.seen_at("asample")[..2] {
            assert_eq!(seen.body["prompt_logprobs"], golden[0]["prompt_logprobs"]);
            assert_eq!(seen.body["sampling_params"]["max_tokens"], golden[0]["sampling_params"]["max_tokens"]);
        }
    }
}

#[test]
fn bad_parameters_are_refused_before_any_request_and_take_no_number() {
    let service = Service::start(well);
    let sampler = sampler(service.config());
    let cold = SamplingParams::default().temperature(-1.0);
    let errors = [
        sampler.sample(&prompt(&[1]), 0, &SamplingParams::default()).unwrap_err(),
        sampler.sample(&prompt(&[]), 1, &SamplingParams::default()).unwrap_err(),
        sampler.sample(&prompt(&[1]), 1, &cold).unwrap_err(),
        sampler.submit_sample(&prompt(&[1]), 1, &cold).unwrap_err(),
        sampler.compute_logprobs(&prompt(&[])).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(number(&sample(&sampler, 1)), 0);
    assert_eq!(service.seen_at("asample").len(), 1);
}

/// What the service counted of many samples at once.
#[derive(Default)]
struct Crowd {
    polls: Gauge,
    submissions: Gauge,
    /// Let the first submissions and polls pile up.
    submit: Arc<Gate>,
    poll: Arc<Gate>,
}

fn crowd() -> (Service, Arc<Crowd>) {
    let crowd = Arc::<Crowd>::default();
    let seen_by = Arc::clone(&crowd);
    let service = Service::start(move |seen| {
        let crowd = &seen_by;
        if seen.path == "asample" {
            let _inside = crowd.submissions.enter();
            crowd.submit.pass();
        } else if is_sample(seen) {
            let _inside = crowd.polls.enter();
            crowd.poll.pass();
        }
        well(seen)
    });
    (service, crowd)
}

/// Asserts that each of the calls `0..count` was sent once, and that its result is that of its own request; `numbers` are
/// the results in the order of the calls.
fn none_lost_none_doubled(service: &Service, numbers: &[u64]) {
    let sent = service.seen_at("asample");
    assert_eq!(sent.len(), numbers.len());
    let mut seq_ids: Vec<_> = sent.iter().map(|seen| seen.seq_id().unwrap()).collect();
    for seen in &sent {
        assert_eq!(numbers[asked(seen) as usize], seen.seq_id().unwrap());
    }
    seq_ids.sort_unstable();
    assert_eq!(seq_ids, (0..numbers.len() as u64).collect::<Vec<_>>());
}

fn connections(service: &Service, of: impl Fn(&Seen) -> bool) -> HashSet<usize> {
    service.seen().iter().filter(|seen| of(seen)).map(|seen| seen.connection).collect()
}

#[test]
fn three_hundred_submitted_samples_pass_over_the_configured_threads_and_poll_connections() {
    let (service, crowd) = crowd();
    let sampler = sampler(service.config().max_sampling_threads(5).max_poll_connections(8));
    let pending: Vec<_> = (0..300).map(|call| submit(&sampler, call)).collect();
    service.until_count("asample", 5);
    crowd.submit.open();
    service.until_count("asample", 300);
    service.until_seen(|seen| seen.iter().filter(|seen| is_sample(seen)).count() >= 8);
    crowd.poll.open();
    let numbers: Vec<_> = pending.iter().map(ready).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(crowd.submissions.most() <= 5 && crowd.polls.most() <= 8);
    let (submit, poll) = (connections(&service, |seen| seen.path == "asample"), connections(&service, is_sample));
    assert_eq!((submit.len(), poll.len()), (5, 8));
    assert!(submit.is_disjoint(&poll), "each purpose has its own connections");
}

#[test]
fn three_hundred_threads_sample_at_once_within_the_caps_on_submissions_and_polls() {
    let (service, crowd) = crowd();
    let sampler = sampler(service.config().max_sampling_in_flight(20).max_poll_connections(8));
    let calls: Vec<_> = (0..300).map(|call| in_thread(&sampler, call)).collect();
    service.until_count("asample", 20);
    crowd.submit.open();
    service.until_count("asample", 300);
    service.until_seen(|seen| seen.iter().filter(|seen| is_sample(seen)).count() >= 8);
    crowd.poll.open();
    let numbers: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(crowd.submissions.most() <= 20 && crowd.polls.most() <= 8);
}

#[test]
fn three_hundred_samples_whose_answers_take_their_time_pass_over_two_poll_connections() {
    let polls = Arc::<Gauge>::default();
    let gauge = Arc::clone(&polls);
    let service = Service::start(move |seen| {
        if is_sample(seen) {
            let _inside = gauge.enter();
            // Not yet, the first time.
            return if seen.iteration() == Some(0) { Reply::Json(408, json!({})) } else { result(seen.request_id()) };
        }
        well(seen)
    });
    let sampler = sampler(service.config().max_poll_connections(2));
    let pending: Vec<_> = (0..300).map(|call| submit(&sampler, call)).collect();
    let numbers: Vec<_> = pending.iter().map(ready).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(polls.most() <= 2);
}

#[test]
fn short_samples_are_not_stuck_behind_long_training() {
    let manual = ManualClock::new();
    let end = Arc::<Gate>::default();
    let gate = Arc::clone(&end);
    let service = Service::start(move |seen| match well(seen) {
        reply if seen.request_id().starts_with("optim_step") => Reply::held(&gate, reply),
        reply => reply,
    });
    let config = service.manual_config(&manual).max_poll_connections(2).build().unwrap();
    let client = ServiceClient::connect(config).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let sampler = client.create_sampling_client("base").unwrap();
    let training = |seen: &[Seen]| seen.iter().filter(|s| s.request_id().starts_with("optim_step")).count();
    let first = trainer.submit_optim_step(AdamParams::default()).unwrap();
    let second = trainer.submit_optim_step(AdamParams::default()).unwrap();
    // Who waits for the second step waits for the first one too: both connections are held for someone who waits.
    let step = thread::spawn(move || second.wait().unwrap().metrics.unwrap()["step"]);
    service.until_seen(|seen| training(seen) == 2);
    let samples: Vec<_> = (0..50).map(|call| submit(&sampler, call)).collect();
    let samples = thread::spawn(move || samples.into_iter().map(|s| number(&s.wait().unwrap())).collect::<Vec<_>>());
    manual.until_waiting(|waits| waits.contains(&SLICE));
    manual.advance(SLICE);
    none_lost_none_doubled(&service, &samples.join().unwrap());
    assert!(!first.is_ready() && !step.is_finished());
    // After as long again, training has its turn.
    manual.until_waiting(|waits| waits.contains(&SLICE));
    manual.advance(SLICE);
    service.until_seen(|seen| training(seen) >= 3);
    end.open();
    assert_eq!(step.join().unwrap(), 2.0);
    first.wait().unwrap();
}

/// How many wait at the gate for the end of a pause of this length, and a little longer for the first token after it: the
/// first in line, the others wait for their turn.
fn paused(waits: &[Duration], pause: Duration) -> usize {
    waits.iter().filter(|wait| **wait > pause && **wait < pause + Duration::from_millis(50)).count()
}

/// How many wait until the end of their call at the latest.
fn limited_to(waits: &[Duration], limit: Duration) -> usize {
    waits.iter().filter(|wait| **wait == limit).count()
}

#[test]
fn a_429_makes_all_sampling_with_that_key_wait_and_no_other_keys() {
    let manual = ManualClock::new();
    let limited = |seen: &Seen| seen.path == "asample" && seen.header("x-api-key") == Some("tml-limited");
    let service = Service::start(move |seen| {
        if limited(seen) && asked(seen) == 0 && seen.header("x-stainless-retry-count") == Some("0") {
            return Reply::with_headers(429, &[("retry-after-ms", "7000")], &json!({"detail": "slow down"}));
        }
        well(seen)
    });
    let client = |key| sampler(service.manual_config(&manual).api_key(key));
    let (one, another, other_key) = (client("tml-limited"), client("tml-limited"), client("tml-other"));
    let first = submit(&one, 0);
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1);
    let blocking = [&one, &another].map(|sampler| in_thread(&sampler.timeout_operation(Some(HOUR)), 1));
    let submitted = [&one, &another, &one].map(|sampler| submit(sampler, 2));
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1 && limited_to(waits, HOUR) == 2);
    for _ in 0..3 {
        sample(&other_key, 3);
    }
    manual.advance(7 * SECOND);
    assert_eq!(service.seen().into_iter().filter(limited).count(), 1);
    manual.advance(SECOND);
    assert_eq!(number(&first.wait().unwrap()), 0);
    blocking.into_iter().for_each(|call| assert!(call.join().unwrap() < 4));
    submitted.into_iter().for_each(|call| drop(call.wait().unwrap()));
    let sent: Vec<_> = service.seen().into_iter().filter(limited).collect();
    assert_eq!(sent.len(), 7);
    let attempts: Vec<_> = sent.iter().filter(|seen| asked(seen) == 0).collect();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].raw, attempts[1].raw);
    assert_eq!(attempts[0].header("x-idempotency-key"), attempts[1].header("x-idempotency-key"));
    assert_eq!(attempts[1].header("x-stainless-retry-count"), Some("1"));
}

#[test]
fn a_429_that_does_not_say_how_long_pauses_for_a_second_each_time() {
    let manual = ManualClock::new();
    let service = Service::start(|seen| match seen.header("x-stainless-retry-count") {
        Some("0" | "1") if seen.path == "asample" => Reply::Json(429, json!({})),
        _ => well(seen),
    });
    let sampler = sampler(service.manual_config(&manual));
    let pending = submit(&sampler, 1);
    for _ in 0..2 {
        manual.until_waiting(|waits| paused(waits, SECOND) == 1);
        manual.advance(SECOND + SECOND / 10);
    }
    assert_eq!(number(&pending.wait().unwrap()), 0);
    let counts: Vec<_> =
        service.seen_at("asample").iter().map(|s| s.header("x-stainless-retry-count").map(str::to_owned)).collect();
    assert_eq!(counts, ["0", "1", "2"].map(|count| Some(count.to_owned())));
}

#[test]
fn a_pause_is_not_shortened_by_a_shorter_one() {
    let manual = ManualClock::new();
    let short = Arc::<Gate>::default();
    let gate = Arc::clone(&short);
    let service = Service::start(move |seen| {
        if seen.path != "asample" || seen.header("x-stainless-retry-count") != Some("0") {
            return well(seen);
        }
        let limited = |millis| Reply::with_headers(429, &[("retry-after-ms", millis)], &json!({}));
        if asked(seen) == 7 { limited("7000") } else { Reply::held(&gate, limited("1000")) }
    });
    let sampler = sampler(service.manual_config(&manual));
    let other = in_thread(&sampler.timeout_operation(Some(HOUR)), 1);
    service.until_count("asample", 1);
    let long = submit(&sampler, 7);
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1);
    short.open();
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1 && limited_to(waits, HOUR) == 1);
    manual.advance(7 * SECOND);
    assert_eq!(service.seen_at("asample").len(), 2);
    manual.advance(SECOND);
    other.join().unwrap();
    long.wait().unwrap();
}

#[test]
fn four_hundred_threads_with_a_429_in_the_middle_all_arrive_and_none_in_the_pause() {
    /// The submissions before the 429, of which the last so many are in flight with it.
    const BEFORE: usize = 200;
    const CAP: usize = 20;
    let manual = ManualClock::new();
    let (arrived, in_flight, rest) = (AtomicUsize::new(0), Arc::<Gauge>::default(), Arc::<Gate>::default());
    let (gauge, gate) = (Arc::clone(&in_flight), Arc::clone(&rest));
    let service = Service::start(move |seen| {
        if seen.path != "asample" {
            return well(seen);
        }
        let _inside = gauge.enter();
        match arrived.fetch_add(1, Ordering::SeqCst) {
            BEFORE => return Reply::with_headers(429, &[("retry-after", "7")], &json!({})),
            place if place > BEFORE - CAP && place < BEFORE => gate.pass(),
            _ => {}
        }
        well(seen)
    });
    let config = service.manual_config(&manual).max_sampling_in_flight(CAP).timeout_operation(Some(HOUR));
    let sampler = sampler(config);
    let calls: Vec<_> = (0..400).map(|call| in_thread(&sampler, call)).collect();
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1);
    // Those that passed before the pause come through in it; their places stay empty.
    rest.open();
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) + limited_to(waits, HOUR) == 400 - BEFORE);
    manual.advance(7 * SECOND);
    assert_eq!(service.seen_at("asample").len(), BEFORE + 1, "somebody arrived in the pause");
    manual.advance(SECOND);
    let numbers: HashSet<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert_eq!((numbers.len(), service.seen_at("asample").len()), (400, 401));
    assert_eq!(in_flight.most(), CAP);
}

#[test]
fn no_more_submissions_are_in_flight_than_allowed_whoever_makes_them() {
    let manual = ManualClock::new();
    let (service, crowd) = crowd();
    crowd.poll.open();
    let config = service.manual_config(&manual).max_sampling_in_flight(3).timeout_operation(Some(HOUR));
    let sampler = sampler(config);
    let calls: Vec<_> = (0..8).map(|call| in_thread(&sampler, call)).collect();
    service.until_count("asample", 3);
    // The others wait at the gate, until the end of their call at the latest.
    manual.until_waiting(|waits| limited_to(waits, HOUR) == 5);
    crowd.submit.open();
    let numbers: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(crowd.submissions.most() <= 3);
}

#[test]
fn nothing_is_held_while_a_result_is_polled() {
    let (service, crowd) = crowd();
    crowd.submit.open();
    let sampler = sampler(service.config().max_sampling_in_flight(1).max_sampling_threads(1));
    let pending: Vec<_> = (0..4).map(|call| submit(&sampler, call)).collect();
    service.until_seen(|seen| seen.iter().filter(|seen| is_sample(seen)).count() == 4);
    crowd.poll.open();
    let numbers: Vec<_> = pending.into_iter().map(|pending| number(&pending.wait().unwrap())).collect();
    none_lost_none_doubled(&service, &numbers);
}

#[test]
fn a_call_that_waits_at_the_gate_ends_by_its_time_limit_and_takes_no_number() {
    let manual = ManualClock::new();
    let service = Service::start(|seen| match seen.header("x-stainless-retry-count") {
        Some("0") if seen.path == "asample" => Reply::with_headers(429, &[("retry-after", "30")], &json!({})),
        _ => well(seen),
    });
    let sampler = sampler(service.manual_config(&manual));
    let limited = submit(&sampler, 0);
    manual.until_waiting(|waits| paused(waits, 30 * SECOND) == 1);
    let brief = sampler.timeout_operation(Some(5 * SECOND));
    let call = thread::spawn(move || brief.sample(&prompt(&[1]), 1, &SamplingParams::default()).unwrap_err());
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    let error = call.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    assert_eq!((error.operation(), error.may_have_taken_effect()), (Some("sample"), false));
    manual.advance(26 * SECOND);
    limited.wait().unwrap();
    let seq_ids: Vec<_> = service.seen_at("asample").iter().map(|seen| seen.seq_id().unwrap()).collect();
    assert_eq!(seq_ids, [0, 0]);
}

/// A service on which the promises of the first samples, so many, have expired.
fn forgetful(samples: usize) -> Service {
    let expired = AtomicUsize::new(0);
    Service::start(move |seen| {
        if is_sample(seen) && expired.fetch_add(1, Ordering::SeqCst) < samples {
            return Reply::Json(410, json!({"detail": "gone"}));
        }
        well(seen)
    })
}

#[test]
fn a_sample_whose_promise_expired_is_submitted_again_under_a_new_number_and_key() {
    let manual = ManualClock::new();
    let service = forgetful(2);
    let sampler = sampler(service.manual_config(&manual));
    let call = in_thread(&sampler, 5);
    // Half a second, doubled, moved by up to a quarter.
    for millis in [375..=625, 750..=1250] {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| millis.contains(&wait.as_millis())));
        manual.advance(2 * SECOND);
    }
    assert_eq!(call.join().unwrap(), 2);
    let sent = service.seen_at("asample");
    assert_eq!(sent.iter().map(|seen| seen.seq_id().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    let keys: HashSet<_> = sent.iter().map(|seen| seen.header("x-idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(sent.iter().all(|seen| asked(seen) == 5 && seen.header("x-stainless-retry-count") == Some("0")));
}

#[test]
fn a_sample_that_expires_every_time_is_given_up_after_the_configured_retries() {
    let manual = ManualClock::new();
    let service = forgetful(usize::MAX);
    let sampler = sampler(service.manual_config(&manual).max_retries(1));
    let pending = submit(&sampler, 5);
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait < SECOND));
    manual.advance(SECOND);
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Expired, Some(410)));
    assert_eq!(error.request_id(), Some("asample:sampler-0:1"));
    assert_eq!(service.seen_at("asample").len(), 2);
}

#[test]
fn an_expired_sample_that_is_cancelled_meanwhile_is_not_submitted_again() {
    let manual = ManualClock::new();
    let service = forgetful(1);
    let sampler = sampler(service.manual_config(&manual).max_sampling_threads(1));
    let pending = submit(&sampler, 5);
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait < SECOND));
    pending.cancel();
    let next = submit(&sampler, 6);
    manual.advance(SECOND);
    assert_eq!(number(&next.wait().unwrap()), 1);
    assert_eq!(service.seen_at("asample").iter().map(asked).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn an_expired_sample_holds_no_thread_while_it_waits_to_be_submitted_anew() {
    let manual = ManualClock::new();
    let service = forgetful(1);
    let sampler = sampler(service.manual_config(&manual).max_sampling_threads(1));
    let expired = submit(&sampler.retry_config(RetryConfig::default().base(HOUR).cap(HOUR).jitter(0.0)), 5);
    manual.until_waiting(|waits| waits.contains(&HOUR));
    // The clock stands still.
    assert_eq!(number(&submit(&sampler, 6).wait().unwrap()), 1);
    assert!(!expired.is_ready());
    manual.advance(HOUR);
    assert_eq!(number(&expired.wait().unwrap()), 2);
    assert_eq!(service.seen_at("asample").iter().map(asked).collect::<Vec<_>>(), [5, 6, 5]);
}

#[test]
fn without_retries_an_expired_sample_is_an_error_at_once() {
    let service = forgetful(1);
    let sampler = sampler(service.config()).retry_config(RetryConfig::off());
    let error = sampler.sample(&prompt(&[5]), 1, &SamplingParams::default()).unwrap_err();
    assert_eq!((error.kind(), service.seen_at("asample").len()), (ErrorKind::Expired, 1));
}

#[test]
fn a_sampling_client_may_have_a_progress_timeout_of_its_own() {
    let manual = ManualClock::new();
    let service = Service::start(|seen| match is_sample(seen) {
        true => Reply::Json(503, json!({})),
        false => well(seen),
    });
    let sampler = sampler(service.manual_config(&manual));
    let pending = submit(&sampler.retry_config(RetryConfig::default().timeout_progress(SECOND)), 5);
    for _ in 0..2 {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND));
        manual.advance(SECOND);
    }
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Timeout(Limit::Progress));
}

#[test]
fn an_expired_training_promise_is_an_error_and_its_outcome_unknown() {
    let service = Service::start(|seen| match well(seen) {
        _ if seen.request_id().starts_with("optim_step") => Reply::Json(410, json!({"detail": "gone"})),
        reply => reply,
    });
    let client = ServiceClient::connect(service.config().build().unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Expired, Some(410)));
    assert!(!error.is_retryable() && error.may_have_taken_effect(), "{error}");
    assert_eq!(error.request_id(), Some("optim_step:model-0:1"));
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!(service.seen_at("optim_step").len(), 1);
}

#[test]
fn a_queued_sample_that_is_cancelled_is_never_sent_and_takes_no_number() {
    let (service, crowd) = crowd();
    crowd.poll.open();
    let sampler = sampler(service.config().max_sampling_threads(1));
    let first = submit(&sampler, 0);
    service.until_count("asample", 1);
    submit(&sampler, 1).cancel();
    let third = submit(&sampler, 2);
    crowd.submit.open();
    assert_eq!((number(&first.wait().unwrap()), number(&third.wait().unwrap())), (0, 1));
    assert_eq!(service.seen_at("asample").iter().map(asked).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_number_and_key() {
    let manual = ManualClock::new();
    let service = Service::start(|seen| match seen.header("x-stainless-retry-count") {
        Some("0") if seen.path == "asample" => Reply::Close,
        Some("1") if seen.path == "asample" => Reply::Json(503, json!({})),
        _ => well(seen),
    });
    let sampler = sampler(service.manual_config(&manual));
    let pending = submit(&sampler, 1);
    for wait in [SECOND, 2 * SECOND] {
        manual.until_waiting(|waits| waits.first() == Some(&wait));
        manual.advance(wait);
    }
    assert_eq!(number(&pending.wait().unwrap()), 0);
    let sent = service.seen_at("asample");
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|s| s.raw == sent[0].raw));
    assert!(sent.iter().all(|s| s.header("x-idempotency-key") == sent[0].header("x-idempotency-key")));
}

#[test]
fn a_full_queue_is_an_error_at_once() {
    let (service, crowd) = crowd();
    crowd.poll.open();
    let sampler = sampler(service.config().max_sampling_threads(1).max_queued(2));
    let sending = submit(&sampler, 0);
    service.until_count("asample", 1);
    let queued = [submit(&sampler, 1), submit(&sampler, 2)];
    let error = sampler.submit_sample(&prompt(&[3]), 1, &SamplingParams::default()).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::QueueFull, Some("sample")));
    crowd.submit.open();
    sending.wait().unwrap();
    queued.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
}
