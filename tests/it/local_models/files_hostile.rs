//! Damaged headers, of either format: an error or a model, and never a panic. `QUICKCHECK_TESTS` sets the number of them, 60 by default.

use std::fs;

use quickcheck::{Arbitrary, Gen};
use tinkex::ErrorKind;

use super::model_copy::{ModelCopy, golden, load};
use crate::support::damage::cases;

/// Numbers that a header claims in the place of true ones.
const CLAIMS: [u64; 8] = [0, 1, 1 << 31, 1 << 32, (1 << 53) + 1, 1 << 62, 1 << 63, u64::MAX];

/// What happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, u8),
    Claim(usize, u64),
    Cut(usize),
    /// These bytes once more.
    Repeat(usize, usize),
}

impl Arbitrary for Damage {
    fn arbitrary(random: &mut Gen) -> Damage {
        let place = usize::arbitrary(random);
        match u8::arbitrary(random) % 8 {
            0..3 => Damage::Byte(place, u8::arbitrary(random)),
            3..6 => Damage::Claim(place, *random.choose(&CLAIMS).unwrap()),
            6 => Damage::Cut(place),
            _ => Damage::Repeat(place, usize::arbitrary(random) % 64),
        }
    }
}

impl Damage {
    /// Damages a file whose header has this many bytes.
    fn to(&self, bytes: &mut Vec<u8>, header: usize) {
        let header = header.min(bytes.len()).max(1);
        match *self {
            Damage::Byte(at, byte) => {
                if let Some(old) = bytes.get_mut(at % header) {
                    *old = byte;
                }
            }
            Damage::Claim(at, claim) => {
                let at = at % header;
                for (old, byte) in bytes.iter_mut().skip(at).zip(claim.to_le_bytes()) {
                    *old = byte;
                }
            }
            Damage::Cut(at) => bytes.truncate(at % (bytes.len() + 1)),
            Damage::Repeat(at, count) => {
                let at = at % header;
                let end = (at + count).min(bytes.len());
                let copy: Vec<u8> = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

/// Damages the headers of a file of a model, and loads it.
fn check(model: &str, file: &str, header: usize) {
    let original = ModelCopy::of(model);
    let bytes = fs::read(original.file(file)).unwrap();
    let property = |damages: Vec<Damage>| {
        let mut damaged = bytes.clone();
        damages.iter().take(3).for_each(|damage| damage.to(&mut damaged, header));
        fs::write(original.file(file), &damaged).unwrap();
        let loaded = original.load();
        if let Err(error) = &loaded {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Decode | ErrorKind::InvalidInput | ErrorKind::Io), "{kind:?}: {error}");
        }
        damages.is_empty() <= loaded.is_ok()
    };
    // Calls of a closure: quickcheck takes functions only.
    let mut random = Gen::new(6);
    for _ in 0..cases(60) {
        let damages = Vec::<Damage>::arbitrary(&mut random);
        assert!(property(damages.clone()), "{damages:?}");
    }
}

#[test]
fn damaged_safetensors_headers_never_panic() {
    check("llama-gqa-tied-f32", "model.safetensors", 2000);
}

#[test]
fn damaged_gguf_headers_never_panic() {
    check("gguf/llama-q4_0.gguf", "llama-q4_0.gguf", 8500);
}

#[test]
fn damaged_configurations_never_panic() {
    check("llama3-rope-f16", "config.json", 800);
    check("llama-mha-untied-sharded-f32", "model.safetensors.index.json", 1700);
}

#[test]
fn every_cut_of_a_file_is_an_error() {
    for name in ["llama-gqa-tied-f32/model.safetensors", "gguf/llama-q4_0.gguf"] {
        let (model, file) = match name.rsplit_once('/') {
            Some(("gguf", file)) => (name, file),
            Some(parts) => parts,
            None => unreachable!("a path has a folder"),
        };
        let copy = ModelCopy::of(model);
        let bytes = fs::read(golden(name)).unwrap();
        for end in (0..bytes.len()).step_by(bytes.len() / 97) {
            fs::write(copy.file(file), &bytes[..end]).unwrap();
            let error = copy.load().map(|_| ()).unwrap_err();
            assert!(error.kind() == ErrorKind::Decode && error.hint().is_some(), "{end}: {error}");
        }
    }
}

#[test]
fn claims_of_a_safetensors_header_are_checked() {
    let file = "model.safetensors";
    let model = "llama-gqa-tied-f32";
    for claim in [u64::MAX, 1 << 63, 1 << 40] {
        let error =
            ModelCopy::of(model).bytes(file, |bytes| bytes[..8].copy_from_slice(&claim.to_le_bytes())).refusal();
        assert!(error.contains(&format!("claims a header of {claim} bytes")), "{error}");
    }
    let error = ModelCopy::of(model).bytes(file, |bytes| bytes.truncate(7)).refusal();
    assert!(error.contains("too short"), "{error}");
    let error = ModelCopy::of(model).bytes(file, |bytes| bytes.truncate(bytes.len() - 1)).refusal();
    assert!(error.contains("cut off"), "{error}");
    let deep = [&(1u64 << 16).to_le_bytes()[..], &[b'['; 1 << 16]].concat();
    let error = ModelCopy::of(model).bytes(file, |bytes| *bytes = deep).refusal();
    assert!(error.contains("no JSON"), "{error}");
    assert!(load(&golden("no-such-model")).is_err());
}
