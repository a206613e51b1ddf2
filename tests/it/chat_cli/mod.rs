//! `tinkex chat`, and `tinkex sample --chat`, with a model that says what the test wants.

mod piped;
mod sample;
#[cfg(unix)]
mod terminal;

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::program::{Done, Program, read_to_end, tinkex_with};
use crate::support::{Gate, Reply, Service, number_of, service_with_polls};

/// Its tokens are bytes, and 256 ends a reply.
const MODEL: &str = "tinkex/bytes-tiny";
const END: u32 = 256;

/// A template that writes calls of messages without content alone.
const EITHER: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if not m.content %}{% for c in m.tool_calls %}<tool_call>\n{{ c.function|tojson }}\n</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A service whose model gives these replies, one for each sample, and a directory to run in.
struct Scene {
    service: Service,
    place: TempDir,
}

/// The result of a sample: this text and the end of a reply.
fn says(text: &str) -> Reply {
    sampled(text.bytes().map(u32::from).chain([END]).collect(), "stop")
}

fn sampled(tokens: Vec<u32>, stop_reason: &str) -> Reply {
    let logprobs = vec![-0.5; tokens.len()];
    Reply::ok(json!({"sequences": [{"stop_reason": stop_reason, "tokens": tokens, "logprobs": logprobs}]}))
}

impl Scene {
    fn new(replies: &[&str]) -> Scene {
        let replies: Vec<String> = replies.iter().map(|&text| text.to_owned()).collect();
        Scene::with(move |number| says(&replies[number]))
    }

    /// The replies by number, from 0.
    fn with(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Scene {
        let service = service_with_polls(move |request| {
            let number = number_of(request.request_id()).parse().ok();
            reply(number.expect("a promise with the number of its sample"))
        });
        Scene { service, place: TempDir::new().unwrap() }
    }

    /// The first reply is held until the gate opens.
    fn held(gate: &Arc<Gate>, replies: &[&str]) -> Scene {
        let (gate, replies) = (Arc::clone(gate), replies.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        Scene::with(move |number| match number {
            0 => Reply::held(&gate, says(&replies[0])),
            _ => says(&replies[number]),
        })
    }

    fn program(&self, arguments: &[&str]) -> Program {
        tinkex_with(arguments).within(self.place.path()).at(&self.service.url())
    }

    fn run_with(&self, arguments: &[&str], stdin: &str) -> Done {
        fs::write(self.place.path().join("stdin"), stdin).unwrap();
        let mut program = self.program(arguments);
        program.command.stdin(fs::File::open(self.place.path().join("stdin")).unwrap());
        program.run()
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.place.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        read_to_end(fs::File::open(self.place.path().join(name)).unwrap())
    }

    fn samples(&self) -> Vec<Value> {
        let samples = self.service.requests_to("asample");
        let mut samples: Vec<Value> = samples.into_iter().map(|request| request.body.clone()).collect();
        samples.sort_by_key(|sample| sample["seq_id"].as_u64());
        samples
    }

    /// The texts of all prompts.
    fn prompts(&self) -> Vec<String> {
        self.samples().iter().map(|sample| text_of(&sample["prompt"])).collect()
    }
}

fn text_of(prompt: &Value) -> String {
    let chunks = prompt["chunks"].as_array().unwrap();
    let tokens = chunks.iter().flat_map(|chunk| chunk["tokens"].as_array().unwrap());
    let tokens: Vec<u32> = tokens.map(|token| u32::try_from(token.as_u64().unwrap()).unwrap()).collect();
    tinkex::Tokenizer::bytes().decode_with_special_tokens(&tokens).unwrap()
}
