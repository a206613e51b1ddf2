//! The memory of an unresolved result, and of one that is read. One test at a time, since the allocator counts everything in the
//! process.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::alloc::System;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::hold::Hold;
use support::{Reply, Service, config_for, connect};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{
    AdamParams, Batch, Datum, ForwardBackwardOutput, LoraConfig, Loss, ModelInput, RequestKind, SamplingParams,
    TensorData,
};
use tinkex::{Config, Error, Pending, Proxy, ServiceClient, Wire, wait_any};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// A few more than fit into the next smaller hash table, so that tables are as empty as possible.
const COUNT: usize = 1_800;

/// The maximum for each result: 1 KiB.
const LIMIT: usize = 1024;

/// Of a connection: the smallest that the heads of the responses fit into, so that one more of them makes no difference.
const BUFFER: usize = 1024;

/// The bytes per result of [`COUNT`] results, and the results. `flush` returns when all are submitted. The service holds `polls`
/// polls at a time.
fn each<T>(
    client: &ServiceClient,
    (hold, polls): (&Hold, usize),
    flush: &dyn Fn() -> Error,
    make: &dyn Fn() -> T,
) -> (usize, Vec<T>) {
    let live = || {
        assert_eq!(flush().status(), Some(400));
        // The poller takes its commands in order: when this one is ready, it has all the others.
        let ready = client.pending::<Value>("ready", RequestKind::OptimStep);
        ready.wait().unwrap();
        // Otherwise a slow machine may start a poll, with its buffers and its record, only after the first count.
        hold.wait_until(|state| state.held == polls);
        let counted = ALLOCATOR.stats();
        counted.bytes_allocated - counted.bytes_deallocated
    };
    // Threads, connections and their buffers.
    let warm: Vec<_> = (0..10).map(|_| make()).collect();
    let before = live();
    let results: Vec<_> = (0..COUNT).map(|_| make()).collect();
    let after = live();
    drop(warm);
    ((after - before) / COUNT, results)
}

#[test]
fn an_unresolved_result_takes_under_one_kibibyte() {
    let _alone = ALONE.lock().unwrap();
    let config = |key: &str, service: &Service| {
        let config = Config::builder().api_key(key).base_url(service.url()).proxy(Proxy::Off).telemetry(false);
        let config = config.max_queued(2 * COUNT).max_poll_connections(2).max_sampling_threads(1);
        config.connection_buffer(BUFFER).build_with(|_| None).unwrap()
    };
    let (service, hold) = Hold::start();
    let client = ServiceClient::connect(config("tml-memory", &service)).unwrap();
    let (sampler, params) = (client.create_sampling_client("base").unwrap(), SamplingParams::default());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    // Of more bytes than a result may take.
    let prompt = ModelInput::from_tokens(vec![7; LIMIT / 4 + 100]);
    let flush = || sampler.submit_sample(&prompt, 2, &params).unwrap().wait().unwrap_err();
    let (bytes, _samples) = each(&client, (&hold, 2), &flush, &|| sampler.submit_sample(&prompt, 1, &params).unwrap());
    assert!(bytes < LIMIT, "a sample takes {bytes} bytes");
    let (service, hold_together) = Hold::start_together();
    let together = ServiceClient::connect(config("tml-together", &service)).unwrap();
    let sampler = together.create_sampling_client("base").unwrap();
    let flush = || sampler.submit_sample(&prompt, 2, &params).unwrap().wait().unwrap_err();
    let (bytes, _samples) =
        each(&together, (&hold_together, 1), &flush, &|| sampler.submit_sample(&prompt, 1, &params).unwrap());
    assert!(bytes < LIMIT, "a sample that is polled with others takes {bytes} bytes");
    let flush = || trainer.unload_model().unwrap_err();
    let (bytes, _steps) =
        each(&client, (&hold, 2), &flush, &|| trainer.submit_optim_step(AdamParams::default()).unwrap());
    assert!(bytes < LIMIT, "a training step takes {bytes} bytes");
}

/// The log-probabilities of one datum, not quite as many as a vector has room for that was doubled.
const LOGPROBS: usize = 500_000;

/// What else is allocated while a result is read, in all threads.
const SLACK: usize = 256 << 10;

#[test]
fn a_result_takes_itself_and_its_body() {
    let _alone = ALONE.lock().unwrap();
    let logprobs: Vec<f32> = (0..LOGPROBS).map(|index| -(index as f32) / 7.0).collect();
    let output = json!({"loss_fn_outputs": [{"logprobs": TensorData::from(logprobs)}], "metrics": {}});
    let json = output.to_string().into_bytes();
    let output: ForwardBackwardOutput = serde_json::from_value(output).unwrap();
    let protobuf = protobuf::ForwardBackwardOutput::from(&output).encode_to_vec();
    for (kind, body) in [("application/json", json), (protobuf::CONTENT_TYPE, protobuf)] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncontent-type: {kind}\r\n\r\n", body.len());
        let reply = [head.as_bytes(), &body].concat();
        let service = Service::start_unrecorded(move |request| match request.path.as_str() {
            "create_session" => Reply::ok(json!({"session_id": "session"})),
            "retrieve_future" if request.request_id() == "large" => Reply::Raw(reply.clone()),
            _ => Reply::ok(json!({})),
        });
        let client = connect(config_for(service.url()));
        client.pending::<Value>("small", RequestKind::OptimStep).wait().unwrap();
        let region = Region::new(ALLOCATOR);
        let result = client.pending::<ForwardBackwardOutput>("large", RequestKind::ForwardBackward).wait().unwrap();
        // A vector that grows counts with its last size, and the service's copy of the body counts, too.
        let (result_size, allocated) = (size_of::<f32>() * LOGPROBS, region.change().bytes_allocated);
        assert_eq!(result.loss_fn_outputs[0].logprobs().unwrap().len(), LOGPROBS);
        let limit = result_size + 2 * body.len() + SLACK;
        assert!(allocated < limit, "{kind}: {allocated} bytes, more than {limit}");
        assert!(allocated > result_size + 2 * body.len(), "{kind}: {allocated} bytes cannot be all");
    }
}

#[test]
fn the_requests_of_a_batch_share_one_buffer() {
    const TOKENS: usize = 300_000;
    const DATUMS: usize = 4;
    let _alone = ALONE.lock().unwrap();
    let passes = AtomicUsize::new(0);
    let service = Service::start_unrecorded(move |request| {
        Reply::ok(match request.path.as_str() {
            "create_session" => json!({"session_id": "session"}),
            "create_model" => json!({"request_id": "model"}),
            "forward_backward" => json!({"request_id": format!("pass {}", passes.fetch_add(1, Ordering::Relaxed))}),
            "retrieve_future" if request.request_id() == "model" => json!({"model_id": "model"}),
            "retrieve_future" => json!({"loss_fn_outputs": [{}], "metrics": {}}),
            _ => json!({}),
        })
    });
    let client = connect(config_for(service.url()).wire(Wire::Protobuf));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    // Each is a request by itself.
    let datum = Datum::new(vec![1; TOKENS]).input("target_tokens", vec![1; TOKENS]).unwrap();
    let batch: Batch = vec![datum.input("weights", vec![1.0; TOKENS]).unwrap(); DATUMS].into();
    let body = TOKENS * (size_of::<u32>() + size_of::<i64>() + size_of::<f32>());
    let region = Region::new(ALLOCATOR);
    let output = trainer.forward_backward(&batch, Loss::cross_entropy()).unwrap();
    let allocated = region.change().bytes_allocated;
    assert_eq!(output.loss_fn_outputs.len(), DATUMS);
    // The service has a copy of each body, and a buffer of at least one and at most two.
    let of_service = (DATUMS + 1) * body..(DATUMS + 2) * body;
    assert!(allocated > of_service.start + body, "{allocated} bytes cannot be all");
    assert!(allocated < of_service.end + 2 * body, "{allocated} bytes for {DATUMS} requests of {body}");
}

#[test]
fn waiting_for_another_result_leaves_no_memory() {
    const ROUNDS: usize = 300;
    let _alone = ALONE.lock().unwrap();
    let (service, _hold) = Hold::start();
    let client = connect(config_for(service.url()).telemetry(false));
    let pending = |id| -> Pending<Value> { client.pending(id, RequestKind::OptimStep) };
    let mut both = [pending("held"), pending("ready")];
    let mut wait_often = |rounds| {
        let region = Region::new(ALLOCATOR);
        for _ in 0..rounds {
            both[1] = pending("ready");
            assert_eq!(wait_any(&both), Some(1));
        }
        let change = region.change();
        change.bytes_allocated.saturating_sub(change.bytes_deallocated)
    };
    // Threads, connections and their buffers.
    wait_often(10);
    let bytes = wait_often(ROUNDS);
    // A channel takes more.
    assert!(bytes < 100 * ROUNDS, "{bytes} bytes stay of {ROUNDS} waits");
}
