//! What a `config.json` says of a model.

use serde_json::{Map, Value};

use super::options::Options;
use super::rope;
use crate::local::pretrained::architecture::{Architecture, check_heads};
use crate::local::pretrained::refusal::Refusal::{self, Damaged, Unsupported};
use crate::local::transformer::ModelConfig;

/// A model, by its configuration.
#[derive(Debug)]
pub(crate) struct Description {
    pub(super) architecture: Architecture,
    pub(super) config: ModelConfig,
    pub(super) is_tied: bool,
}

/// What transformers takes for an option that is not written.
struct Defaults {
    num_kv_heads: Option<usize>,
    head_size: Option<usize>,
    context_length: usize,
    sliding_window: Option<usize>,
}

impl Architecture {
    fn defaults(self) -> Defaults {
        let (num_kv_heads, head_size, context_length, sliding_window) = match self {
            Architecture::Llama => (None, None, 2048, None),
            Architecture::Mistral => (Some(8), None, 131_072, Some(4096)),
            Architecture::Qwen2 => (Some(32), None, 32_768, Some(4096)),
            Architecture::Qwen3 => (Some(32), Some(128), 32_768, Some(4096)),
        };
        Defaults { num_kv_heads, head_size, context_length, sliding_window }
    }
}

/// Reads a configuration. The end tokens are those that it names.
pub(crate) fn read(map: &Map<String, Value>) -> Result<Description, Refusal> {
    let options = Options(map);
    let architecture = architecture(&options)?;
    let defaults = architecture.defaults();
    refuse_other_computations(&options)?;
    let (hidden_size, num_heads) = (options.needed_count("hidden_size")?, options.needed_count("num_attention_heads")?);
    // What is not written is the family's usual number. `null` is what follows from the rest.
    let usual = |name, default: Option<usize>| if options.is_written(name) { None } else { default };
    let usual_heads = usual("num_key_value_heads", defaults.num_kv_heads);
    let num_kv_heads = options.count("num_key_value_heads")?.or(usual_heads).unwrap_or(num_heads);
    let usual_size = usual("head_dim", defaults.head_size);
    let head_size = options.count("head_dim")?.or(usual_size).unwrap_or(hidden_size / num_heads);
    check_heads(num_heads, num_kv_heads, head_size)?;
    let rope = rope::read(&options, head_size)?;
    let config = ModelConfig {
        vocab_size: options.needed_count("vocab_size")?,
        hidden_size,
        num_layers: options.needed_count("num_hidden_layers")?,
        num_heads,
        num_kv_heads,
        head_size,
        intermediate_size: options.needed_count("intermediate_size")?,
        context_length: options.count("max_position_embeddings")?.unwrap_or(defaults.context_length),
        rms_norm_eps: options.positive("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: rope.theta,
        rope_divisors: rope.divisors,
        end_tokens: options.tokens("eos_token_id")?,
    };
    refuse_sliding_windows(&options, architecture, &config)?;
    Ok(Description { architecture, config, is_tied: options.flag("tie_word_embeddings")?.unwrap_or(false) })
}

fn architecture(options: &Options<'_>) -> Result<Architecture, Refusal> {
    let known = |name: &str| Architecture::ALL.into_iter().find(|known| known.names().0 == name);
    let model_type = options.text("model_type")?;
    let names = options.get("architectures").and_then(Value::as_array);
    let found = match names.and_then(|names| names.first()).and_then(Value::as_str) {
        Some(name) => known(name).ok_or_else(|| Unsupported(format!("its architecture is {name}")))?,
        None => {
            let by_type = Architecture::ALL.into_iter().find(|known| Some(known.names().1) == model_type);
            by_type.ok_or_else(|| match model_type {
                Some(name) => Unsupported(format!("its model_type is {name:?}")),
                None => Damaged("its config.json names no architecture".to_owned()),
            })?
        }
    };
    match model_type {
        Some(name) if name != found.names().1 => {
            Err(Damaged(format!("its model_type {name:?} is not that of {found}")))
        }
        _ => Ok(found),
    }
}

/// Refuses options with which a model computes something else.
fn refuse_other_computations(options: &Options<'_>) -> Result<(), Refusal> {
    for name in ["attention_bias", "mlp_bias"] {
        if options.flag(name)?.unwrap_or(false) {
            return Err(Unsupported(format!("it has biases ({name})")));
        }
    }
    for name in ["num_experts", "num_local_experts", "n_routed_experts"] {
        if options.get(name).is_some_and(|count| count.as_u64() != Some(0)) {
            return Err(Unsupported(format!("it is a mixture of experts ({name})")));
        }
    }
    if let Some(quantization) = options.get("quantization_config") {
        let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("an unknown method");
        return Err(Unsupported(format!("its weights are quantised by {method} (quantization_config)")));
    }
    match options.text("hidden_act")? {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(Unsupported(format!("its activation is {other:?} (hidden_act)"))),
    }
}

/// Refuses windows of attention, unless they are as long as the context.
fn refuse_sliding_windows(
    options: &Options<'_>,
    architecture: Architecture,
    config: &ModelConfig,
) -> Result<(), Refusal> {
    let usual = if options.is_written("sliding_window") { None } else { architecture.defaults().sliding_window };
    let window = options.count("sliding_window")?.or(usual);
    let slides = match (options.get("layer_types").and_then(Value::as_array), architecture) {
        (Some(layers), _) => {
            let kinds = || layers.iter().map(|layer| layer.as_str().unwrap_or_default());
            if let Some(other) = kinds().find(|kind| !["full_attention", "sliding_attention"].contains(kind)) {
                return Err(Unsupported(format!("its layers have {other:?} (layer_types)")));
            }
            kinds().any(|kind| kind == "sliding_attention")
        }
        (None, Architecture::Llama) => false,
        (None, Architecture::Mistral) => true,
        (None, Architecture::Qwen2 | Architecture::Qwen3) => {
            let first = options.get("max_window_layers").and_then(Value::as_u64).unwrap_or(28);
            options.flag("use_sliding_window")?.unwrap_or(false) && first < config.num_layers as u64
        }
    };
    match window {
        Some(window) if slides && window < config.context_length => {
            Err(Unsupported(format!("its attention sees only the last {window} tokens (sliding_window)")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A configuration with these changes.
    fn of(architecture: &str, changes: Value) -> Result<Description, Refusal> {
        let mut config = json!({"architectures": [architecture], "hidden_size": 64, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 100, "num_hidden_layers": 2, "intermediate_size": 96, "head_dim": 16,
            "max_position_embeddings": 512, "sliding_window": null});
        for (name, value) in changes.as_object().unwrap() {
            if value == "none" {
                config.as_object_mut().unwrap().remove(name);
            } else {
                config[name] = value.clone();
            }
        }
        read(config.as_object().unwrap())
    }

    #[test]
    fn options_that_are_missing_have_defaults() {
        let none = json!({"num_key_value_heads": "none", "head_dim": "none", "max_position_embeddings": "none"});
        let llama = of("LlamaForCausalLM", none).unwrap();
        assert_eq!((llama.config.num_kv_heads, llama.config.head_size, llama.config.context_length), (4, 16, 2048));
        assert_eq!((llama.config.rms_norm_eps, llama.config.rope_theta, llama.is_tied), (1e-6, 10_000.0, false));
        let qwen = of("Qwen3ForCausalLM", json!({"num_key_value_heads": null, "head_dim": "none"})).unwrap();
        assert_eq!((qwen.config.num_kv_heads, qwen.config.head_size), (4, 128));
        let qwen =
            of("Qwen3ForCausalLM", json!({"num_key_value_heads": "none", "head_dim": null, "num_attention_heads": 32}));
        assert_eq!(qwen.map(|qwen| (qwen.config.num_kv_heads, qwen.config.head_size)).unwrap(), (32, 2));
    }

    #[test]
    fn windows_that_do_not_apply_are_read_over() {
        for (architecture, changes) in [
            ("Qwen2ForCausalLM", json!({"sliding_window": 16, "use_sliding_window": false})),
            ("Qwen2ForCausalLM", json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 2})),
            ("Qwen3ForCausalLM", json!({"sliding_window": 16, "layer_types": ["full_attention", "full_attention"]})),
            ("MistralForCausalLM", json!({"sliding_window": 512})),
            ("LlamaForCausalLM", json!({"sliding_window": 16})),
        ] {
            assert!(of(architecture, changes.clone()).is_ok(), "{architecture} {changes}");
        }
    }

    #[test]
    fn what_changes_the_numbers_is_refused_by_name() {
        let llama = "LlamaForCausalLM";
        for (architecture, changes, why) in [
            ("MixtralForCausalLM", json!({}), "MixtralForCausalLM"),
            ("LlamaForSequenceClassification", json!({}), "LlamaForSequenceClassification"),
            (llama, json!({"architectures": null}), "no architecture"),
            (llama, json!({"architectures": null, "model_type": "gemma"}), "\"gemma\""),
            (llama, json!({"model_type": "qwen2"}), "\"qwen2\" is not that of LlamaForCausalLM"),
            (llama, json!({"attention_bias": true}), "attention_bias"),
            (llama, json!({"mlp_bias": true}), "mlp_bias"),
            (llama, json!({"num_local_experts": 8}), "num_local_experts"),
            (llama, json!({"quantization_config": {"quant_method": "gptq"}}), "gptq"),
            (llama, json!({"hidden_act": "gelu"}), "hidden_act"),
            (llama, json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "\"dynamic\""),
            (llama, json!({"num_key_value_heads": 3}), "4 heads of queries cannot share 3"),
            (llama, json!({"head_dim": 15}), "15 features"),
            (llama, json!({"num_hidden_layers": 0}), "num_hidden_layers is 0"),
            (llama, json!({"vocab_size": "none"}), "no vocab_size"),
            (llama, json!({"hidden_size": "64"}), "hidden_size is \"64\""),
            (llama, json!({"rms_norm_eps": 0}), "rms_norm_eps"),
            (llama, json!({"eos_token_id": -1}), "eos_token_id is -1"),
            ("MistralForCausalLM", json!({"sliding_window": 256}), "last 256 tokens"),
            ("MistralForCausalLM", json!({"sliding_window": "none", "max_position_embeddings": 8192}), "last 4096"),
            (
                "Qwen2ForCausalLM",
                json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1}),
                "last 16",
            ),
            ("Qwen3ForCausalLM", json!({"sliding_window": 16, "layer_types": ["sliding_attention"]}), "last 16"),
            ("Qwen3ForCausalLM", json!({"layer_types": ["linear_attention"]}), "layer_types"),
        ] {
            let error = of(architecture, changes).unwrap_err();
            assert!(error.why().contains(why), "{why}: {error:?}");
        }
    }

    #[test]
    fn each_end_token_of_a_list_counts() {
        assert_eq!(of("LlamaForCausalLM", json!({"eos_token_id": [2, 0]})).unwrap().config.end_tokens, [2, 0]);
        assert_eq!(of("LlamaForCausalLM", json!({"eos_token_id": null})).unwrap().config.end_tokens, [0; 0]);
    }
}
