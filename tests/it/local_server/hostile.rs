//! Hostile input: no request may cause a server error or a crash.

use fastrand::Rng;
use serde_json::{Value, json};
use tinkex::local::{Fault, LocalServer};

use super::client::{Client, batch, forward_backward, optim_step, sample, save};

const BASE: &str = "tinkex/bytes-tiny";

/// Values that typically break servers.
fn nasty(random: &mut Rng) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1_000_000_000),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(-1e-300),
        json!(0.5),
        json!(""),
        json!("x"),
        json!("../../etc/passwd"),
        json!("tinker://a/weights/b"),
        json!("request-0"),
        json!("\u{0}\u{feff}\u{1f980}"),
        json!("x".repeat(5000)),
        json!([]),
        json!([-1]),
        json!([[[]]]),
        json!({}),
        json!({ "type": "encoded_text", "tokens": [1] }),
        json!({ "data": [1], "dtype": "int64" }),
    ];
    random.choice(values).unwrap()
}

/// JSON pointers to all parts of a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// The value with one to three parts replaced.
fn spoiled(value: &Value, random: &mut Rng) -> Value {
    let mut value = value.clone();
    for _ in 0..random.usize(1..4) {
        let mut found = Vec::new();
        places(&value, "", &mut found);
        *value.pointer_mut(&random.choice(found).unwrap()).unwrap() = nasty(random);
    }
    value
}

#[test]
fn random_json_never_causes_a_server_error() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let (run, sampler, session) = (client.model(BASE), client.sampler(BASE), client.session());
    let reinforced = |loss: &str| {
        let mut batch = batch("abc");
        batch["loss_fn"] = json!(loss);
        let inputs = batch["data"][0]["loss_fn_inputs"].as_object_mut().unwrap();
        let weights = inputs.remove("weights").unwrap();
        inputs.insert("logprobs".to_owned(), weights.clone());
        inputs.insert("advantages".to_owned(), weights);
        json!({ "forward_backward_input": batch, "model_id": run, "seq_id": 1 })
    };
    let lora = json!({ "rank": 2, "seed": 1, "train_unembed": true, "train_mlp": true, "train_attn": true });
    let adam = json!({ "learning_rate": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.1, "grad_clip_norm": 1.0 });
    let params = json!({ "max_tokens": 2, "temperature": 1.0, "top_k": 3, "top_p": 0.9, "seed": 1, "stop": ["x"] });
    let path = format!("training_runs/{run}/checkpoints/weights/none");
    let requests = [
        ("POST", "create_session", json!({ "tags": ["a"], "user_metadata": { "a": "b" }, "sdk_version": "0.4.1" })),
        ("POST", "session_heartbeat", json!({ "session_id": session })),
        ("POST", "client/config", json!({ "sdk_version": "0.16.1" })),
        ("POST", "telemetry", json!({ "events": [{}], "platform": "x", "sdk_version": "1", "session_id": session })),
        (
            "POST",
            "create_model",
            json!({ "session_id": session, "model_seq_id": 1, "base_model": BASE, "lora_config": lora }),
        ),
        ("POST", "get_info", json!({ "model_id": run })),
        ("POST", "unload_model", json!({ "model_id": "none" })),
        ("POST", "forward", json!({ "forward_input": batch("ab"), "model_id": run, "seq_id": 1 })),
        ("POST", "forward_backward", forward_backward(&run, 1, "abc")),
        ("POST", "forward_backward", reinforced("importance_sampling")),
        ("POST", "forward_backward", reinforced("ppo")),
        ("POST", "optim_step", json!({ "adam_params": adam, "model_id": run, "seq_id": 1 })),
        ("POST", "save_weights", save(&run, 1, "name")),
        (
            "POST",
            "load_weights",
            json!({ "model_id": run, "path": "tinker://a/weights/b", "seq_id": 1, "optimizer": true }),
        ),
        (
            "POST",
            "load_weights",
            json!({ "session_id": session, "model_seq_id": 5, "path": "tinker://a/weights/b", "optimizer": true }),
        ),
        ("POST", "save_weights_external", json!({ "model_id": run, "path": "name", "seq_id": 1, "ttl_seconds": 3600 })),
        (
            "POST",
            "copy_weights",
            json!({ "destination_project_id": "p", "source_path": "tinker://a/weights/b", "ttl_seconds": 3600 }),
        ),
        ("GET", &format!("{path}/external_weights_urls"), json!({})),
        ("POST", "save_weights_for_sampler", json!({ "model_id": run, "path": "name", "seq_id": 1 })),
        ("POST", "save_weights_for_sampler", json!({ "model_id": run, "sampling_session_seq_id": 1, "seq_id": 1 })),
        (
            "POST",
            "create_sampling_session",
            json!({ "session_id": session, "sampling_session_seq_id": 1, "base_model": BASE, "model_path": null }),
        ),
        ("POST", "asample", sample(&sampler, 1, "ab", params)),
        ("POST", "retrieve_future", json!({ "request_id": "request-0" })),
        ("POST", "weights_info", json!({ "tinker_path": "tinker://a/weights/b" })),
        ("PUT", &format!("{path}/ttl"), json!({ "ttl_seconds": 1 })),
        ("POST", &format!("{path}/publish"), json!({})),
        ("DELETE", &format!("{path}/publish"), json!({})),
        ("DELETE", &path, json!({})),
        ("GET", &format!("{path}/archive"), json!({})),
        ("GET", "training_runs?limit=18446744073709551615&offset=18446744073709551615", json!({})),
        ("GET", "sessions?limit=0&offset=&=&%", json!({})),
        ("GET", "checkpoints", json!([])),
        (
            "POST",
            "retrieve_futures",
            json!({
                "target": { "type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": 0 },
                "prev_cursor": 0, "timeout": 0.0, "retrieved_request_ids": ["request-0"],
            }),
        ),
        ("POST", "cancel_future", json!({ "request_id": "request-0" })),
        ("POST", "join_sampling_session", json!({ "sampling_session_id": sampler })),
        ("POST", "client/dynamic_config", json!({ "sdk_version": "0.38.0" })),
        ("POST", "auth/token", json!({})),
        ("PUT", &format!("sessions/{session}/project"), json!({ "project_id": "p" })),
        ("POST", "sessions/none/finish", json!({ "reason": { "type": "success" }, "detail": "d" })),
        (
            "POST",
            "sessions/search",
            json!({
                "project_ids": ["p"], "user_metadata": { "a": "b" }, "display_name": "d", "limit": 50,
                "owner": { "type": "user", "owner_urns": ["u"] },
                "statuses": [{ "status_type": "client_finished", "reasons": ["success"] }],
                "cursor": { "last_created_at": "2026-01-01T00:00:00Z", "last_session_id": "session-1" },
            }),
        ),
        ("GET", &format!("sessions/{session}/trace_export"), json!({})),
        ("GET", "audit?day=2026-01-01&event_type=all", json!({})),
        ("GET", "audit?day=-262143-01-01", json!({})),
        ("GET", "billing/usage/events?starting_on=0001-01-01T00:00:00Z&ending_before=9999-12-31T23:00:00Z", json!({})),
        ("GET", "billing/usage/events?starting_on=0001-01-01T00:00:00Z&ending_before=0001-01-02T00:00:00Z", json!({})),
        ("GET", "billing/usage/checkpoints/current?project_id=%00", json!({})),
    ];
    let mut random = Rng::with_seed(6);
    for round in 0..2500 {
        let (method, endpoint, body) = random.choice(&requests).unwrap();
        let mut body = spoiled(body, &mut random).to_string();
        if random.u8(..) < 16 {
            body.truncate(
                (0..=body.len()).rev().find(|&end| end <= body.len() / 2 && body.is_char_boundary(end)).unwrap(),
            );
        }
        client.send(method, endpoint, &body);
        let response = client.receive().unwrap_or_else(|error| panic!("{round} {endpoint}: {error} at {body:.500}"));
        assert!(response.status < 500, "{round} {endpoint}: {response:?} at {body:.500}");
        if response.status == 200 && response.json()["request_id"].is_string() {
            let id = response.json()["request_id"].as_str().unwrap().to_owned();
            let result = client.result(&id);
            assert_ne!(result["category"], "server", "{round} {endpoint}: {result} at {body:.500}");
        }
    }
    assert_eq!(client.get("healthz").status, 200);
}

#[test]
fn unbounded_numbers_are_rejected_early() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let (run, sampler, session) = (client.model(BASE), client.sampler(BASE), client.session());
    let samples = |number: u64| {
        let mut body = sample(&sampler, 0, "a", json!({ "max_tokens": 1 }));
        body["num_samples"] = json!(number);
        body
    };
    let step = |name: &str, value: f64| json!({ "adam_params": { name: value }, "model_id": run, "seq_id": 1 });
    let rank =
        json!({ "session_id": session, "model_seq_id": 1, "base_model": BASE, "lora_config": { "rank": 1_000_000 } });
    for (endpoint, body, words) in [
        ("asample", samples(1_000_000_000), "num_samples is 1000000000, more than 1024"),
        ("asample", samples(1025), "num_samples is 1025, more than 1024"),
        ("asample", sample(&sampler, 0, "a", json!({ "max_tokens": 1_000_000_000 })), "exceed the context"),
        ("asample", sample(&sampler, 0, "a", json!({ "temperature": -1e300 })), "temperature"),
        ("create_model", rank, "the LoRA rank is 1000000"),
        // Rounded to single precision, the first is one and the second infinite.
        ("optim_step", step("beta2", 0.999_999_999_99), "beta2 must be at least 0 and less than 1"),
        ("optim_step", step("learning_rate", 1e300), "learning_rate must be at least 0 and finite"),
        ("optim_step", step("eps", -1.0), "eps must be at least 0 and finite"),
        ("save_weights", save(&run, 1, &"n".repeat(241)), "is too long"),
    ] {
        let response = client.post(endpoint, body);
        assert_eq!(response.status, 400, "{words}");
        assert!(response.detail().contains(words), "{} — {words}", response.detail());
    }
    let many = samples(1024);
    assert_eq!(client.call("asample", many)["sequences"].as_array().unwrap().len(), 1024);
    client.call("optim_step", optim_step(&run, u64::MAX, 0.1));
    client.call("save_weights", save(&run, 2, &"n".repeat(240)));
}

#[test]
fn nested_json_does_not_overflow_the_stack() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for body in [nested.clone(), format!("{{\"tags\":[],\"user_metadata\":{nested}}}")] {
            client.send("POST", "create_session", &body);
            // An unknown field is ignored, however deep it is.
            assert!([200, 422].contains(&client.receive().unwrap().status));
        }
        for (endpoint, body) in [
            ("asample", nested.clone()),
            ("asample", format!("{{\"prompt\":{nested}}}")),
            ("forward", format!("{{\"forward_input\":{{\"data\":{nested}}}}}")),
        ] {
            client.send("POST", endpoint, &body);
            assert!([400, 422].contains(&client.receive().unwrap().status), "{endpoint}");
        }
    }
}

#[test]
fn no_path_escapes_the_api() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    for path in [
        "training_runs/..%2f..%2fserver.json",
        "training_runs/%2e%2e/checkpoints",
        "training_runs/../../archives/x",
        "training_runs/a%00b",
        "training_runs/%ff",
        "sessions/%25",
        "samplers/.",
        "//healthz",
        "healthz/",
        "../v1/healthz",
    ] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    for path in [
        "/archives/..%2f..%2fetc/weights/passwd.tar.gz",
        "/archives/a/weights/b.tar.gz?expires=99999999999&signature=00",
    ] {
        client.write(format!("GET {path} HTTP/1.1\r\n\r\n")).unwrap();
        assert_eq!(client.receive().unwrap().status, 403, "{path}");
    }
}

#[test]
fn bodiless_responses_leave_the_connection_clean() {
    let server = LocalServer::builder().fault(Fault::on("sessions").times(1).status(204)).start().unwrap();
    let mut client = Client::new(&server);
    let response = client.get("sessions");
    assert_eq!((response.status, response.header("content-length")), (204, None));
    assert_eq!(client.get("healthz").json(), json!({ "status": "ok" }));

    // A response to HEAD has the content-length of GET but no body.
    client.send("HEAD", "healthz", "");
    client.send("GET", "nothing", "");
    let head = client.receive_head().unwrap();
    assert_eq!(head.status, 405);
    assert_eq!(client.receive().unwrap().status, 404);
}

#[test]
fn disconnecting_clients_leak_nothing() {
    let server = LocalServer::start().unwrap();
    for piece in ["", "P", "POST /api/v1/create_session HTTP/1.1\r\nx-api-key: k\r\ncontent-length: 50\r\n\r\n{\"ta"] {
        (0..50).for_each(|_| Client::new(&server).write(piece).unwrap());
    }
    let body = json!({ "tags": [] }).to_string();
    (0..50).for_each(|_| Client::new(&server).send("POST", "create_session", &body));
    let gone = |request: &tinkex::local::Activity| request.connections() == 0 && request.arrived() == 50;
    assert!(server.wait_until(super::client::PATIENCE, gone));
    assert_eq!(Client::new(&server).get("healthz").status, 200);
}

#[test]
fn two_thousand_sessions_work() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    (0..2000).for_each(|_| drop(client.session()));
    assert_eq!(client.session(), "session-2001");
    assert_eq!(client.get("sessions?limit=5000").json()["sessions"].as_array().unwrap().len(), 2001);
}
