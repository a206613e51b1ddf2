//! The options of a sample that services of 2026 know: what is sent, and what the results may look like.

use tinkex::types::{TensorData, TokenLogprob};

use super::*;

fn targets() -> TensorData {
    TensorData::new(vec![7_i64, -1, 9, 8]).unwrap().with_shape([2, 2]).unwrap()
}

/// A service whose samples have this result.
fn with_result(result: Value) -> Service {
    Service::start(move |request| match is_sample(request) {
        true => Reply::ok(result.clone()),
        false => healthy_service(request),
    })
}

#[test]
fn options_are_sent_only_if_set() {
    let service = Service::start(healthy_service);
    let sampler = sampler(service.config());
    let prompt = prompt(&[1, 2, 3]);
    let plain = SampleOptions::new(&prompt).prompt_logprobs(true);
    let all = plain.clone().topk_sample_logprobs(2).target_prompt_logprobs(targets()).prompt_alt_tokens_k(4);
    // The service sends no log-probabilities of the prompt.
    sampler.sample_with(plain).unwrap_err();
    sampler.sample_with(all.prompt_logprobs_last_n(2)).unwrap_err();
    sampler.submit_compute_logprobs_last_n(&prompt, 2).unwrap().wait().unwrap_err();
    let sent = service.requests_to("asample");
    let names = ["topk_sample_logprobs", "target_prompt_logprobs", "prompt_alt_tokens_k", "prompt_logprobs_last_n"];
    let sent_options = |index: usize| names.map(|name| sent[index].body[name].clone());
    assert_eq!(sent_options(0), [Value::Null, Value::Null, Value::Null, Value::Null]);
    assert!(sent[0].body.get("record_stability_info").is_none());
    let tensor = json!({"data": [7, -1, 9, 8], "dtype": "int64", "shape": [2, 2]});
    assert_eq!(sent_options(1), [json!(2), tensor, json!(4), json!(2)]);
    assert_eq!((&sent[2].body["prompt_logprobs"], &sent[2].body["prompt_logprobs_last_n"]), (&json!(true), &json!(2)));
}

#[test]
fn results_of_all_options_are_returned() {
    let float = |data: Value, shape: [usize; 2]| json!({"data": data, "dtype": "float32", "shape": shape});
    let service = with_result(json!({
        "sequences": [{
            "stop_reason": "length", "tokens": [5, 6], "logprobs": [-0.5, -1.0],
            "topk_sampled_logprobs": [[[5, -0.5], [4, -2.0]], [[6, -1.0]]],
        }],
        "prompt_cache_hit_tokens": 2,
        "target_prompt_logprobs": float(json!([-1.0, null, -2.0, -3.0]), [2, 2]),
        "prompt_alt_tokens": {
            "tokens": {"data": [1, 2, 3, 4], "dtype": "int64", "shape": [2, 2]},
            "logprobs": float(json!([-1, -2, -3, -4]), [2, 2]),
        },
    }));
    let prompt = prompt(&[1, 2, 3]);
    let options = SampleOptions::new(&prompt).topk_sample_logprobs(2).target_prompt_logprobs(targets());
    let reply = sampler(service.config()).sample_with(options.prompt_alt_tokens_k(2)).unwrap();
    let top = reply.sequences[0].topk_logprobs.as_ref().unwrap();
    assert_eq!(top[0], [TokenLogprob::new(5, -0.5), TokenLogprob::new(4, -2.0)]);
    assert_eq!((top.len(), reply.prompt_cache_hit_tokens), (2, 2));
    let logprobs = reply.target_prompt_logprobs.unwrap();
    assert_eq!((logprobs.shape(), logprobs.as_f32().unwrap()[3]), (Some(&[2, 2][..]), -3.0));
    let alternatives = reply.prompt_alt_tokens.unwrap();
    assert_eq!(alternatives.tokens.as_i64(), Some(&[1, 2, 3, 4][..]));
    assert_eq!(alternatives.logprobs.as_f32(), Some(&[-1.0, -2.0, -3.0, -4.0][..]));
}

#[test]
fn unknown_options_leave_the_results_absent() {
    let service = with_result(json!({"sequences": [{"stop_reason": "stop", "tokens": [5], "logprobs": [-0.5]}]}));
    let prompt = prompt(&[1, 2, 3]);
    let options = SampleOptions::new(&prompt).topk_sample_logprobs(2).target_prompt_logprobs(targets());
    let reply = sampler(service.config()).sample_with(options.prompt_alt_tokens_k(2)).unwrap();
    assert_eq!((reply.sequences[0].topk_logprobs.as_ref(), reply.prompt_cache_hit_tokens), (None, 0));
    assert!(reply.target_prompt_logprobs.is_none() && reply.prompt_alt_tokens.is_none());
}

#[test]
fn results_of_another_shape_are_refused() {
    let float = |rows: usize| json!({"data": vec![-1.0; rows * 2], "dtype": "float32", "shape": [rows, 2]});
    let integers = |rows: usize| json!({"data": vec![1; rows * 2], "dtype": "int64", "shape": [rows, 2]});
    let sequence = |top: usize| {
        let top = vec![json!([[5, -0.5]]); top];
        json!({"stop_reason": "stop", "tokens": [5, 6], "topk_sampled_logprobs": top})
    };
    for (rows, field, value, part) in [
        (1, "prompt_logprobs", json!([null, -1.0, -2.0]), "a sequence of 2 tokens has 1 log-probabilities"),
        (2, "target_prompt_logprobs", float(3), "shape [3, 2], not [2, 2]"),
        (2, "target_prompt_logprobs", integers(2), "type int64, not float32"),
        (2, "prompt_alt_tokens", json!({"tokens": integers(2), "logprobs": float(1)}), "shape [1, 2], not [2, 2]"),
        (2, "prompt_logprobs", json!([-1.0]), "1 prompt_logprobs for 3 tokens"),
    ] {
        let mut result = json!({"sequences": [sequence(rows)], "prompt_logprobs": [null, -1.0, -2.0]});
        result[field] = value;
        let service = with_result(result);
        let prompt = prompt(&[1, 2, 3]);
        let options = SampleOptions::new(&prompt).topk_sample_logprobs(1).target_prompt_logprobs(targets());
        let options = options.prompt_alt_tokens_k(2).prompt_logprobs(true);
        let error = sampler(service.config()).sample_with(options).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Decode, Some("sample")));
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn earlier_logprobs_than_asked_for_are_dropped() {
    for served in [json!([null, -1.0, -2.0]), json!([-1.0, -2.0]), json!([-2.0]), json!([null, null, -2.0])] {
        let sequence = json!({"stop_reason": "stop", "tokens": [5]});
        let service = with_result(json!({"sequences": [sequence], "prompt_logprobs": served}));
        let sampler = sampler(service.config());
        let prompt = prompt(&[1, 2, 3]);
        let expected = [None, None, Some(-2.0)];
        assert_eq!(sampler.compute_logprobs_last_n(&prompt, 1).unwrap(), expected, "{served}");
        let options = SampleOptions::new(&prompt).prompt_logprobs(true).prompt_logprobs_last_n(1);
        assert_eq!(sampler.sample_with(options).unwrap().prompt_logprobs.unwrap(), expected, "{served}");
    }
}

#[test]
fn invalid_options_are_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let sampler = sampler(service.config());
    let prompt = prompt(&[1, 2, 3]);
    let options = || SampleOptions::new(&prompt);
    let flat = TensorData::new(vec![1_i64, 2]).unwrap();
    let errors = [
        sampler.sample_with(options().prompt_logprobs_last_n(2)).unwrap_err(),
        sampler.sample_with(options().prompt_logprobs(true).prompt_logprobs_last_n(0)).unwrap_err(),
        sampler.sample_with(options().target_prompt_logprobs(flat)).unwrap_err(),
        sampler.submit_compute_logprobs_last_n(&prompt, 0).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    assert!(service.requests_to("asample").is_empty());
}

/// A service whose promises name the sequences. The first promise of a prompt that begins with 9 has expired.
fn naming(names: impl Fn(u64) -> Value + Send + Sync + 'static) -> Service {
    Service::start(move |request| match &*request.path {
        "asample" => {
            let seq_id = request.seq_id().unwrap();
            let kind = if asked(request) == 9 && seq_id == 0 { "gone" } else { "asample" };
            Reply::ok(json!({"request_id": format!("{kind}:s:{seq_id}"), "sample_sequence_ids": names(seq_id)}))
        }
        "retrieve_future" if request.request_id().starts_with("gone") => Reply::Json(410, json!({"detail": "gone"})),
        _ => healthy_service(request),
    })
}

#[test]
fn sequences_have_the_ids_of_the_promise() {
    let service = naming(|seq_id| json!([format!("s:{seq_id}:0")]));
    let reply = sample(&sampler(service.config()), 1);
    assert_eq!(reply.sequences[0].sequence_id.as_deref(), Some("s:0:0"));
    // Another number of ids does not say which sequence is which.
    for names in [json!(null), json!([]), json!(["a", "b"])] {
        let service = naming(move |_| names.clone());
        assert_eq!(sample(&sampler(service.config()), 1).sequences[0].sequence_id, None);
    }
}

#[test]
fn a_resubmission_has_ids_of_its_own() {
    let manual = ManualClock::new();
    let service = naming(|seq_id| json!([format!("s:{seq_id}:0")]));
    let pending = submit(&sampler(service.manual_config(&manual)), 9);
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait < SECOND));
    manual.advance(SECOND);
    assert_eq!(pending.wait().unwrap().sequences[0].sequence_id.as_deref(), Some("s:1:0"));
}
