//! A request that was lost is sent once more before the next one: what its response says about its number.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::{ConfigBuilder, ErrorKind, Limit};

use super::numbers::{hasty, pass, server, step};
use super::{start, trainer};
use crate::support::pass_server::{BOTH, CONTIGUOUS, Mishap, PassServer, lost};
use crate::support::{Gate, Reply, Service, advance_past_wait, after_waits};

/// Both requests, each under its own number.
const IN_ORDER: [(&str, u64); 2] = [("optim_step", 1), ("forward_backward", 2)];

/// The waits between the four attempts of each submission, in milliseconds.
const WAITS: [u128; 3] = [1000, 2000, 4000];

/// A client that makes four attempts of each submission, the last with seconds left. It has no other wait.
fn patient(service: &Service, manual: &ManualClock) -> ConfigBuilder {
    let config = service.manual_config(manual).idle_retention(Duration::from_secs(24 * 3600));
    config.max_retries(0).timeout_submit(Duration::from_secs(12))
}

/// Refusals that are not the service's own.
fn foreign() -> Vec<Reply> {
    let html = |status| Reply::Full {
        status,
        headers: vec![("content-type", "text/html".to_owned())],
        body: b"<html>nginx</html>".to_vec(),
    };
    let mut replies = vec![
        Reply::Json(404, json!({"message": "no Route matched with those values"})),
        Reply::Json(404, json!({"error": "Not Found", "path": "/api/v1/optim_step"})),
        Reply::Json(404, json!({"detail": "Not Found"})),
        Reply::Json(405, json!({"detail": "Method Not Allowed"})),
        Reply::Json(409, json!([])),
        Reply::Full { status: 404, headers: Vec::new(), body: b"404 page not found".to_vec() },
        Reply::Full { status: 404, headers: Vec::new(), body: Vec::new() },
    ];
    replies.extend([400, 403, 404, 405, 410, 413, 415, 422, 501].map(html));
    replies
}

#[test]
fn only_the_service_frees_a_number() {
    for (index, reply) in foreign().into_iter().enumerate() {
        let reply = Mutex::new(Some(reply));
        let server = server(BOTH, "optim_step", move |nth| match nth {
            0 => Some(Mishap::Answered(lost())),
            _ => reply.lock().unwrap().take().map(Mishap::Refused),
        });
        let service = start(&server);
        let trainer = trainer(hasty(&service));
        assert!(step(&trainer).unwrap_err().may_have_taken_effect());
        let error = pass(&trainer).unwrap_err();
        assert!(error.status().is_some() && !error.may_have_taken_effect(), "{index}: {error}");
        assert_eq!(pass(&trainer).unwrap(), 2.0, "{index}");
        assert_eq!(server.order(), IN_ORDER, "{index}");
    }
}

#[test]
fn a_gateway_that_always_refuses_stops_nothing() {
    for generation in [BOTH, CONTIGUOUS] {
        for status in [404, 413, 502, 503] {
            let gateway = move || Reply::Full { status, headers: Vec::new(), body: b"<html>".to_vec() };
            let server = server(generation, "optim_step", move |nth| {
                Some(if nth == 0 { Mishap::Answered(lost()) } else { Mishap::Refused(gateway()) })
            });
            let service = start(&server);
            let trainer = trainer(hasty(&service));
            assert!(step(&trainer).unwrap_err().may_have_taken_effect());
            for _ in 0..2 {
                assert_eq!(pass(&trainer).unwrap_err().status(), Some(status));
            }
            // The request itself may be the reason, so the third call goes on.
            assert_eq!(pass(&trainer).unwrap(), 2.0);
            assert_eq!((server.order(), service.requests_to("optim_step").len()), (IN_ORDER.to_vec(), 4), "{status}");
        }
    }
}

#[test]
fn a_repetition_outlasts_a_gateways_failure() {
    for first in [503, 500] {
        for status in [408, 502, 503, 504, 520, 524, 529] {
            let fails = |status| Some(Mishap::Refused(Reply::Json(status, json!({"detail": "no"}))));
            let server = server(BOTH, "optim_step", move |nth| match nth {
                0..=3 => fails(first),
                4 => fails(status),
                _ => None,
            });
            let (service, manual) = (start(&server), ManualClock::new());
            let trainer = trainer(patient(&service, &manual));
            let error = after_waits(&manual, &WAITS, || step(&trainer)).unwrap_err();
            assert_eq!(error.status(), Some(first));
            assert_eq!(after_waits(&manual, &WAITS[..1], || pass(&trainer)).unwrap(), 2.0, "{status}");
            assert_eq!(server.order(), IN_ORDER, "{status}");
        }
    }
}

/// A server that loses a step, and does this to its repetition.
fn losing(then: impl Fn() -> Reply + Send + Sync + 'static) -> (PassServer, Service) {
    let server = server(BOTH, "optim_step", move |nth| match nth {
        0 => Some(Mishap::Refused(lost())),
        1 => Some(Mishap::Refused(then())),
        _ => None,
    });
    let service = start(&server);
    (server, service)
}

#[test]
fn the_next_calls_deadline_settles_no_number() {
    let (server, service) = losing(|| Reply::Silence);
    let trainer = trainer(hasty(&service));
    step(&trainer).unwrap_err();
    let short = trainer.with_timeout_operation(Some(Duration::from_millis(50)));
    let error = short.save_state("a").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout(_)) && !error.may_have_taken_effect(), "{error}");
    assert_eq!(pass(&trainer).unwrap(), 2.0);
    assert_eq!(server.order(), IN_ORDER);
}

#[test]
fn short_deadlines_stop_nothing_for_ever() {
    for status in [500, 503] {
        let server = server(BOTH, "optim_step", move |nth| {
            Some(match nth {
                0 => Mishap::Answered(lost()),
                1..=4 => Mishap::Refused(lost()),
                _ => Mishap::Refused(Reply::Json(status, json!({"detail": "no"}))),
            })
        });
        let (service, manual) = (start(&server), ManualClock::new());
        // The wait after the fourth attempt fits the window, but not the deadline.
        let trainer = trainer(patient(&service, &manual).timeout_submit(Duration::from_secs(16)));
        assert!(
            after_waits(&manual, &[1000, 2000, 4000, 8000], || step(&trainer)).unwrap_err().may_have_taken_effect()
        );
        let short = trainer.with_timeout_operation(Some(Duration::from_millis(14_900)));
        for _ in 0..2 {
            let error = after_waits(&manual, &WAITS, || pass(&short)).unwrap_err();
            assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Timeout(Limit::Operation), false));
        }
        // All three together have taken more than the window.
        assert_eq!(after_waits(&manual, &WAITS, || pass(&short)).unwrap(), 2.0, "{status}");
        assert_eq!((server.order(), service.requests_to("optim_step").len()), (IN_ORDER.to_vec(), 17), "{status}");
    }
}

#[test]
fn cancelling_the_next_call_settles_no_number() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let (server, service) = losing(move || Reply::held(&held, lost()));
    let trainer = trainer(hasty(&service));
    step(&trainer).unwrap_err();
    let next = trainer.submit_save_state("a").unwrap();
    service.wait_for_count("optim_step", 2);
    next.cancel();
    gate.open();
    assert_eq!(next.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(pass(&trainer).unwrap(), 2.0);
    assert_eq!(server.order(), IN_ORDER);
}

#[test]
fn a_service_that_goes_away_settles_no_number() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let server = server(BOTH, "optim_step", move |nth| match nth {
        0..=3 => Some(Mishap::Refused(lost())),
        4 => Some(Mishap::Refused(Reply::held(&held, lost()))),
        _ => None,
    });
    let (service, manual) = (start(&server), ManualClock::new());
    let trainer = trainer(patient(&service, &manual));
    after_waits(&manual, &WAITS, || step(&trainer)).unwrap_err();
    let connections = service.connections();
    let error = thread::scope(|scope| {
        let next = scope.spawn(|| pass(&trainer).unwrap_err());
        service.wait_for_count("optim_step", 5);
        connections.refuse();
        gate.open();
        WAITS.iter().for_each(|&millis| advance_past_wait(&manual, millis..=millis));
        next.join().unwrap()
    });
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Connect, false), "{error}");
    connections.listen_again();
    assert_eq!(pass(&trainer).unwrap(), 2.0);
    assert_eq!(server.order(), IN_ORDER);
}
