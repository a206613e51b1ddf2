//! Lets a chat model call a tool: samples a reply, reads the call, runs the tool, and samples again with its result.
//!
//! ```text
//! cargo run --release --features chat,local,tokenizers --example tool_use [QUESTION]
//! ```
//!
//! With `TINKER_BASE_URL`, `TINKER_API_KEY` and `TINKER_BASE_MODEL` set, it asks that model, in the format of its tokenizer's
//! package. By default it starts the local server, whose small model knows nothing: it first learns a few such conversations by heart.

#![allow(clippy::print_stdout, reason = "it prints the conversation")]

use std::error::Error;

use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, ReplyEnd, Tool, ToolCall, TrainOn};
use tinkex::local::LocalServer;
use tinkex::serde_json::{Value, json};
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn, SamplingParams};
use tinkex::{Config, SamplingClient, ServiceClient};

const QUESTION: &str = "How warm is it in Paris?";
/// The model must come to an end: it may call tools in so many of its replies.
const MAX_REPLIES: usize = 4;
const LOCAL_MODEL: &str = "tinkex/bytes-tiny";
const LOCAL_STEPS: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("TINKER_LOG", "warn")).init();
    let question = std::env::args().nth(1).unwrap_or_else(|| QUESTION.to_owned());
    // Start a local server, unless the environment names a service. It stops when it is dropped.
    let is_remote = std::env::var("TINKER_BASE_URL").is_ok_and(|url| !url.trim().is_empty());
    let server = if is_remote { None } else { Some(LocalServer::start()?) };
    let (sampler, renderer) = match &server {
        Some(server) => taught_model(server)?,
        None => {
            let service = ServiceClient::connect(Config::from_env()?)?;
            let sampler = service.create_sampling_client(std::env::var("TINKER_BASE_MODEL")?)?;
            let tokenizer = sampler.tokenizer()?;
            let template = ChatTemplate::load(tokenizer.id(), &sampler.tokenizer_source()?)?;
            let template = template.ok_or("the model has no chat template; choose one with ChatTemplate::builtin")?;
            (sampler, Renderer::new(template, tokenizer)?)
        }
    };

    let mut conversation = Conversation::from([Message::user(question)]).tools([temperature_tool()]);
    let params = SamplingParams::new().max_tokens(256).temperature(0.0).stop(renderer.stop());
    for _ in 0..MAX_REPLIES {
        let prompt = renderer.prompt(&conversation)?;
        let response = sampler.sample(&prompt.input, 1, &params)?;
        let tokens = response.sequences.first().map(|sequence| sequence.tokens.as_slice()).unwrap_or_default();
        let reply = renderer.parse_reply(&prompt, tokens);
        // A call that is cut off or malformed is never among the calls.
        if reply.end != ReplyEnd::Complete {
            return Err(format!("the reply ended as {:?}: {}", reply.end, reply.raw).into());
        }
        let calls = reply.message.tool_calls.clone();
        if calls.is_empty() {
            println!("{}", reply.message.text());
            return Ok(());
        }
        conversation.messages.push(reply.message);
        for call in &calls {
            let result = run(call);
            println!("{}({}) -> {result}", call.name, call.arguments);
            conversation.messages.push(tool_message(call, &result));
        }
    }
    Err(format!("the model still calls tools after {MAX_REPLIES} replies").into())
}

fn temperature_tool() -> Tool {
    let city = json!({"type": "string", "description": "A city"});
    let parameters = json!({"type": "object", "properties": {"city": city}, "required": ["city"]});
    Tool::function("temperature", "The temperature now, in degrees Celsius", parameters)
}

/// Runs a call. A mistake of the model is a result too: it may then do better.
fn run(call: &ToolCall) -> Value {
    match (call.name.as_str(), call.arguments["city"].as_str()) {
        ("temperature", Some(city)) => json!({"degrees": degrees(city)}),
        ("temperature", None) => json!({"error": "the argument city is missing"}),
        (name, _) => json!({"error": format!("there is no tool {name}")}),
    }
}

/// What stands in for a thermometer.
fn degrees(city: &str) -> usize {
    10 + city.len()
}

fn tool_message(call: &ToolCall, result: &Value) -> Message {
    let mut message = Message::tool(call.id.clone().unwrap_or_default(), result.to_string());
    message.name = Some(call.name.clone());
    message
}

/// The local model after it has learned the conversations about two cities.
fn taught_model(server: &LocalServer) -> Result<(SamplingClient, Renderer), tinkex::Error> {
    let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client(LOCAL_MODEL, LoraConfig::new().seed(1))?;
    let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, trainer.tokenizer()?)?;
    let mut datums = Vec::new();
    for city in ["Paris", "Rome"] {
        datums.extend(renderer.examples(&lesson(city), TrainOn::AllAssistantMessages)?.datums()?);
    }
    let batch = Batch::from(datums);
    println!("teaching {LOCAL_MODEL} {} conversations", batch.len());
    for _ in 0..LOCAL_STEPS {
        let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        trainer.optim_step(AdamParams::new().learning_rate(1e-2))?;
        pass.wait()?;
    }
    Ok((trainer.save_weights_and_get_sampling_client()?, renderer))
}

/// A conversation as the model should have it.
fn lesson(city: &str) -> Conversation {
    let call = ToolCall::new("temperature", json!({"city": city})).id("call-1");
    let mut asks = Message::assistant("");
    asks.tool_calls = vec![call.clone()];
    let result = run(&call);
    Conversation::from([
        Message::user(format!("How warm is it in {city}?")),
        asks,
        tool_message(&call, &result),
        Message::assistant(format!("It is {} degrees in {city}.", result["degrees"])),
    ])
    .tools([temperature_tool()])
}
