//! What the Python client 0.38.0 does wrong, and this crate must not do.
//!
//! | number | its fault | tested |
//! |---|---|---|
//! | 1 | a refused chunk blocks all later calls, or leaves a hole | here |
//! | 2 | a custom loss that fails makes the client unusable | here, `custom_loss` |
//! | 3 | keys and the caller's headers are in telemetry and in handles | here |
//! | 4 | bfloat16 in a sample's tensor is read as integers | here |
//! | 5 | no tokens, but logprobs, is read as no logprobs | here |
//! | 6 | a promise of a sample without sequence ids fails | here |
//! | 7 | no client without `client/config` | here, `service_settings.rs` |
//! | 8 | the end of a wait neither ends the polls nor cancels | `polling/given_up.rs`, `polling/together.rs` |
//! | 9 | `retrieve_futures` refused once ends the sampling client | `polling/together.rs` |
//! | 10 | `complete_metadata` twice fails | `polling/together.rs` |
//! | 11 | a token of less than a minute is exchanged for each request | `tokens.rs` |
//! | 12 | a name that is taken is repeated for five minutes | here |
//! | 13 | pauses for billing add up over all requests | `billing.rs` |
//! | 14 | closing fails where `finish` is refused | here, `session_end.rs` |
//! | 15 | metrics without one colon, weights of zero, or no `loss:sum` fail a result | here |
//! | 16 | ids are not escaped; downloads do not resume | here, `rest` |

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::wire::protobuf;
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SampleResponse, SamplingParams};
use tinkex::{ErrorKind, Event, ServiceClient, TrainingClient};

use crate::servers::{batch, create_trainer};
use crate::support::double::{Double, Fault, Server};
use crate::support::{Reply, Service, connect, healthy_service, result, service_with_polls};

const PATIENCE: Duration = Duration::from_secs(30);

fn trainer(service: &Service) -> TrainingClient {
    connect(service.config()).create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn sample(double: &Double) -> tinkex::Result<SampleResponse> {
    let sampler = double.connect().create_sampling_client("base")?;
    sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default().max_tokens(1))
}

#[test]
fn fault_1_a_refused_chunk_leaves_no_hole() {
    let server = Server::official_2026().with_config("fwdbwd_max_chunk_len", 1);
    let passes = AtomicUsize::new(0);
    let double = Double::start_with_faults(server, move |request| {
        // JSON is refused, too: the second chunk is the third request.
        let refused = request.path == "forward_backward" && passes.fetch_add(1, Ordering::Relaxed) == 2;
        if refused { Fault::Instead(Reply::Json(400, json!({"detail": "no"}))) } else { Fault::Nothing }
    });
    let trainer = create_trainer(&double.connect());
    let error = trainer.forward_backward(batch([1, 2, 3]), LossFn::CrossEntropy).unwrap_err();
    assert_eq!(error.status(), Some(400));
    assert_eq!(double.executions().len(), 1, "the chunk after the refused one is not sent");
    trainer.forward_backward(batch([4]), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    double.assert_nothing_ran_twice();
    double.assert_numbers_have_no_holes();
}

#[cfg(feature = "ndarray")]
#[test]
fn fault_2_a_failed_loss_keeps_the_client() {
    let double = Double::start(Server::tuft_0_2());
    let trainer = create_trainer(&double.connect());
    let failed = trainer.forward_backward_custom(batch([1]), |_, _| Err(std::io::Error::other("no loss")));
    assert!(failed.is_err());
    trainer.forward_backward(batch([2]), LossFn::CrossEntropy).unwrap();
    double.assert_numbers_have_no_holes();
}

#[test]
fn fault_3_secrets_stay_in_the_client() {
    let service = service_with_polls(|_| Reply::Json(404, json!({"detail": "unknown"})));
    let config = service.config().telemetry(true).header("x-gateway", "hunter2");
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let sampler = client.create_sampling_client("base").unwrap();
    sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap_err();
    let handle = sampler.get_sampler_handle().unwrap();
    client.close(PATIENCE);
    let batches = service.requests_to("telemetry");
    assert!(!batches.is_empty());
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, &handle).unwrap();
    for text in batches.into_iter().map(|batch| batch.raw).chain([decoded]) {
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.contains("hunter2") && !text.contains(crate::support::KEY), "{text}");
    }
}

#[test]
fn fault_4_bfloat16_is_a_number() {
    let tensor = protobuf::Tensor {
        dtype: protobuf::DType::DtypeBfloat16.into(),
        shape: vec![1, 1],
        encoding: Some(protobuf::tensor::Encoding::Dense(vec![0x80, 0xbf].into())),
    };
    let message = protobuf::SampleResponse { target_prompt_logprobs: Some(tensor), ..Default::default() };
    let tensor = SampleResponse::try_from(message).unwrap().target_prompt_logprobs.unwrap();
    assert_eq!(tensor.as_f32(), Some(&[-1.0][..]));
}

#[test]
fn fault_5_no_tokens_have_no_logprobs() {
    let sequence = protobuf::SampledSequence { logprobs: Some(Vec::new().into()), ..Default::default() };
    let message = protobuf::SampleResponse { sequences: vec![sequence], ..Default::default() };
    let sequence = SampleResponse::try_from(message).unwrap().sequences.remove(0);
    assert_eq!((sequence.tokens.len(), sequence.logprobs), (0, Some(Vec::new())));
}

#[test]
fn faults_6_and_7_little_is_needed() {
    for server in Server::all().into_iter().filter(|server| !server.sequence_ids || server.client_config.is_none()) {
        let double = Double::start(server);
        let sequence = sample(&double).unwrap().sequences.remove(0);
        assert_eq!((sequence.tokens, sequence.sequence_id), (vec![0], None), "{}", double.server().name);
    }
}

#[test]
fn fault_12_a_taken_name_is_said_soon() {
    let double = Double::start_with_faults(Server::official_2026(), |request| match &*request.path {
        "save_weights" => Fault::Instead(Reply::Json(409, json!({"detail": "the name is taken"}))),
        _ => Fault::Nothing,
    });
    let manual = ManualClock::new();
    let quiet = Duration::from_secs(24 * 3600);
    let client = connect(double.service.manual_config(&manual).idle_retention(quiet));
    let trainer = create_trainer(&client);
    let saving = thread::spawn(move || (trainer.save_state("taken").unwrap_err(), trainer));
    for _ in 0..2 {
        let mut next = Duration::ZERO;
        manual.until_waiting(|waits| {
            next = waits.iter().copied().find(|wait| !wait.is_zero()).unwrap_or_default();
            !next.is_zero() && next <= PATIENCE
        });
        manual.advance(next);
    }
    let (error, trainer) = saving.join().unwrap();
    assert!(error.status() == Some(409) && error.to_string().contains("the name is taken"), "{error}");
    assert_eq!(double.service.requests_to("save_weights").len(), 3);
    trainer.optim_step(AdamParams::default()).unwrap();
    double.assert_numbers_have_no_holes();
}

#[test]
fn fault_14_closing_needs_no_finish() {
    for server in [Server::json_2025(), Server::tuft_0_2()] {
        let double = Double::start(server);
        let name = double.server().name;
        let ends = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&ends);
        let client = connect(double.service.config().observer(move |event: &Event| {
            if let Event::RequestStop { operation: "finish_session", status, error, attempts, .. } = event {
                seen.lock().unwrap().push((*status, error.is_none(), *attempts));
            }
        }));
        client.close(PATIENCE);
        let finish = format!("sessions/{}/finish", client.session_id());
        assert_eq!(double.service.requests_to(&finish).len(), 1, "{name}");
        assert_eq!(*ends.lock().unwrap(), [(Some(404), true, 1)], "{name}: refused, which is no error");
        assert_eq!(client.health().unwrap_err().kind(), ErrorKind::Closed, "{name}");
    }
}

#[test]
fn fault_15_odd_metrics_are_results() {
    for metrics in [json!({}), json!({"plain": 1.0}), json!({"a:b:sum": 2.0})] {
        let service = service_with_polls(move |request| match request.request_id() {
            id if id.starts_with("forward") => {
                let outputs = json!([{"logprobs": {"data": [-0.5, -0.5, -0.5], "dtype": "float32", "shape": [3]}}]);
                Reply::ok(json!({"loss_fn_output_type": "A", "loss_fn_outputs": outputs, "metrics": metrics}))
            }
            id => result(id),
        });
        let data = crate::servers::datum(1).input("weights", vec![0.0_f32; 3]).unwrap();
        let output = trainer(&service).forward_backward([data], LossFn::CrossEntropy).unwrap();
        assert_eq!(output.loss_fn_outputs.len(), 1);
    }
}

#[test]
fn fault_16_ids_are_escaped() {
    let service = Service::start(healthy_service);
    let rest = connect(service.config()).create_rest_client();
    rest.get_training_run("a b/ü?x=1").unwrap_err();
    assert!(service.requests().iter().any(|request| request.path.contains("training_runs/a%20b%2F%C3%BC%3Fx%3D1")));
}
