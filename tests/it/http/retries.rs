//! What is retried, when, and the error if it is not.

use std::time::Duration;

use httpmock::Method::GET;
use httpmock::MockServer;
use serde_json::json;
use tinkex::ErrorKind;
use tinkex::clock::ManualClock;

use super::{connect, error_reply, health_after, is_own_wait, quiet, replying, through_waits};
use crate::support::mock::{self, respond, session};
use crate::support::{Reply, Service, healthy_service};

#[test]
fn temporary_statuses_are_retried_with_backoff() {
    for status in [408, 429, 500, 502, 503, 599] {
        let (waits, health, service) = health_after((0..3).map(|_| error_reply(status, &[])).collect(), 3);
        health.unwrap();
        assert!(waits.iter().zip(0..).all(|(wait, attempt)| is_own_wait(*wait, attempt)), "{status}: {waits:?}");
        let counts: Vec<_> = service
            .requests_to("healthz")
            .iter()
            .map(|request| request.header("x-stainless-retry-count").unwrap().to_owned())
            .collect();
        assert_eq!(counts, ["0", "1", "2", "3"]);
    }
}

#[test]
fn lost_connections_are_retried_with_backoff() {
    // The first loss is that of a pooled connection, which is replaced without a wait.
    let (waits, health, service) = health_after((0..4).map(|_| Reply::Close).collect(), 3);
    health.unwrap();
    assert!(waits.iter().zip(0..).all(|(wait, attempt)| is_own_wait(*wait, attempt)), "{waits:?}");
    assert_eq!(service.requests_to("healthz").len(), 5);
}

#[test]
fn the_last_response_is_the_error() {
    let (waits, health, service) = health_after((0..11).map(|_| error_reply(503, &[])).collect(), 10);
    let error = health.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(503)));
    assert!(
        error.is_retryable() && error.to_string().starts_with("health: the server returned 503: not now"),
        "{error}"
    );
    assert!(is_own_wait(waits[9], 9), "{waits:?}");
    assert_eq!(service.requests_to("healthz").len(), 11);
}

#[test]
fn conflicts_are_retried_twice_unless_advised_otherwise() {
    let (_, health, service) = health_after((0..3).map(|_| error_reply(409, &[])).collect(), 2);
    assert_eq!(health.unwrap_err().status(), Some(409));
    assert_eq!(service.requests_to("healthz").len(), 3);
    let (_, health, _) = health_after((0..5).map(|_| error_reply(409, &[("x-should-retry", "true")])).collect(), 5);
    health.unwrap();
}

#[test]
fn x_should_retry_decides_in_exact_words() {
    let (_, health, _) = health_after(vec![error_reply(400, &[("x-should-retry", "true")])], 1);
    health.unwrap();
    for status in [408, 429, 503] {
        let (_, health, service) = health_after(vec![error_reply(status, &[("x-should-retry", "false")])], 0);
        assert_eq!(health.unwrap_err().status(), Some(status));
        assert_eq!(service.requests_to("healthz").len(), 1);
    }
    let (_, health, _) = health_after(vec![error_reply(400, &[("x-should-retry", "True")])], 0);
    assert_eq!(health.unwrap_err().status(), Some(400));
}

#[test]
fn retry_after_is_respected_within_its_maximum() {
    for (headers, expected) in [
        (vec![("retry-after-ms", "1500")], Some(1.5)),
        (vec![("retry-after-ms", "0.5")], Some(0.0005)),
        (vec![("retry-after", "7")], Some(7.0)),
        (vec![("retry-after", "2.25")], Some(2.25)),
        (vec![("retry-after-ms", "250"), ("retry-after", "9")], Some(0.25)),
        (vec![("retry-after-ms", "soon"), ("retry-after", "3")], Some(3.0)),
        (vec![("retry-after", "60")], Some(60.0)),
        (vec![], None),
        (vec![("retry-after", "61")], None),
        (vec![("retry-after", "0")], None),
        (vec![("retry-after", "-5")], None),
        (vec![("retry-after-ms", "-5")], None),
        (vec![("retry-after", "tomorrow")], None),
        (vec![("retry-after", "")], None),
        (vec![("retry-after", "nan")], None),
        (vec![("retry-after", "inf")], None),
        (vec![("retry-after", "1e300")], None),
        (vec![("retry-after", "99999999999999999999999999")], None),
        // 2^63, and the most that a time can be.
        (vec![("retry-after", "9223372036854775808")], None),
        (vec![("retry-after-ms", "9223372036854775808")], None),
        (vec![("retry-after", "18446744073709551615")], None),
        (vec![("retry-after", "Wed, 21 Oct 2015 07:28:00 +00999999999999999999")], None),
        (vec![("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], None),
        (vec![("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], None),
    ] {
        let (waits, health, _) = health_after(vec![error_reply(429, &headers)], 1);
        health.unwrap();
        match expected {
            Some(seconds) => assert_eq!(waits, [Duration::from_secs_f64(seconds)], "{headers:?}"),
            None => assert!(is_own_wait(waits[0], 0), "{headers:?}: {waits:?}"),
        }
    }
}

#[test]
fn retry_after_may_be_a_date() {
    let clock = ManualClock::new();
    // Dates have whole seconds.
    let at = clock.clock().wall() + Duration::from_secs(20);
    let service = replying([error_reply(503, &[("retry-after", &httpdate::fmt_http_date(at))])]);
    let client = connect(quiet(&service, &clock)).unwrap();
    let (waits, health) = through_waits(&clock, 1, || client.health());
    health.unwrap();
    assert!((19.0..=20.0).contains(&waits[0].as_secs_f64()), "{waits:?}");
}

#[test]
fn permanent_errors_keep_status_body_and_headers() {
    for (status, remedy) in [
        (400, "correct the request"),
        (401, "TINKER_API_KEY"),
        (403, "no permission"),
        (404, "base URL"),
        (413, "smaller batches"),
        (422, "correct the request"),
    ] {
        let server = MockServer::start();
        session(&server);
        let health = respond(&server, GET, "healthz", |then| {
            then.status(status).header("x-reason", "because").json_body(json!({"detail": "not now"}))
        });
        let error = connect(mock::config(&server)).unwrap().health().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        assert_eq!((error.body(), error.header("X-Reason")), (Some(r#"{"detail":"not now"}"#), Some("because")));
        assert_eq!(error.operation(), Some("health"));
        assert!(error.is_user_error() && !error.is_retryable() && !error.may_have_taken_effect());
        assert!(error.to_string().starts_with(&format!("health: the server returned {status}: not now")), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
        health.assert();
    }
}

#[test]
fn a_temporary_refusal_says_what_to_do() {
    for (status, remedy) in [(409, "another name"), (429, "try again later"), (503, "try again later")] {
        let server = MockServer::start();
        session(&server);
        let health =
            respond(&server, GET, "healthz", |then| then.status(status).json_body(json!({"detail": "not now"})));
        let error = connect(mock::config(&server).max_retries(0)).unwrap().health().unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)), "{error}");
        assert!(error.is_retryable() && error.hint().unwrap().contains(remedy), "{error}");
        health.assert();
    }
}

#[test]
fn the_error_message_is_the_servers() {
    for (body, expected) in [
        (json!({"detail": "no such model"}), "no such model"),
        (
            json!({"detail": [{"loc": ["body", "rank"], "msg": "must be positive", "type": "x"}]}),
            "body.rank: must be positive",
        ),
        (json!({"error": "bad loss"}), "bad loss"),
        (json!({"message": "try another"}), "try another"),
        (json!({"code": 7}), "HTTP status 422 Unprocessable Content"),
    ] {
        let server = MockServer::start();
        session(&server);
        let health = respond(&server, GET, "healthz", |then| then.status(422).json_body(body));
        let error = connect(mock::config(&server)).unwrap().health().unwrap_err();
        let hint = "correct the request, as the message says";
        assert_eq!(error.to_string(), format!("health: the server returned 422: {expected}; {hint}"));
        health.assert();
    }
}

#[test]
fn the_error_repeats_how_long_to_wait() {
    for (status, retry_after, expected) in
        [(429, "7", Some(Duration::from_secs(7))), (503, "0.5", Some(Duration::from_millis(500))), (503, "soon", None)]
    {
        let service = Service::start(move |request| match &*request.path {
            "healthz" => Reply::with_headers(status, &[("retry-after", retry_after)], &json!({})),
            _ => healthy_service(request),
        });
        let error = connect(service.config().max_retries(0)).unwrap().health().unwrap_err();
        assert_eq!(error.retry_after(), expected, "{retry_after}");
    }
}
