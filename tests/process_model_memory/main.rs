//! The memory that model files take which claim more than they have. The only test of its process, since the allocator counts
//! everything in it.
#![cfg(feature = "pretrained")]
#![allow(clippy::unwrap_used, reason = "a failing test panics")]

use std::alloc::System;
use std::fs;
use std::path::Path;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tinkex::local::pretrained::ModelLoader;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most bytes that are allocated for a file of at most 400 KB, all allocations taken together.
const LIMIT: usize = 32 << 20;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models");

/// Puts a claim at each eighth place of a header, and loads the model.
fn claim_everywhere(model: &Path, file: &Path, header: usize) {
    let original = fs::read(file).unwrap();
    for at in (0..header).step_by(8) {
        for claim in [1u64 << 63, 1 << 40, (1 << 32) - 1] {
            let mut bytes = original.clone();
            bytes[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            fs::write(file, &bytes).unwrap();
            let region = Region::new(ALLOCATOR);
            let _ = ModelLoader::new(model.to_str().unwrap()).load();
            let allocated = region.change().bytes_allocated;
            assert!(allocated < LIMIT, "{claim} at {at} of {}: {allocated} bytes", file.display());
        }
    }
}

#[test]
fn lies_take_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let copy = |from: &str| {
        let to = directory.path().join(Path::new(from).file_name().unwrap());
        fs::write(&to, fs::read(Path::new(MODELS).join(from)).unwrap()).unwrap();
        to
    };
    let file = copy("gguf/llama-q4_0.gguf");
    // The numbers at its beginning, and the keys before the vocabulary.
    claim_everywhere(&file, &file, 700);
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        copy(&format!("llama-gqa-tied-f32/{name}"));
    }
    let weights = copy("llama-gqa-tied-f32/model.safetensors");
    claim_everywhere(directory.path(), &weights, 256);
}
