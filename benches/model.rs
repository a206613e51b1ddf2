//! The speed of a real model, and of the bare matrix products that it is made of.
//!
//! ```text
//! TINKEX_BENCH_MODEL=SmolLM2-135M.gguf cargo bench --no-default-features --features pretrained --bench model
//! ```
//!
//! First the products of SmolLM2-135M's matrices, with f32 and f16 weights, beside those of ndarray: of many rows in billions of
//! operations per second, of few rows in gigabytes of weights read per second. Each is the quickest of many runs.
//!
//! Then, if the environment names a model, its training with rank 32 and its sampling, in tokens per second by the clock, and the most
//! memory that the process had until then.

#![allow(clippy::print_stdout, reason = "it prints its report")]

use std::hint::black_box;
use std::time::Duration;

use ndarray::Array2;
use tinkex::clock::Clock;
use tinkex::local::adam::{Adam, AdamOptions};
use tinkex::local::model::{AdapterOptions, Example, GenerationOptions, Model, Objective, SamplingContext, Tensors};
use tinkex::local::pretrained::{ModelLoader, WeightPrecision};

/// The library's own source, which it shows to nobody.
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the library uses all of it")]
#[path = "../src/local/kernel/mod.rs"]
mod kernel;

use kernel::{Threads, Weight, f32_to_f16, linear, linear_backward};

/// How long a product is repeated.
const DURATION: Duration = Duration::from_millis(300);

/// Outputs and inputs: of queries, of keys, of the MLP's gate, and of its last projection.
const SHAPES: [(usize, usize); 4] = [(576, 576), (192, 576), (1536, 576), (576, 1536)];

const HEAD: (usize, usize) = (49_152, 576);

/// The tokens of a sample.
const SAMPLE: usize = 64;

fn main() {
    println!("{:<22} {:>10} {:>8} {:>8} {:>8} {:>8}", "", "ndarray", "f32", "threads", "f16", "threads");
    println!("512 rows, GFLOPS");
    for (outputs, inputs) in SHAPES {
        let operations = 2e-9 * (512 * outputs * inputs) as f64;
        Products::new(512, outputs, inputs).print(&format!("{outputs} x {inputs}"), [operations; 2]);
    }
    println!("the head's {} x {} weights, GB/s", HEAD.0, HEAD.1);
    for rows in [1, 2, 4, 8] {
        let weights = 1e-9 * (HEAD.0 * HEAD.1) as f64;
        Products::new(rows, HEAD.0, HEAD.1).print(&format!("{rows} rows"), [4.0 * weights, 2.0 * weights]);
    }
    let Ok(path) = std::env::var("TINKEX_BENCH_MODEL") else { return };
    for precision in [WeightPrecision::F16, WeightPrecision::F32] {
        let model = ModelLoader::new(&path).weights(precision).load().expect("the environment names a model");
        println!("\n{}, {precision:?}:", model.name());
        for (examples, length) in [(8, 64), (4, 256)] {
            let took = training(&model, examples, length);
            report(&format!("training, {examples} x {length} tokens"), examples * length, took);
        }
        for sequences in [1, 4, 8, 16] {
            report(&format!("sampling, {sequences} at once"), sequences * SAMPLE, sampling(&model, sequences));
        }
    }
}

/// A matrix, and rows to multiply with it.
struct Products {
    x: Array2<f32>,
    dy: Array2<f32>,
    full: Array2<f32>,
    weights: [Weight<f32>; 2],
}

impl Products {
    fn new(rows: usize, outputs: usize, inputs: usize) -> Products {
        let mut random = fastrand::Rng::with_seed(1);
        let mut matrix = |shape| Array2::from_shape_simple_fn(shape, || random.f32() - 0.5);
        let full = matrix((outputs, inputs));
        let weights = [Weight::Full(full.clone()), Weight::Half(full.mapv(f32_to_f16))];
        Products { x: matrix((rows, inputs)), dy: matrix((rows, outputs)), full, weights }
    }

    /// Forward, and backward for many rows: so much work for each precision, by time.
    fn print(&self, name: &str, work: [f64; 2]) {
        let threads = [Threads::new(Some(1)), Threads::new(None)];
        let rates = |ndarray: Duration, product: &(dyn Fn(&Weight<f32>) -> Array2<f32> + Sync)| {
            let mut line = format!("{:>10.1}", work[0] / ndarray.as_secs_f64());
            for (weight, work) in self.weights.iter().zip(work) {
                for threads in &threads {
                    let took = quickest(|| drop(black_box(threads.run(|| product(weight)))));
                    line += &format!(" {:>8.1}", work / took.as_secs_f64());
                }
            }
            line
        };
        let ndarray = quickest(|| drop(black_box(self.x.dot(&self.full.t()))));
        println!("{name:<22} {}", rates(ndarray, &|weight| linear(self.x.view(), weight)));
        if self.x.nrows() > 8 {
            let ndarray = quickest(|| drop(black_box(self.dy.dot(&self.full))));
            println!("{:<22} {}", "  backward", rates(ndarray, &|weight| linear_backward(self.dy.view(), weight)));
        }
    }
}

/// One step: forward, backward and the optimizer's.
fn training(model: &impl Model, examples: usize, length: usize) -> Duration {
    let mut adapter = model.new_adapter(&AdapterOptions::new().rank(32).seed(1));
    let vocab = model.vocab_size();
    let text = |start: usize| (start..start + length).map(|at| (at * 7919 % vocab) as u32).collect();
    let example = |index: usize| {
        let start = index * length;
        Example::new(text(start), text(start + 1), Objective::cross_entropy(vec![1.0; length]))
    };
    let batch: Vec<_> = (0..examples).map(example).collect();
    let mut adam = Adam::default();
    quickest(|| {
        let mut gradient = Tensors::new();
        black_box(model.forward_backward(&adapter, &batch, Some(&mut gradient)));
        adam.step(&mut adapter.tensors, &gradient, &AdamOptions::new());
    })
}

/// So many samples of one prompt, as long as they get.
fn sampling(model: &impl Model, sequences: usize) -> Duration {
    let options = GenerationOptions::new().max_tokens(SAMPLE).seed(1).stop_at_end_of_text(false);
    let prompt: Vec<u32> = (100..116).collect();
    quickest(|| {
        black_box(model.sample(&SamplingContext::base(), &prompt, sequences, &options));
    })
}

fn report(name: &str, tokens: usize, took: Duration) {
    let rate = tokens as f64 / took.as_secs_f64();
    let memory = peak_memory().map_or_else(String::new, |bytes| format!("   {:.2} GB", bytes as f64 * 1e-9));
    println!("{name:<26} {rate:>8.1} tok/s{memory}");
}

/// The least time of several runs: what other programs do lengthens the others.
fn quickest(mut run: impl FnMut()) -> Duration {
    let clock = Clock::system();
    run();
    let start = clock.now();
    let mut quickest = Duration::MAX;
    for count in 0.. {
        let before = clock.now();
        run();
        let now = clock.now();
        quickest = quickest.min(now - before);
        if now - start > DURATION && count >= 2 {
            break;
        }
    }
    quickest
}

/// The most memory that the process had so far, from Linux, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
