//! The speed of serializing requests and parsing responses, compared with serde_json on plain vectors of the same numbers.
//!
//! `cargo bench --bench wire`. Fails if this crate takes more than 1.3 times as long. Without `--bench`, as under `cargo test`,
//! it runs each once and asserts nothing.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use tinkex::types::wire::{ForwardBackwardInput, ForwardBackwardRequest};
use tinkex::types::{Datum, ForwardBackwardOutput, Loss, LossFn, ModelInput};

const DATUMS: usize = 128;
const TOKENS: usize = 4096;
/// A chunk has at most 500 000 numbers: 40 datums of three times 4096.
const CHUNKS: [usize; 4] = [40, 40, 40, 8];
const LOGPROBS: usize = 500_000;
const MAX_RATIO: f64 = 1.3;

/// Pseudo-random numbers that are the same on every run.
fn noise(index: usize) -> u32 {
    let mut x = u32::try_from(index).unwrap_or_default().wrapping_mul(2_654_435_761);
    x ^= x >> 15;
    x.wrapping_mul(2_246_822_519)
}

fn token(index: usize) -> u32 {
    noise(index) % 150_000
}

fn logprob(index: usize) -> f32 {
    -(noise(index) as f32) / 1e9
}

struct Plain {
    tokens: Vec<u32>,
    targets: Vec<i64>,
    weights: Vec<f32>,
}

fn plain(datum: usize) -> Plain {
    let indexes = || datum * TOKENS..(datum + 1) * TOKENS;
    Plain {
        tokens: indexes().map(token).collect(),
        targets: indexes().map(|index| i64::from(token(index + 1))).collect(),
        weights: indexes().map(|index| logprob(index).abs()).collect(),
    }
}

fn datum(plain: &Plain) -> Datum {
    Datum::new(ModelInput::from_tokens(plain.tokens.clone()))
        .input("target_tokens", plain.targets.clone())
        .and_then(|datum| datum.input("weights", plain.weights.clone()))
        .expect("the datum is valid")
}

fn write(buffer: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(&mut *buffer, value).expect("it can be serialized");
}

/// Serializes the request bodies of a batch.
fn write_requests(datums: &[Datum], loss: &Loss) -> usize {
    let mut rest = datums;
    let mut bytes = 0;
    for (seq_id, length) in (1..).zip(CHUNKS) {
        let (chunk, after) = rest.split_at(length);
        rest = after;
        let request = ForwardBackwardRequest {
            forward_backward_input: ForwardBackwardInput::new(chunk, loss),
            model_id: "model".into(),
            seq_id: Some(seq_id),
        };
        let mut body = Vec::new();
        write(&mut body, &request);
        bytes += black_box(body).len();
    }
    bytes
}

fn write_plain(plain: &[Plain]) -> usize {
    let mut rest = plain;
    let mut bytes = 0;
    for length in CHUNKS {
        let (chunk, after) = rest.split_at(length);
        rest = after;
        let mut body = Vec::new();
        for datum in chunk {
            write(&mut body, &datum.tokens);
            write(&mut body, &datum.targets);
            write(&mut body, &datum.weights);
        }
        bytes += black_box(body).len();
    }
    bytes
}

/// The shortest of several runs of each. The runs alternate, so that a busy machine slows both.
fn shortest(runs: usize, mut ours: impl FnMut(), mut plain: impl FnMut()) -> (Duration, Duration) {
    let time = |act: &mut dyn FnMut()| {
        let started = Instant::now();
        act();
        started.elapsed()
    };
    (0..runs).fold((Duration::MAX, Duration::MAX), |(a, b), _| (a.min(time(&mut ours)), b.min(time(&mut plain))))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn report(what: &str, bytes: usize, (ours, plain): (Duration, Duration)) -> bool {
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    let speed = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{what}: {bytes} bytes in {ours:.2?}, {:.0} MB/s; plain vectors in {plain:.2?}, {:.0} MB/s; {ratio:.2} times",
        speed(ours),
        speed(plain)
    );
    ratio <= MAX_RATIO
}

fn main() -> ExitCode {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let runs = if is_bench { 40 } else { 1 };
    let plains: Vec<_> = (0..DATUMS).map(plain).collect();
    let datums: Vec<_> = plains.iter().map(datum).collect();
    let loss = Loss::new(LossFn::CrossEntropy);
    let bytes = write_requests(&datums, &loss);
    let ours = || {
        black_box(write_requests(&datums, &loss));
    };
    let plain = || {
        black_box(write_plain(&plains));
    };
    let times = shortest(runs, ours, plain);
    let mut is_fast = report("forward_backward of 128 x 4096 in four chunks, serialized", bytes, times);

    let logprobs: Vec<_> = (0..LOGPROBS).map(logprob).collect();
    let array = serde_json::to_string(&logprobs).expect("it can be serialized");
    let result = format!(
        r#"{{"loss_fn_output_type":"ArrayRecord","loss_fn_outputs":[{{"logprobs":{{"data":{array},"dtype":"float32","shape":[{LOGPROBS}]}}}}],"metrics":{{"loss:sum":1.5}}}}"#
    );
    let parse = || drop(black_box(serde_json::from_str::<ForwardBackwardOutput>(&result).expect("a result")));
    let times =
        shortest(runs, parse, || drop(black_box(serde_json::from_str::<Vec<f32>>(&array).expect("a list of numbers"))));
    is_fast &= report("result with 500000 logprobs, parsed", result.len(), times);
    if is_fast || !is_bench { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
