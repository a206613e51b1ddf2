//! The memory that stays with a client after it has trained and sampled. The only test of its process, since the allocator counts
//! everything in it.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::alloc::System;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{RecordedRequest, Reply, Service, batch, healthy_service};
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SamplingParams, Severity};
use tinkex::{Result, ServiceClient};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is allocated once, such as buffers and tables, is there after so many cycles.
const WARM: usize = 60;

/// The memory is counted after each run of so many cycles.
const CYCLES: usize = 7;

const RUNS: usize = 30;

/// What a cycle may leave behind, in bytes. What is allocated at the moment of counting varies by kilobytes, so that 300 are seen for sure.
const LIMIT: isize = 60;

/// Trains a model, one step ahead, and samples from it, also without a wait for the result.
fn cycle(service: &ServiceClient) -> Result<()> {
    let trainer = service.create_lora_training_client("base", LoraConfig::new())?;
    let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy)?;
    let step = trainer.submit_optim_step(AdamParams::new())?;
    pass.wait()?;
    step.wait()?;
    trainer.submit_forward(batch(), LossFn::CrossEntropy)?.cancel();
    let sampler = trainer.save_weights_and_get_sampling_client()?;
    let (prompt, params) = (ModelInput::from_tokens(vec![1, 2, 3]), SamplingParams::default().max_tokens(1));
    drop(sampler.submit_sample(&prompt, 1, &params)?);
    sampler.sample(&prompt, 1, &params)?;
    service.create_sampling_client("base")?.sample(&prompt, 1, &params)?;
    service.create_rest_client().get_training_run(trainer.model_id()).unwrap_err();
    service.telemetry().log("cycle", json!({}), Severity::Info);
    trainer.unload_model().map(drop)
}

/// The bytes that are allocated while nothing happens.
fn live(service: &ServiceClient) -> isize {
    service.telemetry().flush();
    let counted = ALLOCATOR.stats();
    counted.bytes_allocated as isize - counted.bytes_deallocated as isize
}

fn is_submission(path: &str) -> bool {
    matches!(
        path,
        "asample" | "forward" | "forward_backward" | "optim_step" | "save_weights_for_sampler" | "unload_model"
    )
}

/// A service with faults: some requests are refused once, and some connections are lost.
fn reply(number: usize, request: &RecordedRequest) -> Reply {
    match &*request.path {
        "client/config" | "client/dynamic_config" => Reply::ok(json!({})),
        // A poll that fails is followed by a wait of real time.
        "retrieve_future" => healthy_service(request),
        // So is a lost submission.
        path if is_submission(path) && number % 1009 != 0 => healthy_service(request),
        _ if number % 101 == 0 => Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({})),
        _ if number % 103 == 0 => Reply::Close,
        path if path.starts_with("training_runs/") => Reply::Json(404, json!({"detail": "no such run"})),
        path if path.ends_with("/finish") => Reply::no_content(),
        _ => healthy_service(request),
    }
}

#[test]
fn a_cycle_of_training_leaves_nothing_behind() {
    let requests = AtomicUsize::new(0);
    let service =
        Service::start_unrecorded_current(move |request| reply(requests.fetch_add(1, Ordering::Relaxed), request));
    let config = service.config().telemetry(true).max_retries(100).retry_base(Duration::from_micros(1));
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let run = |cycles| {
        for _ in 0..cycles {
            cycle(&client).unwrap();
        }
        live(&client)
    };
    run(WARM);
    let counted: Vec<_> = (0..RUNS).map(|_| run(CYCLES)).collect();
    // A further connection or thread adds to some of the counts, or to all after one; what stays of each cycle adds to all of the
    // second half, and more to each.
    let (early, late) = counted.split_at(RUNS / 2);
    let mut early = early.to_vec();
    early.sort_unstable();
    let (before, after) = (early[RUNS / 4], *late.iter().min().unwrap());
    let each = (after - before) / (CYCLES * RUNS / 4) as isize;
    assert!(each <= LIMIT, "{each} bytes of each cycle stay: {counted:?}");
}
