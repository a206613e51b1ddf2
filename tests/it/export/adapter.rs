//! The adapter alone, in PEFT's format.

use std::fs;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tempfile::tempdir;
use tinkex::local::export::AdapterExport;
use tinkex::local::model::AdapterOptions;

use super::adapter_folder::{AdapterFolder, adapter, golden, json_of, load, names};

const LLAMA: &str = "llama-gqa-tied-f32";

#[test]
fn both_files_are_those_of_peft() {
    let adapter = adapter(&load(&golden(LLAMA)), AdapterOptions::new());
    // The hosted service has another name for the unembedding, and more files.
    let folder = AdapterFolder::new(&adapter).tensors(|tensors| {
        for factor in ["A", "B"] {
            let tensor = tensors.remove(&format!("base_model.model.lm_head.lora_{factor}.weight")).unwrap();
            tensors.insert(format!("base_model.model.model.unembed_tokens.lora_{factor}.weight"), tensor);
        }
    });
    fs::write(folder.path().join("optimizer.safetensors"), b"large").unwrap();
    let target = tempdir().unwrap();
    let to = target.path().join("new/adapter");
    let exported = AdapterExport::new(folder.path()).write(&to).unwrap();
    assert_eq!(names(&to), ["adapter_config.json", "adapter_model.safetensors"]);
    assert_eq!(names(target.path()), ["new"]);
    let size = |name: &str| fs::metadata(to.join(name)).unwrap().len();
    assert_eq!(exported.bytes, size("adapter_config.json") + size("adapter_model.safetensors"));
    assert_eq!((exported.files, exported.matrices, exported.untied), (2, adapter.tensors.len() / 2, false));
    let config = json_of(&to.join("adapter_config.json"));
    let modules = ["down_proj", "gate_proj", "k_proj", "lm_head", "o_proj", "q_proj", "up_proj", "v_proj"];
    assert_eq!(config["target_modules"], json!(modules));
    assert_eq!((&config["r"], &config["lora_alpha"], &config["peft_type"]), (&json!(4), &json!(32.0), &json!("LORA")));
    assert_eq!(config["base_model_name_or_path"], "acme/small");
    let bytes = fs::read(to.join("adapter_model.safetensors")).unwrap();
    let written = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(written.len(), adapter.tensors.len());
    for (name, tensor) in &adapter.tensors {
        let data: Vec<u8> = tensor.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert!(written.tensor(name).unwrap().data() == data, "{name}");
    }
}

#[test]
fn an_exported_adapter_is_exported_again() {
    let adapter = adapter(&load(&golden(LLAMA)), AdapterOptions::new().train_mlp(false).train_unembed(false));
    let folder = AdapterFolder::new(&adapter).options(json!({"base_model_name_or_path": null}));
    let target = tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| target.path().join(name));
    AdapterExport::new(folder.path()).write(&first).unwrap();
    AdapterExport::new(&first).write(&second).unwrap();
    for name in names(&first) {
        assert!(fs::read(first.join(&name)).unwrap() == fs::read(second.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn each_matrix_keeps_its_type() {
    let folder = AdapterFolder::new(&adapter(&load(&golden(LLAMA)), AdapterOptions::new()));
    let path = folder.path().join("adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let single = SafeTensors::deserialize(&bytes).unwrap();
    // A is cut to its upper halves.
    let halves = |data: &[u8]| data.chunks(4).flat_map(|number| [number[2], number[3]]).collect::<Vec<u8>>();
    let mixed: Vec<_> = (single.iter())
        .map(|(name, tensor)| {
            let is_a = name.contains("lora_A");
            let data = if is_a { halves(tensor.data()) } else { tensor.data().to_vec() };
            (name, tensor.shape().to_vec(), if is_a { Dtype::BF16 } else { Dtype::F32 }, data)
        })
        .collect();
    let views =
        mixed.iter().map(|(name, shape, dtype, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let file = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    fs::write(&path, file).unwrap();
    let target = tempdir().unwrap();
    let to = target.path().join("mixed");
    AdapterExport::new(folder.path()).write(&to).unwrap();
    let bytes = fs::read(to.join("adapter_model.safetensors")).unwrap();
    let written = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(written.len(), mixed.len());
    for (name, _, dtype, data) in &mixed {
        let tensor = written.tensor(name).unwrap();
        assert!(tensor.dtype() == *dtype && tensor.data() == data, "{name} {dtype:?}");
    }
}
