//! GGUF files as bases become directories in Hugging Face's format.

use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::local::export::{AdapterExport, ExportPrecision};
use tinkex::local::model::{AdapterOptions, Model};

use super::adapter_folder::{AdapterFolder, adapter, golden, json_of, largest_difference, load, logprobs, names};

#[test]
fn merged_files_say_what_adapters_say() {
    for (name, precision, tolerance, dtype) in [
        ("llama-f32", None, 1e-4, "float32"),
        ("llama-q4_1", None, 1e-4, "float32"),
        ("llama-q8_0", Some(ExportPrecision::F16), 2e-2, "float16"),
        ("llama-f16", None, 2e-2, "float16"),
        ("llama-bf16", None, 2e-1, "bfloat16"),
        ("llama256-q6_k", None, 1e-4, "float32"),
        ("llama3-rope-f16", Some(ExportPrecision::F32), 1e-4, "float32"),
        ("qwen3-f16", Some(ExportPrecision::F32), 1e-4, "float32"),
    ] {
        let path = golden(&format!("gguf/{name}.gguf"));
        let base = load(&path);
        let adapter = adapter(&base, AdapterOptions::new());
        let (folder, target) = (AdapterFolder::new(&adapter), tempdir().unwrap());
        let to = target.path().join("merged");
        let export = AdapterExport::new(folder.path()).merge_into(path.to_str().unwrap());
        precision.into_iter().fold(export, AdapterExport::precision).write(&to).unwrap();
        assert_eq!(names(&to), ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
        let merged = load(&to);
        let difference = largest_difference(&logprobs(&merged, None), &logprobs(&base, Some(&adapter)));
        assert!(difference < tolerance, "{name}: {difference}");
        assert_eq!(json_of(&to.join("config.json"))["torch_dtype"], dtype, "{name}");
        assert_eq!((merged.end_tokens(), merged.context_length()), (base.end_tokens(), base.context_length()));
        let tokens = |model: &dyn Model| model.text_package().unwrap().tokenizer().encode("Alice was 12.").unwrap();
        assert_eq!(tokens(&merged), tokens(&base));
    }
}

#[test]
fn the_configuration_is_that_of_the_model() {
    for name in ["llama3-rope-f16", "qwen3"] {
        let (file, directory) = match name {
            "qwen3" => ("gguf/qwen3-f16.gguf", "qwen3-bf16"),
            _ => ("gguf/llama3-rope-f16.gguf", name),
        };
        let base = load(&golden(file));
        let folder = AdapterFolder::new(&adapter(&base, AdapterOptions::new().train_unembed(false)));
        let target = tempdir().unwrap();
        let to = target.path().join("merged");
        AdapterExport::new(folder.path()).merge_into(golden(file).to_str().unwrap()).write(&to).unwrap();
        let [config, original] = [&to, &golden(directory)].map(|folder| json_of(&folder.join("config.json")));
        for key in [
            "architectures",
            "model_type",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "vocab_size",
            "max_position_embeddings",
            "tie_word_embeddings",
        ] {
            assert_eq!(config[key], original[key], "{name}: {key}");
        }
        let scaling = original.get("rope_scaling").cloned().unwrap_or(Value::Null);
        assert_eq!(config["rope_scaling"], scaling, "{name}");
        assert_eq!(config["hidden_act"], json!("silu"));
    }
}
