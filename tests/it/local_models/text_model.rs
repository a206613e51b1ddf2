//! A model with a tokenizer of its own, for what does not depend on its numbers.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tinkex::Tokenizer;
use tinkex::local::LocalServer;
use tinkex::local::model::{
    Adapter, AdapterOptions, Example, GenerationOptions, Model, PromptLogprobs, PromptOptions, Samples,
    SamplingContext, Tensors, TextPackage,
};
use tinkex::local::transformer::Transformer;

pub const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
pub const TEMPLATE: &str = "{% for m in messages %}<|begin|>{{ m.content }}<|end|>{% endfor %}";

/// The transformer of bytes under another name, with a tokenizer.
#[derive(Debug)]
pub struct TextModel {
    name: &'static str,
    inner: Transformer,
    text: TextPackage,
    pass_bytes: u64,
    /// The options of each sample.
    pub sampled: Mutex<Vec<GenerationOptions>>,
}

impl TextModel {
    /// With the tokenizer of `tests/data`, and a template.
    pub fn new(name: &'static str) -> Self {
        let text = TextPackage::new(Tokenizer::from_path(DATA).unwrap());
        let text = ["tokenizer.json", "tokenizer_config.json"]
            .iter()
            .fold(text, |text, name| text.file(*name, fs::read(Path::new(DATA).join(name)).unwrap()));
        let text = text.file("chat_template.jinja", TEMPLATE);
        TextModel { name, inner: Transformer::bytes_tiny(), text, pass_bytes: 0, sampled: Mutex::default() }
    }

    /// With other files.
    pub fn text(mut self, text: TextPackage) -> Self {
        self.text = text;
        self
    }

    /// With other numbers.
    pub fn inner(mut self, inner: Transformer) -> Self {
        self.inner = inner;
        self
    }

    /// With passes that take this much memory.
    pub fn pass_bytes(mut self, bytes: u64) -> Self {
        self.pass_bytes = bytes;
        self
    }

    pub fn serve(self) -> LocalServer {
        LocalServer::builder().model(Arc::new(self)).start().unwrap()
    }
}

impl Model for TextModel {
    fn name(&self) -> &str {
        self.name
    }

    fn text_package(&self) -> Option<&TextPackage> {
        Some(&self.text)
    }

    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn context_length(&self) -> usize {
        self.inner.context_length()
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        self.inner.new_adapter(options)
    }

    fn pass_bytes(&self, _: &AdapterOptions, _: &[Example], _: bool) -> u64 {
        self.pass_bytes
    }

    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        self.inner.forward_backward(adapter, batch, gradient)
    }

    fn sample(&self, context: &SamplingContext, prompt: &[u32], count: usize, options: &GenerationOptions) -> Samples {
        self.sampled.lock().unwrap().push(options.clone());
        self.inner.sample(context, prompt, count, options)
    }

    fn prompt_logprobs(&self, context: &SamplingContext, tokens: &[u32], options: &PromptOptions) -> PromptLogprobs {
        self.inner.prompt_logprobs(context, tokens, options)
    }
}
