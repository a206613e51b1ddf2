//! Fine-tunes a chat model on conversations, in the model's own format, and measures the loss on conversations that are held out.
//!
//! ```text
//! cargo run --release --features chat,local,tokenizers --example chat_finetune [DATA.jsonl [STEPS]]
//! ```
//!
//! A line of the file is a conversation as OpenAI's API has it; one with `"split": "test"` is held out. Only what the assistant says
//! is learned. By default it starts the local server and trains its small model, whose format is the plain one. With
//! `TINKER_BASE_URL`, `TINKER_API_KEY` and `TINKER_BASE_MODEL` set, it trains that model, in the format of its tokenizer's package.

#![allow(clippy::print_stdout, reason = "it prints its progress and results")]

use std::error::Error;

use tinkex::chat::{ChatTemplate, Conversation, ExampleNote, Renderer, ReplyEnd, Role, TrainOn};
use tinkex::local::LocalServer;
use tinkex::serde::Deserialize;
use tinkex::toolkit::nats_per_token;
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn, SamplingParams};
use tinkex::{Config, SamplingClient, ServiceClient, Tokenizer, TokenizerSource, TrainingClient};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/hours.jsonl");
const STEPS: usize = 120;
/// A large model needs a lower learning rate than the tiny local one.
const LOCAL_LEARNING_RATE: f64 = 1e-2;
const LEARNING_RATE: f64 = 1e-4;

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("TINKER_LOG", "warn")).init();
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| DATA.to_owned());
    let steps = arguments.next().map_or(Ok(STEPS), |steps| steps.parse())?;
    let (held_out, trained): (Vec<Line>, Vec<Line>) = read(&path)?.into_iter().partition(Line::is_held_out);

    // Start a local server, unless the environment names a service. It stops when it is dropped.
    let is_remote = std::env::var("TINKER_BASE_URL").is_ok_and(|url| !url.trim().is_empty());
    let server = if is_remote { None } else { Some(LocalServer::start()?) };
    let (config, base_model, learning_rate) = match &server {
        Some(server) => {
            let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
            (config, "tinkex/bytes-tiny".to_owned(), LOCAL_LEARNING_RATE)
        }
        None => (Config::from_env()?, std::env::var("TINKER_BASE_MODEL")?, LEARNING_RATE),
    };
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client(&base_model, LoraConfig::new().seed(1))?;
    let tokenizer = trainer.tokenizer()?;
    let renderer = Renderer::new(template(&tokenizer, &trainer.tokenizer_source()?)?, tokenizer)?;

    let (batch, test) = (batch(&renderer, &trained)?, batch(&renderer, &held_out)?);
    println!("training {base_model} on {} examples; {} are held out", batch.len(), test.len());
    let before = held_out_loss(&trainer, &test)?;
    train(&trainer, &batch, steps, learning_rate)?;
    let after = held_out_loss(&trainer, &test)?;

    let sampler = trainer.save_weights_and_get_sampling_client()?;
    let (mut right, mut asked) = (0, 0);
    for line in &held_out {
        let (are_right, replies) = answers(&sampler, &renderer, &line.conversation)?;
        (right, asked) = (right + are_right, asked + replies);
    }
    println!("held-out loss: {before:.4} -> {after:.4} nats/token");
    println!("held-out replies: {right}/{asked} right");
    Ok(())
}

/// The format of the model: that of its tokenizer's package, or the plain one for a model that has none.
fn template(tokenizer: &Tokenizer, source: &TokenizerSource) -> Result<ChatTemplate, tinkex::Error> {
    match ChatTemplate::load(tokenizer.id(), source)? {
        Some(template) => Ok(template),
        None => ChatTemplate::builtin("plain"),
    }
}

/// The training examples of the conversations: a conversation is one, or several if the template changes earlier messages later on.
fn batch(renderer: &Renderer, lines: &[Line]) -> Result<Batch, tinkex::Error> {
    let mut datums = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let examples = renderer.examples(&line.conversation, TrainOn::AllAssistantMessages)?;
        for note in &examples.notes {
            if let ExampleNote::ReasoningLeftOut { message } = note {
                println!("conversation {number}: the template leaves out the reasoning of message {message}");
            }
        }
        datums.extend(examples.datums()?);
    }
    Ok(datums.into())
}

/// Trains on the batch. Each step is submitted before the result of the previous one is awaited.
fn train(trainer: &TrainingClient, batch: &Batch, steps: usize, learning_rate: f64) -> Result<(), tinkex::Error> {
    let submit = || -> Result<_, tinkex::Error> {
        let pass = trainer.submit_forward_backward(batch, LossFn::CrossEntropy)?;
        Ok((pass, trainer.submit_optim_step(AdamParams::new().learning_rate(learning_rate))?))
    };
    let mut next = if steps > 0 { Some(submit()?) } else { None };
    for step in 1..=steps {
        let Some((pass, update)) = next.take() else { break };
        if step < steps {
            next = Some(submit()?);
        }
        let loss = nats_per_token(batch, &pass.wait()?)?;
        update.wait()?;
        if step == 1 || step % 20 == 0 {
            println!("step {step:3}/{steps}: {loss:.4} nats/token");
        }
    }
    Ok(())
}

/// The loss on the batch, in nats per token of the assistant's messages. Nothing is learned.
fn held_out_loss(trainer: &TrainingClient, batch: &Batch) -> Result<f64, tinkex::Error> {
    nats_per_token(batch, &trainer.forward(batch, LossFn::CrossEntropy)?)
}

/// Asks for each message of the assistant after what comes before it. How many of the replies are the same, and how many there are.
fn answers(
    sampler: &SamplingClient,
    renderer: &Renderer,
    conversation: &Conversation,
) -> Result<(usize, usize), tinkex::Error> {
    let params = SamplingParams::new().max_tokens(64).temperature(0.0).stop(renderer.stop());
    let (mut right, mut asked) = (0, 0);
    for (index, message) in conversation.messages.iter().enumerate() {
        if message.role != Role::Assistant {
            continue;
        }
        let mut before = conversation.clone();
        before.messages.truncate(index);
        let prompt = renderer.prompt(&before)?;
        let response = sampler.sample(&prompt.input, 1, &params)?;
        let Some(sequence) = response.sequences.first() else { continue };
        let reply = renderer.parse_reply(&prompt, &sequence.tokens);
        let is_right = reply.end == ReplyEnd::Complete && reply.message.text() == message.text();
        let question = before.messages.last().map(|message| message.text()).unwrap_or_default();
        println!("{} {question:?} -> {:?}", if is_right { "right" } else { "wrong" }, reply.message.text());
        (right, asked) = (right + usize::from(is_right), asked + 1);
    }
    Ok((right, asked))
}

/// A line of the data file.
#[derive(Deserialize)]
#[serde(crate = "tinkex::serde")]
struct Line {
    #[serde(flatten)]
    conversation: Conversation,
    split: Option<String>,
}

impl Line {
    fn is_held_out(&self) -> bool {
        self.split.as_deref() == Some("test")
    }
}

/// Reads a conversation per line. Errors name the line.
fn read(path: &str) -> Result<Vec<Line>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| format!("{path}:{}: {error}", index + 1).into())
    });
    parsed.collect()
}
