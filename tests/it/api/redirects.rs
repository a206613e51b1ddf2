//! Which redirects are followed, and with what.

use httpmock::Method::GET;
use httpmock::MockServer;
use serde_json::{Value, json};
use tinkex::ErrorKind;

use super::api;
use crate::support::mock::{self, anything, respond};
use crate::support::{Reply, Service};

/// A service that redirects every path `N/STATUS` to `N-1/STATUS`, and `0/STATUS` to nowhere.
fn redirecting() -> Service {
    Service::start(|request| {
        let path = request.path.split('?').next().unwrap();
        let (left, status) = path.split_once('/').unwrap();
        match left.parse::<u32>().unwrap() {
            0 => Reply::ok(json!(path)),
            left => {
                let location = format!("/api/v1/{}/{status}?step", left - 1);
                Reply::with_headers(status.parse().unwrap(), &[("location", &location)], &json!({}))
            }
        }
    })
}

#[test]
fn same_origin_redirects_keep_key_and_body() {
    for (status, method) in [(307, "POST"), (308, "POST"), (303, "GET")] {
        let service = redirecting();
        let api = api(service.config());
        let sent = api.post(format!("/api/v1/2/{status}")).query("mine", 1).json(&json!([1, 2])).send().unwrap();
        assert_eq!((sent.json::<String>().unwrap(), sent.attempts()), (format!("0/{status}"), 1));
        let seen = service.requests();
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[0].path, format!("2/{status}?mine=1"));
        for hop in &seen[1..] {
            assert_eq!((&*hop.method, hop.connection), (method, 0));
            assert_eq!(hop.path.split_once('?').unwrap().1, "step");
            let is_post = method == "POST";
            assert_eq!(hop.body, if is_post { json!([1, 2]) } else { Value::Null });
            assert_eq!(hop.header("x-idempotency-key"), seen[0].header("x-idempotency-key").filter(|_| is_post));
            assert_eq!(hop.header("content-type").is_some(), is_post);
            assert_eq!(hop.header("x-api-key"), Some("tml-test-key"));
        }
    }
    for status in [301, 302, 303, 307, 308] {
        let service = redirecting();
        api(service.config()).get(format!("/api/v1/1/{status}")).send().unwrap();
        assert_eq!(service.requests().len(), 2);
    }
}

#[test]
fn unsafe_or_endless_redirects_are_errors() {
    let service = redirecting();
    let api = api(service.config());
    for status in [301, 302] {
        let error = api.post(format!("/api/v1/1/{status}")).json(&1).send().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        assert!(error.to_string().contains(&format!("it redirects to \"/api/v1/0/{status}\"")), "{error}");
    }
    assert_eq!(service.requests().len(), 2);
    api.get("/api/v1/10/307").send().unwrap();
    let error = api.get("/api/v1/11/307").send().unwrap_err();
    assert!(error.to_string().contains("it redirects to \"/api/v1/0/307\""), "{error}");
}

#[test]
fn redirects_to_other_origins_are_not_followed() {
    let other = MockServer::start();
    let anything = anything(&other);
    let url = other.base_url();
    for target in [url.clone(), url.replace("http://", "https://"), url.replace("http:", "")] {
        let server = MockServer::start();
        let redirect = respond(&server, GET, "x", |then| {
            then.status(307).header("location", format!("{target}/api/v1/healthz?token=secret")).json_body(json!({}))
        });
        let error = api(mock::config(&server)).get("/api/v1/x").send().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(307)));
        assert!(error.to_string().contains(&format!("redirects to \"{target}/api/v1/healthz\"")), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        redirect.assert();
    }
    anything.assert_calls(0);
}

#[test]
fn an_unfollowed_redirect_is_returned() {
    let service = redirecting();
    let response = api(service.config()).get("/api/v1/1/302").follow_redirects(false).send().unwrap();
    assert_eq!((response.status(), response.header("Location")), (302, Some("/api/v1/0/302?step")));
    assert_eq!(service.requests().len(), 1);
}
