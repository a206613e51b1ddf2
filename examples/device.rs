//! Trains and samples from a small device: little memory, few threads, and a link that is slow or fails at times.
//!
//! ```text
//! cargo run --profile embedded --no-default-features --features rustls --example device -- [STEPS [SEQUENCES [TOKENS]]]
//! ```
//!
//! `TINKER_BASE_URL`, `TINKER_API_KEY` and `TINKER_BASE_MODEL` name the service and its model. STEPS (default 10) are made on a batch
//! of SEQUENCES (8) of TOKENS (32) each: try your own numbers to see the memory they take. On Linux, the last line has the most memory
//! that was resident so far, and the number of threads. `docs/devices.md` tells how to build it for other processors.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its progress and results")]

use std::fs;
use std::time::Duration;

use tinkex::toolkit::WeightedTokens;
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Error, Event, ServiceClient};

fn main() -> Result<(), Error> {
    let argument = |index, default| {
        std::env::args().nth(index).map_or(default, |text| text.parse().unwrap_or_else(|_| usage(&text)))
    };
    let (steps, sequences, tokens) = (argument(1, 10), argument(2, 8), argument(3, 32));

    let config = Config::constrained()
        // A modem may take long to connect, and then stall.
        .timeout_connect(Duration::from_secs(30))
        .timeout_idle(Duration::from_secs(180))
        // Submit again and again through an outage of an hour, and wait through one of a day for a result.
        .timeout_submit(Duration::from_secs(3600))
        .timeout_progress(Duration::from_secs(24 * 3600))
        // It costs traffic.
        .telemetry(false)
        // A call that waits for longer than ten seconds says why, and until when.
        .observer(|event: &Event| match event {
            Event::Waiting(waiting) => eprintln!("{waiting}"),
            Event::WaitEnded(ended) => eprintln!("{ended}"),
            _ => {}
        })
        .build()?;
    let base_model = std::env::var("TINKER_BASE_MODEL").unwrap_or_else(|_| "tinkex/bytes-tiny".to_owned());
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client(&base_model, LoraConfig::new().rank(8).seed(1))?;

    // A batch can be cloned and submitted often: its datums are in memory once.
    let datums = (0..sequences).map(|number| WeightedTokens::new().trained(readings(number, tokens + 1)).datum());
    let batch = datums.collect::<Result<Batch, _>>()?;
    for step in 1..=steps {
        let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        let update = trainer.submit_optim_step(AdamParams::new().learning_rate(1e-2))?;
        let output = pass.wait()?;
        update.wait()?;
        println!("step {step}: loss {:.4}", output.metrics.get("loss:sum").copied().unwrap_or(f64::NAN));
    }

    let sampler = trainer.save_weights_and_get_sampling_client()?;
    let params = SamplingParams::default().max_tokens(8).temperature(0.0);
    // Submit all, then wait: no thread is needed for each, and a lost connection costs none of them.
    let samples = (0..3)
        .map(|number| sampler.submit_sample(&ModelInput::from_tokens(readings(number, 8)), 1, &params))
        .collect::<Result<Vec<_>, _>>()?;
    for (number, sample) in samples.into_iter().enumerate() {
        println!("sample {number}: {:?}", sample.wait()?.sequences[0].tokens);
    }
    if let Some(line) = memory() {
        println!("{line}");
    }
    // Ends the session. The service has this time to respond.
    service.close(Duration::from_secs(10));
    Ok(())
}

/// A log of readings that repeats: tokens that the local server's byte models can learn.
fn readings(number: usize, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|place| u32::from(b'a') + ((number + place * (1 + number % 3)) % 26) as u32).collect()
}

/// What Linux says about this process.
fn memory() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(format!("memory: {} resident, {} threads", field("VmHWM:")?, field("Threads:")?))
}

fn usage(text: &str) -> ! {
    eprintln!("device: {text} is not a number; usage: device [STEPS [SEQUENCES [TOKENS]]]");
    std::process::exit(2)
}
