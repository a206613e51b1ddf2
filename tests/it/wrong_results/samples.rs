//! Samples whose results do not fit what was asked for.

use std::sync::Arc;

use tinkex::types::{ModelInput, SampledSequence, SamplingParams};
use tinkex::{SampleOptions, SamplingClient};

use super::*;
use crate::support::Gate;

fn sampler(service: &Service, wire: Wire) -> SamplingClient {
    connect(service.config().wire(wire)).create_sampling_client("base").unwrap()
}

fn prompt() -> ModelInput {
    ModelInput::from_tokens([1, 2, 3])
}

fn sequence(tokens: usize) -> Value {
    json!({"stop_reason": "length", "tokens": vec![5; tokens], "logprobs": vec![-0.5; tokens]})
}

fn sequences(count: usize) -> Value {
    json!({"sequences": vec![sequence(2); count]})
}

#[test]
fn the_number_of_sequences_is_checked() {
    for wire in WIRES {
        for (asked, received) in [(4, 0), (4, 3), (4, 5), (1, 0), (1, 2)] {
            let service = with_sample(wire, sequences(received));
            let sampler = sampler(&service, wire);
            let why = format!("the response has {received} sequences, not {asked}");
            let params = SamplingParams::default();
            let errors = [
                sampler.sample(&prompt(), asked, &params).unwrap_err(),
                sampler.submit_sample(&prompt(), asked, &params).unwrap().wait().unwrap_err(),
            ];
            for (index, error) in errors.iter().enumerate() {
                assert_wrong(error, &format!("wrong-{index}"), "sample", &why);
            }
            let options = [SampleOptions::new(prompt()).num_samples(asked)];
            let (_, outcome) = sampler.sample_many(options).next().unwrap();
            assert_eq!(outcome.unwrap_err().request_id(), Some("wrong-2"));
        }
        let service = with_sample(wire, sequences(4));
        let response = sampler(&service, wire).sample(&prompt(), 4, &SamplingParams::default()).unwrap();
        assert_eq!(response.sequences.len(), 4);
    }
}

#[test]
fn each_token_has_its_logprob() {
    let with =
        |logprobs: Value| json!({"sequences": [{"stop_reason": "stop", "tokens": [5, 6], "logprobs": logprobs}]});
    let top = json!({"stop_reason": "stop", "tokens": [5, 6], "topk_sampled_logprobs": [[[5, -0.5]]]});
    for wire in WIRES {
        for (result, why) in [
            (with(json!([-0.5])), "a sequence of 2 tokens has 1 log-probabilities"),
            (with(json!([-0.5, -0.5, -0.5])), "a sequence of 2 tokens has 3 log-probabilities"),
            (json!({"sequences": [top]}), "a sequence of 2 tokens has 1 log-probabilities"),
        ] {
            let service = with_sample(wire, result);
            let error = sampler(&service, wire).sample(&prompt(), 1, &SamplingParams::default()).unwrap_err();
            assert_wrong(&error, "wrong-0", "sample", why);
        }
        let service = with_sample(wire, with(Value::Null));
        let response = sampler(&service, wire).sample(&prompt(), 1, &SamplingParams::default()).unwrap();
        assert_eq!(response.sequences[0].logprobs, None, "a service may send none");
    }
    // In protobuf, none and empty are the same.
    let service = with_sample(Wire::Json, with(json!([])));
    let error = sampler(&service, Wire::Json).sample(&prompt(), 1, &SamplingParams::default()).unwrap_err();
    assert_wrong(&error, "wrong-0", "sample", "2 tokens has 0 log-probabilities");
}

#[test]
fn the_prompt_has_its_logprobs() {
    let with = |name: &str, value: Value| {
        let mut result = sequences(1);
        result[name] = value;
        result
    };
    let row = json!([[7, -0.5], [8, -1.0]]);
    for wire in WIRES {
        for (result, why) in [
            (sequences(1), "the response has no prompt_logprobs"),
            (with("prompt_logprobs", json!([-1.0])), "1 prompt_logprobs for 3 tokens"),
            (with("prompt_logprobs", json!([null, -1.0, -1.0, -1.0])), "4 prompt_logprobs for 3 tokens"),
        ] {
            let service = with_sample(wire, result);
            let sampler = sampler(&service, wire);
            let error = sampler.sample_with(SampleOptions::new(prompt()).prompt_logprobs(true)).unwrap_err();
            assert_wrong(&error, "wrong-0", "sample", why);
            let error = sampler.compute_logprobs(&prompt()).unwrap_err();
            assert_wrong(&error, "wrong-1", "compute_logprobs", why);
        }
        for (rows, expected) in [
            (vec![row.clone()], Err("1 topk_prompt_logprobs for 3 tokens")),
            (vec![row.clone(); 4], Err("4 topk_prompt_logprobs for 3 tokens")),
            (vec![row.clone(); 3], Ok(3)),
            // Without the first token, which has none.
            (vec![row.clone(); 2], Ok(2)),
        ] {
            let service = with_sample(wire, with("topk_prompt_logprobs", json!(rows)));
            let options = SampleOptions::new(prompt()).topk_prompt_logprobs(2);
            let result = sampler(&service, wire).sample_with(options);
            match (result, expected) {
                (Err(error), Err(why)) => assert_wrong(&error, "wrong-0", "sample", why),
                (Ok(response), Ok(present)) => {
                    let rows = response.topk_prompt_logprobs.unwrap();
                    assert_eq!((rows.len(), rows.iter().flatten().count()), (3, present), "{wire:?}");
                }
                (result, expected) => panic!("{wire:?}: {result:?} instead of {expected:?}"),
            }
        }
    }
}

#[test]
fn a_prompt_of_one_token_needs_none() {
    for wire in WIRES {
        for served in [json!([]), json!([null]), Value::Null] {
            let service = with_sample(wire, json!({"sequences": [sequence(1)], "prompt_logprobs": served}));
            let one = ModelInput::from_tokens([1]);
            let logprobs = sampler(&service, wire).compute_logprobs(&one).unwrap();
            assert_eq!(logprobs.len(), 1, "{wire:?} {served}");
        }
    }
}

#[test]
fn logprobs_alone_need_no_sequence() {
    for wire in WIRES {
        for count in [0, 1, 2] {
            let mut result = sequences(count);
            result["prompt_logprobs"] = json!([null, -1.0, -2.0]);
            let service = with_sample(wire, result);
            let logprobs = sampler(&service, wire).compute_logprobs(&prompt()).unwrap();
            assert_eq!(logprobs, [None, Some(-1.0), Some(-2.0)], "{wire:?} {count}");
        }
    }
}

#[test]
fn a_surplus_of_names_names_nothing() {
    let service = Service::start_current(|request| match &*request.path {
        "asample" => Reply::ok(json!({"request_id": "asample:s:7", "sample_sequence_ids": ["a", "b"]})),
        _ => healthy_service(request),
    });
    let response = sampler(&service, Wire::Json).sample(&prompt(), 1, &SamplingParams::default()).unwrap();
    let SampledSequence { sequence_id, tokens, .. } = &response.sequences[0];
    assert_eq!((sequence_id, &tokens[..]), (&None, &[7][..]));
}

/// A service that gives one promise to all samples, and tells of its completion once.
#[test]
fn two_samples_of_one_promise_both_end() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let settings = json!({"sample_use_retrieve_futures": true});
    let service = service_with_settings(settings, move |request| match &*request.path {
        "cancel_future" => Reply::ok(json!({})),
        "asample" => Reply::ok(json!({"request_id": "asample:sampler-0:7"})),
        "retrieve_futures" if request.body["prev_cursor"] == 0 => {
            let completion = json!({"state": "finished", "request_id": "asample:sampler-0:7"});
            Reply::held(&held, Reply::ok(json!({"completions": [completion], "cursor": 1})))
        }
        "retrieve_futures" => Reply::ok(json!({"completions": [], "cursor": 1})),
        _ => healthy_service(request),
    });
    let sampler = sampler(&service, Wire::Json);
    let submit = || sampler.submit_sample(&prompt(), 1, &SamplingParams::default()).unwrap();
    let (first, second) = (submit(), submit());
    // The poller knows both before it hears of the completion.
    while [&first, &second].iter().any(|pending| pending.request_id().is_none()) {
        std::thread::yield_now();
    }
    gate.open();
    for pending in [first, second] {
        assert_eq!(pending.wait().unwrap().sequences[0].tokens, [7]);
    }
}
