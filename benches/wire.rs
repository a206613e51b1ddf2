//! How fast requests are written and answers are read, beside serde_json on bare vectors of the same numbers.
//!
//! `cargo bench --bench wire`. Exits with an error when a way of this crate takes more than 1.3 times as long. With
//! `cargo test` or without `--bench` it runs each once and asserts nothing.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use tinkex::types::wire::{ForwardBackwardInput, ForwardBackwardRequest};
use tinkex::types::{Datum, ForwardBackwardOutput, Loss, LossFn, ModelInput};

const DATUMS: usize = 128;
const TOKENS: usize = 4096;
/// A chunk ends before 500 000 numbers: 40 datums of three times 4096.
const CHUNKS: [usize; 4] = [40, 40, 40, 8];
const LOGPROBS: usize = 500_000;
const MOST: f64 = 1.3;

/// Numbers that look random and are the same on every run.
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

struct Bare {
    tokens: Vec<u32>,
    targets: Vec<i64>,
    weights: Vec<f32>,
}

fn bare(datum: usize) -> Bare {
    let indexes = || datum * TOKENS..(datum + 1) * TOKENS;
    Bare {
        tokens: indexes().map(token).collect(),
        targets: indexes().map(|index| i64::from(token(index + 1))).collect(),
        weights: indexes().map(|index| logprob(index).abs()).collect(),
    }
}

fn datum(bare: &Bare) -> Datum {
    Datum::new(ModelInput::from_tokens(bare.tokens.clone()))
        .input("target_tokens", bare.targets.clone())
        .and_then(|datum| datum.input("weights", bare.weights.clone()))
        .expect("the datum is valid")
}

fn write(buffer: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(&mut *buffer, value).expect("it can be written");
}

/// The bodies of a batch as they are sent.
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

fn write_bare(bare: &[Bare]) -> usize {
    let mut rest = bare;
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

/// The shortest of many runs of each, turn by turn, so that a busy machine hits both.
fn race(runs: usize, mut ours: impl FnMut(), mut bare: impl FnMut()) -> (Duration, Duration) {
    let time = |act: &mut dyn FnMut()| {
        let started = Instant::now();
        act();
        started.elapsed()
    };
    (0..runs).fold((Duration::MAX, Duration::MAX), |(a, b), _| (a.min(time(&mut ours)), b.min(time(&mut bare))))
}

#[expect(clippy::print_stdout, reason = "this is its report")]
fn report(what: &str, bytes: usize, (ours, bare): (Duration, Duration)) -> bool {
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    let speed = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{what}: {bytes} bytes in {ours:.2?}, {:.0} MB/s; bare vectors in {bare:.2?}, {:.0} MB/s; {ratio:.2} times",
        speed(ours),
        speed(bare)
    );
    ratio <= MOST
}

fn main() -> ExitCode {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let runs = if measures { 40 } else { 1 };
    let bares: Vec<_> = (0..DATUMS).map(bare).collect();
    let datums: Vec<_> = bares.iter().map(datum).collect();
    let loss = Loss::new(LossFn::CrossEntropy);
    let bytes = write_requests(&datums, &loss);
    let ours = || {
        black_box(write_requests(&datums, &loss));
    };
    let bare = || {
        black_box(write_bare(&bares));
    };
    let times = race(runs, ours, bare);
    let mut is_fast = report("a forward_backward of 128 x 4096 in four chunks, written", bytes, times);

    let logprobs: Vec<_> = (0..LOGPROBS).map(logprob).collect();
    let array = serde_json::to_string(&logprobs).expect("it can be written");
    let result = format!(
        r#"{{"loss_fn_output_type":"ArrayRecord","loss_fn_outputs":[{{"logprobs":{{"data":{array},"dtype":"float32","shape":[{LOGPROBS}]}}}}],"metrics":{{"loss:sum":1.5}}}}"#
    );
    let parse = || drop(black_box(serde_json::from_str::<ForwardBackwardOutput>(&result).expect("a result")));
    let times =
        race(runs, parse, || drop(black_box(serde_json::from_str::<Vec<f32>>(&array).expect("a list of numbers"))));
    is_fast &= report("a result of 500000 logprobs, read", result.len(), times);
    if is_fast || !measures { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
