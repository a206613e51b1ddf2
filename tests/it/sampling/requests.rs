//! The contents of sample requests and their results.

use super::*;
use crate::support::golden::exchanges;

/// Asserts that `ours` has everything that `theirs` has, and returns the paths of what it has in addition.
fn besides(ours: &Value, theirs: &Value, path: &str) -> Vec<String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            theirs.keys().for_each(|key| assert!(ours.contains_key(key), "{path}.{key} is missing"));
            let each = ours.iter().flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                theirs.get(key).map_or_else(|| vec![path.clone()], |theirs| besides(value, theirs, &path))
            });
            let mut each: Vec<String> = each.collect();
            each.sort_unstable();
            each
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{path}");
            ours.iter().zip(theirs).flat_map(|(ours, theirs)| besides(ours, theirs, path)).collect()
        }
        _ => {
            assert_eq!(ours, theirs, "{path}");
            Vec::new()
        }
    }
}

/// The bodies of the Python client's asample requests in a fixture, with the session's name as our service has it.
fn golden(name: &str) -> Vec<Value> {
    let exchanges = exchanges(name);
    let samples = exchanges.iter().filter(|exchange| exchange["path"] == "/api/v1/asample");
    samples
        .map(|exchange| {
            assert_eq!(exchange["headers"]["x-tinker-sampling-backpressure"], "1");
            let mut body = exchange["body"]["json"].clone();
            body["sampling_session_id"] = json!("sampler-0");
            body
        })
        .collect()
}

#[test]
fn sample_requests_match_the_python_client() {
    let golden = golden("40_sample_default");
    let service = Service::start(healthy_service);
    let sampler = sampler(service.config());
    assert_eq!(sampler.sampling_session_id(), "sampler-0");
    let prompt = prompt(&[1, 2, 3]);
    let plain = sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap();
    assert_eq!((number(&plain), plain.sequences[0].logprobs.as_deref()), (0, Some(&[-0.25][..])));
    let five = SamplingParams::default().max_tokens(5);
    let submitted = sampler.submit_sample(&prompt, 1, &five).unwrap();
    assert_eq!(number(&submitted.wait().unwrap()), 1);
    let asked = service.requests_to("asample");
    for (seen, golden) in asked.iter().zip(&golden) {
        assert_eq!(
            besides(&seen.body, golden, ""),
            [
                ".prompt.chunks.type",
                ".sampling_params.temperature",
                ".sampling_params.top_k",
                ".sampling_params.top_p",
                ".type",
            ]
        );
        assert_eq!(seen.header("x-tinker-sampling-backpressure"), Some("1"));
        assert_eq!(seen.header("x-stainless-retry-count"), Some("0"));
    }
    let keys: HashSet<_> = asked.iter().map(|request| request.header("x-idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 2);
}

#[test]
fn every_option_of_a_sample_reaches_the_service() {
    let service = Service::start(|request| match is_sample(request) {
        true => {
            let sequence = json!({"stop_reason": "stop", "tokens": [5]});
            Reply::ok(json!({"sequences": vec![sequence; 4], "prompt_logprobs": [null, -0.5]}))
        }
        false => healthy_service(request),
    });
    let sampler = sampler(service.config());
    let prompt = prompt(&[7, 8]);
    let options = SampleOptions::new(&prompt)
        .num_samples(4)
        .sampling_params(SamplingParams::default().temperature(0.5).stop(["\n"]).seed(3).top_k(2).top_p(0.5))
        .prompt_logprobs(true)
        .topk_prompt_logprobs(5);
    sampler.sample_with(options.clone()).unwrap();
    sampler.submit_sample_with(options).unwrap().wait().unwrap();
    for (seq_id, seen) in service.requests_to("asample").iter().enumerate() {
        assert_eq!(
            seen.body,
            json!({
                "type": "sample",
                "num_samples": 4,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [7, 8]}]},
                "sampling_params": {"temperature": 0.5, "stop": ["\n"], "seed": 3, "top_k": 2, "top_p": 0.5},
                "sampling_session_id": "sampler-0",
                "seq_id": seq_id,
                "prompt_logprobs": true,
                "topk_prompt_logprobs": 5,
            })
        );
    }
}

#[test]
fn stops_are_always_sent_as_a_list() {
    let service = Service::start(healthy_service);
    let sampler = sampler(service.config());
    let stops = [
        (Stop::from("\n\n"), json!(["\n\n"])),
        (["a", "1"].into(), json!(["a", "1"])),
        ([1_u32, 2].into(), json!([1, 2])),
        (Vec::<String>::new().into(), json!([])),
    ];
    for (index, (stop, sent)) in stops.into_iter().enumerate() {
        sampler.sample(&prompt(&[1]), 1, &SamplingParams::default().stop(stop)).unwrap();
        assert_eq!(service.requests_to("asample")[index].body["sampling_params"]["stop"], sent);
    }
}

#[test]
fn any_path_of_the_service_is_sampled() {
    let service = Service::start(healthy_service);
    let client = crate::support::connect(service.config());
    let paths = ["tinker://model-1/0001", "tinker://run/checkpoints/a", "twinkle://run/weights/a", "s3://bucket/a?b=c"];
    for (index, path) in paths.into_iter().enumerate() {
        client.create_sampling_client(path).unwrap();
        let sent = &service.requests_to("create_sampling_session")[index].body;
        assert_eq!((&sent["model_path"], &sent["base_model"]), (&json!(path), &Value::Null));
    }
    for path in ["://x", "tinker://", " "] {
        assert_eq!(client.create_sampling_client(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path}");
    }
    assert_eq!(service.requests_to("create_sampling_session").len(), paths.len());
}

/// A service whose samples have these log-probabilities of the prompt.
fn with_prompt_logprobs(logprobs: Value) -> Service {
    Service::start(move |request| {
        if is_sample(request) {
            let sequence = json!({"stop_reason": "stop", "tokens": [5]});
            return Reply::ok(json!({"sequences": [sequence], "prompt_logprobs": logprobs}));
        }
        healthy_service(request)
    })
}

#[test]
fn compute_logprobs_has_one_entry_per_token() {
    for (served, expected) in [
        (json!([null, -1.0, -2.0]), Some([None, Some(-1.0), Some(-2.0)])),
        (json!([-1.0, -2.0]), Some([None, Some(-1.0), Some(-2.0)])),
        (json!([-1.0]), None),
        (json!([null, -1.0, -2.0, -3.0]), None),
        (Value::Null, None),
    ] {
        let service = with_prompt_logprobs(served.clone());
        let sampler = sampler(service.config());
        let prompt = prompt(&[1, 2, 3]);
        let blocking = sampler.compute_logprobs(&prompt);
        let submitted = sampler.submit_compute_logprobs(&prompt).unwrap().wait();
        let sampled = sampler.sample_with(SampleOptions::new(&prompt).prompt_logprobs(true));
        for outcome in [blocking, submitted] {
            match expected {
                Some(expected) => assert_eq!(outcome.unwrap(), expected, "{served}"),
                None => {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Decode, "{served}");
                    assert_eq!(error.operation(), Some("compute_logprobs"));
                }
            }
        }
        match expected {
            Some(expected) => assert_eq!(sampled.unwrap().prompt_logprobs.unwrap(), expected, "{served}"),
            None => assert_eq!(sampled.unwrap_err().kind(), ErrorKind::Decode, "{served}"),
        }
        let golden = golden("43_compute_logprobs");
        for seen in &service.requests_to("asample")[..2] {
            assert_eq!(seen.body["prompt_logprobs"], golden[0]["prompt_logprobs"]);
            assert_eq!(seen.body["sampling_params"]["max_tokens"], golden[0]["sampling_params"]["max_tokens"]);
        }
    }
}

#[test]
fn invalid_parameters_are_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let sampler = sampler(service.config());
    let cold = SamplingParams::default().temperature(-1.0);
    let params = SamplingParams::default;
    for (refused, name) in [
        (params().temperature(f64::NAN), "temperature"),
        (params().temperature(f64::INFINITY), "temperature"),
        (params().top_k(0), "top_k"),
        (params().top_k(-2), "top_k"),
        (params().max_tokens(0), "max_tokens"),
        (params().top_p(1.5), "top_p"),
        (params().top_p(-0.1), "top_p"),
        (params().top_p(f64::NAN), "top_p"),
    ] {
        let error = sampler.sample(&prompt(&[1]), 1, &refused).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains(name), "{error}");
    }
    for accepted in
        [params().top_k(-1), params().top_k(1), params().max_tokens(1), params().top_p(1.0).temperature(0.0)]
    {
        accepted.validate().unwrap();
    }
    let errors = [
        sampler.sample(&prompt(&[1]), 0, &SamplingParams::default()).unwrap_err(),
        sampler.sample(&prompt(&[]), 1, &SamplingParams::default()).unwrap_err(),
        sampler.sample(&prompt(&[1]), 1, &cold).unwrap_err(),
        sampler.sample(&prompt(&[1]), 1, &SamplingParams::default().stop("")).unwrap_err(),
        sampler.submit_sample(&prompt(&[1]), 1, &cold).unwrap_err(),
        sampler.compute_logprobs(&prompt(&[])).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(number(&sample(&sampler, 1)), 0);
    assert_eq!(service.requests_to("asample").len(), 1);
}
