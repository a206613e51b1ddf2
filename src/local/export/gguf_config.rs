//! The configuration in Hugging Face's format of a model that comes from a GGUF file.

use serde_json::{Map, Value, json};

use super::precision::ExportPrecision;
use crate::error::{Error, Result};
use crate::local::pretrained::checkpoint::Checkpoint;
use crate::local::transformer::{ModelConfig, llama3_divisors};

/// The factors of all models with Llama 3's scaling; a file has only the divisors that follow from them.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;

/// The largest relative difference of a divisor that is read from a file, where it has single precision.
const TOLERANCE: f64 = 1e-5;

/// The configuration. `unties` says that a tied head is separated from the embedding.
pub(super) fn config(base: &Checkpoint, precision: ExportPrecision, unties: bool) -> Result<Map<String, Value>> {
    let config = &base.config;
    let (class, model_type) = base.architecture.names();
    let end_tokens = match config.end_tokens.as_slice() {
        [] => Value::Null,
        [token] => json!(token),
        tokens => json!(tokens),
    };
    let written = json!({
        "architectures": [class],
        "model_type": model_type,
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling(base)?,
        "attention_bias": false,
        "use_sliding_window": false,
        "sliding_window": null,
        "eos_token_id": end_tokens,
        "tie_word_embeddings": base.is_tied && !unties,
        "torch_dtype": precision.torch_name(),
    });
    Ok(written.as_object().cloned().unwrap_or_default())
}

/// The options of Llama 3's scaling whose divisors the file has.
fn scaling(base: &Checkpoint) -> Result<Value> {
    let Some(divisors) = &base.config.rope_divisors else { return Ok(Value::Null) };
    let found = original_context(&base.config, divisors).ok_or_else(|| {
        let message =
            format!("the model {} cannot be merged: its rope_freqs are not those of Llama 3", base.path.display());
        Error::invalid_input(message).with_hint("merge the adapter into the model in Hugging Face's format")
    })?;
    let (factor, original_context) = found;
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW_FREQ_FACTOR,
        "high_freq_factor": HIGH_FREQ_FACTOR,
        "original_max_position_embeddings": original_context,
    }))
}

/// The factor, and the context length before scaling, that give these divisors: a power of two.
fn original_context(config: &ModelConfig, divisors: &[f64]) -> Option<(f64, u64)> {
    let factor = divisors.iter().copied().fold(1.0, f64::max);
    let fits = |context: &u64| {
        let limits = [LOW_FREQ_FACTOR, HIGH_FREQ_FACTOR];
        let expected = llama3_divisors(config.head_size, config.rope_theta, factor, limits, *context as f64);
        expected.len() == divisors.len()
            && expected.iter().zip(divisors).all(|(expected, found)| (expected / found - 1.0).abs() <= TOLERANCE)
    };
    (0..40).map(|power| 1 << power).find(fits).map(|context| (factor, context))
}
