//! Training and sampling: the numbers are right.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, PATIENCE, batch, forward_backward, loss, optim_step, sample};
use super::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";

#[test]
fn training_teaches_a_text_to_the_sampler() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(BASE);
    let text = "abcdefghi";
    let mut seq = 0;
    let mut next = || {
        seq += 1;
        seq
    };
    let before = loss(&mut client, &model_id, next(), text);
    let first = client.call("forward_backward", forward_backward(&model_id, next(), text));
    assert_eq!(first["loss_fn_output_type"], "ArrayRecord");
    assert_eq!(first["metrics"]["tokens:sum"], 8.0);
    let output = &first["loss_fn_outputs"][0];
    let sum = |name: &str| -> f64 {
        assert_eq!((&output[name]["dtype"], &output[name]["shape"]), (&json!("float32"), &json!([8])));
        output[name]["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).sum()
    };
    assert!((sum("elementwise_loss") - before).abs() < 1e-3 && (sum("logprobs") + before).abs() < 1e-3);

    let mut last = client.promise("optim_step", optim_step(&model_id, next(), 0.006));
    for _ in 0..30 {
        client.promise("forward_backward", forward_backward(&model_id, next(), text));
        last = client.promise("optim_step", optim_step(&model_id, next(), 0.006));
    }
    assert!(client.result(&last)["metrics"].is_object());
    let after = loss(&mut client, &model_id, next(), text);
    assert!(after < before / 10.0, "{before} -> {after}");

    let named = json!({ "model_id": model_id, "path": "final", "seq_id": next() });
    let saved = client.call("save_weights_for_sampler", named);
    let path = format!("tinker://{model_id}/sampler_weights/final");
    assert_eq!(saved, json!({ "path": path, "type": "save_weights_for_sampler" }));
    let session_id = client.session();
    let body =
        json!({ "session_id": session_id, "sampling_session_seq_id": 0, "base_model": null, "model_path": path });
    let sampler = client.ok("create_sampling_session", body)["sampling_session_id"].as_str().unwrap().to_owned();
    let greedy = json!({ "max_tokens": 4, "temperature": 0.0 });
    let said = client.call("asample", sample(&sampler, 0, "abcde", greedy));
    assert_eq!(said["sequences"][0]["tokens"], json!("fghi".as_bytes()));
    assert_eq!(said["sequences"][0]["stop_reason"], "length");
    // A stop string can span several tokens, and is part of the sample.
    for (seq, stop) in (1..).zip([json!("gh"), json!(["nothing", "gh"]), json!([b'h'])]) {
        let greedy = json!({ "max_tokens": 4, "temperature": 0.0, "stop": stop });
        let stopped = &client.call("asample", sample(&sampler, seq, "abcde", greedy))["sequences"][0];
        assert_eq!((&stopped["tokens"], &stopped["stop_reason"]), (&json!("fgh".as_bytes()), &json!("stop")));
    }
    assert_eq!((&said["prompt_logprobs"], &said["topk_prompt_logprobs"]), (&Value::Null, &Value::Null));
}

#[test]
fn rl_losses_weigh_advantages_by_probability_ratio() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(BASE);
    let mut seq = 0;
    // Two tokens whose probability, when sampled, was a tenth and ten times that of now.
    let logprobs = client.call("forward", json!({ "forward_input": batch("abc"), "model_id": model_id, "seq_id": 99 }));
    let logprobs: Vec<f64> =
        serde_json::from_value(logprobs["loss_fn_outputs"][0]["logprobs"]["data"].clone()).unwrap();
    let ten = 10_f64.ln();
    let float = |data: [f64; 2]| json!({ "data": data, "dtype": "float32", "shape": [2] });
    let mut loss = |name: &str, config: Value, more: Value| {
        seq += 1;
        let mut input = batch("abc");
        (input["loss_fn"], input["loss_fn_config"]) = (json!(name), config);
        let inputs = input["data"][0]["loss_fn_inputs"].as_object_mut().unwrap();
        inputs.insert("logprobs".to_owned(), float([logprobs[0] - ten, logprobs[1] + ten]));
        inputs.insert("advantages".to_owned(), float([1.0, -1.0]));
        inputs.extend(more.as_object().unwrap().clone());
        let body = json!({ "forward_backward_input": input, "model_id": model_id, "seq_id": seq });
        let found = client.call("forward_backward", body);
        (found["metrics"]["loss:sum"].as_f64().unwrap() * 1000.0).round() / 1000.0
    };
    assert_eq!(loss("importance_sampling", json!(null), json!({})), -9.9);
    assert_eq!(loss("ppo", json!(null), json!({})), -0.4);
    assert_eq!(loss("ppo", json!({ "clip_low_threshold": 0.5, "clip_high_threshold": 3.0 }), json!({})), -2.5);
    let bounds = json!({ "clip_high_threshold": float([2.0, 2.0]) });
    assert_eq!(loss("ppo", json!({ "clip_low_threshold": 0.6 }), bounds), -1.4);
}

#[test]
fn gradients_accumulate_until_the_step() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let (apart, together) = (client.model(BASE), client.model(BASE));
    client.call("forward_backward", forward_backward(&apart, 1, "abcd"));
    client.call("forward_backward", forward_backward(&apart, 2, "wxyz"));
    client.call("optim_step", optim_step(&apart, 3, 0.01));

    let mut both = forward_backward(&together, 1, "abcd");
    let second = batch("wxyz")["data"][0].clone();
    both["forward_backward_input"]["data"].as_array_mut().unwrap().push(second);
    loss(&mut client, &together, 2, "other");
    client.call("forward_backward", both);
    client.call("optim_step", optim_step(&together, 3, 0.01));

    let (apart, together) = (loss(&mut client, &apart, 4, "abcd"), loss(&mut client, &together, 4, "abcd"));
    assert!((apart - together).abs() < 1e-4, "{apart} {together}");
}

#[test]
fn snapshot_keeps_its_weights_during_training() {
    let (model, gate) = Gated::new("test/gated");
    drop(gate);
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model("test/gated");
    let unnamed = json!({ "model_id": model_id, "sampling_session_seq_id": 0, "seq_id": 1 });
    let sampler = client.call("save_weights_for_sampler", unnamed)["sampling_session_id"].as_str().unwrap().to_owned();
    client.call("forward_backward", forward_backward(&model_id, 2, "abc"));
    client.call("optim_step", optim_step(&model_id, 3, 0.5));
    let said = client.call("asample", sample(&sampler, 0, "ab", json!({ "max_tokens": 1 })));
    assert_eq!(said["sequences"][0]["logprobs"], json!([-1.0]));
    assert!((loss(&mut client, &model_id, 4, "ab") - 0.5).abs() < 1e-6);
}

#[test]
fn saved_weights_load_only_where_they_fit() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(BASE);
    client.call("forward_backward", forward_backward(&model_id, 1, "abc"));
    client.call("optim_step", optim_step(&model_id, 2, 0.01));
    let at_save = loss(&mut client, &model_id, 3, "abc");
    let path = format!("tinker://{model_id}/weights/one");
    let save = |seq: u64| json!({ "model_id": model_id, "path": "one", "seq_id": seq });
    assert_eq!(client.call("save_weights", save(4)), json!({ "path": path, "type": "save_weights" }));
    assert_eq!(client.post("save_weights", save(5)).status, 400);

    client.call("forward_backward", forward_backward(&model_id, 6, "abc"));
    client.call("optim_step", optim_step(&model_id, 7, 0.01));
    assert_ne!(loss(&mut client, &model_id, 8, "abc"), at_save);
    let load = |model_id: &str, seq: u64, path: &str| json!({ "model_id": model_id, "path": path, "seq_id": seq });
    assert_eq!(client.call("load_weights", load(&model_id, 9, &path)), json!({ "path": path, "type": "load_weights" }));
    assert_eq!(loss(&mut client, &model_id, 10, "abc"), at_save);

    let fresh = client.model(BASE);
    client.call("load_weights", load(&fresh, 1, &path));
    assert_eq!(loss(&mut client, &fresh, 2, "abc"), at_save);

    let session_id = client.session();
    let body = json!({ "session_id": session_id, "model_seq_id": 0, "base_model": BASE, "lora_config": { "rank": 2 } });
    let narrow = client.call("create_model", body)["model_id"].as_str().unwrap().to_owned();
    for (path, words) in
        [(path.as_str(), "has a different base model, rank"), ("tinker://x/weights/y", "there is no checkpoint")]
    {
        let seq = path.len() as u64;
        let failed = client.call("load_weights", load(&narrow, seq, path));
        assert_eq!(failed["category"], "user");
        assert!(failed["error"].as_str().unwrap().contains(words), "{failed}");
    }
}

#[test]
fn sampling_does_not_wait_for_training() {
    let (model, gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).hold_time(PATIENCE).start().unwrap();
    let mut client = Client::new(&server);
    let (model_id, sampler) = (client.model("test/gated"), client.sampler("test/gated"));
    let training = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    let said = client.call("asample", sample(&sampler, 0, "ab", json!({ "max_tokens": 3 })));
    assert_eq!(said["sequences"][0]["tokens"], json!([2, 2, 2]));
    drop(gate);
    client.result(&training);
}

#[test]
fn samples_follow_their_parameters() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let mut seq = 0;
    let mut ask = |params: Value, changes: Value| {
        let mut body = sample(&sampler, seq, "hello", params);
        seq += 1;
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        client.call("asample", body)
    };
    let seeded = || json!({ "max_tokens": 5, "seed": 3 });
    let (one, two) = (ask(seeded(), json!({})), ask(seeded(), json!({ "num_samples": 2 })));
    assert_eq!(one["sequences"][0], two["sequences"][0]);
    assert_eq!(two["sequences"].as_array().unwrap().len(), 2);
    assert_ne!(two["sequences"][0], two["sequences"][1]);

    let about = ask(json!({ "max_tokens": 1 }), json!({ "prompt_logprobs": true, "topk_prompt_logprobs": 2 }));
    let logprobs = about["prompt_logprobs"].as_array().unwrap();
    assert_eq!((logprobs.len(), &logprobs[0]), (5, &Value::Null));
    assert!(logprobs[1..].iter().all(|logprob| logprob.as_f64().unwrap() < 0.0));
    let top = about["topk_prompt_logprobs"].as_array().unwrap();
    assert_eq!((top.len(), &top[0], top[1].as_array().unwrap().len()), (5, &Value::Null, 2));

    // Greedy decoding stops at the second token, given as a string or as a token.
    let greedy = ask(json!({ "max_tokens": 3, "temperature": 0.0 }), json!({}));
    let tokens = greedy["sequences"][0]["tokens"].as_array().unwrap().clone();
    let stopped = ask(json!({ "max_tokens": 3, "temperature": 0.0, "stop": [tokens[1]] }), json!({}));
    assert_eq!(stopped["sequences"][0]["stop_reason"], "stop");
}

#[test]
fn numbers_that_are_not_finite_become_words() {
    let (model, _gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler("test/gated");
    let mut body = sample(&sampler, 0, "ab", json!({ "max_tokens": 1 }));
    body["prompt_logprobs"] = json!(true);
    assert_eq!(client.call("asample", body)["prompt_logprobs"], json!([null, "-Infinity"]));
}

#[test]
fn sampling_without_max_tokens_may_fill_context() {
    let (model, _gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler("test/gated");
    let said = client.call("asample", sample(&sampler, 0, "ab", json!({})));
    assert_eq!(said["sequences"][0]["tokens"].as_array().unwrap().len(), 64 - 2);
}
