//! GGUF files.

use std::fs;

use tinkex::ErrorKind;
use tinkex::local::model::Model;

use super::model_copy::{ModelCopy, golden, load};

const LLAMA: &str = "llama-q8_0.gguf";
const STRETCHED: &str = "llama3-rope-f16.gguf";

/// What follows the first place of a text.
fn after<'a>(bytes: &'a mut [u8], text: &str) -> &'a mut [u8] {
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    &mut bytes[at + text.len()..]
}

/// A file with one change.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> ModelCopy {
    ModelCopy::of(&format!("gguf/{name}")).bytes(name, change)
}

/// A file with another number, of 32 bits, for a key of its metadata. The number's type comes before it.
fn with_number(name: &str, key: &str, number: u32) -> ModelCopy {
    changed(name, |bytes| after(bytes, key)[4..8].copy_from_slice(&number.to_le_bytes()))
}

/// A file with another text, of the same length, in the place of the first.
fn with_text(name: &str, text: &str, other: &str) -> ModelCopy {
    assert_eq!(text.len(), other.len());
    changed(name, |bytes| {
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        bytes[at..at + text.len()].copy_from_slice(other.as_bytes());
    })
}

/// A file with one more key, whose value has this type; and another one, so that the data begin at a multiple of 32 again.
fn with_key(key: &str, kind: u32, value: &[u8]) -> ModelCopy {
    let entry = |key: &str, kind: u32, value: &[u8]| {
        [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), &kind.to_le_bytes(), value].concat()
    };
    let text = |length: usize| [&(length as u64).to_le_bytes()[..], &vec![b'-'; length]].concat();
    changed(LLAMA, |bytes| {
        let keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 2;
        bytes[16..24].copy_from_slice(&keys.to_le_bytes());
        let entries = |padding| [entry(key, kind, value), entry("padding", 8, &text(padding))].concat();
        let length = entries(0).len();
        bytes.splice(24..24, entries(length.next_multiple_of(32) - length));
    })
}

/// The description of a matrix, after its name: the number of dimensions, two dimensions, the type, the offset.
fn with_matrix(tensor: &str, at: usize, number: u64, length: usize) -> ModelCopy {
    changed(LLAMA, |bytes| after(bytes, tensor)[at..at + length].copy_from_slice(&number.to_le_bytes()[..length]))
}

#[test]
fn each_file_loads_by_itself_or_in_folders() {
    let mut count = 0;
    for entry in fs::read_dir(golden("gguf")).unwrap() {
        let path = entry.unwrap().path();
        let model = load(&path).unwrap();
        assert_eq!(model.name(), path.file_stem().unwrap().to_str().unwrap());
        assert_eq!(model.vocab_size(), 272);
        assert!(model.end_tokens().contains(&2), "{:?}", model.end_tokens());
        count += 1;
    }
    assert_eq!(count, 13);
    assert!(ModelCopy::of("gguf/llama-q8_0.gguf").load().is_ok());
    let two = ModelCopy::of("gguf/llama-q8_0.gguf");
    fs::copy(two.file(LLAMA), two.file("other.gguf")).unwrap();
    let error = two.refusal();
    assert!(error.contains("2 GGUF files") && error.contains("name one of them, such as"), "{error}");
}

#[test]
fn what_would_change_numbers_is_refused_by_name() {
    for (copy, why) in [
        (with_text(LLAMA, "\u{5}\0\0\0\0\0\0\0llama", "\u{5}\0\0\0\0\0\0\0gemma"), "its architecture is \"gemma\""),
        (with_number(LLAMA, "llama.rope.dimension_count", 8), "llama.rope.dimension_count is 8"),
        (with_matrix("blk.0.attn_q.weight", 20, 10, 4), "the type Q2_K, and only F32, F16, Q4_0,"),
        (with_matrix("blk.0.attn_q.weight", 20, 77, 4), "the type number 77"),
    ] {
        let error = copy.load().map(|_| ()).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn the_family_is_checked_before_the_types() {
    let copy = with_text(LLAMA, "\u{5}\0\0\0\0\0\0\0llama", "\u{5}\0\0\0\0\0\0\0gemma");
    let copy =
        copy.bytes(LLAMA, |bytes| after(bytes, "blk.0.attn_q.weight")[20..24].copy_from_slice(&39u32.to_le_bytes()));
    assert!(copy.refusal().contains("its architecture is \"gemma\""), "{}", copy.refusal());
}

#[test]
fn keys_must_fit_the_tensors() {
    for (copy, why) in [
        (with_number(LLAMA, "llama.attention.head_count_kv", 3), "4 heads of queries cannot share 3"),
        (with_number(LLAMA, "llama.block_count", 3), "the tensor blk.2.attn_norm.weight is missing"),
        (with_number(LLAMA, "llama.block_count", u32::MAX), "the tensor blk.2.attn_norm.weight is missing"),
        (with_number(LLAMA, "llama.block_count", 1), "belongs to no LlamaForCausalLM model"),
        (with_number(LLAMA, "llama.block_count", 0), "llama.block_count is not a number from 1"),
        (with_number(LLAMA, "llama.embedding_length", 128), "llama.rope.dimension_count is 16"),
        (with_text(LLAMA, "llama.embedding_length", "llama.embedding_lengtx"), "has no llama.embedding_length"),
        (with_text(LLAMA, "blk.0.attn_norm", "blk.0.attn_nosm"), "the tensor blk.0.attn_norm.weight is missing"),
        (with_text(LLAMA, "token_embd.weight", "token_embx.weight"), "token_embd.weight is missing"),
        (with_text(STRETCHED, "rope_freqs.weight", "rope_freqx.weight"), "rope_freqx.weight belongs to no"),
        (with_number(LLAMA, "tokenizer.ggml.eos_token_id", 272), "the token 272, which ends a text"),
    ] {
        let error = copy.refusal();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn tensors_must_lie_in_the_file() {
    let matrix = "blk.0.attn_q.weight";
    for (copy, why) in [
        (with_matrix(matrix, 4, 1 << 63, 8), "claims the size [64, 9223372036854775808]"),
        (with_matrix(matrix, 4, 33, 8), "claims the size [64, 33]"),
        (with_matrix(matrix, 12, 1 << 40, 8), "ends beyond the file"),
        (with_matrix(matrix, 4, 0, 8), "claims the size [64, 0]"),
        (with_matrix(matrix, 0, 1 << 31, 4), "claims 2147483648 dimensions"),
        (with_matrix(matrix, 24, 1 << 63, 8), "ends beyond the file"),
        (with_matrix(matrix, 24, u64::MAX - 31, 8), "ends beyond the file"),
        (with_matrix(matrix, 24, 1, 8), "no multiple of 32"),
        (with_matrix(matrix, 24, 0, 8), "overlap"),
        (with_text(LLAMA, "blk.0.attn_k.weight", "blk.0.attn_q.weight"), "the tensor blk.0.attn_q.weight twice"),
        (changed(LLAMA, |bytes| bytes.truncate(bytes.len() - 1)), "ends beyond the file"),
    ] {
        let error = copy.load().map(|_| ()).unwrap_err();
        assert!(error.kind() == ErrorKind::Decode && error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn numbers_of_the_file_must_be_finite() {
    // The last tensor is the last norm, in f32.
    let copy = changed(LLAMA, |bytes| {
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = copy.refusal();
    assert!(error.contains("output_norm.weight") && error.contains("not finite"), "{error}");
    // The first is the embedding; its description ends the header, but for those of the rest.
    let copy = changed(LLAMA, |bytes| {
        let length = bytes.len();
        let rest = after(bytes, "output_norm.weight");
        let header = length - rest.len() + 4 + 8 + 4 + 8;
        // The scale of the first block, in half precision: an infinite number.
        bytes[header.next_multiple_of(32)..][..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    });
    let error = copy.refusal();
    assert!(error.contains("token_embd.weight") && error.contains("not finite"), "{error}");
}

#[test]
fn no_key_passes_as_absent() {
    let float = |number: f32| (6, number.to_le_bytes().to_vec());
    let text = |text: &str| (8, [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat());
    for (key, (kind, value), why) in [
        ("expert_count", float(8.0), "llama.expert_count is not a whole number"),
        ("attention.sliding_window", float(16.0), "llama.attention.sliding_window is not a whole number"),
        ("rope.scaling.type", float(2.0), "llama.rope.scaling.type is not a text"),
        ("rope.scaling.type", text("yarn"), "the method \"yarn\""),
        ("rope.scaling.factor", float(4.0), "scaled (llama.rope.scaling.factor)"),
        ("rope.scaling.factor", (4, vec![4, 0, 0, 0]), "scaled (llama.rope.scaling.factor)"),
        ("rope.scale_linear", float(4.0), "scaled (llama.rope.scale_linear)"),
        ("rope.scaling.attn_factor", float(0.5), "scaled (llama.rope.scaling.attn_factor)"),
    ] {
        let error = with_key(&format!("llama.{key}"), kind, &value).refusal();
        assert!(error.contains(why), "{why}: {error}");
    }
    for (key, (kind, value)) in [
        ("expert_count", (4, vec![0; 4])),
        ("rope.scaling.type", text("none")),
        ("rope.scaling.factor", float(1.0)),
        ("rope.scale_linear", float(1.0)),
    ] {
        let loaded = with_key(&format!("llama.{key}"), kind, &value).load();
        assert!(loaded.is_ok(), "{key}: {:?}", loaded.err());
    }
}

#[test]
fn one_of_several_files_is_refused() {
    let copy = with_key("split.count", 2, &[3, 0]);
    let error = copy.refusal();
    assert!(error.contains("split.count") && error.contains("llama-gguf-split --merge"), "{error}");
}
