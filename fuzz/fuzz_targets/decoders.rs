//! The decoder that the variable `DECODER` names. Whatever the bytes are, it takes or refuses them, without a panic.
#![no_main]

use std::env;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tinkex::decoders::{DECODERS, Decoder};

static CHOSEN: LazyLock<Decoder> = LazyLock::new(|| {
    let chosen = env::var("DECODER").unwrap_or_default();
    let names: Vec<&str> = DECODERS.iter().map(|(name, _)| *name).collect();
    let decoder = DECODERS.iter().find(|(name, _)| *name == chosen).map(|(_, decoder)| *decoder);
    decoder.unwrap_or_else(|| panic!("set DECODER to one of {}", names.join(", ")))
});

fuzz_target!(|data: &[u8]| {
    CHOSEN(data);
});
