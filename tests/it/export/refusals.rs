//! What cannot be exported is refused by name, and leaves nothing behind.

use std::fs;

use serde_json::json;
use tempfile::tempdir;
use tinkex::local::export::{AdapterExport, ExportPrecision};
use tinkex::local::model::{AdapterOptions, Cancellation};
use tinkex::{Error, ErrorKind};

use super::adapter_folder::{AdapterFolder, adapter, golden, load, names};

const LLAMA: &str = "llama-gqa-tied-f32";
const DOWN: &str = "base_model.model.model.layers.0.mlp.down_proj";

fn folder() -> AdapterFolder {
    AdapterFolder::new(&adapter(&load(&golden(LLAMA)), AdapterOptions::new()))
}

/// The error of an export, which must leave nothing behind.
fn refusal(export: AdapterExport) -> Error {
    let target = tempdir().unwrap();
    let error = export.write(target.path().join("a/b")).unwrap_err();
    assert_eq!(names(target.path()), [""; 0], "{error}");
    error
}

#[test]
fn an_adapter_must_be_whole_and_plain() {
    let [a, b] = ["A", "B"].map(|factor| format!("{DOWN}.lora_{factor}.weight"));
    let rename = |from: String, to: &str| {
        folder().tensors(|tensors| {
            let tensor = tensors.remove(&from).unwrap();
            tensors.insert(to.to_owned(), tensor);
        })
    };
    let experts = "base_model.model.model.layers.0.mlp.experts.0.down_proj.lora_A.weight";
    let unembedding = "base_model.model.model.unembed_tokens.lora_A.weight";
    for (folder, why) in [
        (folder().remove("adapter_config.json"), "its adapter_config.json cannot be read"),
        (folder().remove("adapter_model.safetensors"), "it has no adapter_model.safetensors"),
        (folder().options(json!({"r": 8})), "and the rank in adapter_config.json is 8"),
        (folder().options(json!({"lora_alpha": null})), "its lora_alpha is missing"),
        (folder().options(json!({"use_dora": true})), "its option use_dora is true"),
        (folder().tensors(|tensors| drop(tensors.remove(&b))), "down_proj.lora_B.weight is missing"),
        (folder().tensors(|tensors| drop(tensors.remove(&a))), "down_proj.lora_A.weight is missing"),
        (rename(a.clone(), experts), "experts.0.down_proj.lora_A.weight is no part"),
        (rename(a.clone(), unembedding), "is there under two names"),
        (folder().tensors(|tensors| tensors.clear()), "its adapter has no tensors"),
        (folder().tensors(|tensors| tensors.get_mut(&a).unwrap()[[0, 0]] = f32::NAN), "not finite"),
    ] {
        let error = refusal(AdapterExport::new(folder.path()));
        assert!(error.to_string().contains(why) && error.hint().is_some(), "{why}: {error}");
    }
    let error = refusal(AdapterExport::new("no/such/checkpoint"));
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("no/such/checkpoint"), "{error}");
}

#[test]
fn an_adapter_must_fit_its_base() {
    let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let beyond = folder().tensors(|tensors| {
        for factor in ["A", "B"] {
            let tensor = tensors[&format!("{DOWN}.lora_{factor}.weight")].clone();
            tensors.insert(format!("base_model.model.model.layers.9.mlp.down_proj.lora_{factor}.weight"), tensor);
        }
    });
    let narrow = folder().tensors(|tensors| {
        let tensor = tensors[q].slice_axis(ndarray::Axis(1), (..32).into()).to_owned();
        tensors.insert(q.to_owned(), tensor);
    });
    let outputs = q.replace("lora_A", "lora_B");
    let short = folder().tensors(|tensors| {
        let tensor = tensors[&outputs].slice_axis(ndarray::Axis(0), (..5).into()).to_owned();
        tensors.insert(outputs.clone(), tensor);
    });
    for (folder, why) in [
        (beyond, "the LlamaForCausalLM has no model.layers.9.mlp.down_proj"),
        (narrow, "q_proj.lora_A.weight has 32 columns, and model.layers.0.self_attn.q_proj has 64 inputs"),
        (short, "q_proj.lora_B.weight has 5 rows, and model.layers.0.self_attn.q_proj has 64 outputs"),
    ] {
        let error = refusal(AdapterExport::new(folder.path()).merge_into(golden(LLAMA).to_str().unwrap()));
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(why), "{why}: {error}");
    }
    let folder = folder();
    let error = refusal(AdapterExport::new(folder.path()).merge_into(golden("qwen3-bf16").to_str().unwrap()));
    assert!(error.to_string().contains("the adapter does not fit the base model"), "{error}");
}

#[test]
fn numbers_beyond_a_type_are_refused() {
    let folder = folder().tensors(|tensors| {
        tensors.get_mut(&format!("{DOWN}.lora_B.weight")).unwrap().fill(1e6);
    });
    let base = golden(LLAMA);
    let export = AdapterExport::new(folder.path()).merge_into(base.to_str().unwrap());
    let error = refusal(export.clone().precision(ExportPrecision::F16));
    let why = "the tensor model.layers.0.mlp.down_proj.weight has numbers beyond the largest of float16";
    assert!(error.to_string().contains(why) && error.to_string().contains("f32"), "{error}");
    assert!(export.precision(ExportPrecision::Bf16).write(tempdir().unwrap().path().join("x")).is_ok());
}

#[test]
fn a_precision_needs_a_base() {
    let folder = folder();
    let error = refusal(AdapterExport::new(folder.path()).precision(ExportPrecision::F16));
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("none is merged"), "{error}");
}

#[test]
fn sources_are_never_overwritten() {
    let (folder, target) = (folder(), tempdir().unwrap());
    let base = target.path().join("models/base");
    fs::create_dir_all(&base).unwrap();
    for name in names(&golden(LLAMA)) {
        fs::write(base.join(&name), fs::read(golden(LLAMA).join(&name)).unwrap()).unwrap();
    }
    let before = names(&base);
    let export = AdapterExport::new(folder.path()).merge_into(base.to_str().unwrap()).overwrite(true);
    for to in [base.as_path(), &target.path().join("models"), folder.path()] {
        let error = export.clone().write(to).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("would replace"), "{error}");
    }
    assert_eq!(names(&base), before);
    let other = target.path().join("other");
    fs::write(&other, "old").unwrap();
    let error = export.clone().overwrite(false).write(&other).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("already exists"), "{error}");
    assert_eq!(fs::read(&other).unwrap(), b"old");
    export.write(&other).unwrap();
    assert!(other.join("config.json").is_file());
    assert_eq!(names(target.path()), ["models", "other"]);
}

#[test]
fn a_failure_of_the_disk_leaves_nothing() {
    let (folder, target) = (folder(), tempdir().unwrap());
    let file = target.path().join("file");
    fs::write(&file, "").unwrap();
    let error = AdapterExport::new(folder.path()).write(file.join("below")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    // The base is cut off while it is read.
    let base = target.path().join("base");
    fs::create_dir(&base).unwrap();
    for name in names(&golden(LLAMA)) {
        fs::write(base.join(&name), fs::read(golden(LLAMA).join(&name)).unwrap()).unwrap();
    }
    let weights = base.join("model.safetensors");
    let export = AdapterExport::new(folder.path()).merge_into(base.to_str().unwrap());
    let export =
        export.progress(move |_| fs::File::options().write(true).open(&weights).unwrap().set_len(9000).unwrap());
    let error = export.write(target.path().join("merged")).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("cannot be read"), "{error}");
    assert_eq!(names(target.path()), ["base", "file"]);
}

#[test]
fn a_cancelled_export_leaves_nothing() {
    let (folder, base) = (folder(), golden(LLAMA));
    let export = AdapterExport::new(folder.path()).merge_into(base.to_str().unwrap());
    let cancellation = Cancellation::new();
    let inner = cancellation.clone();
    let error = refusal(export.cancellation(&cancellation).progress(move |_| inner.cancel()));
    assert!(error.kind() == ErrorKind::Cancelled && error.to_string().contains("no files were left"), "{error}");
    // Before it begins.
    let error = refusal(AdapterExport::new(folder.path()).cancellation(&cancellation));
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
