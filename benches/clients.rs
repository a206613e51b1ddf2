//! Sixteen clients of one local server at once: `cargo bench --no-default-features --features local --bench clients`.
//!
//! Each has a training run of `tinkex/bytes-medium` and trains on batches of 32 examples of 128 tokens; then all sample 256 tokens, one
//! by one and at once. Prints the tokens per second of wall and of processor time, and the most memory that was resident (Linux
//! only). Server and clients are one process. Without `--bench` (as under `cargo test --all-targets`) it takes a few tokens.
#![allow(clippy::print_stdout, reason = "it prints its report")]

use std::error::Error;
use std::time::Duration;

use tinkex::clock::Clock;
use tinkex::local::LocalServer;
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Proxy, SamplingClient, ServiceClient, wait_all};

const MODEL: &str = "tinkex/bytes-medium";
const CLIENTS: usize = 16;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How much each client does.
struct Size {
    examples: usize,
    length: usize,
    sampled: u32,
}

fn main() -> Result<()> {
    let size = match std::env::args().any(|argument| argument == "--bench") {
        true => Size { examples: 32, length: 128, sampled: 256 },
        false => Size { examples: 2, length: 8, sampled: 2 },
    };
    let server = LocalServer::start()?;
    let config = Config::builder().api_key("tml-local").base_url(server.base_url()).proxy(Proxy::Off).telemetry(false);
    let service = ServiceClient::connect(config.build()?)?;
    println!("before: {}", resident("VmRSS"));
    train(&service, &size)?;
    println!("training: {} at most", resident("VmHWM"));
    let sampler = service.create_sampling_client(MODEL)?;
    for at_once in [1, CLIENTS] {
        sample(&sampler, &size, at_once)?;
    }
    println!("at the end: {}, {} at most", resident("VmRSS"), resident("VmHWM"));
    Ok(())
}

/// Two steps of each client, all at once.
fn train(service: &ServiceClient, size: &Size) -> Result<()> {
    let datum = |start: usize| -> Result<Datum> {
        let tokens = |start: usize| (start..start + size.length).map(|at| at * 7 % 256);
        let input = ModelInput::from_tokens(tokens(start).map(|token| token as u32).collect::<Vec<_>>());
        let targets: Vec<i64> = tokens(start + 1).map(|token| token as i64).collect();
        Ok(Datum::new(input).input("target_tokens", targets)?.input("weights", vec![1.0_f32; size.length])?)
    };
    let batch: Batch = (0..size.examples).map(datum).collect::<Result<Vec<_>>>()?.into();
    let create = |seed| service.create_lora_training_client(MODEL, LoraConfig::default().seed(seed));
    let trainers = (0..CLIENTS as u64).map(create).collect::<tinkex::Result<Vec<_>>>()?;
    let clock = Clock::system();
    for round in 1..=2 {
        let (began, processor) = (clock.now(), processor_time());
        let passes = trainers.iter().map(|trainer| trainer.submit_forward_backward(&batch, LossFn::CrossEntropy));
        let passes = passes.collect::<tinkex::Result<Vec<_>>>()?;
        let steps = trainers.iter().map(|trainer| trainer.submit_optim_step(AdamParams::default()));
        let steps = steps.collect::<tinkex::Result<Vec<_>>>()?;
        wait_all(passes)?;
        wait_all(steps)?;
        let tokens = CLIENTS * size.examples * size.length;
        println!("training, round {round}: {}", speed(tokens, clock.now() - began, processor));
    }
    Ok(())
}

/// A sample of each of so many clients.
fn sample(sampler: &SamplingClient, size: &Size, at_once: usize) -> Result<()> {
    // Also after the end-of-text token, which an untrained model may sample at any time.
    let params = SamplingParams::default().max_tokens(size.sampled).stop(Vec::<String>::new());
    let (clock, processor) = (Clock::system(), processor_time());
    let began = clock.now();
    let prompts = (0..at_once).map(|client| ModelInput::from_tokens([104, 101, client as u32]));
    let samples =
        prompts.map(|prompt| sampler.submit_sample(&prompt, 1, &params)).collect::<tinkex::Result<Vec<_>>>()?;
    let samples = wait_all(samples)?;
    let tokens: usize = samples.iter().flat_map(|sample| &sample.sequences).map(|sequence| sequence.tokens.len()).sum();
    println!("sampling, {at_once} at once: {}", speed(tokens, clock.now() - began, processor));
    Ok(())
}

fn speed(tokens: usize, wall: Duration, processor_before: Option<Duration>) -> String {
    let wall = format!("{:.0} tok/s", tokens as f64 / wall.as_secs_f64());
    match processor_before.zip(processor_time()) {
        Some((before, now)) => {
            let each = tokens as f64 / (now - before).max(Duration::from_millis(1)).as_secs_f64();
            format!("{wall}, {each:.0} tok/s of processor time")
        }
        None => wall,
    }
}

/// The processor time of this process on all processors, from Linux, in hundredths of a second.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the name (which may contain anything) start with number 3; user and system time are 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// A line of `/proc/self/status` in MB.
fn resident(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    match kilobytes.and_then(|kilobytes| kilobytes.parse::<f64>().ok()) {
        Some(kilobytes) => format!("{:.0} MB resident", kilobytes * 1024.0 / 1e6),
        None => "resident memory unknown".to_owned(),
    }
}
