//! Twenty thousand unresolved results on few connections: `cargo bench --bench futures`.
//!
//! A service on loopback holds each poll for a second of real time. For 128 and for 2 poll connections, this prints the memory
//! for each result, the latency of one awaited result while polls of others hold all connections, and, once all results are
//! ready, the order of the polls: oldest first within a training client, and in turns among clients.
//!
//! The allocator counts the memory: the live bytes added by the results, with what is needed to resubmit a sample. The prompt
//! of a thousand tokens is shared, and the service keeps only a counter for a result. The growth of the resident set
//! (`/proc/self/statm`, Linux only) adds the overhead of the allocator.
//! Then the same number of samples of one session, on a service that polls them together (`retrieve_futures`): memory, connections,
//! and how long all results take.
//! Without `--bench` (as under `cargo test --all-targets`) it runs with 200 results.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::alloc::System;
use std::process::Command;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::hold::Hold;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, OptimStepResponse, SamplingParams};
use tinkex::{Config, Error, Pending, Proxy, ServiceClient, wait_all};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SAMPLERS: usize = 4;

/// The number of samples for each training step.
const SAMPLES_A_STEP: usize = 4;

/// The allocated bytes, and the resident bytes if the system provides them.
fn memory() -> (usize, Option<usize>) {
    let counted = ALLOCATOR.stats();
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|pages| Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * 4096));
    (counted.bytes_allocated - counted.bytes_deallocated, resident)
}

fn print_memory(what: &str, before: (usize, Option<usize>), results: usize) {
    let (counted, resident) = memory();
    print!("  memory for each {what}: {} bytes", counted.saturating_sub(before.0) / results);
    match (before.1, resident) {
        (Some(before), Some(after)) => println!(", resident {}", after.saturating_sub(before) / results),
        _ => println!(),
    }
}

fn run(connections: usize, futures: usize) -> Result<(), Error> {
    let (server, service) = Hold::start();
    let config = Config::builder().api_key(format!("tml-bench-{connections}")).base_url(server.url()).proxy(Proxy::Off);
    let client = ServiceClient::connect(config.max_poll_connections(connections).max_queued(4 * futures).build()?)?;
    let samplers = (0..SAMPLERS).map(|_| client.create_sampling_client("base")).collect::<Result<Vec<_>, _>>()?;
    let trainer = client.create_lora_training_client("base", LoraConfig::default())?;
    let prompt = ModelInput::from_tokens([1; 1000]);
    let sent = |before: usize, count: usize| service.wait_until(|_| service.submitted() == before + count);
    let sample = |count: usize| -> Result<Vec<Pending<_>>, Error> {
        let before = service.submitted();
        let each = (0..count).map(|n| samplers[n % SAMPLERS].submit_sample(&prompt, 1, &SamplingParams::default()));
        let pendings = each.collect::<Result<Vec<_>, _>>()?;
        sent(before, count);
        Ok(pendings)
    };
    let step = |count: usize| -> Result<Vec<Pending<OptimStepResponse>>, Error> {
        let before = service.submitted();
        let each = (0..count).map(|_| trainer.submit_optim_step(AdamParams::default()));
        let pendings = each.collect::<Result<Vec<_>, _>>()?;
        sent(before, count);
        Ok(pendings)
    };

    // As many as are measured below, to create threads, connections, buffers and the allocator's arenas.
    let warm = sample(futures)?;
    service.wait_until(|state| state.held >= connections);
    let (before, began) = (memory(), Instant::now());
    let samples = sample(futures)?;
    service.wait_until(|state| state.held >= connections);
    println!("{connections} connections, {futures} samples, submitted in {:.1?}", began.elapsed());
    print_memory("sample", before, futures);

    let wanted = &samples[futures / 2];
    let id = wanted.request_id().expect("it is submitted");
    service.change(|state| state.ready = id);
    let began = Instant::now();
    wanted.wait_timeout(Duration::from_secs(60)).expect("it comes")?;
    println!("  latency of an awaited result while others hold all connections: {:.0?}", began.elapsed());

    let before = memory();
    let steps = step(futures / SAMPLES_A_STEP)?;
    service.wait_until(|state| state.held >= connections);
    print_memory("training step", before, steps.len());

    let began = Instant::now();
    service.change(|state| state.open = true);
    let mut samples = samples;
    drop(samples.swap_remove(futures / 2));
    // Nothing waits yet, so clients are polled in turns.
    let all = warm.len() + samples.len() + steps.len();
    service.wait_until(|state| state.delivered.len() >= all / 2);
    let count = steps.len();
    wait_all(steps)?;
    wait_all(warm.into_iter().chain(samples))?;
    println!("  all results, once ready: {:.1?}", began.elapsed());
    let state = service.state();
    let numbers = |kind: &str| -> Vec<usize> {
        let of_kind = state.delivered.iter().filter_map(|id| id.strip_prefix(kind));
        of_kind.filter_map(|rest| rest.trim().parse().ok()).collect()
    };
    let steps = numbers("step");
    // The two oldest are polled at once, so neighbours may swap.
    let displaced = steps.iter().enumerate().map(|(index, number)| number.abs_diff(index + 1)).max().unwrap_or(0);
    println!("  training results: {} of {count}, at most {displaced} places out of order", steps.len());
    let clients: Vec<_> = state.delivered.iter().take(steps.len()).map(|id| id.split(' ').nth(1)).collect();
    let counts: Vec<_> =
        (0..SAMPLERS).map(|n| clients.iter().filter(|client| **client == Some(&*n.to_string())).count()).collect();
    println!("  of the first {} results, the {SAMPLERS} sampling clients have {counts:?}", clients.len());
    drop(state);
    client.close(Duration::from_secs(5));
    Ok(())
}

/// Samples of one session, with polls for each or one for all.
fn run_session(together: bool, futures: usize) -> Result<(), Error> {
    let (server, service) = if together { Hold::start_together() } else { Hold::start() };
    let key = format!("tml-bench-{together}");
    let config = Config::builder().api_key(key).base_url(server.url()).proxy(Proxy::Off).max_queued(4 * futures);
    let client = ServiceClient::connect(config.build()?)?;
    let sampler = client.create_sampling_client("base")?;
    let prompt = ModelInput::from_tokens([1; 1000]);
    let sample = |count: usize| -> Result<Vec<Pending<_>>, Error> {
        let before = service.submitted();
        let each = (0..count).map(|_| sampler.submit_sample(&prompt, 1, &SamplingParams::default()));
        let pendings = each.collect::<Result<Vec<_>, _>>()?;
        service.wait_until(|_| service.submitted() == before + count);
        Ok(pendings)
    };
    let warm = sample(futures)?;
    let before = memory();
    let samples = sample(futures)?;
    service.wait_until(|state| state.held >= 1);
    let how = if together { "polled together" } else { "each with its own poll" };
    println!("{} samples of one session, {how}", 2 * futures);
    print_memory("sample", before, futures);
    // A while of real time, in which polls are repeated.
    let began = Instant::now();
    let mut most = 0;
    service.wait_until(|state| {
        most = most.max(state.held);
        began.elapsed() > Duration::from_secs(2)
    });
    println!("  polls held at once, each with a connection: {most}");
    let began = Instant::now();
    service.change(|state| state.open = true);
    wait_all(warm.into_iter().chain(samples))?;
    println!("  all results, once ready: {:.1?}", began.elapsed());
    client.close(Duration::from_secs(5));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let futures = if args.iter().any(|arg| arg == "--bench") { 20_000 } else { 200 };
    if let Some(connections) = args.iter().find_map(|arg| arg.strip_prefix("--connections=")?.parse().ok()) {
        return Ok(run(connections, futures)?);
    }
    if let Some(together) = args.iter().find_map(|arg| arg.strip_prefix("--together=")?.parse().ok()) {
        return Ok(run_session(together, futures / 2)?);
    }
    // Each in its own process, so that neither reuses memory of the other.
    for run in ["--connections=128", "--connections=2", "--together=false", "--together=true"] {
        let status = Command::new(std::env::current_exe()?).args(&args[1..]).arg(run).status();
        if !status?.success() {
            return Err(format!("the run with {run} failed").into());
        }
    }
    Ok(())
}
