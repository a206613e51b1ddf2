//! Directories in Hugging Face's format.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tinkex::ErrorKind;
use tinkex::local::model::{Cancellation, Model};
use tinkex::local::pretrained::{LoadProgress, ModelLoader, WeightPrecision};

use super::model_copy::{ModelCopy, golden, load};

const LLAMA: &str = "llama-gqa-tied-f32";
const SHARDED: &str = "llama-mha-untied-sharded-f32";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn each_architecture_loads_as_it_is() {
    for (name, context_length, end_tokens) in [
        (LLAMA, 512, vec![2]),
        (SHARDED, 512, vec![2]),
        ("llama3-rope-f16", 256, vec![2, 0]),
        ("qwen2-bias-bf16", 512, vec![2]),
        ("qwen3-bf16", 512, vec![2]),
    ] {
        let model = load(&golden(name)).unwrap();
        assert_eq!((model.name(), model.vocab_size(), model.context_length()), (name, 272, context_length));
        assert_eq!(model.end_tokens(), end_tokens, "{name}");
    }
}

#[test]
fn what_would_change_numbers_is_refused_by_name() {
    for (model, options, why) in [
        (LLAMA, json!({"architectures": ["MixtralForCausalLM"]}), "its architecture is MixtralForCausalLM"),
        (LLAMA, json!({"architectures": ["GemmaForCausalLM"], "model_type": "gemma"}), "GemmaForCausalLM"),
        (LLAMA, json!({"attention_bias": true}), "attention_bias"),
        (LLAMA, json!({"mlp_bias": true}), "mlp_bias"),
        (LLAMA, json!({"hidden_act": "gelu"}), "hidden_act"),
        (LLAMA, json!({"quantization_config": {"quant_method": "awq"}}), "awq"),
        (LLAMA, json!({"rope_parameters": {}, "rope_scaling": {"rope_theta": 1.0}}), "rope_scaling differ"),
        (LLAMA, json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "\"yarn\""),
        ("qwen2-bias-bf16", json!({"use_sliding_window": true, "max_window_layers": 0}), "last 16 tokens"),
        ("qwen3-bf16", json!({"num_experts": 128}), "num_experts"),
    ] {
        let copy = ModelCopy::of(model).options(options);
        // Weights that nobody may read.
        fs::write(copy.file("model.safetensors"), b"damaged").unwrap();
        let error = copy.load().map(|_| ()).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(why), "{why}: {error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[test]
fn what_no_model_has_is_damage() {
    for (name, value, why) in [
        ("hidden_size", json!(null), "it has no hidden_size"),
        ("num_attention_heads", json!("4"), "num_attention_heads is \"4\""),
        ("num_key_value_heads", json!(3), "cannot share 3 heads"),
    ] {
        let error = ModelCopy::of(LLAMA).options(json!({ name: value })).load().map(|_| ()).unwrap_err();
        assert!(error.kind() == ErrorKind::Decode && error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn other_types_of_numbers_are_unsupported() {
    let copy = ModelCopy::of(LLAMA).header("model.safetensors", |header| {
        header["model.norm.weight"]["dtype"] = json!("F8_E4M3");
    });
    let error = copy.load().map(|_| ()).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("stored as F8_E4M3, and only F32, F16 and BF16"), "{error}");
    assert!(error.hint().unwrap().contains("convert it"), "{error}");
}

#[test]
fn options_that_change_nothing_are_read_over() {
    for (model, options) in [
        (LLAMA, json!({"hidden_act": "swish", "sliding_window": 4, "pretraining_tp": 2, "rope_scaling": null})),
        (LLAMA, json!({"architectures": null, "attention_bias": null})),
        ("qwen3-bf16", json!({"rope_parameters": null, "rope_theta": 1_000_000.0})),
    ] {
        let copy = ModelCopy::of(model).options(options.clone());
        assert!(copy.load().is_ok(), "{options}: {:?}", copy.load().err());
    }
}

#[test]
fn tensors_must_be_those_of_the_model() {
    let norm = "model.layers.1.input_layernorm.weight";
    for (copy, why) in [
        (
            ModelCopy::of(LLAMA).options(json!({"num_hidden_layers": 3})),
            "model.layers.2.input_layernorm.weight is missing",
        ),
        (
            ModelCopy::of(LLAMA).options(json!({"num_hidden_layers": 1u64 << 62})),
            "model.layers.2.input_layernorm.weight is missing",
        ),
        (ModelCopy::of(LLAMA).options(json!({"num_hidden_layers": 1})), "belongs to no LlamaForCausalLM model"),
        (ModelCopy::of(LLAMA).options(json!({"vocab_size": 271})), "[272, 64], and [271, 64] is expected"),
        (ModelCopy::of(LLAMA).options(json!({"num_key_value_heads": 4})), "k_proj.weight has the shape [32, 64]"),
        (ModelCopy::of(LLAMA).options(json!({"head_dim": 1u64 << 63})), "q_proj.weight has the shape [64, 64]"),
        (
            ModelCopy::of("qwen2-bias-bf16").options(json!({"architectures": null, "model_type": "llama"})),
            "k_proj.bias belongs to no",
        ),
        (ModelCopy::of(LLAMA).options(json!({"architectures": null, "model_type": "qwen2"})), "q_proj.bias is missing"),
        (ModelCopy::of("qwen3-bf16").options(json!({"head_dim": null})), "q_proj.weight"),
        (
            ModelCopy::of(LLAMA).header("model.safetensors", |header| {
                let entry = header.remove(norm).unwrap();
                header.insert("model.layers.1.other.weight".to_owned(), entry);
            }),
            "model.layers.1.input_layernorm.weight is missing",
        ),
    ] {
        let error = copy.refusal();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn tables_of_rotary_positions_are_read_over() {
    let copy = ModelCopy::of(LLAMA).bytes("model.safetensors", |bytes| bytes.extend([0; 32]));
    let length = fs::metadata(golden(LLAMA).join("model.safetensors")).unwrap().len();
    let copy = copy.header("model.safetensors", |header| {
        let end = header.values().filter_map(|entry| entry["data_offsets"][1].as_u64()).max().unwrap();
        assert!(end < length);
        let table = json!({"dtype": "F32", "shape": [8], "data_offsets": [end, end + 32]});
        header.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), table);
    });
    assert!(copy.load().is_ok(), "{:?}", copy.load().err());
}

#[test]
fn head_and_embedding_are_tied_or_not() {
    let error = ModelCopy::of(LLAMA).options(json!({"tie_word_embeddings": false})).refusal();
    assert!(error.contains("lm_head.weight is missing") && error.contains("tie_word_embeddings"), "{error}");
    let error = ModelCopy::of(LLAMA).options(json!({"tie_word_embeddings": null})).refusal();
    assert!(error.contains("lm_head.weight is missing"), "{error}");
    let error = ModelCopy::of(SHARDED).options(json!({"tie_word_embeddings": true})).refusal();
    assert!(error.contains("lm_head.weight differs from the embedding"), "{error}");
    // The embedding once more.
    let copied = ModelCopy::of(LLAMA).bytes("model.safetensors", |bytes| {
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        let offsets = &header["model.embed_tokens.weight"]["data_offsets"];
        let [from, to] = [0, 1].map(|at| end + offsets[at].as_u64().unwrap() as usize);
        bytes.extend_from_within(from..to);
    });
    let copied = copied.header("model.safetensors", |header| {
        let end = header.values().filter_map(|entry| entry["data_offsets"][1].as_u64()).max().unwrap();
        let head = json!({"dtype": "F32", "shape": [272, 64], "data_offsets": [end, end + 272 * 64 * 4]});
        header.insert("lm_head.weight".to_owned(), head);
    });
    assert!(copied.load().is_ok(), "{:?}", copied.load().err());
    let untied = copied.options(json!({"tie_word_embeddings": false}));
    assert!(untied.load().is_ok(), "{:?}", untied.load().err());
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = ModelCopy::of(LLAMA).number("model.layers.1.mlp.up_proj.weight", 77, number).refusal();
        assert!(error.contains("model.layers.1.mlp.up_proj.weight") && error.contains("not finite"), "{error}");
    }
}

#[test]
fn numbers_beyond_half_precision_need_more() {
    let copy = ModelCopy::of(LLAMA).number("model.layers.1.mlp.up_proj.weight", 77, 1e5);
    let loader = || ModelLoader::new(copy.path().to_str().unwrap());
    let error = loader().weights(WeightPrecision::F16).load().unwrap_err().to_string();
    assert!(error.contains("model.layers.1.mlp.up_proj.weight") && error.contains("--weights f32"), "{error}");
    assert!(loader().load().is_ok());
}

#[test]
fn such_numbers_make_auto_full_precision() {
    // The second half of this number in 32 bits is the number in BF16.
    let number = f32::from_bits(0x47c3_0000);
    let copy = ModelCopy::of("qwen2-bias-bf16").number("model.layers.1.mlp.up_proj.weight", 5, number);
    let plans = Arc::new(Mutex::new(Vec::new()));
    let shared = plans.clone();
    let loader = ModelLoader::new(copy.path().to_str().unwrap()).progress(move |progress| {
        if let LoadProgress::Planned { precision, .. } = progress {
            shared.lock().unwrap().push(precision);
        }
    });
    let model = loader.load().unwrap();
    assert_eq!(*plans.lock().unwrap(), [WeightPrecision::F16, WeightPrecision::F32]);
    assert!(format!("{model:?}").len() < 100, "{model:?}");
}

#[test]
fn an_index_stays_in_its_folder() {
    let outside = tempfile::tempdir().unwrap();
    let shard = "model-00002-of-00002.safetensors";
    fs::write(outside.path().join(shard), fs::read(golden(SHARDED).join(shard)).unwrap()).unwrap();
    let absolute = outside.path().join(shard).to_str().unwrap().to_owned();
    for target in ["../x.safetensors", &absolute, "/etc/passwd", "a/../../x", "..", ".", "", "a\\b", "C:x", "nul\0"] {
        let copy = ModelCopy::of(SHARDED).edit(INDEX, |index| index["weight_map"]["lm_head.weight"] = json!(target));
        let error = copy.refusal();
        assert!(error.contains("not a plain name"), "{target}: {error}");
    }
    let error = ModelCopy::of(SHARDED).remove(shard).refusal();
    assert!(error.contains(shard) && error.contains("missing"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_lead_out_only_to_blobs() {
    use std::os::unix::fs::symlink;

    let shard = "model-00002-of-00002.safetensors";
    let copy = ModelCopy::of(SHARDED).remove(shard);
    symlink(golden(SHARDED).join(shard), copy.file(shard)).unwrap();
    let error = copy.refusal();
    assert!(error.contains(shard) && error.contains("outside"), "{error}");
    // The cache of Hugging Face's programs.
    let cache = tempfile::tempdir().unwrap();
    let [blobs, snapshot] = ["blobs", "snapshots/abc"].map(|name| cache.path().join("models--a--b").join(name));
    for folder in [&blobs, &snapshot] {
        fs::create_dir_all(folder).unwrap();
    }
    for (number, entry) in fs::read_dir(golden(SHARDED)).unwrap().enumerate() {
        let entry = entry.unwrap();
        fs::write(blobs.join(number.to_string()), fs::read(entry.path()).unwrap()).unwrap();
        symlink(format!("../../blobs/{number}"), snapshot.join(entry.file_name())).unwrap();
    }
    assert!(load(&snapshot).is_ok(), "{:?}", load(&snapshot).err());
}

#[test]
fn an_index_must_tell_the_truth() {
    let swapped = |index: &mut serde_json::Map<String, Value>| {
        index["weight_map"]["lm_head.weight"] = json!("model-00001-of-00002.safetensors");
    };
    let error = ModelCopy::of(SHARDED).edit(INDEX, swapped).refusal();
    assert!(error.contains("lm_head.weight is not there by the index"), "{error}");
    let error = ModelCopy::of(SHARDED).edit(INDEX, |index| drop(index.remove("weight_map"))).refusal();
    assert!(error.contains(INDEX) && error.contains("weight_map"), "{error}");
}

#[test]
fn a_folder_without_a_model_says_so() {
    let copy = || ModelCopy::of(LLAMA);
    for (copy, why) in [
        (copy().remove("model.safetensors"), "neither model.safetensors nor"),
        (copy().remove("model.safetensors").with("pytorch_model.bin"), "only safetensors can be read"),
        (copy().remove("config.json"), "neither config.json nor a GGUF file"),
        (copy().remove("config.json").with("adapter_config.json"), "it is an adapter"),
        (copy().remove("tokenizer.json"), "tokenizer.json"),
        (copy().bytes("config.json", |bytes| bytes.truncate(20)), "JSON"),
        (copy().edit("config.json", |config| drop(config.remove("hidden_size"))), "no hidden_size"),
    ] {
        let error = copy.refusal();
        assert!(error.contains(why), "{why}: {error}");
    }
    let error = load(&golden(LLAMA).join("config.json")).unwrap_err().to_string();
    assert!(error.contains("no GGUF file") && error.contains("directory"), "{error}");
}

#[test]
fn the_plan_comes_before_the_weights() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = seen.clone();
    let loader = ModelLoader::new(golden("llama3-rope-f16").to_str().unwrap());
    loader.progress(move |progress| shared.lock().unwrap().push(progress)).load().unwrap();
    let seen = seen.lock().unwrap();
    let [LoadProgress::Planned { precision, weight_bytes }, .., LoadProgress::Reading { bytes, total }] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(*precision, WeightPrecision::F16);
    assert!(bytes == total && total == weight_bytes, "{seen:?}");
}

#[test]
fn loading_ends_once_it_is_cancelled() {
    let cancellation = Cancellation::new();
    let inner = cancellation.clone();
    let loader = ModelLoader::new(golden(LLAMA).to_str().unwrap()).cancellation(&cancellation);
    let error = loader.progress(move |_| inner.cancel()).load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn threads_have_a_range() {
    for threads in [0, 1025, 1_000_000] {
        let error = ModelLoader::new(golden(LLAMA).to_str().unwrap()).threads(threads).load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("1 to 1024 threads, and `threads` is {threads}")), "{error}");
    }
}
