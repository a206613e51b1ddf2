//! The shape that a `config.json` of Hugging Face describes.

use serde_json::{Map, Value};

use super::ModelShape;
use crate::error::{Error, Result};

/// The kinds of models whose matrices are known, by `model_type`.
const KNOWN: [&str; 15] = [
    "deepseek_v3",
    "gpt_oss",
    "kimi_k2",
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
];

/// In models with linear attention, one layer of this number has full attention, if the configuration does not say more.
const FULL_ATTENTION_INTERVAL: u64 = 4;

pub(super) fn read(json: &str) -> Result<ModelShape> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::invalid_input(format!("the configuration of the model is not JSON: {error}")))?;
    // Models that also see have the configuration of their text inside.
    let text = value.get("text_config").unwrap_or(&value);
    let Some(map) = text.as_object() else {
        return Err(Error::invalid_input("the configuration of the model is not an object of JSON"));
    };
    let config = Options(map);
    let model_type = map.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if !KNOWN.contains(&model_type) {
        return Err(Error::invalid_input(format!("the matrices of models of the type {model_type:?} are not known"))
            .with_hint("count them with ModelShape::new, attention, mlp and experts"));
    }
    let shape = ModelShape::new(config.needed("hidden_size")?, config.needed("vocab_size")?);
    let shape = match config.count("kv_lora_rank")? {
        Some(latent) => latent_attention(&config, shape, latent)?,
        None => grouped_attention(&config, shape)?,
    };
    mlps(&config, shape)
}

/// Attention whose queries, keys and values go through a smaller number of features (DeepSeek's). The cookbook does not adapt the
/// matrices that lead from these to the heads.
fn latent_attention(config: &Options<'_>, shape: ModelShape, latent: u64) -> Result<ModelShape> {
    let (layers, hidden) = (config.needed("num_hidden_layers")?, shape.hidden_size);
    let heads = config.needed("num_attention_heads")?;
    let (rotated, values) = (config.needed("qk_rope_head_dim")?, config.needed("v_head_dim")?);
    let queries = match config.count("q_lora_rank")? {
        Some(rank) => rank,
        None => heads.saturating_mul(config.needed("qk_nope_head_dim")?.saturating_add(rotated)),
    };
    Ok(shape.attention(layers, hidden, queries).attention(layers, hidden, latent.saturating_add(rotated)).attention(
        layers,
        heads.saturating_mul(values),
        hidden,
    ))
}

/// Attention with heads of queries that share heads of keys and values; in a part of the layers, linear attention (Qwen's).
fn grouped_attention(config: &Options<'_>, shape: ModelShape) -> Result<ModelShape> {
    let (layers, hidden) = (config.needed("num_hidden_layers")?, shape.hidden_size);
    let heads = config.needed("num_attention_heads")?;
    let shared = config.count("num_key_value_heads")?.unwrap_or(heads);
    let size = config.count("head_dim")?.unwrap_or(hidden / heads.max(1));
    let (queries, keys) = (heads.saturating_mul(size), shared.saturating_mul(size));
    let linear = linear_layers(config, layers)?;
    let full = layers - linear;
    // With a gate, the matrix of the queries has as many outputs again.
    let gates = if linear > 0 && config.0.get("attn_output_gate") != Some(&Value::Bool(false)) { queries } else { 0 };
    let shape = shape
        .attention(full, hidden, queries.saturating_add(gates))
        .attention(full.saturating_mul(2), hidden, keys)
        .attention(full, queries, hidden);
    if linear == 0 {
        return Ok(shape);
    }
    let heads_of = |number, size| Ok::<_, Error>(config.needed(number)?.saturating_mul(config.needed(size)?));
    let keys = heads_of("linear_num_key_heads", "linear_key_head_dim")?;
    let values = heads_of("linear_num_value_heads", "linear_value_head_dim")?;
    // Queries and keys; values and their gate; outputs. The two vectors of each head that steer the decay are not adapted.
    Ok(shape
        .attention(linear.saturating_mul(2), hidden, keys)
        .attention(linear.saturating_mul(2), hidden, values)
        .attention(linear, values, hidden))
}

/// The number of layers with linear attention.
fn linear_layers(config: &Options<'_>, layers: u64) -> Result<u64> {
    if config.count("linear_num_value_heads")?.is_none() {
        return Ok(0);
    }
    if let Some(kinds) = config.0.get("layer_types").and_then(Value::as_array) {
        let linear = kinds.iter().filter(|kind| *kind == "linear_attention").count() as u64;
        return Ok(linear.min(layers));
    }
    let interval = config.count("full_attention_interval")?.unwrap_or(FULL_ATTENTION_INTERVAL);
    Ok(layers - layers / interval.max(1))
}

fn mlps(config: &Options<'_>, shape: ModelShape) -> Result<ModelShape> {
    let (layers, hidden) = (config.needed("num_hidden_layers")?, shape.hidden_size);
    let names = ["num_experts", "num_local_experts", "n_routed_experts"];
    let mut experts = 0;
    for name in names {
        experts = experts.max(config.count(name)?.unwrap_or(0));
    }
    if experts == 0 {
        let inner = config.needed("intermediate_size")?;
        return Ok(shape.mlp(layers.saturating_mul(3), hidden, inner));
    }
    let inner = match config.count("moe_intermediate_size")? {
        Some(inner) => inner,
        None => config.needed("intermediate_size")?,
    };
    let dense = config.count("first_k_dense_replace")?.unwrap_or(0).min(layers);
    let sparse = layers - dense;
    let shape =
        if dense > 0 { shape.mlp(dense.saturating_mul(3), hidden, config.needed("intermediate_size")?) } else { shape };
    let shared = match config.count("shared_expert_intermediate_size")? {
        Some(shared) => shared,
        None => config.count("n_shared_experts")?.unwrap_or(0).saturating_mul(inner),
    };
    let shape = shape.experts(sparse, experts, inner);
    Ok(if shared > 0 { shape.mlp(sparse.saturating_mul(3), hidden, shared) } else { shape })
}

struct Options<'a>(&'a Map<String, Value>);

impl Options<'_> {
    /// A whole number; `None` where nothing or null is written.
    fn count(&self, name: &str) -> Result<Option<u64>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                Error::invalid_input(format!("{name} of the model's configuration is {value}, not a whole number"))
            }),
        }
    }

    fn needed(&self, name: &str) -> Result<u64> {
        self.count(name)?.filter(|count| *count > 0).ok_or_else(|| {
            Error::invalid_input(format!("the model's configuration has no {name}"))
                .with_hint("pass the whole config.json of the model, as it is on Hugging Face")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the configurations on Hugging Face say gives what the cookbook's authors measured.
    #[test]
    fn shapes_are_those_that_were_measured() {
        let grouped = |hidden: u32, layers: u32, heads: u32, shared: u32, size: u32, inner: u32, vocabulary: u32| {
            json!({"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
                "num_key_value_heads": shared, "head_dim": size, "intermediate_size": inner, "vocab_size": vocabulary})
        };
        let linear = |values: u32| {
            json!({"linear_num_key_heads": 16, "linear_num_value_heads": values, "linear_key_head_dim": 128,
                "linear_value_head_dim": 128})
        };
        let latent = json!({"hidden_size": 7168, "num_hidden_layers": 61, "q_lora_rank": 1536, "kv_lora_rank": 512,
            "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
            "moe_intermediate_size": 2048, "n_shared_experts": 1});
        for (model, model_type, parts) in [
            ("meta-llama/Llama-3.1-8B", "llama", vec![grouped(4096, 32, 32, 8, 128, 14336, 128_256)]),
            ("meta-llama/Llama-3.2-1B", "llama", vec![grouped(2048, 16, 32, 8, 64, 8192, 128_256)]),
            ("Qwen/Qwen3-8B", "qwen3", vec![grouped(4096, 36, 32, 8, 128, 12288, 151_936)]),
            (
                "Qwen/Qwen3-30B-A3B",
                "qwen3_moe",
                vec![
                    grouped(2048, 48, 32, 4, 128, 6144, 151_936),
                    json!({"num_experts": 128, "moe_intermediate_size": 768}),
                ],
            ),
            ("Qwen/Qwen3.5-4B", "qwen3_5_text", vec![grouped(2560, 32, 16, 4, 256, 9216, 248_320), linear(32)]),
            ("Qwen/Qwen3.5-9B", "qwen3_5_text", vec![grouped(4096, 32, 16, 4, 256, 12288, 248_320), linear(32)]),
            (
                "Qwen/Qwen3.8-27B",
                "qwen3_5_text",
                vec![grouped(5120, 64, 24, 4, 256, 17408, 248_320), linear(48), json!({"full_attention_interval": 4})],
            ),
            (
                "Qwen/Qwen3.6-35B-A3B",
                "qwen3_5_moe_text",
                vec![
                    grouped(2048, 40, 16, 2, 256, 1, 248_320),
                    linear(32),
                    json!({"num_experts": 256, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512}),
                ],
            ),
            (
                "Qwen/Qwen3.5-397B-A17B",
                "qwen3_5_moe_text",
                vec![
                    grouped(4096, 60, 32, 2, 256, 1, 248_320),
                    linear(64),
                    json!({"num_experts": 512, "moe_intermediate_size": 1024, "shared_expert_intermediate_size": 1024}),
                ],
            ),
            (
                "deepseek-ai/DeepSeek-V3.1",
                "deepseek_v3",
                vec![
                    latent.clone(),
                    json!({"num_attention_heads": 128, "n_routed_experts": 256, "first_k_dense_replace": 3, "vocab_size": 129_280}),
                ],
            ),
            (
                "moonshotai/Kimi-K2.6",
                "kimi_k2",
                vec![
                    latent,
                    json!({"num_attention_heads": 64, "n_routed_experts": 384, "first_k_dense_replace": 1, "vocab_size": 163_840}),
                ],
            ),
            (
                "openai/gpt-oss-20b",
                "gpt_oss",
                vec![grouped(2880, 24, 64, 8, 64, 2880, 201_088), json!({"num_local_experts": 32})],
            ),
        ] {
            let mut config = Map::new();
            parts.into_iter().for_each(|part| config.extend(part.as_object().unwrap().clone()));
            config.insert("model_type".to_owned(), json!(model_type));
            let inside = json!({"model_type": "qwen3_5", "text_config": config});
            let expected = ModelShape::of(model).unwrap();
            assert_eq!(read(&Value::Object(config).to_string()).unwrap(), expected, "{model}");
            assert_eq!(read(&inside.to_string()).unwrap(), expected, "{model}");
        }
    }

    #[test]
    fn kinds_of_layers_may_be_listed() {
        let mut config = json!({"model_type": "qwen3_5_text", "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
            "intermediate_size": 4, "vocab_size": 10, "linear_num_key_heads": 1, "linear_num_value_heads": 1,
            "linear_key_head_dim": 2, "linear_value_head_dim": 4, "layer_types": ["linear_attention", "full_attention", "full_attention"]});
        let [full, gate, linear] = [4 * (8 + 8), 8, 2 * (8 + 2) + 3 * (8 + 4)];
        assert_eq!(read(&config.to_string()).unwrap().attention, 2 * (full + gate) + linear);
        config["attn_output_gate"] = json!(false);
        assert_eq!(read(&config.to_string()).unwrap().attention, 2 * full + linear);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let llama = json!({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 96, "vocab_size": 100});
        let with = |name: &str, value: Value| {
            let mut config = llama.clone();
            config[name] = value;
            config.to_string()
        };
        for (json, why) in [
            ("{".to_owned(), "is not JSON"),
            ("[]".to_owned(), "not an object"),
            ("{}".to_owned(), "of the type \"\" are not known"),
            (with("model_type", json!("nemotron_h")), "of the type \"nemotron_h\" are not known"),
            (with("hidden_size", Value::Null), "has no hidden_size"),
            (with("vocab_size", json!(0)), "has no vocab_size"),
            (with("num_hidden_layers", json!(1.5)), "num_hidden_layers of the model's configuration is 1.5"),
            (with("intermediate_size", json!("96")), "intermediate_size of the model's configuration is \"96\""),
            (with("kv_lora_rank", json!(8)), "has no qk_rope_head_dim"),
        ] {
            let error = read(&json).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
    }
}
