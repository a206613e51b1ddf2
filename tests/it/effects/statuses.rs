//! Responses that hide that the request was run, and those that say that it was not.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tinkex::ErrorKind;
use tinkex::types::{ModelInput, SamplingParams};

use super::{assert_runs_once, quick, server, step, trainer};
use crate::support::pass_server::{BOTH, CONTIGUOUS, Mishap, lost};
use crate::support::{RecordedRequest, Reply, Service, connect, healthy_service};

/// Statuses that a server or gateway may send for a request that was run.
const UNCLEAR: [u16; 10] = [408, 499, 500, 502, 503, 504, 520, 522, 524, 529];

/// Statuses that say that nothing was run.
const REFUSALS: [u16; 11] = [400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 501];

fn refused(status: u16) -> Reply {
    Reply::Json(status, json!({"detail": "no"}))
}

#[test]
fn a_hidden_step_may_have_taken_effect() {
    for generation in [BOTH, CONTIGUOUS] {
        for status in UNCLEAR {
            let (server, service) =
                server(generation, move |nth| (nth == 0).then(|| Mishap::Answered(refused(status))));
            let trainer = trainer(quick(&service).max_retries(0).timeout_submit(std::time::Duration::from_millis(900)));
            let error = step(&trainer).unwrap_err();
            assert_eq!((error.status(), error.may_have_taken_effect()), (Some(status), true), "{error}");
            trainer.save_state("a").unwrap();
            assert_eq!(server.order(), [("optim_step", 1), ("save_weights", 2)], "{} {status}", generation.name);
        }
    }
}

#[test]
fn a_refused_step_has_no_effect() {
    for status in REFUSALS {
        let refuse = move |nth| (nth == 0).then(|| Mishap::Refused(refused(status)));
        let (server, service) = server(BOTH, refuse);
        let trainer = trainer(quick(&service).max_retries(0).timeout_submit(std::time::Duration::from_millis(900)));
        let error = step(&trainer).unwrap_err();
        assert_eq!((error.status(), error.may_have_taken_effect()), (Some(status), false), "{error}");
        step(&trainer).unwrap();
        assert_eq!(server.order(), [("optim_step", 1)], "{status}");
    }
}

#[test]
fn a_retried_step_runs_once() {
    for hidden in [refused(503), refused(524), refused(408), lost()] {
        assert_runs_once(hidden);
    }
}

#[test]
fn a_later_refusal_hides_no_effect() {
    for first in UNCLEAR {
        let (server, service) = server(BOTH, move |nth| match nth {
            0 => Some(Mishap::Answered(Reply::with_headers(first, &[("x-should-retry", "true")], &json!({})))),
            1 => Some(Mishap::Refused(refused(403))),
            _ => None,
        });
        let trainer = trainer(quick(&service));
        let error = step(&trainer).unwrap_err();
        assert_eq!((error.status(), error.may_have_taken_effect()), (Some(403), true), "{first}: {error}");
        trainer.save_state("a").unwrap();
        assert_eq!(server.order(), [("optim_step", 1), ("save_weights", 2)], "{first}");
    }
}

/// A service that answers the first request to this path in this way, and all others with this status.
fn twice(path: &'static str, first: impl Fn() -> Reply + Send + Sync + 'static, then: u16) -> Service {
    let count = AtomicUsize::new(0);
    Service::start(move |request| match request.path == path {
        false => healthy_service(request),
        true if count.fetch_add(1, Ordering::SeqCst) == 0 => first(),
        true => refused(then),
    })
}

#[test]
fn a_deleted_checkpoint_may_be_not_found() {
    let path = "training_runs/run/checkpoints/weights/a";
    let firsts: [(fn() -> Reply, bool); 4] =
        [(|| refused(524), true), (|| refused(503), true), (lost, true), (|| refused(429), false)];
    for (first, expected) in firsts {
        let service = twice(path, first, 404);
        let rest = connect(quick(&service)).create_rest_client();
        let error = rest.delete_checkpoint("run", "weights/a").unwrap_err();
        assert_eq!((error.status(), error.may_have_taken_effect()), (Some(404), expected), "{error}");
        assert_eq!(service.requests_to(path).len(), 2);
    }
}

#[test]
fn a_failed_request_that_reads_has_no_effect() {
    let path = "training_runs/run/checkpoints/weights/a";
    for (reads, reply) in [(true, refused(503)), (false, refused(503)), (true, lost()), (false, lost())] {
        let reply = std::sync::Mutex::new(Some(reply));
        let service = Service::start(move |request| match &*request.path {
            "get_info" => reply.lock().unwrap().take().unwrap(),
            own if own == path => reply.lock().unwrap().take().unwrap(),
            _ => healthy_service(request),
        });
        let client = connect(service.config().max_retries(0));
        let error = match reads {
            true => client
                .create_lora_training_client("base", tinkex::types::LoraConfig::default())
                .unwrap()
                .get_info()
                .unwrap_err(),
            false => client.create_rest_client().delete_checkpoint("run", "weights/a").unwrap_err(),
        };
        assert_eq!(error.may_have_taken_effect(), !reads, "{error}");
    }
}

#[test]
fn a_sample_remembers_its_first_attempt() {
    for (first, expected) in [(503, true), (524, true), (429, false)] {
        let service = twice("asample", move || refused(first), 403);
        let sampler = connect(quick(&service)).create_sampling_client("base").unwrap();
        let error = sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(403)));
        assert_eq!(error.may_have_taken_effect(), expected, "{first}: {error}");
        let numbers: Vec<_> = service.requests_to("asample").iter().map(RecordedRequest::seq_id).collect();
        assert_eq!(numbers, [Some(0), Some(0)]);
    }
}
