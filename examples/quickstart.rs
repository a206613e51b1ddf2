//! Trains a model on Pig Latin, then samples translations from it.
//!
//! ```text
//! cargo run --release --features local --example quickstart [DATA.jsonl]
//! ```
//!
//! By default it starts the local server and trains its small model. With `TINKER_BASE_URL` and `TINKER_API_KEY` set, it trains
//! on that service, with the model `TINKER_BASE_MODEL` or else the first one that the service lists.
//!
//! The tokens are the bytes of the text, as the local model expects. To another model, they are arbitrary tokens: its loss
//! decreases as well, but the tokens do not spell words.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its progress and results")]

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use serde::Deserialize;
use tinkex::local::LocalServer;
use tinkex::toolkit::{WeightedTokens, nats_per_token};
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, SampleOptions, SamplingClient, ServiceClient, TrainingClient};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/piglatin.jsonl");
const STEPS: usize = 100;
/// How many samples of each kind are printed.
const SHOWN: usize = 10;
/// A large model needs a lower learning rate than the tiny local one.
const LOCAL_LEARNING_RATE: f64 = 1e-2;
const LEARNING_RATE: f64 = 1e-4;
/// Stop token: completions end with a line break.
const NEWLINE: u32 = b'\n' as u32;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("TINKER_LOG", "warn")).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  caused by: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| DATA.to_owned());
    let pairs = read_pairs(&path)?;
    let (held_out, trained): (Vec<Pair>, Vec<Pair>) = pairs.into_iter().partition(Pair::is_held_out);
    let batch = trained.iter().map(Pair::datum).collect::<Result<Vec<_>, _>>()?;
    let batch = Batch::from(batch);

    // Start a local server, unless the environment names a service. It stops when it is dropped.
    let is_remote = std::env::var("TINKER_BASE_URL").is_ok_and(|url| !url.trim().is_empty());
    let server = if is_remote { None } else { Some(LocalServer::start()?) };
    let config = match &server {
        Some(server) => Config::builder().base_url(server.base_url()).api_key("tml-local").build()?,
        None => Config::from_env()?,
    };
    let learning_rate = if server.is_some() { LOCAL_LEARNING_RATE } else { LEARNING_RATE };
    let service = ServiceClient::connect(config)?;
    let base_model = base_model(&service)?;
    println!("training {base_model} at {} on {} pairs", service.config().base_url(), trained.len());

    let lora = LoraConfig::new().seed(1);
    let trainer = service.create_lora_training_client(&base_model, lora)?;
    let (first, last) = train(&trainer, &batch, learning_rate)?;

    let saved = trainer.save_weights_for_sampler("quickstart")?;
    println!("saved {}", saved.path);
    let sampler = service.create_sampling_client(&saved.path)?;
    println!("prompts that it was trained on:");
    let exact = sample_completions(&sampler, &trained)?;
    println!("prompts that it never saw:");
    sample_completions(&sampler, &held_out)?;

    println!("loss: {first:.4} -> {last:.4} nats/token");
    println!("exact matches: {exact}/{} trained prompts", trained.len());
    Ok(())
}

/// The base model: `TINKER_BASE_MODEL`, or the first one that the service lists.
fn base_model(service: &ServiceClient) -> Result<String, Box<dyn Error>> {
    if let Ok(name) = std::env::var("TINKER_BASE_MODEL") {
        return Ok(name);
    }
    let models = service.get_server_capabilities()?.supported_models;
    let first = models.into_iter().find_map(|model| model.model_name);
    Ok(first.ok_or("the service lists no model; set TINKER_BASE_MODEL")?)
}

/// Trains on the batch, and returns the loss of the first and the last step, in nats per token.
///
/// Each step is submitted before the result of the previous one is awaited, so that the service never waits for the client.
fn train(trainer: &TrainingClient, batch: &Batch, learning_rate: f64) -> Result<(f64, f64), Box<dyn Error>> {
    let submit = || -> Result<_, tinkex::Error> {
        let pass = trainer.submit_forward_backward(batch, LossFn::CrossEntropy)?;
        let update = trainer.submit_optim_step(AdamParams::new().learning_rate(learning_rate))?;
        Ok((pass, update))
    };
    let mut losses = Vec::new();
    let mut in_flight = Some(submit()?);
    while let Some((pass, update)) = in_flight.take() {
        let step = losses.len() + 1;
        if step < STEPS {
            in_flight = Some(submit()?);
        }
        let loss = nats_per_token(batch, &pass.wait()?)?;
        update.wait()?;
        if step == 1 || step % 10 == 0 {
            println!("step {step:3}/{STEPS}: {loss:.4} nats/token");
        }
        losses.push(loss);
    }
    Ok((losses[0], losses[STEPS - 1]))
}

/// Samples a completion of each prompt, prints some of them, and returns the number of exact matches.
fn sample_completions(sampler: &SamplingClient, pairs: &[Pair]) -> Result<usize, Box<dyn Error>> {
    let params = SamplingParams::default().max_tokens(64).temperature(0.0).stop(vec![NEWLINE]);
    let requests = pairs.iter().map(|pair| SampleOptions::new(pair.model_prompt()).sampling_params(params.clone()));
    let (mut exact, mut lines) = (0, Vec::new());
    for (pair, response) in pairs.iter().zip(sampler.sample_many(requests).wait_all()?) {
        let tokens = response.sequences.into_iter().next().map(|sequence| sequence.tokens).unwrap_or_default();
        let bytes: Vec<u8> = tokens.iter().map(|&token| u8::try_from(token).unwrap_or(b'?')).collect();
        let completion = String::from_utf8_lossy(&bytes).trim().to_owned();
        let is_exact = completion == pair.completion;
        exact += usize::from(is_exact);
        lines.push(match is_exact {
            true => format!("  right {} -> {completion:?}", pair.prompt),
            false => format!("  wrong {} -> {completion:?}, expected {:?}", pair.prompt, pair.completion),
        });
    }
    lines.iter().take(SHOWN).for_each(|line| println!("{line}"));
    if lines.len() > SHOWN {
        println!("  … and {} more", lines.len() - SHOWN);
    }
    Ok(exact)
}

/// A line of the data file.
#[derive(Deserialize)]
struct Pair {
    prompt: String,
    completion: String,
    split: Option<String>,
}

impl Pair {
    fn is_held_out(&self) -> bool {
        self.split.as_deref() == Some("test")
    }

    fn prompt_tokens(&self) -> Vec<u32> {
        format!("{} ->", self.prompt).bytes().map(u32::from).collect()
    }

    fn model_prompt(&self) -> ModelInput {
        ModelInput::from_tokens(self.prompt_tokens())
    }

    /// Only the tokens of the completion are learned.
    fn datum(&self) -> Result<Datum, tinkex::Error> {
        let completion: Vec<u32> = format!(" {}\n", self.completion).bytes().map(u32::from).collect();
        WeightedTokens::new().context(self.prompt_tokens()).trained(completion).datum()
    }
}

/// Reads one pair per line. Errors name the line.
fn read_pairs(path: &str) -> Result<Vec<Pair>, Box<dyn Error>> {
    let text = fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let pair = |(index, line): (usize, &[u8])| {
        let invalid = |why: String| format!("{path}:{}: {why}", index + 1);
        let pair: Pair = serde_json::from_slice(line).map_err(|error| invalid(error.to_string()))?;
        if pair.prompt.is_empty() || pair.completion.is_empty() {
            return Err(invalid("the prompt or the completion is empty".to_owned()));
        }
        Ok(pair)
    };
    let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let pairs = lines.map(pair).collect::<Result<Vec<_>, _>>()?;
    if pairs.iter().all(Pair::is_held_out) {
        return Err(format!("{path} has no examples to train on").into());
    }
    Ok(pairs)
}
