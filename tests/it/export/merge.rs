//! Merged models say what their base says with the adapter.

use std::fs;
use std::sync::{Arc, Mutex};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::local::export::{AdapterExport, ExportPrecision, ExportProgress};
use tinkex::local::model::{AdapterOptions, Model};

use super::adapter_folder::{AdapterFolder, adapter, golden, json_of, largest_difference, load, logprobs, names};

const LLAMA: &str = "llama-gqa-tied-f32";
const SHARDED: &str = "llama-mha-untied-sharded-f32";
const INDEX: &str = "model.safetensors.index.json";

/// The micro models, with the largest difference that rounding to their type makes.
const MODELS: [(&str, f32); 5] =
    [(LLAMA, 1e-4), (SHARDED, 1e-4), ("llama3-rope-f16", 2e-2), ("qwen2-bias-bf16", 2e-1), ("qwen3-bf16", 2e-1)];

#[test]
fn merged_models_say_what_adapters_say() {
    for (name, tolerance) in MODELS {
        let base = load(&golden(name));
        let adapter = adapter(&base, AdapterOptions::new());
        let (folder, target) = (AdapterFolder::new(&adapter), tempdir().unwrap());
        let to = target.path().join("merged");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let export = AdapterExport::new(folder.path()).merge_into(golden(name).to_str().unwrap());
        let exported = export.progress(move |at| log.lock().unwrap().push(at)).write(&to).unwrap();
        let is_tied = json_of(&golden(name).join("config.json"))["tie_word_embeddings"] == true;
        assert_eq!((exported.untied, exported.matrices), (is_tied, 15), "{name}");
        let merged = load(&to);
        let expected = logprobs(&base, Some(&adapter));
        let difference = largest_difference(&logprobs(&merged, None), &expected);
        assert!(difference < tolerance, "{name}: {difference}");
        assert!(largest_difference(&logprobs(&base, None), &expected) > 10.0 * tolerance.min(0.05), "{name}");
        // What else the base has.
        assert_eq!(names(&to), names(&golden(name)));
        assert_eq!(merged.end_tokens(), base.end_tokens());
        let config = json_of(&to.join("config.json"));
        assert_ne!(config["tie_word_embeddings"], json!(true), "{name}");
        let total = match seen.lock().unwrap().last().unwrap() {
            ExportProgress::Writing { bytes, total } if bytes == total => *total,
            other => panic!("{other:?}"),
        };
        let weights = names(&to).into_iter().filter(|name| name.ends_with(".safetensors"));
        let size: u64 = weights.map(|name| fs::metadata(to.join(name)).unwrap().len()).sum();
        assert!(total < size && size < total + 8192, "{total} {size}");
    }
}

#[test]
fn a_tied_head_stays_without_its_adapter() {
    let base = load(&golden(LLAMA));
    let adapter = adapter(&base, AdapterOptions::new().train_unembed(false).train_mlp(false));
    let (folder, target) = (AdapterFolder::new(&adapter), tempdir().unwrap());
    let to = target.path().join("merged");
    let export = AdapterExport::new(folder.path()).merge_into(golden(LLAMA).to_str().unwrap());
    assert!(!export.write(&to).unwrap().untied);
    let difference = largest_difference(&logprobs(&load(&to), None), &logprobs(&base, Some(&adapter)));
    assert!(difference < 1e-4, "{difference}");
    // What the adapter leaves alone has the same bits.
    let read = |name: &str| [golden(LLAMA), to.clone()].map(|folder| fs::read(folder.join(name)).unwrap());
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let [before, after] = read(name);
        assert!(before == after, "{name}");
    }
    let [before, after] = read("model.safetensors");
    let [before, after] = [&before, &after].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before.tensors() {
        let same = after.tensor(&name).unwrap().data() == tensor.data();
        assert_eq!(same, !name.contains("self_attn"), "{name}");
    }
}

#[test]
fn shards_and_index_are_those_of_the_base() {
    let base = load(&golden(SHARDED));
    let folder = AdapterFolder::new(&adapter(&base, AdapterOptions::new()));
    let target = tempdir().unwrap();
    let to = target.path().join("merged");
    AdapterExport::new(folder.path()).merge_into(golden(SHARDED).to_str().unwrap()).write(&to).unwrap();
    let [before, after] = [golden(SHARDED), to].map(|folder| json_of(&folder.join(INDEX)));
    assert_eq!(before["weight_map"], after["weight_map"]);
    assert_eq!(before["metadata"]["total_size"], after["metadata"]["total_size"]);
}

#[test]
fn any_type_can_be_written() {
    let base = load(&golden(SHARDED));
    let adapter = adapter(&base, AdapterOptions::new());
    let (folder, target) = (AdapterFolder::new(&adapter), tempdir().unwrap());
    let expected = logprobs(&base, Some(&adapter));
    for (precision, dtype, name, tolerance) in [
        (ExportPrecision::F32, "F32", "float32", 1e-4),
        (ExportPrecision::F16, "F16", "float16", 2e-2),
        (ExportPrecision::Bf16, "BF16", "bfloat16", 2e-1),
    ] {
        let to = target.path().join(name);
        let export = AdapterExport::new(folder.path()).merge_into(golden(SHARDED).to_str().unwrap());
        export.precision(precision).write(&to).unwrap();
        let difference = largest_difference(&logprobs(&load(&to), None), &expected);
        assert!(difference < tolerance, "{name}: {difference}");
        let config = json_of(&to.join("config.json"));
        assert_eq!(config.get("dtype").or(config.get("torch_dtype")), Some(&json!(name)));
        let bytes = fs::read(to.join("model-00001-of-00002.safetensors")).unwrap();
        let header: Value = serde_json::from_slice(&bytes[8..8 + bytes[0] as usize + 256 * bytes[1] as usize]).unwrap();
        let dtypes = header.as_object().unwrap().values().filter_map(|entry| entry["dtype"].as_str());
        assert!(dtypes.clone().count() > 3 && dtypes.clone().all(|found| found == dtype), "{header}");
    }
}
