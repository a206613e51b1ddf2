//! Training through the public API: order, numbers, chunks, failures.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn, SamplerKind};
use tinkex::{ErrorKind, Limit, ServiceClient, TrainingClient, TrainingOptions};

use crate::support::{Gate, Reply, Service, batch, healthy_service};

const HOUR: Duration = Duration::from_secs(3600);

fn trainer(service: &Service) -> TrainingClient {
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

#[test]
fn blocking_calls_are_numbered_from_one() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let output = trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    assert_eq!(output.metrics["loss:sum"], 1.0);
    assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.5_f32; 3][..]));
    let step = trainer.optim_step(AdamParams::default()).unwrap();
    assert_eq!(step.metrics.unwrap()["step"], 2.0);
    assert_eq!(trainer.save_weights_for_sampler("a").unwrap().path, "tinker://run/sampler_weights/a");
    let forward = trainer.forward(batch(), LossFn::CrossEntropy).unwrap();
    assert_eq!(forward.metrics["loss:sum"], 4.0);
}

#[test]
fn pipelined_calls_are_sent_in_order() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let mut pending = Vec::new();
    for _ in 0..20 {
        let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
        pending.push((pass, trainer.submit_optim_step(AdamParams::default()).unwrap()));
    }
    for (index, (pass, step)) in pending.into_iter().enumerate() {
        // Results may be collected in any order.
        assert_eq!(step.wait().unwrap().metrics.unwrap()["step"], (2 * index + 2) as f64);
        assert_eq!(pass.wait().unwrap().metrics["loss:sum"], (2 * index + 1) as f64);
    }
    let sent: Vec<_> = service
        .requests()
        .iter()
        .filter(|request| request.path == "forward_backward" || request.path == "optim_step")
        .map(|request| (request.path.clone(), request.seq_id().unwrap()))
        .collect();
    let expected: Vec<_> = (1..=40)
        .map(|seq_id| (if seq_id % 2 == 1 { "forward_backward" } else { "optim_step" }.to_owned(), seq_id))
        .collect();
    assert_eq!(sent, expected);
}

#[test]
fn submissions_wait_for_promises_not_results() {
    let result = Arc::new(Gate::default());
    let gate = Arc::clone(&result);
    let service = Service::start(move |request| {
        if request.path == "retrieve_future" && request.request_id().starts_with("forward_backward") {
            gate.pass();
        }
        healthy_service(request)
    });
    let trainer = trainer(&service);
    let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    step.wait().unwrap();
    assert!(!pass.is_ready());
    result.open();
    pass.wait().unwrap();
}

#[test]
fn chunks_of_a_large_batch_keep_their_order() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let datums: Vec<_> = (0..130).map(|_| batch()[0].clone()).collect();
    let output = trainer.forward_backward(Batch::from(datums), LossFn::CrossEntropy).unwrap();
    assert_eq!(output.loss_fn_outputs.len(), 130);
    assert_eq!(output.metrics["loss:sum"], 3.0);
    let chunks: Vec<_> = service
        .requests_to("forward_backward")
        .iter()
        .map(|request| {
            (request.seq_id().unwrap(), request.body["forward_backward_input"]["data"].as_array().unwrap().len())
        })
        .collect();
    assert_eq!(chunks, [(1, 128), (2, 2)]);
}

#[test]
fn a_refused_submission_fails_one_call() {
    let service = Service::start(|request| match &*request.path {
        "forward_backward" => Reply::Json(400, json!({"detail": "no such loss"})),
        _ => healthy_service(request),
    });
    let trainer = trainer(&service);
    let refused = trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap_err();
    assert_eq!((refused.kind(), refused.status()), (ErrorKind::Status, Some(400)));
    assert!(refused.to_string().contains("forward_backward: the server returned 400: no such loss"), "{refused}");
    assert!(!refused.may_have_taken_effect());
    // Nothing was run, so the number is free.
    assert_eq!(trainer.optim_step(AdamParams::default()).unwrap().metrics.unwrap()["step"], 1.0);
}

#[test]
fn bad_input_is_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let before = service.requests().len();
    let errors = [
        trainer.forward_backward(Batch::from(vec![]), LossFn::CrossEntropy).unwrap_err(),
        trainer.optim_step(AdamParams::new().learning_rate(f64::NAN)).unwrap_err(),
        trainer.save_weights_for_sampler(" ").unwrap_err(),
        trainer.load_state("run/weights/a").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(service.requests().len(), before);
}

#[test]
fn invalid_models_are_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let before = service.requests().len();
    let nothing = LoraConfig::new().train_mlp(false).train_attn(false).train_unembed(false);
    let lora = LoraConfig::default();
    let errors = [
        client.create_lora_training_client("base", nothing.clone()).unwrap_err(),
        client.training_client().lora("base").options(nothing).submit().unwrap_err(),
        client.create_lora_training_client(" ", lora.clone()).unwrap_err(),
        client.training_client().lora("").options(lora).submit().unwrap_err(),
        client.create_sampling_client(" ").unwrap_err(),
        client.create_sampling_client("https://run/weights/a").unwrap_err(),
        client.create_training_client_from_state("run/weights/a").unwrap_err(),
        client.create_training_client_from_state_with_optimizer("").unwrap_err(),
        client.training_client().from_state("tinker://run/weights/a").base_model(" ").submit().unwrap_err(),
    ];
    for error in errors {
        assert!(error.kind() == ErrorKind::InvalidInput && error.operation().is_some(), "{error}");
    }
    assert_eq!(service.requests().len(), before);
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    assert_eq!(trainer.model_id(), "model-0", "a refused model takes no number");
}

/// A client whose queue has room for one call, and a service that holds the response to the first step until the gate opens.
fn room_for_one(gate: &Arc<Gate>, manual: &ManualClock) -> (Service, TrainingClient) {
    let held = Arc::clone(gate);
    let service = Service::start(move |request| match healthy_service(request) {
        reply if request.path == "optim_step" && request.seq_id() == Some(1) => Reply::held(&held, reply),
        reply => reply,
    });
    let config = service.manual_config(manual).max_queued(1).timeout_operation(Some(HOUR));
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    (service, trainer)
}

#[test]
fn a_full_queue_fails_submits_and_blocks_calls() {
    let (gate, manual) = (Arc::<Gate>::default(), ManualClock::new());
    let (service, trainer) = room_for_one(&gate, &manual);
    // A call keeps its place in the queue until its promise has arrived.
    let first = trainer.submit_optim_step(AdamParams::default()).unwrap();
    service.wait_for_count("optim_step", 1);
    let error = trainer.submit_optim_step(AdamParams::default()).map(drop).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::QueueFull, Some("optim_step")));
    assert!(error.hint().is_some());
    let waiting = trainer.clone();
    let waiting = thread::spawn(move || waiting.optim_step(AdamParams::default()).unwrap().metrics.unwrap()["step"]);
    manual.until_waiting(|waits| waits.contains(&HOUR));
    gate.open();
    assert_eq!(waiting.join().unwrap(), 2.0);
    first.wait().unwrap();
}

#[test]
fn a_submission_waits_for_room_if_asked() {
    let (gate, manual) = (Arc::<Gate>::default(), ManualClock::new());
    let (service, trainer) = room_for_one(&gate, &manual);
    let trainer = trainer.with_waiting_submits(true);
    let first = trainer.submit_optim_step(AdamParams::default()).unwrap();
    service.wait_for_count("optim_step", 1);
    let submit = || {
        let trainer = trainer.clone();
        thread::spawn(move || trainer.submit_optim_step(AdamParams::default()))
    };
    let late = submit();
    manual.until_waiting(|waits| waits.contains(&HOUR));
    manual.advance(HOUR);
    let error = late.join().unwrap().map(drop).unwrap_err();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Timeout(Limit::Operation), false));
    let second = submit();
    manual.until_waiting(|waits| waits.contains(&HOUR));
    gate.open();
    assert_eq!(second.join().unwrap().unwrap().wait().unwrap().metrics.unwrap()["step"], 2.0);
    first.wait().unwrap();
}

#[test]
fn each_thread_keeps_its_own_order() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    thread::scope(|scope| {
        for thread in 0..4 {
            let trainer = trainer.clone();
            scope.spawn(move || {
                let pending: Vec<_> = (0..25)
                    .map(|call| {
                        let learning_rate = f64::from(thread * 100 + call + 1);
                        trainer.submit_optim_step(AdamParams::new().learning_rate(learning_rate)).unwrap()
                    })
                    .collect();
                pending.into_iter().for_each(|step| drop(step.wait().unwrap()));
            });
        }
    });
    let steps = service.requests_to("optim_step");
    let numbers: Vec<_> = steps.iter().map(|request| request.seq_id().unwrap()).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    for thread in 0..4_u64 {
        let calls: Vec<_> = steps
            .iter()
            .map(|request| request.body["adam_params"]["learning_rate"].as_f64().unwrap() as u64 - 1)
            .filter(|rate| rate / 100 == thread)
            .collect();
        assert_eq!(calls, (thread * 100..thread * 100 + 25).collect::<Vec<_>>());
    }
}

#[test]
fn run_metadata_is_sent_with_its_creation() {
    let service = Service::start(healthy_service);
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let options = TrainingOptions::from(LoraConfig::default().rank(8)).user_metadata("experiment", "7b");
    client.create_lora_training_client("base", options.clone()).unwrap();
    client.training_client().lora("base").options(options).submit().unwrap().wait().unwrap();
    for (number, seen) in service.requests_to("create_model").iter().enumerate() {
        assert_eq!((&seen.body["model_seq_id"], &seen.body["lora_config"]["rank"]), (&json!(number), &json!(8)));
        assert_eq!(seen.body["user_metadata"], json!({"experiment": "7b"}));
    }
}

#[test]
fn an_unload_waits_and_takes_no_number() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    let unload = trainer.submit_unload_model().unwrap();
    let late = trainer.submit_optim_step(AdamParams::default()).unwrap();
    assert_eq!(unload.wait().unwrap().model_id, "model-0");
    step.wait().unwrap();
    late.wait().unwrap();
    let sent: Vec<_> = service.requests().into_iter().filter(|request| request.body["model_id"].is_string()).collect();
    let sent: Vec<_> = sent.iter().map(|request| (&*request.path, request.seq_id())).collect();
    assert_eq!(sent, [("optim_step", Some(1)), ("unload_model", None), ("optim_step", Some(2))]);
}

#[test]
fn resuming_an_unsupported_run_takes_no_number() {
    let run = |lora_rank| {
        json!({"training_run_id": "a/b", "base_model": "base", "model_owner": "me", "is_lora": true,
            "lora_rank": lora_rank, "last_request_time": "2025-11-01T12:00:00Z"})
    };
    let service = Service::start(move |request| match &*request.path {
        "training_runs/whole" => Reply::ok(run(json!(null))),
        "training_runs/gone" => Reply::Json(404, json!({"detail": "no such run"})),
        "training_runs/a%20b" => Reply::ok(run(json!(4))),
        _ => healthy_service(request),
    });
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let create = |path: &str| client.create_training_client_from_state(path);
    let error = create("tinker://whole/weights/1").unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("create_training_client_from_state")));
    assert_eq!(create("tinker://gone/weights/1").unwrap_err().status(), Some(404));
    create("tinker://a b/weights/1").unwrap();
    let created = &service.requests_to("create_model")[0].body;
    assert_eq!((&created["model_seq_id"], &created["user_metadata"]), (&json!(0), &json!(null)));
    assert_eq!(created["lora_config"]["rank"], 4);
    assert_eq!(service.requests_to("load_weights")[0].body["path"], "tinker://a b/weights/1");
}

#[test]
fn submitted_loads_and_saves_wait_their_turn() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let path = "tinker://run/weights/a";
    let loads = [trainer.submit_load_state(path).unwrap(), trainer.submit_load_state_with_optimizer(path).unwrap()];
    let saved = trainer.submit_save_weights_for_sampler("a").unwrap();
    let sampler = trainer.submit_save_weights_and_get_sampling_client_with(SamplerKind::Snapshot).unwrap();
    for load in loads {
        assert_eq!(load.wait().unwrap().path.as_deref(), Some(path));
    }
    assert_eq!(saved.wait().unwrap().path, "tinker://run/sampler_weights/a");
    assert_eq!(sampler.wait().unwrap().sampling_session_id(), "saved");
    let loads = service.requests_to("load_weights");
    assert_eq!(loads.iter().map(|load| load.seq_id()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(loads.iter().map(|load| load.body["optimizer"] == true).collect::<Vec<_>>(), [false, true]);
    let saves = service.requests_to("save_weights_for_sampler");
    assert_eq!(saves.iter().map(|save| save.seq_id()).collect::<Vec<_>>(), [Some(3), Some(4)]);
}
