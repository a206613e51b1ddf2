//! The headers of model files: a GGUF file, or a directory with a safetensors file. Whatever the bytes are, loading ends with a model
//! or an error, without a panic, and without memory that the file does not account for (libFuzzer's `-malloc_limit_mb`).
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tinkex::local::pretrained::ModelLoader;

/// The files beside the weights. They are those of a micro model.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/llama-gqa-tied-f32");

fn load(path: &Path) {
    let path = path.to_str().expect("the path of a temporary directory is text");
    let _ = ModelLoader::new(path).load();
}

fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("model.gguf");
    if data.starts_with(b"GGUF") {
        fs::write(&file, data).expect("writing to it");
        return load(&file);
    }
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let content = fs::read(Path::new(MODEL).join(name)).expect("a file of the repository");
        fs::write(directory.path().join(name), content).expect("writing to it");
    }
    fs::write(directory.path().join("model.safetensors"), data).expect("writing to it");
    load(directory.path());
});
