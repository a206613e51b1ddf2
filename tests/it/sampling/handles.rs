//! Sampling clients in several processes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use super::*;
use crate::support::{KEY, connect, service_with_settings};

const BILLION: u64 = 1_000_000_000;

/// A service of 2026 with these settings, which gives joining clients the numbers 5, 6 …
fn current(settings: Value) -> Service {
    let joined = AtomicUsize::new(5);
    service_with_settings(settings, move |request| match &*request.path {
        "join_sampling_session" => Reply::ok(json!({"client_counter": joined.fetch_add(1, Ordering::SeqCst)})),
        _ => healthy_service(request),
    })
}

fn worker(service: &Service, handle: &str) -> SamplingClient {
    SamplingClient::from_sampler_handle(service.config().build_with(|_| None).unwrap(), handle).unwrap()
}

fn seq_ids(service: &Service) -> Vec<u64> {
    service.requests_to("asample").iter().map(|request| request.seq_id().unwrap()).collect()
}

#[test]
fn a_handle_has_the_python_keys_without_secrets() {
    let service = current(json!({"sample_no_retries": true}));
    let client = connect(service.config().header("x-gateway", "hidden-1"));
    let handle = client.create_sampling_client("base").unwrap().get_sampler_handle().unwrap();
    let text = String::from_utf8(URL_SAFE.decode(&handle).unwrap()).unwrap();
    assert!(!text.contains(KEY) && !text.contains("hidden-1") && !text.contains(": "), "{text}");
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let settings = json["holder"]["client_config"].take();
    assert_eq!((&settings["sample_no_retries"], &settings["fwdbwd_max_chunk_len"]), (&json!(true), &json!(1024)));
    assert_eq!(json["holder"]["client_dynamic_config"].take()["refresh_interval_sec"], 300);
    let holder = json!({
        "base_url": service.url(), "default_headers_overrides": {}, "client_config": null,
        "client_dynamic_config": null, "api_key": null,
    });
    let expected = json!({
        "session_id": "session-1", "sampling_session_id": "sampler-0", "holder": holder, "base_model": "base",
        "record_stability_info": false,
    });
    assert_eq!(json, expected);
}

#[test]
fn workers_open_no_session() {
    let service = current(json!({"sample_join_sampling_session": true}));
    let client = connect(service.config());
    let original = client.create_sampling_client("base").unwrap();
    let handle = original.get_sampler_handle().unwrap();
    let before = service.requests().len();
    let workers = [worker(&service, &handle), worker(&service, &handle)];
    for sampler in workers.iter().chain([&original]) {
        sample(sampler, 1);
        sample(&sampler.clone(), 2);
    }
    let [first, second] = [5, 6].map(|number| number * BILLION);
    assert_eq!(seq_ids(&service), [first, first + 1, second, second + 1, 0, 1]);
    assert_eq!((workers[0].sampling_session_id(), &*workers[0].get_base_model().unwrap()), ("sampler-0", "base"));
    // A handle of a worker is as good.
    assert_eq!(worker(&service, &workers[1].get_sampler_handle().unwrap()).sampling_session_id(), "sampler-0");
    drop(workers);
    let paths = service.requests().split_off(before).into_iter().map(|request| request.path);
    let paths: HashSet<_> = paths.collect();
    assert_eq!(paths, HashSet::from(["join_sampling_session", "asample", "retrieve_future"].map(str::to_owned)));
    assert_eq!(service.requests_to("join_sampling_session")[0].body["sampling_session_id"], "sampler-0");
}

#[test]
fn without_joining_numbers_are_random() {
    for service in [current(json!({})), Service::start(healthy_service)] {
        let client = connect(service.config());
        let handle = client.create_sampling_client("base").unwrap().get_sampler_handle().unwrap();
        for _ in 0..20 {
            sample(&worker(&service, &handle), 1);
        }
        let sent = seq_ids(&service);
        assert!(sent.iter().all(|seq_id| seq_id % BILLION == 0 && (1..=BILLION).contains(&(seq_id / BILLION))));
        assert_eq!(sent.iter().collect::<HashSet<_>>().len(), 20);
        assert!(service.requests_to("join_sampling_session").is_empty());
    }
}

#[test]
fn resubmissions_stay_in_the_range_of_the_client() {
    let manual = ManualClock::new();
    let service = Service::start(|request| match request.request_id().contains(":7000000000") {
        true => Reply::Json(410, json!({"detail": "gone"})),
        false if request.path == "join_sampling_session" => Reply::ok(json!({"client_counter": 7})),
        false => healthy_service(request),
    });
    let handle = python_handle(&service.url(), json!({"sample_join_sampling_session": true}));
    let config = service.manual_config(&manual).build_with(|_| None).unwrap();
    let pending = submit(&SamplingClient::from_sampler_handle(config, &handle).unwrap(), 1);
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait < SECOND));
    manual.advance(SECOND);
    pending.wait().unwrap();
    assert_eq!(seq_ids(&service), [7 * BILLION, 7 * BILLION + 1]);
}

/// A handle as the Python client writes it.
fn python_handle(base_url: &str, settings: Value) -> String {
    let holder = json!({
        "base_url": base_url, "default_headers_overrides": {"x-gateway": "g"}, "client_config": settings,
        "client_dynamic_config": {"refresh_interval_sec": 300}, "api_key": null,
    });
    let handle = json!({
        "session_id": "sess-1", "sampling_session_id": "sess-1:sample:0", "holder": holder, "base_model": "Qwen/Qwen3-8B",
        "record_stability_info": true,
    });
    URL_SAFE.encode(handle.to_string())
}

#[test]
fn a_handle_of_the_python_client_is_opened() {
    let service = Service::start(healthy_service);
    let settings = json!({"use_pyqwest_transport": true, "sample_no_retries": false, "later": {"a": 1}});
    let sampler = worker(&service, &python_handle(&format!("{}/", service.url()), settings));
    assert_eq!(sampler.tokenizer_id().unwrap(), "Qwen/Qwen3-8B");
    sample(&sampler, 1);
    let sent = &service.requests()[0];
    assert_eq!((&*sent.path, &sent.body["sampling_session_id"]), ("asample", &json!("sess-1:sample:0")));
    assert_eq!(sent.body["record_stability_info"], true);
    assert_eq!((sent.header("x-api-key"), sent.header("x-gateway")), (Some(KEY), None));
}

#[test]
fn an_unknown_base_model_is_asked_for() {
    let service = Service::start(|request| match &*request.path {
        "samplers/sampler-0" => Reply::ok(json!({"sampler_id": "sampler-0", "base_model": "acme/model"})),
        "samplers/sampler-1" => Reply::Json(404, json!({"detail": "Not Found"})),
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    for expected in [json!("acme/model"), Value::Null] {
        let sampler = client.create_sampling_client("tinker://run/sampler_weights/1").unwrap();
        let handle = URL_SAFE.decode(sampler.get_sampler_handle().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&handle).unwrap()["base_model"], expected);
    }
}

#[test]
fn other_text_and_other_services_are_refused() {
    let service = Service::start(healthy_service);
    let elsewhere = python_handle("http://192.0.2.1:8000", json!({}));
    for (handle, part) in [
        ("", "not a sampler handle"),
        ("tml-key", "not a sampler handle"),
        ("eyJhIjoxfQ==", "missing field"),
        (&elsewhere, "192.0.2.1"),
    ] {
        let config = service.config().build_with(|_| None).unwrap();
        let error = SamplingClient::from_sampler_handle(config, handle).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("from_sampler_handle")));
        assert!(error.to_string().contains(part) && error.hint().is_some(), "{error}");
    }
    assert!(service.requests().is_empty());
}

#[test]
fn a_used_client_number_is_an_error() {
    for counter in [0, u64::MAX] {
        let service = Service::start(move |request| match &*request.path {
            "join_sampling_session" => Reply::ok(json!({"client_counter": counter})),
            _ => healthy_service(request),
        });
        let handle = python_handle(&service.url(), json!({"sample_join_sampling_session": true}));
        let error =
            SamplingClient::from_sampler_handle(service.config().build_with(|_| None).unwrap(), &handle).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    }
}
