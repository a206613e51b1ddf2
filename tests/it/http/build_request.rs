//! `pure_client`: the requests that the Python client builds, built through `tinkex::api`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::api::{Api, Request};
use tinkex::{Config, ConfigBuilder, DEFAULT_BASE_URL, ErrorKind, Proxy};

use super::headers::comparable;
use crate::support::golden::fixture;
use crate::support::{Reply, Service};

/// How a request of the fixture is built: additional configuration, and the request.
struct Case {
    name: &'static str,
    config: fn(ConfigBuilder) -> ConfigBuilder,
    request: fn(&Api) -> Request,
}

const fn case(name: &'static str, request: fn(&Api) -> Request) -> Case {
    Case { name, config: |config| config, request }
}

fn post(api: &Api) -> Request {
    api.post("/api/v1/x")
}

fn get(api: &Api) -> Request {
    api.get("/api/v1/x")
}

const CASES: [Case; 26] = [
    case("post json", post),
    case("post json body", |api| post(api).json(&json!({"a": 1, "é": "✓", "n": null, "f": 0.1, "l": [1, 2]}))),
    case("post None body", post),
    case("post {} body", |api| post(api).json(&json!({}))),
    case("get", get),
    case("delete", |api| api.delete("/api/v1/x")),
    case("delete with body", |api| api.delete("/api/v1/x").json(&json!({"a": 1}))),
    case("idempotency key", |api| post(api).idempotency_key("key-1")),
    case("idempotency key + own header", |api| post(api).idempotency_key("key-1").header("x-idempotency-key", "mine")),
    // The service fails three times.
    case("retry 3", |api| post(api).max_retries(3)),
    case("timeout 45", |api| post(api).timeout_idle(Duration::from_secs(45))),
    case("timeout 7.5", |api| post(api).timeout_idle(Duration::from_secs_f64(7.5))),
    case("timeout object", |api| post(api).timeout_idle(Duration::from_secs_f64(12.5))),
    Case { name: "client timeout 30", config: |config| config.timeout_idle(Duration::from_secs(30)), request: post },
    case("own retry-count header", |api| post(api).header("x-stainless-retry-count", "9")),
    case("omit retry-count/read-timeout", |api| {
        post(api).without_header("x-stainless-retry-count").without_header("x-stainless-read-timeout")
    }),
    case("override user-agent & accept", |api| post(api).header("User-Agent", "ua").header("Accept", "application/x")),
    case("accept in lower case (both sent?)", |api| post(api).header("accept", "application/gzip")),
    case("extra header", |api| post(api).header("X-Tinker-Sampling-Backpressure", "1")),
    case("params", |api| {
        get(api).query("limit", 5).query("offset", 0).query("l", [1, 2]).query("n", None::<&str>).query("s", "a b")
    }),
    case("params on url with query", |api| api.get("/x?a=1").query("b", 2)),
    // Here the caller merges what Python adds by `extra_json`.
    case("extra_json", |api| post(api).json(&json!({"a": 2, "b": 3}))),
    case("extra_json only", |api| post(api).json(&json!({"b": 3}))),
    Case {
        name: "default_headers",
        config: |config| config.header("X-A", "1").header("User-Agent", "mine"),
        request: post,
    },
    Case { name: "default_query", config: |config| config.query("q", "1"), request: |api| get(api).query("r", 2) },
    case("nan body", |api| post(api).json(&BTreeMap::from([("a", f64::NAN)]))),
];

/// What `tinkex::api` does not do, with the reason.
const NOT_BUILT: [(&str, &str); 3] = [
    ("get with json", "Python drops the body; here a GET with one is refused"),
    ("put", "the protocol has no PUT"),
    ("timeout None", "a request always has an idle limit"),
];

/// Values that differ on purpose: the case, what it is about, Python's value, ours.
const DIFFERENT: [(&str, &str, &str, &str); 5] = [
    // A whole number of seconds has no point.
    ("client timeout 30", "x-stainless-read-timeout", "30.0", "30"),
    // A header set twice in different case is one header.
    ("accept in lower case (both sent?)", "accept", "application/json, application/gzip", "application/gzip"),
    // A query in the path is kept.
    ("params on url with query", "url", "/p/x?b=2", "/p/x?a=1&b=2"),
    // Python refuses it. Here the high-level clients refuse it earlier; `tinkex::api` sends what serde_json writes.
    ("nan body", "url", "", "/p/api/v1/x"),
    ("nan body", "body", "", r#"{"a":null}"#),
];

/// Python's value, or ours if it differs on purpose.
fn expected(name: &str, about: &str, python: &str) -> String {
    let different = DIFFERENT.iter().find(|(case, what, ..)| (*case, *what) == (name, about));
    different
        .map_or(python, |(_, _, theirs, ours)| {
            assert_eq!(python, *theirs, "{name}: {about}");
            ours
        })
        .to_owned()
}

/// The headers of a request in the fixture.
fn golden_headers(out: &Value) -> BTreeMap<String, String> {
    let pairs = out["headers"].as_array().into_iter().flatten();
    comparable(pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())))
}

#[test]
fn requests_match_the_fixture() {
    let fixture = fixture("pure_client");
    let golden = fixture["build_request"].as_array().unwrap();
    assert_eq!(golden.len(), CASES.len() + NOT_BUILT.len());
    for python in golden {
        let name = python["case"].as_str().unwrap();
        if NOT_BUILT.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let case = CASES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("{name} is not built"));
        let refusals = python["args"]["retries"].as_u64().unwrap_or_default();
        let refused = AtomicU64::new(0);
        let service = Service::start(move |_| {
            if refused.fetch_add(1, Ordering::Relaxed) < refusals {
                return Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({}));
            }
            Reply::ok(json!({}))
        });
        let config = service.config().base_url(format!("{}/p", service.url())).api_key("tml-golden-key");
        let api = Api::new((case.config)(config).build_with(|_| None).unwrap()).unwrap();
        (case.request)(&api).send().unwrap();

        let seen = service.requests().pop().unwrap();
        let out = &python["out"];
        let python_url = out["url"].as_str().map_or("", |url| url.strip_prefix("http://h").unwrap());
        assert_eq!(seen.path, expected(name, "url", python_url), "{name}");
        let python_body = out["content"].as_str().unwrap_or_default();
        let body = expected(name, "body", python_body);
        assert_eq!(String::from_utf8(seen.raw.clone()).unwrap().len(), body.len(), "{name}");
        if !body.is_empty() {
            assert_eq!(seen.body, serde_json::from_str::<Value>(&body).unwrap(), "{name}");
        }
        if out.is_null() {
            continue;
        }
        let mut ours = comparable(seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut theirs = golden_headers(out);
        for (header, value) in &mut theirs {
            *value = expected(name, header, value);
        }
        // Python adds the key after this step.
        if !theirs.contains_key("x-idempotency-key") {
            let has_key = ours.remove("x-idempotency-key").is_some();
            assert_eq!(has_key, seen.method != "GET", "{name}");
        }
        assert_eq!(ours, theirs, "{name}");
        // Our own values, unless the caller sets them.
        let header = |name: &str| out["headers"].as_array().unwrap().iter().find(|pair| pair[0] == name);
        let own =
            ["user-agent", "x-idempotency-key"].into_iter().filter_map(|name| Some((name, header(name)?[1].as_str()?)));
        for (name, value) in own.filter(|(_, value)| !value.starts_with("AsyncTinker")) {
            assert_eq!(seen.header(name), Some(value));
        }
    }
}

#[test]
fn a_get_with_a_body_is_refused() {
    let service = Service::start(|_| Reply::ok(json!({})));
    let api = Api::new(service.config().build_with(|_| None).unwrap()).unwrap();
    let error = get(&api).json(&json!({"a": 1})).send().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(service.requests().is_empty());
}

#[test]
fn keys_and_base_urls_match_the_python_client() {
    let fixture = fixture("pure_client");
    let credentials = fixture.as_object().unwrap().iter().find(|(name, _)| name.starts_with("credentials")).unwrap().1;
    let service = Service::start(|_| Reply::ok(json!({})));
    for case in credentials.as_array().unwrap() {
        let config = Config::builder().base_url(service.url()).proxy(Proxy::Off);
        let config = match case["api_key"].as_str() {
            Some(key) => config.api_key(key).build_with(|_| None),
            None => config.build_with(|_| None),
        };
        // The client 0.4.1 sends a token that has expired. 0.38.0 refuses it before any request, as here.
        if case["api_key"].as_str().is_some_and(|key| key.starts_with("eyJ")) {
            let error = Api::new(config.unwrap()).unwrap().get("/x").send().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            continue;
        }
        // Python accepts an empty key and sends a leading space. Here the former is refused and the latter trimmed.
        match case["out"]["X-API-Key"].as_str().map(str::trim).filter(|key| !key.is_empty()) {
            Some(key) => {
                Api::new(config.unwrap()).unwrap().get("/x").send().unwrap();
                assert_eq!(service.requests().last().unwrap().header("x-api-key"), Some(key));
            }
            None => assert_eq!(config.unwrap_err().kind(), ErrorKind::Config, "{case}"),
        }
    }
    let constants = &fixture["constants"];
    let defaults = Config::builder().base_url(service.url()).api_key("tml-k").build_with(|_| None).unwrap();
    assert_eq!(constants["DEFAULT_MAX_RETRIES"], defaults.max_retries());
    assert_eq!(constants["INITIAL_RETRY_DELAY"], defaults.retry_base().as_secs_f64());
    assert_eq!(constants["MAX_RETRY_DELAY"], defaults.retry_cap().as_secs_f64());
    let (connect, idle) = (defaults.timeout_connect().as_secs_f64(), defaults.timeout_idle().as_secs());
    let timeout = format!("Timeout(connect={connect:?}, read={idle}, write={idle}, pool={idle})");
    assert_eq!(constants["DEFAULT_TIMEOUT"], timeout);
    assert_eq!(fixture["base_url_default"], format!("{DEFAULT_BASE_URL}/"));
}
