//! The numbers of the micro models' tensors.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::{LoadProgress, WeightPrecision, parameters};
use crate::error::{Error, ErrorKind};
use crate::local::kernel::Weight;
use crate::local::model::Cancellation;

fn golden(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models")).join(path)
}

fn open(path: &str) -> Checkpoint {
    Checkpoint::open(&golden(path), &Cancellation::new()).unwrap()
}

fn numbers(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let mut numbers = Vec::new();
    let mut add = |piece: &[f32]| {
        numbers.extend_from_slice(piece);
        Ok(())
    };
    checkpoint.read(name, &Cancellation::new(), &mut add).unwrap();
    numbers
}

fn close(found: f64, expected: &Value, scale: f64) -> bool {
    (found - expected.as_f64().unwrap()).abs() <= 1e-6 * scale.max(1.0)
}

#[test]
fn each_type_of_gguf_has_the_reference_numbers() {
    let mut kinds = Vec::new();
    for entry in fs::read_dir(golden("gguf")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let reference = golden("golden/gguf").join(&name).with_extension("json");
        let reference: Value = serde_json::from_slice(&fs::read(reference).unwrap()).unwrap();
        let mut checkpoint = open(&format!("gguf/{name}"));
        // The reference has the rows in the order of the file.
        checkpoint.tensors.values_mut().for_each(|tensor| tensor.interleaved_heads = None);
        for (label, expected) in reference["dequantised"].as_object().unwrap() {
            let context = format!("{name}: {label}");
            let Some((key, tensor)) = checkpoint.tensors.iter().find(|(_, tensor)| tensor.label == *label) else {
                assert_eq!(label, "rope_freqs.weight", "{name}");
                let divisors = checkpoint.config.rope_divisors.as_ref().unwrap();
                assert!(close(divisors.iter().sum(), &expected["sum"], 100.0), "{context}");
                continue;
            };
            assert_eq!(Value::from(tensor.shape.clone()), expected["shape"], "{context}");
            kinds.push(tensor.encoding);
            let numbers: Vec<f64> = numbers(&checkpoint, key).into_iter().map(f64::from).collect();
            for (number, first) in numbers.iter().zip(expected["first"].as_array().unwrap()) {
                assert!(close(*number, first, 1.0), "{context}: {number} for {first}");
            }
            for pair in expected["at"].as_array().unwrap() {
                let number = numbers[pair[0].as_u64().unwrap() as usize];
                assert!(close(number, &pair[1], 1.0), "{context}: {number} for {pair}");
            }
            let squares = numbers.iter().map(|number| number * number).sum::<f64>();
            assert!(close(squares, &expected["sum_of_squares"], squares), "{context}: {squares}");
            let sum: f64 = numbers.iter().sum();
            assert!(close(sum, &expected["sum"], squares.sqrt() * 10.0), "{context}: {sum}");
        }
    }
    kinds.sort_unstable_by_key(|kind| format!("{kind:?}"));
    kinds.dedup();
    assert_eq!(kinds.len(), 11, "{kinds:?}");
}

#[test]
fn both_formats_hold_the_same_model() {
    let (directory, file) = (open("llama-gqa-tied-f32"), open("gguf/llama-f32.gguf"));
    assert_eq!(directory.tensors.keys().collect::<Vec<_>>(), file.tensors.keys().collect::<Vec<_>>());
    for name in directory.tensors.keys() {
        assert_eq!(numbers(&directory, name), numbers(&file, name), "{name}");
    }
    assert!(directory.is_tied && file.is_tied);
    let (from_options, mut from_keys) = (directory.config, file.config);
    // GGUF has it in single precision.
    assert!((from_keys.rms_norm_eps - from_options.rms_norm_eps).abs() < 1e-12);
    from_keys.rms_norm_eps = from_options.rms_norm_eps;
    assert_eq!(from_options, from_keys);
}

#[test]
fn both_formats_stretch_the_context_alike() {
    let divisors = |path| open(path).config.rope_divisors.unwrap();
    let (formula, stored) = (divisors("llama3-rope-f16"), divisors("gguf/llama3-rope-f16.gguf"));
    assert_eq!((formula.len(), stored.len()), (6, 6));
    for (formula, stored) in formula.iter().zip(&stored) {
        assert!((formula / stored - 1.0).abs() < 1e-6, "{formula} for {stored}");
    }
    assert!(formula.iter().any(|divisor| *divisor > 1.0));
}

#[test]
fn weights_of_sixteen_bits_stay_so() {
    for (path, expected) in [
        ("llama3-rope-f16", WeightPrecision::F16),
        ("qwen3-bf16", WeightPrecision::F16),
        ("gguf/llama-bf16.gguf", WeightPrecision::F16),
        ("llama-gqa-tied-f32", WeightPrecision::F32),
        ("gguf/llama-q8_0.gguf", WeightPrecision::F32),
    ] {
        let checkpoint = open(path);
        assert_eq!(parameters::precision(&checkpoint, WeightPrecision::Auto), expected, "{path}");
        for precision in [WeightPrecision::F16, WeightPrecision::F32] {
            assert_eq!(parameters::precision(&checkpoint, precision), precision);
        }
    }
}

#[test]
fn halves_are_the_stored_numbers() {
    let checkpoint = open("llama3-rope-f16");
    let read = |precision| parameters::read(&checkpoint, precision, &Cancellation::new(), &|_| {}).unwrap();
    let (halves, full) = (read(WeightPrecision::F16), read(WeightPrecision::F32));
    for (halves, full) in halves.layers.iter().zip(&full.layers) {
        let (Weight::Half(halves), Weight::Full(full)) = (&halves.down.weight, &full.down.weight) else {
            panic!("the precision is not what was wanted")
        };
        assert_eq!(halves.mapv(crate::local::kernel::f16_to_f32), full);
    }
}

#[test]
fn progress_ends_with_all_bytes() {
    let checkpoint = open("qwen2-bias-bf16");
    for precision in [WeightPrecision::F16, WeightPrecision::F32] {
        let last = std::cell::Cell::new((0, 0));
        let report = |progress| {
            let LoadProgress::Reading { bytes, total } = progress else { panic!("{progress:?}") };
            assert!(bytes > last.get().0 && bytes <= total, "{bytes} of {total}");
            last.set((bytes, total));
        };
        parameters::read(&checkpoint, precision, &Cancellation::new(), &report).unwrap();
        let total = parameters::bytes(&checkpoint, precision);
        assert_eq!(last.get(), (total, total));
    }
}

#[test]
fn reading_ends_with_the_next_piece() {
    let checkpoint = open("qwen2-bias-bf16");
    let (cancellation, pieces) = (Cancellation::new(), std::cell::Cell::new(0));
    let report = |_| {
        pieces.set(pieces.get() + 1);
        cancellation.cancel();
    };
    let error = parameters::read(&checkpoint, WeightPrecision::F32, &cancellation, &report).unwrap_err();
    assert_eq!((Error::from(error).kind(), pieces.get()), (ErrorKind::Cancelled, 1));
}
