//! What goes wrong between requests: refusals, lost responses, and limits.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tinkex::types::{AdamParams, LossFn, ModelInput, SamplingParams};
use tinkex::{ErrorKind, RetryConfig};

use super::{assert_echo, batch, create_trainer, servers};
use crate::support::double::{Double, Fault, Numbers};
use crate::support::{RecordedRequest, Reply};

/// Doubles of all servers, with which this goes wrong. The fault is told how many requests to the same path came before.
fn doubles(fault: fn(&RecordedRequest, usize) -> Fault) -> impl Iterator<Item = Double> {
    servers().map(move |server| {
        let counts = Mutex::new(HashMap::<String, usize>::new());
        Double::start_with_faults(server, move |request| {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(request.path.clone()).or_default();
            *count += 1;
            fault(request, *count - 1)
        })
    })
}

fn assert_once(double: &Double) {
    double.assert_nothing_ran_twice();
    double.assert_numbers_have_no_holes();
}

#[test]
fn a_refused_request_leaves_no_hole() {
    // Each second step is refused.
    let refuse = |request: &RecordedRequest, count: usize| match &*request.path {
        "optim_step" if count % 2 == 0 => Fault::Instead(Reply::Json(400, json!({"detail": "not now"}))),
        _ => Fault::Nothing,
    };
    for double in doubles(refuse) {
        let name = double.server().name;
        let trainer = create_trainer(&double.connect());
        let mut refused = 0;
        for number in 0..4 {
            let output = trainer.forward_backward(batch([number]), LossFn::CrossEntropy).unwrap();
            assert_echo(&output, [number], name);
            refused += usize::from(trainer.optim_step(AdamParams::default()).is_err());
        }
        assert!(refused > 0, "{name}");
        let last = trainer.optim_step(AdamParams::default()).or_else(|_| trainer.optim_step(AdamParams::default()));
        last.unwrap();
        assert_once(&double);
    }
}

#[test]
fn a_lost_response_runs_nothing_twice() {
    // The work of the first step is done, and the connection is lost before its response.
    let lose = |request: &RecordedRequest, count: usize| match (&*request.path, count) {
        ("optim_step", 0) => Fault::After(Reply::Close),
        _ => Fault::Nothing,
    };
    for double in doubles(lose) {
        let name = double.server().name;
        let trainer = create_trainer(&double.connect());
        trainer.forward_backward(batch([1]), LossFn::CrossEntropy).unwrap();
        let step = trainer.optim_step(AdamParams::default());
        // A server that insists on the next number refuses the repetition, since the number is used.
        let insists = double.server().numbers == Numbers::Contiguous;
        assert_eq!(step.as_ref().err().and_then(|error| error.status()), insists.then_some(409), "{name}: {step:?}");
        trainer.forward_backward(batch([2]), LossFn::CrossEntropy).unwrap();
        assert_eq!(double.executions().len(), 3, "{name}");
        assert_once(&double);
    }
}

#[test]
fn a_pass_that_fails_keeps_its_category() {
    for double in doubles(|_, _| Fault::Nothing) {
        let name = double.server().name;
        let trainer = create_trainer(&double.connect());
        let sampled = batch([1])[0].clone();
        let zeros = vec![0.0_f32; sampled.model_input.len()];
        let sampled = sampled.input("logprobs", &zeros).unwrap().input("advantages", zeros).unwrap();
        let error = trainer.forward_backward(sampled, LossFn::Dro).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RequestFailed | ErrorKind::Status), "{name}: {error:?}");
        assert!(error.to_string().contains("this loss always fails"), "{name}: {error}");
        // It was run, so its number is used.
        trainer.forward_backward(batch([2]), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(AdamParams::default()).unwrap();
        assert_once(&double);
    }
}

#[test]
fn samples_wait_after_a_429() {
    let limit = |request: &RecordedRequest, count: usize| match &*request.path {
        "asample" if count < 2 => Fault::Instead(Reply::with_headers(429, &[("retry-after-ms", "5")], &json!({}))),
        _ => Fault::Nothing,
    };
    for double in doubles(limit) {
        let name = double.server().name;
        let sampler = double.connect().create_sampling_client("base").unwrap();
        let params = SamplingParams::default().max_tokens(2);
        let pending: Vec<_> =
            (0..4).map(|token| sampler.submit_sample(&ModelInput::from_tokens([token]), 1, &params).unwrap()).collect();
        for (token, sample) in (0..4).zip(pending) {
            assert_eq!(sample.wait().unwrap().sequences[0].tokens, [0, token], "{name}");
        }
        assert!(double.service.requests_to("asample").len() >= 6, "{name}");
        assert_eq!(double.executions().len(), 4, "{name}");
        double.assert_nothing_ran_twice();
    }
}

#[test]
fn an_expired_sample_is_submitted_again() {
    for server in servers() {
        let polls = AtomicUsize::new(0);
        let double = Double::start_with_faults(server, move |request| {
            let first = request.path == "retrieve_future" && polls.fetch_add(1, Ordering::Relaxed) == 0;
            if first { Fault::Instead(Reply::Json(410, json!({"detail": "expired"}))) } else { Fault::Nothing }
        });
        let sampler = double.connect().create_sampling_client("base").unwrap();
        let sampler = sampler.with_retry_config(RetryConfig::default().base(std::time::Duration::ZERO));
        let response = sampler.sample(&ModelInput::from_tokens([3]), 1, &SamplingParams::default().max_tokens(2));
        assert_eq!(response.unwrap().sequences[0].tokens, [0, 3], "{}", double.server().name);
        assert_eq!(double.executions().len(), 2, "{}", double.server().name);
        double.assert_nothing_ran_twice();
    }
}
