//! Models that a test controls: the training of one waits at a gate, and one token makes it panic; the samples of the other last
//! until they are cancelled.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ndarray::array;
use tinkex::local::model::{
    Adapter, AdapterOptions, Example, FinishReason, GenerationOptions, Model, PromptLogprobs, PromptOptions, Sample,
    Samples, SamplingContext, Tensors,
};

/// A model of one weight, which is the log-probability of every target. Its training waits at a gate and panics at token 13.
#[derive(Debug)]
pub struct Gated {
    name: &'static str,
    gate: Receiver<()>,
}

/// Lets one training call pass per message, and all once it is dropped.
pub type Gate = Sender<()>;

impl Gated {
    pub fn new(name: &'static str) -> (Arc<Gated>, Gate) {
        let (open, gate) = unbounded();
        (Arc::new(Gated { name, gate }), open)
    }
}

impl Model for Gated {
    fn name(&self) -> &str {
        self.name
    }

    fn vocab_size(&self) -> usize {
        256
    }

    fn context_length(&self) -> usize {
        64
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        Adapter::new(options.clone(), Tensors::from([("w".to_owned(), array![[-1.0]])]))
    }

    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        let _ = self.gate.recv();
        assert!(!batch.iter().any(|example| example.tokens.contains(&13)), "token 13");
        let weight = adapter.tensors["w"][[0, 0]];
        let tokens: usize = batch.iter().map(|example| example.tokens.len()).sum();
        if let Some(gradient) = gradient {
            *gradient.entry("w".to_owned()).or_insert_with(|| array![[0.0]]) -= tokens as f32;
        }
        batch.iter().map(|example| vec![weight; example.tokens.len()]).collect()
    }

    fn sample(&self, context: &SamplingContext, prompt: &[u32], count: usize, options: &GenerationOptions) -> Samples {
        let weight = context.adapter().map_or(0.0, |adapter| adapter.tensors["w"][[0, 0]]);
        let length = options.max_tokens.unwrap_or(64 - prompt.len());
        let tokens = vec![prompt.len() as u32; length];
        Samples::new(vec![Sample::new(tokens, vec![weight; length], FinishReason::Length); count])
    }

    fn prompt_logprobs(&self, _: &SamplingContext, tokens: &[u32], _: &PromptOptions) -> PromptLogprobs {
        let mut logprobs = vec![Some(f32::NEG_INFINITY); tokens.len()];
        logprobs[0] = None;
        PromptLogprobs::new(logprobs, vec![None; tokens.len()])
    }
}

/// A model whose samples last until they are cancelled. It takes three at once.
#[derive(Debug)]
pub struct Endless {
    began: Sender<()>,
    ended: Sender<()>,
}

/// Gets a message from each sample that begins, or from each that ends.
pub type Samplings = Receiver<()>;

impl Endless {
    /// The model, the beginnings of its samples, and their ends.
    pub fn new() -> (Arc<Endless>, Samplings, Samplings) {
        let ((began, beginnings), (ended, ends)) = (unbounded(), unbounded());
        (Arc::new(Endless { began, ended }), beginnings, ends)
    }
}

impl Model for Endless {
    fn name(&self) -> &'static str {
        "test/endless"
    }

    fn vocab_size(&self) -> usize {
        256
    }

    fn context_length(&self) -> usize {
        64
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        Adapter::new(options.clone(), Tensors::new())
    }

    fn forward_backward(&self, _: &Adapter, batch: &[Example], _: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        batch.iter().map(|example| vec![0.0; example.tokens.len()]).collect()
    }

    fn concurrent_samples(&self) -> usize {
        3
    }

    fn sample(&self, context: &SamplingContext, _: &[u32], _: usize, _: &GenerationOptions) -> Samples {
        self.began.send(()).ok();
        while !context.is_cancelled() {
            thread::yield_now();
        }
        self.ended.send(()).ok();
        Samples::new(Vec::new())
    }

    fn prompt_logprobs(&self, _: &SamplingContext, tokens: &[u32], _: &PromptOptions) -> PromptLogprobs {
        PromptLogprobs::new(vec![None; tokens.len()], vec![None; tokens.len()])
    }
}
