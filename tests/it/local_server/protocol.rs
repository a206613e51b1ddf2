//! Rejected requests and their error messages.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, batch, forward_backward, optim_step, sample};

const BASE: &str = "tinkex/bytes-tiny";

#[test]
fn models_are_listed_and_described() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let models = ["tinkex/bytes-tiny", "tinkex/bytes-small", "tinkex/bytes-medium"];
    let listed = client.get("get_server_capabilities").json();
    for (model, name) in listed["supported_models"].as_array().unwrap().iter().zip(models) {
        let length = &model["max_context_length"];
        let expected = json!({"model_name": name, "max_context_length": length, "trainable": true, "sampleable": true});
        assert!(*model == expected && length.as_u64().unwrap() >= 64, "{model}");
    }
    let model_id = client.model(BASE);
    let info = client.ok("get_info", json!({ "model_id": model_id }));
    assert_eq!((&info["model_name"], &info["lora_rank"], &info["is_lora"]), (&json!(BASE), &json!(8), &json!(true)));
    assert_eq!((&info["model_data"]["tokenizer_id"], &info["type"]), (&json!("bytes"), &json!("get_info")));
}

#[test]
fn malformed_body_error_has_its_location() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut deep = forward_backward("m", 1, "abc");
    deep["forward_backward_input"]["data"][0]["loss_fn_inputs"]["weights"]["dtype"] = json!("float16");
    for (endpoint, body, place, kind) in [
        ("session_heartbeat", "{}", json!(["body", "session_id"]), "missing"),
        ("create_session", "{\"tags\": [", json!(["body", 10]), "json_invalid"),
        ("create_model", r#"{"session_id": 1}"#, json!(["body", "session_id"]), "value_error"),
        (
            "forward_backward",
            &deep.to_string(),
            json!(["body", "forward_backward_input", "data", 0, "loss_fn_inputs", "weights", "dtype"]),
            "value_error",
        ),
    ] {
        client.send("POST", endpoint, body);
        let response = client.receive().unwrap();
        let detail = &response.json()["detail"][0];
        assert_eq!((response.status, &detail["loc"], detail["type"].as_str()), (422, &place, Some(kind)), "{detail}");
        assert!(!detail["msg"].as_str().unwrap().is_empty());
    }
}

#[test]
fn invalid_batch_is_explained() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(BASE);
    let change = |pointer: &str, value: Value| {
        let mut batch = batch("abc");
        if pointer == "/loss_fn_config" {
            batch["loss_fn"] = json!("ppo");
        }
        *batch.pointer_mut(pointer).unwrap() = value;
        batch
    };
    let inputs = "/data/0/loss_fn_inputs";
    for (batch, words) in [
        (change("/data", json!([])), "the batch is empty"),
        (change("/loss_fn", json!("mse")), "unknown loss function \"mse\""),
        (change("/data/0/model_input/chunks/0/tokens", json!([97, 257])), "datum 0: token 257 is outside"),
        (change("/data/0/model_input/chunks", json!([])), "datum 0: the model input is empty"),
        (
            change("/data/0/model_input/chunks/0/tokens", json!([97])),
            "target_tokens has 2 values for a model input of 1",
        ),
        (change("/data/0/model_input/chunks/0/tokens", json!(vec![0; 5000])), "5000 tokens, more than the context"),
        (change(&format!("{inputs}/target_tokens/data"), json!([97, -1])), "token -1 is outside"),
        (change(&format!("{inputs}/weights/data"), json!([1.0, null])), "weights: the number at index 1"),
        (change("/loss_fn_config", json!({ "clip_low_threshold": "low" })), "clip_low_threshold is not a number"),
        (
            change(
                &format!("{inputs}/weights"),
                json!({
                    "data": [0.5, 1.0], "dtype": "float32", "shape": [2, 2], "sparse_crow_indices": [0, 1, 2],
                    "sparse_col_indices": [0, 0],
                }),
            ),
            "weights has the shape [2, 2] for a model input of 2 tokens",
        ),
        (
            change(inputs, json!({ "target_tokens": { "data": [1, 2], "dtype": "int64", "shape": [2] } })),
            "the loss input weights is missing",
        ),
    ] {
        let body = json!({ "forward_input": batch, "model_id": model_id, "seq_id": 1 });
        let response = client.post("forward", body);
        assert_eq!(response.status, 400, "{words}");
        assert!(response.detail().contains(words), "{} — {words}", response.detail());
    }
}

#[test]
fn loss_inputs_and_settings_are_checked() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(BASE);
    let float = |data: [f64; 2]| json!({ "data": data, "dtype": "float32", "shape": [2] });
    let matrix = json!({ "data": [1, 2, 3, 4], "dtype": "int64", "shape": [2, 2] });
    let known = "expected one of cross_entropy, importance_sampling, ppo, cispo, dro, gspo, stable_reinforce";
    for (loss_fn, config, inputs, words) in [
        ("PPO", json!({}), json!({}), known),
        ("importance_sampling", json!({ "beta": 1 }), json!({}), "has no setting \"beta\": it has none"),
        ("ppo", json!({ "clip_low": 1 }), json!({}), "it has clip_low_threshold and clip_high_threshold"),
        ("dro", json!({ "kl_coeff": 1 }), json!({}), "dro has no setting \"kl_coeff\": it has beta"),
        ("dro", json!({ "beta": -1 }), json!({}), "beta must be at least 0 and finite in single precision, but is -1"),
        ("cispo", json!({ "clip_low_threshold": 5 }), json!({}), "clipped to 5 … 4: clip_low_threshold must be"),
        ("gspo", json!({}), json!({}), "the loss input sequence_ratio_mask is missing"),
        ("gspo", json!({}), json!({ "sequence_ratio_mask": float([0.0, 0.0]) }), "sequence_ratio_mask marks no token"),
        ("ppo", json!({}), json!({ "sequence_ratio_mask": float([0.0, 1.0]) }), "ppo has no input sequence_ratio_mask"),
        ("ppo", json!({}), json!({ "mask": float([0.0, 1.0]) }), "ppo has no input mask"),
        ("dro", json!({}), json!({ "clip_low_threshold": float([0.0, 1.0]) }), "dro has no input clip_low_threshold"),
        (
            "ppo",
            json!({}),
            json!({ "clip_low_threshold": float([0.9, 1.3]) }),
            "the ratio of target 1 is to be clipped",
        ),
        ("cispo", json!({}), json!({ "target_tokens": matrix }), "cispo takes one: only cross_entropy takes several"),
        ("cross_entropy", json!({}), json!({ "target_tokens": matrix }), "weights has the shape [2] for a model input"),
        ("stable_reinforce", json!({}), json!({}), "needs the provenance of the target tokens"),
    ] {
        let mut batch = batch("abc");
        (batch["loss_fn"], batch["loss_fn_config"]) = (json!(loss_fn), config);
        let all = batch["data"][0]["loss_fn_inputs"].as_object_mut().unwrap();
        all.extend([("logprobs".to_owned(), float([-1.0, -1.0])), ("advantages".to_owned(), float([0.0, 1.0]))]);
        all.extend(inputs.as_object().unwrap().clone());
        let response = client.post("forward", json!({ "forward_input": batch, "model_id": model_id, "seq_id": 1 }));
        assert_eq!(response.status, 400, "{loss_fn}: {words}");
        assert!(response.detail().contains(words), "{} — {words}", response.detail());
    }
}

#[test]
fn invalid_settings_are_explained() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let (model_id, sampler_id) = (client.model(BASE), client.sampler(BASE));
    let step = |params: Value| json!({ "adam_params": params, "model_id": model_id, "seq_id": 1 });
    let adam = json!({ "optimizer_params": { "type": "adamw" }, "model_id": model_id, "seq_id": 1 });
    let save = |path: Value| json!({ "model_id": model_id, "path": path, "seq_id": 1 });
    let ask = |prompt: &str, params: Value| sample(&sampler_id, 0, prompt, params);
    for (endpoint, body, words) in [
        ("optim_step", step(json!({ "beta1": 1.0 })), "beta1 must be"),
        ("optim_step", adam, "send the settings of AdamW as adam_params"),
        ("save_weights", save(json!("a/b")), "\"a/b\" is not a valid checkpoint name"),
        ("save_weights", save(json!(null)), "path is missing"),
        ("asample", ask("a", json!({ "temperature": -1.0 })), "temperature"),
        ("asample", ask("a", json!({ "top_p": 1.5 })), "top_p"),
        ("asample", ask("a", json!({ "stop": "" })), "a text to stop at is empty"),
        ("asample", ask("a", json!({ "stop": [300] })), "token 300 is outside"),
        ("asample", ask("a", json!({ "max_tokens": 1024 })), "exceed the context of 1024"),
        ("asample", ask(&"a".repeat(1024), json!({})), "exceed the context of 1024"),
    ] {
        let response = client.post(endpoint, body);
        assert_eq!(response.status, 400, "{words}");
        assert!(response.detail().contains(words), "{} — {words}", response.detail());
    }
}

#[test]
fn unknown_ids_are_not_found() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let session_id = client.session();
    let lora = json!({ "rank": 4 });
    let create = |session_id: &str, base_model: &str| json!({ "session_id": session_id, "model_seq_id": 0, "base_model": base_model, "lora_config": lora });
    let sampling = |session_id: &str, path: &str| json!({ "session_id": session_id, "sampling_session_seq_id": 0, "model_path": path, "base_model": null });
    for (endpoint, body) in [
        ("session_heartbeat", json!({ "session_id": "session-9" })),
        ("create_model", create("session-9", BASE)),
        ("create_model", create(&session_id, "other")),
        ("get_info", json!({ "model_id": "m" })),
        ("unload_model", json!({ "model_id": "m" })),
        ("forward_backward", forward_backward("m", 1, "abc")),
        ("optim_step", optim_step("m", 1, 0.1)),
        ("create_sampling_session", sampling(&session_id, "tinker://m/sampler_weights/x")),
        ("asample", sample("s", 0, "a", json!({}))),
        ("retrieve_future", json!({ "request_id": "request-99" })),
        ("retrieve_future", json!({ "request_id": "?" })),
    ] {
        let response = client.post(endpoint, body);
        assert_eq!(response.status, 404, "{endpoint}");
        assert!(!response.detail().is_empty());
    }
}

#[test]
fn unloaded_model_finishes_its_tasks_first() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(BASE);
    let training = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    let unloading = client.promise("unload_model", json!({ "model_id": model_id }));
    assert_eq!(client.promise("unload_model", json!({ "model_id": model_id })), unloading);
    assert!(client.result(&training)["loss_fn_outputs"].is_array());
    assert_eq!(client.result(&unloading)["model_id"], model_id.as_str());
    assert_eq!(client.post("optim_step", optim_step(&model_id, 2, 0.1)).status, 404);
    assert_eq!(client.post("get_info", json!({ "model_id": model_id })).status, 404);
}
