//! Results of other requests, and numbers that are none.

use std::sync::atomic::{AtomicUsize, Ordering};

use tinkex::types::{AdamParams, LossFn, OptimStepResponse, RequestKind, SamplingParams};

use super::*;
use crate::support::batch;

#[test]
fn metrics_that_are_no_numbers_are_errors() {
    for value in ["\"high\"", "[1]", "{}", "true", "\"nan\"", "\"1\""] {
        let service = with_result("optim_step", format!(r#"{{"metrics": {{"norm": {value}}}}}"#));
        let trainer = trainer(&service, Wire::Json);
        let error = trainer.optim_step(AdamParams::default()).unwrap_err();
        assert_wrong(&error, "wrong-0", "optim_step", "invalid type");
    }
    for (value, expected) in
        [("null", "NaN"), ("NaN", "NaN"), ("1e400", "inf"), ("-1e400", "-inf"), ("1e39", "1e39"), ("-0", "-0")]
    {
        let service = with_result("optim_step", format!(r#"{{"metrics": {{"norm": {value}}}}}"#));
        let response = trainer(&service, Wire::Json).optim_step(AdamParams::default()).unwrap();
        let norm = response.metrics.unwrap()["norm"];
        let expected: f64 = expected.parse().unwrap();
        assert!(norm == expected || norm.is_nan() && expected.is_nan(), "{value}: {norm}");
    }
}

/// What servers send whose steps have no metrics.
#[test]
fn a_step_may_have_no_metrics() {
    for body in ["{}", r#"{"metrics": null}"#, r#"{"status": "completed", "result": {}}"#] {
        let service = with_result("optim_step", body);
        let response = trainer(&service, Wire::Json).optim_step(AdamParams::default()).unwrap();
        assert_eq!(response.metrics, None, "{body}");
    }
}

#[test]
fn numbers_of_the_wrong_type_are_errors() {
    let output = |logprobs: &str| format!(r#"{{"loss_fn_outputs": [{{"logprobs": {logprobs}}}], "metrics": {{}}}}"#);
    for (logprobs, why) in [
        (r#"{"data": [1, null, 3], "dtype": "int64"}"#, "does not fit int64"),
        (r#"{"data": [1, 1e39, 3], "dtype": "int64"}"#, "out of range"),
        (r#"{"data": ["a", 1, 2], "dtype": "float32"}"#, "invalid type"),
        (r#"{"data": [[1, 2, 3]], "dtype": "float32"}"#, "invalid type"),
        (r#"{"data": [1, 2, 3], "dtype": "complex64"}"#, "complex64"),
        (r#"{"data": [1, 2, 3], "dtype": "float32", "shape": [2, 2]}"#, "does not hold 3 numbers"),
        (r#"{"data": [1, 2, 3], "dtype": "float32", "shape": [4294967296, 4294967296]}"#, "does not hold 3 numbers"),
        (r#"{"data": [1, 2, 3], "dtype": "float32", "shape": [-3]}"#, "invalid value"),
        (r#"{"data": [1, 2, 3], "dtype": "float32", "shape": [18446744073709551616]}"#, "invalid"),
    ] {
        let service = with_result("forward", output(logprobs));
        let error = trainer(&service, Wire::Json).forward(batch(), LossFn::CrossEntropy).unwrap_err();
        assert_wrong(&error, "wrong-0", "forward", why);
    }
    for (logprobs, expected) in [("[-1e39, 1e39, 0]", ["-inf", "inf", "0"]), ("[null, NaN, 1]", ["NaN", "NaN", "1"])] {
        let body = output(&format!(r#"{{"data": {logprobs}, "dtype": "float32"}}"#));
        let service = with_result("forward", body);
        let output = trainer(&service, Wire::Json).forward(batch(), LossFn::CrossEntropy).unwrap();
        let shown: Vec<_> = output.loss_fn_outputs[0].logprobs().unwrap().iter().map(f32::to_string).collect();
        assert_eq!(shown, expected);
    }
    for tokens in ["[null]", "[-1]", "[1.5]", "[4294967296]", "[NaN]", "[\"5\"]"] {
        let sequence = format!(r#"{{"sequences": [{{"stop_reason": "stop", "tokens": {tokens}}}]}}"#);
        let service = with_result("asample", sequence);
        let sampler = connect(service.config()).create_sampling_client("base").unwrap();
        let error = sampler.sample(&[1].into(), 1, &SamplingParams::default()).unwrap_err();
        assert_wrong(&error, "wrong-0", "sample", "");
    }
}

#[test]
fn an_error_of_null_is_no_error() {
    for body in [
        r#"{"error": null, "metrics": {"norm": 2}}"#,
        r#"{"error": null, "category": null, "status": "completed", "result": {"metrics": {"norm": 2}}}"#,
        r#"{"metrics": {"norm": 2}, "error": null, "type": null, "queue_state": null}"#,
    ] {
        let service = with_result("optim_step", body);
        let response = trainer(&service, Wire::Json).optim_step(AdamParams::default()).unwrap();
        assert_eq!(response.metrics.unwrap()["norm"], 2.0, "{body}");
    }
    let service = with_result("optim_step", r#"{"error": null, "status": "failed", "category": "user"}"#);
    let error = trainer(&service, Wire::Json).optim_step(AdamParams::default()).unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::RequestFailed, Some("wrong-0")));
}

/// What a poll says of another request is not looked at: the response to a poll is about the promise that was polled.
#[test]
fn the_id_in_a_response_does_not_matter() {
    let polls = AtomicUsize::new(0);
    let service = with_bodies(move |request| {
        (request.path == "optim_step").then(|| match polls.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Reply::ok(json!({"type": "try_again", "request_id": "another", "queue_state": "active"})),
            _ => Reply::ok(json!({"request_id": "another", "metrics": {"norm": 3.0}})),
        })
    });
    let response = trainer(&service, Wire::Json).optim_step(AdamParams::default()).unwrap();
    assert_eq!(response.metrics.unwrap()["norm"], 3.0);
}

#[test]
fn saves_without_a_place_are_errors() {
    for body in [r#"{"path": null}"#, r#"{"type": "save_weights_for_sampler"}"#] {
        let service = with_result("save_weights_for_sampler", body);
        let trainer = trainer(&service, Wire::Json);
        let error = trainer.save_weights_for_sampler("a").unwrap_err();
        assert_wrong(&error, "wrong-0", "save_weights_for_sampler", "returned no path");
        let error = trainer.save_weights_and_get_sampling_client().unwrap_err();
        let why = "neither a sampling session nor a path";
        assert_wrong(&error, "wrong-1", "save_weights_and_get_sampling_client", why);
    }
    let service = with_result("save_weights", r#"{"path": null}"#);
    let error = trainer(&service, Wire::Json).save_state("a").unwrap_err();
    assert_wrong(&error, "wrong-0", "save_state", "path");
}

#[test]
fn a_promise_by_id_is_checked_in_itself() {
    let service = with_result("optim_step", r#"{"metrics": 3}"#);
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", tinkex::types::LoraConfig::default()).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap_err();
    let error = client.pending::<OptimStepResponse>("wrong-0", RequestKind::OptimStep).wait().unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("wrong-0")));
}
