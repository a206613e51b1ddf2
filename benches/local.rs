//! The speed of the local server's models, compared with plain matrix products of the same shapes.
//!
//! ```text
//! cargo bench --no-default-features --features local --bench local
//! ```
//!
//! Prints the tokens per second of `forward_backward` and of sampling, and the ratio of the time to a lower bound (floor): the
//! matrix products that every implementation needs, done by the same library on as many threads. The floor leaves out the products
//! inside attention, whose shapes depend on the length.
//!
//! Then the time until the first token after a long prompt: without a prefix cache, with one that has the first half of the
//! prompt, and with one that has all of it.

#![allow(clippy::print_stdout, reason = "it prints its report")]

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use tinkex::clock::Clock;
use tinkex::local::model::{
    AdapterOptions, Example, GenerationOptions, KvNamespace, Model, Objective, SamplingContext, Tensors,
};
use tinkex::local::transformer::Transformer;

/// The number of examples and of tokens in each, as in a batch of short texts.
const BATCH: (usize, usize) = (32, 128);
const SAMPLE: usize = 256;
/// The number of tokens of a long prompt.
const PROMPT: usize = 768;
const MIN_DURATION: Duration = Duration::from_secs(1);

fn main() {
    println!("{:<22} {:>16} {:>10}", "", "training", "floor");
    // Layers, width and MLP, as in the table of the docs.
    let models: [(Transformer, usize, usize, usize); 3] = [
        (Transformer::bytes_tiny(), 2, 64, 128),
        (Transformer::bytes_small(), 4, 128, 384),
        (Transformer::bytes_medium(), 6, 256, 768),
    ];
    for (model, layers, width, hidden) in models {
        let shapes = shapes(layers, width, hidden, model.vocab_size());
        let (trained, floor) = (training(&model), training_floor(&shapes));
        let tokens = (BATCH.0 * BATCH.1) as f64;
        let line = |took: Duration, floor: Duration, tokens: f64| {
            let (took, floor) = (took.as_secs_f64(), floor.as_secs_f64());
            format!("{:>10.0} tok/s {:>10.0} {:>7.2}x", tokens / took, tokens / floor, took / floor)
        };
        let name = model.name();
        println!("{name:<22} {}", line(trained, floor, tokens));
        for at_once in [1, 16] {
            let (sampled, floor) = (sampling(&model, at_once), sampling_floor(&shapes, at_once));
            println!(
                "{:<22} {}",
                format!("  sampling, {at_once} at once"),
                line(sampled, floor, (at_once * SAMPLE) as f64)
            );
        }
    }
    println!();
    println!("{:<22} {:>16} {:>16} {:>16}", "prompt of 768 tokens", "no prefix cache", "half cached", "all cached");
    for model in [Transformer::bytes_tiny, Transformer::bytes_small, Transformer::bytes_medium] {
        let millis = [prompt(&model().prompt_cache(0), PROMPT), prompt(&model(), PROMPT / 2), prompt(&model(), 0)]
            .map(|took| format!("{:>13.2} ms", took.as_secs_f64() * 1e3));
        println!("{:<22} {}", model().name(), millis.join(" "));
    }
}

/// The duration of work that keeps this many threads busy: the mean over several rounds, after one to warm up.
///
/// Measures processor time if the system provides it, so that other programs on the machine do not count.
fn time(threads: usize, mut run: impl FnMut()) -> Duration {
    run();
    let clock = Clock::system();
    let (start, processor) = (clock.now(), processor_time());
    let spent = || match (processor, processor_time()) {
        (Some(before), Some(now)) => (now - before) / threads as u32,
        _ => clock.now() - start,
    };
    for rounds in 1.. {
        run();
        if spent() > MIN_DURATION {
            return spent() / rounds;
        }
    }
    Duration::ZERO
}

/// The processor time of this process on all processors, from Linux, in hundredths of a second.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the name (which may contain anything) start with number 3; user and system time are 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn training(model: &dyn Model) -> Duration {
    let adapter = model.new_adapter(&AdapterOptions::new().rank(32).seed(1));
    let (examples, length) = BATCH;
    let text = |start: usize| (start..start + length).map(|at| (at * 7 % 256) as u32).collect();
    let objective = || Objective::cross_entropy(vec![1.0; length]);
    let example = |start: usize| Example::new(text(start), text(start + 1), objective());
    let batch: Vec<_> = (0..examples).map(example).collect();
    time(threads(), || {
        let mut gradient = Tensors::new();
        black_box(model.forward_backward(&adapter, &batch, Some(&mut gradient)));
    })
}

/// A sample of each of so many callers at once.
fn sampling(model: &dyn Model, at_once: usize) -> Duration {
    let context = SamplingContext::new(Arc::new(model.new_adapter(&AdapterOptions::new().rank(32).seed(1))));
    // Also after the end-of-text token, which an untrained model may sample at any time.
    let options = GenerationOptions::new().max_tokens(SAMPLE).stop_at_end_of_text(false);
    let sample = |caller: usize| {
        black_box(model.sample(&context, &[104, 101], 1, &options.clone().seed(caller as u64)));
    };
    time(1, || {
        thread::scope(|scope| {
            (1..at_once).for_each(|caller| drop(scope.spawn(move || sample(caller))));
            sample(0);
        });
    })
}

/// One token after a prompt, whose last tokens are different each time.
fn prompt(model: &dyn Model, different: usize) -> Duration {
    let adapter = Arc::new(model.new_adapter(&AdapterOptions::new().rank(32).seed(1)));
    let context = SamplingContext::new(adapter).namespace(&KvNamespace::new());
    let options = GenerationOptions::new().max_tokens(1).seed(1);
    let mut tokens: Vec<u32> = (0..PROMPT).map(|at| (at * 7 % 256) as u32).collect();
    let mut round = 0_u32;
    time(1, || {
        round += 1;
        for (digit, token) in tokens[PROMPT - different..].iter_mut().take(4).enumerate() {
            *token = (round >> (8 * digit)) & 255;
        }
        black_box(model.sample(&context, &tokens, 1, &options));
    })
}

/// Outputs × inputs of each projection.
fn shapes(layers: usize, width: usize, hidden: usize, vocab: usize) -> Vec<(usize, usize)> {
    let layer = [(width, width); 4].into_iter().chain([(hidden, width), (hidden, width), (width, hidden)]);
    let mut shapes: Vec<_> = (0..layers).flat_map(|_| layer.clone()).collect();
    shapes.push((vocab, width));
    shapes
}

/// Each projection once forward, and twice backward: for its input and for its weights.
fn training_floor(shapes: &[(usize, usize)]) -> Duration {
    let threads = threads();
    let rows = BATCH.0 * BATCH.1 / threads;
    let work = || {
        for &(outputs, inputs) in shapes {
            let weight = Array2::<f32>::ones((outputs, inputs));
            let (x, dy) = (Array2::<f32>::ones((rows, inputs)), Array2::<f32>::ones((rows, outputs)));
            black_box((x.dot(&weight.t()), dy.dot(&weight)));
            let mut gradient = Array2::<f32>::zeros((outputs, inputs));
            general_mat_mul(1.0, &dy.t(), &x, 1.0, &mut gradient);
            black_box(gradient);
        }
    };
    time(threads, || {
        thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    })
}

/// Each projection of so many rows, for each token.
fn sampling_floor(shapes: &[(usize, usize)], rows: usize) -> Duration {
    let weights: Vec<_> = shapes
        .iter()
        .map(|&(outputs, inputs)| (Array2::<f32>::ones((outputs, inputs)), Array2::<f32>::ones((inputs, rows))))
        .collect();
    time(1, || {
        for _ in 0..SAMPLE {
            for (weight, x) in &weights {
                // The product with one column has a path of its own.
                match rows {
                    1 => drop(black_box(weight.dot(&x.column(0)))),
                    _ => drop(black_box(weight.dot(x))),
                }
            }
        }
    })
}
