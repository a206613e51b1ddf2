//! Pieces of work whose instructions `scripts/instructions` counts: requests that are encoded, results that are decoded, and calls
//! that are submitted and resolved, against a service in another process. `serialize-json` is what `serde_json` makes of the public
//! types; how the client itself writes JSON is part of `pass-json`.
//!
//! `cargo bench --bench instructions -- WORK TIMES` does one of them that many times, and `list` prints their names, each with the
//! times that make a good average. Without a name, as under `cargo test`, it does each once.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its results and panics if it cannot measure"
)]

mod bodies;
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use bodies::{json_body, noise, protobuf_body};
use serde_json::json;
use support::{RecordedRequest, Reply, Service, config_for, connect};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{
    AdamParams, Batch, Datum, ForwardBackwardOutput, LoraConfig, Loss, ModelInput, RequestKind, SamplingParams,
    TensorData,
};
use tinkex::{ServiceClient, Wire};

/// Its name, how often it is done for a good average, and what does it so often.
type Work = (&'static str, usize, fn(usize));

const WORKS: [Work; 12] = [
    ("serialize-json", 2, |times| encode(times, (16, 4096), json_body)),
    ("serialize-json-small", 4, |times| encode(times, (128, 64), json_body)),
    ("encode-protobuf", 2, |times| encode(times, (128, 4096), protobuf_body)),
    ("encode-protobuf-small", 4, |times| encode(times, (1024, 64), protobuf_body)),
    ("decode-json", 3, |times| resolve(times, "json 1 100000")),
    ("decode-json-small", 4, |times| resolve(times, "json 1024 64")),
    ("decode-protobuf", 4, |times| resolve(times, "protobuf 1 500000")),
    ("decode-protobuf-small", 8, |times| resolve(times, "protobuf 1024 64")),
    ("pass-json", 4, |times| pass(times, Wire::Json)),
    ("pass-protobuf", 8, |times| pass(times, Wire::Protobuf)),
    ("step", 50, step),
    ("sample", 50, sample),
];

/// The batch of a pass: datums, and tokens in each.
const PASS: (usize, usize) = (16, 1024);

/// Datums of supervised fine-tuning on a text, whose words repeat: the last three quarters of the tokens count.
fn batch((datums, tokens): (usize, usize)) -> Batch {
    let token = |index: usize| noise(noise(index) as usize % 700) % 150_000;
    let datum = |datum: usize| {
        let indexes = datum * tokens..(datum + 1) * tokens;
        let weights: Vec<f32> = (0..tokens).map(|place| if place < tokens / 4 { 0.0 } else { 1.0 }).collect();
        let targets: Vec<u32> = indexes.clone().map(|index| token(index + 1)).collect();
        let datum = Datum::new(ModelInput::from_tokens(indexes.map(token).collect::<Vec<_>>()));
        datum.input("target_tokens", targets).and_then(|datum| datum.input("weights", weights)).unwrap()
    };
    (0..datums).map(datum).collect()
}

fn encode(times: usize, size: (usize, usize), body: fn(&[Datum], &Loss) -> Vec<u8>) {
    let (batch, loss) = (batch(size), Loss::cross_entropy());
    (0..times).for_each(|_| drop(black_box(body(&batch, &loss))));
}

/// A service in another process, whose instructions do not count. It ends with its standard input.
fn start_service() -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut service = command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut url).unwrap();
    (service, url.trim().to_owned())
}

fn serve() {
    let service = Service::start_unrecorded_current(reply);
    println!("{}", service.url());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Every result is ready at once. The id of a pass says its form and size.
fn reply(request: &RecordedRequest) -> Reply {
    Reply::ok(match request.path.as_str() {
        "create_session" => json!({"session_id": "session"}),
        "create_sampling_session" => json!({"sampling_session_id": "sampler"}),
        "create_model" => json!({"request_id": "model"}),
        "asample" => json!({"request_id": "sample"}),
        "optim_step" => json!({"request_id": "step"}),
        "forward_backward" => {
            let form = if request.body.is_null() { "protobuf" } else { "json" };
            json!({"request_id": format!("{form} {} {}", PASS.0, PASS.1)})
        }
        "retrieve_future" => match request.request_id() {
            "model" => json!({"model_id": "model"}),
            "step" => json!({"metrics": {}}),
            "sample" => json!({"sequences": [{"stop_reason": "stop", "tokens": [1], "logprobs": [-0.5]}]}),
            pass => return result(pass),
        },
        _ => json!({}),
    })
}

fn result(id: &str) -> Reply {
    let words: Vec<&str> = id.split(' ').collect();
    let (datums, tokens): (usize, usize) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let logprob = |index| -(noise(index) as f32) / 1e9;
    let output = |datum| {
        let logprobs: Vec<f32> = (datum * tokens..(datum + 1) * tokens).map(logprob).collect();
        json!({"logprobs": TensorData::from(logprobs)})
    };
    let outputs: Vec<_> = (0..datums).map(output).collect();
    let output =
        json!({"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": {"loss:sum": 1.5}});
    if words[0] == "json" {
        return Reply::ok(output);
    }
    let output: ForwardBackwardOutput = serde_json::from_value(output).unwrap();
    Reply::typed(protobuf::CONTENT_TYPE, protobuf::ForwardBackwardOutput::from(&output).encode_to_vec())
}

/// Works with a client of a service that has been used before, so that its threads and connections are there.
fn with_client(wire: Wire, work: impl FnOnce(&ServiceClient)) {
    let (mut service, url) = start_service();
    work(&connect(config_for(url).wire(wire)));
    drop(service.stdin.take());
    service.wait().unwrap();
}

fn resolve(times: usize, id: &str) {
    with_client(Wire::Auto, |client| {
        for _ in 0..times {
            let output = client.pending::<ForwardBackwardOutput>(id, RequestKind::ForwardBackward).wait().unwrap();
            assert!(!output.loss_fn_outputs.is_empty());
        }
    });
}

fn pass(times: usize, wire: Wire) {
    with_client(wire, |client| {
        let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let batch = batch(PASS);
        for _ in 0..times {
            trainer.forward_backward(&batch, Loss::cross_entropy()).unwrap();
        }
    });
}

fn step(times: usize) {
    with_client(Wire::Auto, |client| {
        let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        for _ in 0..times {
            trainer.optim_step(AdamParams::default()).unwrap();
        }
    });
}

fn sample(times: usize) {
    with_client(Wire::Auto, |client| {
        let sampler = client.create_sampling_client("base").unwrap();
        let prompt = ModelInput::from_tokens([1; 100]);
        for _ in 0..times {
            sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap();
        }
    });
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match &words[..] {
        [] => WORKS.iter().for_each(|(.., work)| work(1)),
        [word] if word == "serve" => serve(),
        [word] if word == "list" => WORKS.iter().for_each(|(name, times, _)| println!("{name} {times}")),
        [name, times] => {
            let (.., work) = WORKS.iter().find(|(known, ..)| known == name).unwrap();
            work(times.parse().unwrap());
        }
        _ => panic!("usage: instructions [WORK TIMES]"),
    }
}
