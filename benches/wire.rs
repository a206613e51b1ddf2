//! The formats of a batch beside each other, and the speed of serializing requests and parsing responses, compared with serde_json
//! on plain vectors of the same numbers.
//!
//! `cargo bench --bench wire --features zstd`. Fails if this crate takes more than 1.3 times as long. Without `--bench`, as under
//! `cargo test`, it runs each once and asserts nothing.
//!
//! The memory of a format is what the largest of its requests allocates while it is written, without the buffers of the zstd
//! library, which the allocator of the program does not see.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod bodies;

use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bodies::{json_body, noise, protobuf_body};
use serde::Serialize;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tinkex::types::{Datum, ForwardBackwardOutput, Loss, LossFn, ModelInput};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const DATUMS: usize = 128;
const TOKENS: usize = 4096;
/// A chunk has at most 500 000 numbers: 40 datums of three times 4096.
const CHUNKS: [usize; 4] = [40, 40, 40, 8];
/// And at most 5 MB in protobuf: 76 datums of sixteen bytes times 4096.
const PROTOBUF_CHUNKS: [usize; 2] = [76, 52];
const LOGPROBS: usize = 500_000;
const MAX_RATIO: f64 = 1.3;

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

/// A datum of supervised fine-tuning: the last three quarters of the tokens count.
fn tuned(plain: &Plain) -> Datum {
    let weights: Vec<f32> = (0..TOKENS).map(|place| if place < TOKENS / 4 { 0.0 } else { 1.0 }).collect();
    datum(&Plain { tokens: plain.tokens.clone(), targets: plain.targets.clone(), weights })
}

#[cfg(feature = "zstd")]
fn zstd_body(chunk: &[Datum], loss: &Loss) -> Vec<u8> {
    zstd::bulk::compress(&protobuf_body(chunk, loss), zstd::DEFAULT_COMPRESSION_LEVEL).expect("it can be compressed")
}

type WriteBody = fn(&[Datum], &Loss) -> Vec<u8>;

/// Writes a batch in each format, and reports the bytes, the time and the memory of the largest request.
#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn compare_formats(runs: usize, datums: &[Datum], loss: &Loss) {
    println!("{DATUMS} x {TOKENS} of supervised fine-tuning");
    println!("{:<18} {:>8} {:>10} {:>9} {:>11}", "format", "requests", "bytes", "CPU", "memory");
    let formats: &[(&str, &[usize], WriteBody)] = &[
        ("JSON", &CHUNKS, json_body),
        ("protobuf", &PROTOBUF_CHUNKS, protobuf_body),
        #[cfg(feature = "zstd")]
        ("protobuf with zstd", &PROTOBUF_CHUNKS, zstd_body),
    ];
    for &(name, chunks, body) in formats {
        let (mut bytes, mut memory, mut time) = (0, 0, Duration::MAX);
        for _ in 0..runs {
            let (mut rest, mut elapsed) = (datums, Duration::ZERO);
            bytes = 0;
            for &length in chunks {
                let (chunk, after) = rest.split_at(length);
                rest = after;
                let region = Region::new(ALLOCATOR);
                let started = Instant::now();
                let body = black_box(body(chunk, loss));
                elapsed += started.elapsed();
                memory = memory.max(region.change().bytes_allocated);
                bytes += body.len();
            }
            time = time.min(elapsed);
        }
        let megabytes = |bytes: usize| bytes as f64 / 1e6;
        println!("{name:<18} {:>8} {bytes:>10} {time:>9.1?} {:>8.2} MB", chunks.len(), megabytes(memory));
    }
}

/// Serializes the request bodies of a batch.
fn write_requests(datums: &[Datum], loss: &Loss) -> usize {
    let mut rest = datums;
    let mut bytes = 0;
    for length in CHUNKS {
        let (chunk, after) = rest.split_at(length);
        rest = after;
        bytes += black_box(json_body(chunk, loss)).len();
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
    let tuned: Vec<_> = plains.iter().map(tuned).collect();
    compare_formats(runs, &tuned, &loss);
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
