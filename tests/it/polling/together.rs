//! Samples of a session that are polled together (`retrieve_futures`), and what becomes of those that are given up.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use serde_json::Value;
use tinkex::types::{ModelInput, SampleResponse, SamplingParams};
use tinkex::{Result, SamplingClient};

use super::*;
use crate::support::service_with_settings;

/// A service that polls samples together: what is finished, in order.
#[derive(Default)]
struct Session {
    finished: Mutex<Vec<String>>,
    changed: Condvar,
    /// What the service says in place of completions.
    refusal: Mutex<Option<u16>>,
}

impl Session {
    fn start(dynamic: Value) -> (Service, Arc<Session>) {
        let session = Arc::<Session>::default();
        let script = Arc::clone(&session);
        let service = Service::start_current(move |request| match &*request.path {
            "client/config" => Reply::ok(json!({"sample_use_retrieve_futures": true})),
            "client/dynamic_config" => Reply::ok(dynamic.clone()),
            "retrieve_futures" => script.completions(&request.body),
            "cancel_future" => Reply::ok(json!({})),
            _ => healthy_service(request),
        });
        (service, session)
    }

    fn completions(&self, body: &Value) -> Reply {
        if let Some(status) = *self.refusal.lock().unwrap() {
            return Reply::Json(status, json!({"detail": "no"}));
        }
        let cursor = usize::try_from(body["prev_cursor"].as_u64().unwrap()).unwrap();
        let mut finished = self.finished.lock().unwrap();
        if body["timeout"].is_null() {
            let is_early = |finished: &mut Vec<String>| finished.len() <= cursor;
            finished = self.changed.wait_timeout_while(finished, 30 * SECOND, is_early).unwrap().0;
        }
        let completion = |id| json!({"state": "finished", "request_id": id, "response_payload_uncompressed_size": 32});
        let completions: Vec<_> = finished[cursor..].iter().map(completion).collect();
        Reply::ok(json!({"completions": completions, "cursor": finished.len()}))
    }

    fn finish(&self, numbers: impl IntoIterator<Item = usize>) {
        let ids = numbers.into_iter().map(|number| format!("asample:sampler-0:{number}"));
        self.finished.lock().unwrap().extend(ids);
        self.changed.notify_all();
    }

    fn refuse(&self, status: u16) {
        *self.refusal.lock().unwrap() = Some(status);
    }
}

fn submit(sampler: &SamplingClient) -> Pending<SampleResponse> {
    sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap()
}

/// Submits samples one after the other, so that their numbers are in order.
fn submit_in_order(service: &Service, sampler: &SamplingClient, count: usize) -> Vec<Pending<SampleResponse>> {
    let before = service.requests_to("asample").len();
    let submit = |number| {
        let sample = submit(sampler);
        service.wait_for_count("asample", before + number + 1);
        sample
    };
    (0..count).map(submit).collect()
}

fn token(result: Result<SampleResponse>) -> u32 {
    result.unwrap().sequences[0].tokens[0]
}

/// The ids that the service was told of as fetched.
fn acknowledged(requests: &[RecordedRequest]) -> Vec<String> {
    let polls = requests.iter().filter(|request| request.path == "retrieve_futures");
    let ids = polls.flat_map(|poll| poll.body["retrieved_request_ids"].as_array().unwrap().clone());
    let mut ids: Vec<_> = ids.map(|id| id.as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn scenario_94_one_poll_serves_all_samples() {
    let (service, session) = Session::start(json!({}));
    // A poll of its own for each sample would not find a connection.
    let client = connect(service.config().max_poll_connections(1));
    let sampler = client.create_sampling_client("base").unwrap();
    let samples = submit_in_order(&service, &sampler, 3);
    let first = &service.wait_for_count("retrieve_futures", 1)[0];
    assert_eq!(
        first.body,
        json!({
            "target": {"type": "sampling_session", "sampling_session_id": "sampler-0", "cloned_sampler_id": 0},
            "prev_cursor": 0,
            "retrieved_request_ids": [],
        })
    );
    assert!(service.requests_to("retrieve_future").is_empty());
    session.finish([2, 0]);
    session.finish([1]);
    // Nobody counts as waiting for them, so no fetch is cut off in favor of another.
    samples.iter().for_each(|sample| sample.ready().recv().unwrap());
    let tokens: Vec<_> = samples.into_iter().map(|sample| token(sample.wait())).collect();
    assert_eq!(tokens, [0, 1, 2]);
    let fetches = service.requests_to("retrieve_future");
    assert_eq!(fetches.len(), 3);
    for fetched in fetches {
        assert_eq!((&fetched.body["allow_metadata_only"], fetched.iteration()), (&json!(false), Some(0)));
    }
    let seen = service.wait_until(|requests| acknowledged(requests).len() == 3);
    let last = seen.iter().rfind(|request| request.path == "retrieve_futures").unwrap();
    assert_eq!((&last.body["timeout"], &last.body["prev_cursor"]), (&json!(0.0), &json!(3)));
    // The cursor outlives the samples.
    let sample = submit(&sampler);
    session.finish([3]);
    assert_eq!(token(sample.wait()), 3);
}

#[test]
fn a_completion_may_precede_its_promise() {
    let (session, gate) = (Arc::<Session>::default(), Arc::<Gate>::default());
    let (script, held) = (Arc::clone(&session), Arc::clone(&gate));
    let settings = json!({"sample_use_retrieve_futures": true});
    let service = service_with_settings(settings, move |request| match &*request.path {
        "retrieve_futures" => script.completions(&request.body),
        "asample" if request.seq_id() == Some(1) => Reply::held(&held, healthy_service(request)),
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let samples = submit_in_order(&service, &sampler, 2);
    session.finish([1]);
    // This one has the cursor of the response that told of the second sample.
    service.wait_until(|requests| requests.iter().any(|request| request.body["prev_cursor"] == 1));
    gate.open();
    session.finish([0]);
    let tokens: Vec<_> = samples.into_iter().map(|sample| token(sample.wait())).collect();
    assert_eq!(tokens, [0, 1]);
}

#[test]
fn a_service_without_it_loses_no_sample() {
    for (status, attempts) in [(404, 1), (405, 1), (400, 4)] {
        let (service, session) = Session::start(json!({}));
        session.refuse(status);
        let client = connect(service.config());
        let sampler = client.create_sampling_client("base").unwrap();
        for _ in 0..2 {
            let samples = submit_in_order(&service, &sampler, 3);
            samples.into_iter().for_each(|sample| drop(sample.wait().unwrap()));
        }
        assert_eq!(service.requests_to("retrieve_futures").len(), attempts, "{status}");
    }
}

#[test]
fn temporary_failures_are_retried() {
    let (service, session) = Session::start(json!({}));
    session.refuse(503);
    let manual = ManualClock::new();
    let client = connect(service.manual_config(&manual).idle_retention(3600 * SECOND));
    let sampler = client.create_sampling_client("base").unwrap();
    let sample = submit(&sampler);
    for status in [402, 500] {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 5 * SECOND && !wait.is_zero()));
        session.refuse(status);
        manual.advance(5 * SECOND);
    }
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 5 * SECOND && !wait.is_zero()));
    *session.refusal.lock().unwrap() = None;
    session.finish([0]);
    manual.advance(5 * SECOND);
    assert_eq!(token(sample.wait()), 0);
}

#[test]
fn a_later_sample_has_its_own_patience() {
    let (service, session) = Session::start(json!({}));
    session.refuse(503);
    let manual = ManualClock::new();
    let config = service.manual_config(&manual).idle_retention(3600 * SECOND).timeout_progress(30 * SECOND);
    let sampler = connect(config).create_sampling_client("base").unwrap();
    let a_second_later = || {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 10 * SECOND && !wait.is_zero()));
        manual.advance(SECOND);
    };
    let first = submit(&sampler);
    (0..20).for_each(|_| a_second_later());
    let second = submit_in_order(&service, &sampler, 1).remove(0);
    manual.until_waiting(|_| second.request_id().is_some());
    while !first.is_ready() {
        a_second_later();
    }
    assert_eq!(first.wait().unwrap_err().kind(), ErrorKind::Timeout(Limit::Progress));
    assert!(!second.is_ready());
    *session.refusal.lock().unwrap() = None;
    session.finish([1]);
    manual.advance(10 * SECOND);
    assert_eq!(token(second.wait()), 1);
}

#[test]
fn a_given_up_sample_is_cancelled_at_once() {
    for enabled in [true, false] {
        let (service, session) = Session::start(json!({"sample_cancel_enabled": enabled}));
        let client = connect(service.config());
        let sampler = client.create_sampling_client("base").unwrap();
        let mut samples = submit_in_order(&service, &sampler, 4);
        // The client says nothing when it has read a promise, and the service hears of nothing more.
        while samples.iter().any(|sample| sample.request_id().is_none()) {
            std::thread::yield_now();
        }
        samples.remove(3).cancel();
        drop(samples.remove(1));
        // A timeout of a wait is no reason.
        assert!(samples[0].wait_timeout(Duration::ZERO).is_none());
        let hasty = sampler.with_timeout_operation(Some(Duration::from_millis(1)));
        let error = submit(&hasty).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
        session.finish(0..4);
        let tokens: Vec<_> = samples.into_iter().map(|sample| token(sample.wait())).collect();
        assert_eq!(tokens, [0, 2]);
        service.wait_until(|requests| acknowledged(requests).len() == 4);
        let fetched = service.requests_to("retrieve_future").len();
        assert_eq!(fetched, 2, "results that nobody wants are not fetched");
        let mut cancelled: Vec<_> =
            service.requests_to("cancel_future").iter().map(|request| request.request_id().to_owned()).collect();
        cancelled.sort();
        let expected = ["asample:sampler-0:1", "asample:sampler-0:3"];
        assert_eq!(cancelled, if enabled { expected.to_vec() } else { Vec::new() });
    }
}

#[test]
fn closing_ends_a_poll_for_all() {
    let (service, _session) = Session::start(json!({"sample_cancel_enabled": true}));
    let client = connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let samples = submit_in_order(&service, &sampler, 2);
    service.wait_for_count("retrieve_futures", 1);
    client.close(30 * SECOND);
    for sample in samples {
        assert_eq!(sample.wait().unwrap_err().kind(), ErrorKind::Closed);
    }
    assert!(service.requests_to("cancel_future").is_empty());
}

/// A service that tells the size of a result first, and then responds with these replies.
fn measuring(size: u64, settings: Value, reply: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Service {
    service_with_settings(settings, move |request| match &*request.path {
        "retrieve_future" if request.body["allow_metadata_only"] == true => {
            Reply::ok(json!({"status": "complete_metadata", "response_payload_size": size}))
        }
        "retrieve_future" => reply(request),
        _ => healthy_service(request),
    })
}

#[test]
fn a_measured_result_is_fetched() {
    let service = measuring(123, json!({}), |_| done(7));
    let client = connect(service.config());
    assert_eq!(pending(&client, "r-1").wait().unwrap().value, 7);
    let bodies: Vec<_> = polls_of(&service, "r-1").into_iter().map(|poll| poll.body).collect();
    let body = |allowed| json!({"request_id": "r-1", "allow_metadata_only": allowed});
    assert_eq!(bodies, [body(true), body(false)]);
}

#[test]
fn a_size_told_twice_is_polled_again() {
    let service = measuring(123, json!({}), |request| match request.iteration() {
        Some(1 | 2) => Reply::ok(json!({"status": "complete_metadata", "response_payload_size": 123})),
        _ => done(7),
    });
    let client = connect(service.config());
    assert_eq!(pending(&client, "r-1").wait().unwrap().value, 7);
    assert_eq!(polls_of(&service, "r-1").len(), 4);
}

#[test]
fn large_results_come_one_after_another() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let settings = json!({"inflight_response_bytes_semaphore_size": 100});
    let service = measuring(101, settings, move |request| match request.request_id() {
        "first" => Reply::held(&held, done(1)),
        _ => done(2),
    });
    let client = connect(service.config());
    let first = pending(&client, "first");
    service.wait_until(|requests| requests.iter().any(|request| request.body["allow_metadata_only"] == false));
    let others: Vec<_> = ["second", "third"].map(|id| pending(&client, id)).into();
    service.wait_until(|requests| requests.iter().filter(|r| r.body["allow_metadata_only"] == true).count() == 3);
    drop(first);
    let values: Vec<_> = others.into_iter().map(|pending| pending.wait().unwrap().value).collect();
    assert_eq!(values, [2, 2]);
    let mut fetched = BTreeMap::<_, usize>::new();
    for request in service.requests_to("retrieve_future").iter().filter(|r| r.body["allow_metadata_only"] == false) {
        *fetched.entry(request.request_id().to_owned()).or_default() += 1;
    }
    assert_eq!(fetched.into_values().collect::<Vec<_>>(), [1, 1, 1]);
}
