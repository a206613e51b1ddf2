//! The memory of an unresolved result. The only test of its process, since the allocator counts everything in it.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::alloc::System;

use serde_json::Value;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::hold::Hold;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, RequestKind, SamplingParams};
use tinkex::{Config, Error, Proxy, ServiceClient};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A few more than fit into the next smaller hash table, so that tables are as empty as possible.
const COUNT: usize = 1_800;

/// The maximum for each result: 1 KiB.
const LIMIT: usize = 1024;

/// The bytes per result of [`COUNT`] results, and the results. `flush` returns when all are submitted.
fn each<T>(client: &ServiceClient, flush: &dyn Fn() -> Error, make: &dyn Fn() -> T) -> (usize, Vec<T>) {
    let live = || {
        assert_eq!(flush().status(), Some(400));
        // The poller takes its commands in order: when this one is ready, it has all the others.
        let ready = client.pending::<Value>("ready", RequestKind::OptimStep);
        ready.wait().unwrap();
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
    let (service, _hold) = Hold::start();
    let config =
        Config::builder().api_key("tml-memory").base_url(service.url()).proxy(Proxy::Off).max_queued(2 * COUNT);
    let client =
        ServiceClient::connect(config.max_poll_connections(2).max_sampling_threads(1).build().unwrap()).unwrap();
    let (sampler, params) = (client.create_sampling_client("base").unwrap(), SamplingParams::default());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    // Of 4000 bytes.
    let prompt = ModelInput::from_tokens(vec![7; 1000]);
    let flush = || sampler.submit_sample(&prompt, 2, &params).unwrap().wait().unwrap_err();
    let (bytes, _samples) = each(&client, &flush, &|| sampler.submit_sample(&prompt, 1, &params).unwrap());
    assert!(bytes < LIMIT, "a sample takes {bytes} bytes");
    let (service, _hold) = Hold::start_together();
    let config = Config::builder().api_key("tml-together").base_url(service.url()).proxy(Proxy::Off);
    let config = config.max_queued(2 * COUNT).max_poll_connections(2).max_sampling_threads(1);
    let together = ServiceClient::connect(config.build().unwrap()).unwrap();
    let sampler = together.create_sampling_client("base").unwrap();
    let flush = || sampler.submit_sample(&prompt, 2, &params).unwrap().wait().unwrap_err();
    let (bytes, _samples) = each(&together, &flush, &|| sampler.submit_sample(&prompt, 1, &params).unwrap());
    assert!(bytes < LIMIT, "a sample that is polled with others takes {bytes} bytes");
    let flush = || trainer.unload_model().unwrap_err();
    let (bytes, _steps) = each(&client, &flush, &|| trainer.submit_optim_step(AdamParams::default()).unwrap());
    assert!(bytes < LIMIT, "a training step takes {bytes} bytes");
}
