//! Damaged input never makes a decoder panic, run for long, or allocate much more than it got. `QUICKCHECK_TESTS` sets the number
//! of inputs for each decoder; `scripts/fuzz` tries a million. The only tests of their process, since the allocator counts
//! everything in it.
#![cfg(feature = "local")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/damage.rs"]
mod damage;
mod readers;
mod seeds;

use std::alloc::System;
use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use damage::{Change, cases, damage};
use quickcheck::{Arbitrary, Gen};
use seeds::seeds;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tinkex::decoders::{DECODERS, Decoder};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most changes of one input.
const MAX_CHANGES: usize = 6;

/// One decoder at a time, so that what it allocates is its own.
static TURN: Mutex<()> = Mutex::new(());

/// The most bytes that a decoder may allocate in total, in all of its steps, for an input of this length.
fn allowed(name: &str, length: usize) -> usize {
    let fixed = match name {
        // A rendering may make 256 MiB of texts and lists, which grow.
        "chat_template" | "tokenizer_config" => 1 << 30,
        // Regular expressions.
        "gguf" | "tiktoken" | "tokenizer_json" => 64 << 20,
        _ => 4 << 20,
    };
    fixed + 500 * length
}

/// Runs a decoder. Returns what is wrong with it.
fn failure(name: &str, decoder: Decoder, input: &[u8]) -> Option<String> {
    let region = Region::new(ALLOCATOR);
    let words = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast_ref::<&str>().map_or("it panics", |words| words).to_owned(),
    };
    if let Err(panic) = catch_unwind(|| decoder(input)) {
        return Some(words(panic));
    }
    let allocated = region.change().bytes_allocated;
    (allocated > allowed(name, input.len())).then(|| format!("{allocated} bytes are allocated for {}", input.len()))
}

/// A seed with random changes.
fn damaged(seeds: &[Vec<u8>], which: usize, changes: &[Change]) -> Vec<u8> {
    let mut input = seeds[which % seeds.len()].clone();
    damage(&mut input, changes);
    input
}

/// Tries random damage on the decoders of these names. The input of a failure has as few changes as possible.
fn try_damage(names: &[&str], usual: u64) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Some decoders catch the panics of a library. A backtrace of one, if the environment asks for it, takes more memory than they may.
    #[allow(clippy::print_stderr, reason = "it is what the usual hook does")]
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let chosen: Vec<_> = DECODERS.iter().filter(|(name, _)| names.contains(name)).collect();
    assert_eq!(chosen.len(), names.len(), "{names:?}");
    for (name, decoder) in chosen {
        let seeds = seeds(name);
        for seed in &seeds {
            assert!(decoder(seed), "{name} does not take {:?}", String::from_utf8_lossy(seed));
            assert_eq!(failure(name, *decoder, seed), None, "{name}");
        }
        let mut random = Gen::new(16);
        for _ in 0..cases(usual) {
            let (which, mut changes) = (usize::arbitrary(&mut random), Vec::<Change>::arbitrary(&mut random));
            changes.truncate(MAX_CHANGES);
            let Some(mut why) = failure(name, *decoder, &damaged(&seeds, which, &changes)) else { continue };
            let smaller = |changes: &Vec<Change>| {
                let failing = |fewer: &Vec<Change>| failure(name, *decoder, &damaged(&seeds, which, fewer));
                changes.shrink().find_map(|fewer| Some((failing(&fewer)?, fewer)))
            };
            while let Some((words, fewer)) = smaller(&changes) {
                (why, changes) = (words, fewer);
            }
            let input = damaged(&seeds, which, &changes);
            panic!(
                "{name}: {why}\nat {:?} ({changes:?} of seed {})",
                input.escape_ascii().to_string(),
                which % seeds.len()
            );
        }
    }
}

/// The decoders of each test, with the number of inputs in the usual run.
const GROUPS: [(&str, &[&str], u64); 5] = [
    (
        "responses",
        &[
            "error_message",
            "passes",
            "polls",
            "protobuf_passes",
            "protobuf_requests",
            "protobuf_samples",
            "results",
            "samples",
            "settings",
            "stored",
            "submissions",
        ],
        200,
    ),
    (
        "texts",
        &[
            "base_url",
            "chaos_rules",
            "checkpoint_path",
            "content_range",
            "flags",
            "image",
            "location",
            "no_proxy",
            "proxy_address",
            "response_headers",
            "retry_after",
            "sampler_handle",
            "server_sent_events",
            "session_duration",
            "timestamp",
            "token",
            "tokenizer_id",
        ],
        400,
    ),
    ("files", &["credentials_file", "json_lines", "tar"], 100),
    (
        "in_memory",
        &[
            "adapter_config",
            "gguf_header",
            "http_requests",
            "hub_listing",
            "model_config",
            "openai_requests",
            "safetensors",
            "tokenizer_config",
            "weights_index",
        ],
        200,
    ),
    ("models", &["chat_template", "gguf", "tiktoken", "tokenizer_json"], 20),
];

fn try_group(group: &str) {
    let (_, names, usual) = GROUPS.iter().find(|(name, ..)| *name == group).unwrap();
    let built: Vec<&str> =
        names.iter().copied().filter(|name| DECODERS.iter().any(|(built, _)| built == name)).collect();
    try_damage(&built, *usual);
}

#[test]
fn damaged_responses_never_panic() {
    try_group("responses");
}

#[test]
fn damaged_texts_never_panic() {
    try_group("texts");
}

#[test]
fn damaged_files_never_panic() {
    try_group("files");
}

#[test]
fn damaged_headers_and_requests_never_panic() {
    try_group("in_memory");
}

#[test]
fn damaged_models_never_panic() {
    try_group("models");
}

#[test]
fn every_decoder_is_tried() {
    let tried: BTreeSet<&str> = GROUPS.iter().flat_map(|(_, names, _)| names.iter().copied()).collect();
    let missing: Vec<&str> = DECODERS.iter().map(|(name, _)| *name).filter(|name| !tried.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
#[ignore = "writes the seeds where cargo-fuzz looks for them; scripts/fuzz runs it"]
fn seeds_are_written_for_cargo_fuzz() {
    for (name, _) in DECODERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        fs::create_dir_all(&folder).unwrap();
        for (index, seed) in seeds(name).iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
        }
    }
}
