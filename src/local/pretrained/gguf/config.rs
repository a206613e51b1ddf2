//! What the metadata of a GGUF file say of a model.

use crate::gguf::Metadata;
use crate::local::pretrained::architecture::{Architecture, check_heads};
use crate::local::pretrained::refusal::Refusal::{self, Damaged, Unsupported};
use crate::local::transformer::ModelConfig;

/// The tokens that end a text, a turn or a message to a tool.
const END_TOKENS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// The family of the model.
pub(super) fn architecture(metadata: &Metadata) -> Result<Architecture, Refusal> {
    match metadata.text("general.architecture") {
        // Mistral's models, too: they differ by nothing else than their windows.
        Some("llama") => Ok(Architecture::Llama),
        Some("qwen2") => Ok(Architecture::Qwen2),
        Some("qwen3") => Ok(Architecture::Qwen3),
        Some(other) => Err(Unsupported(format!("its architecture is {other:?}"))),
        None => Err(Damaged("it names no architecture".to_owned())),
    }
}

/// Reads the metadata of a model with this number of rows in its embedding.
pub(super) fn read(architecture: Architecture, metadata: &Metadata, vocab_size: usize) -> Result<ModelConfig, Refusal> {
    let keys = Keys { metadata, prefix: architecture.names().1 };
    let (hidden_size, num_heads) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
    let num_kv_heads = keys.count("attention.head_count_kv")?.unwrap_or(num_heads);
    let head_size = keys.count("attention.key_length")?.unwrap_or(hidden_size / num_heads);
    check_heads(num_heads, num_kv_heads, head_size)?;
    let context_length = keys.needed("context_length")?;
    keys.refuse_other_computations(head_size, context_length)?;
    let mut end_tokens = Vec::new();
    for key in END_TOKENS.into_iter().filter(|key| metadata.has(key)) {
        let token = metadata.integer(key).and_then(|token| u32::try_from(token).ok());
        end_tokens.push(token.ok_or_else(|| Damaged(format!("its {key} is not a token")))?);
    }
    Ok(ModelConfig {
        vocab_size,
        hidden_size,
        num_layers: keys.needed("block_count")?,
        num_heads,
        num_kv_heads,
        head_size,
        intermediate_size: keys.needed("feed_forward_length")?,
        context_length,
        rms_norm_eps: keys
            .positive("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
        rope_theta: keys.positive("rope.freq_base")?.unwrap_or(10_000.0),
        rope_divisors: None,
        end_tokens,
    })
}

/// The keys of an architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn missing(&self, name: &str) -> Refusal {
        Damaged(format!("it has no {}", self.key(name)))
    }

    /// A number of things, perhaps none.
    fn whole(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let key = self.key(name);
        if !self.metadata.has(&key) {
            return Ok(None);
        }
        let count = self.metadata.integer(&key).and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| Damaged(format!("its {key} is not a whole number")))
    }

    /// A number of things: at least one.
    fn count(&self, name: &str) -> Result<Option<usize>, Refusal> {
        match self.whole(name)? {
            Some(0) => Err(Damaged(format!("its {} is not a number from 1", self.key(name)))),
            count => Ok(count),
        }
    }

    fn needed(&self, name: &str) -> Result<usize, Refusal> {
        self.count(name)?.ok_or_else(|| self.missing(name))
    }

    /// A number above zero.
    fn positive(&self, name: &str) -> Result<Option<f64>, Refusal> {
        let key = self.key(name);
        if !self.metadata.has(&key) {
            return Ok(None);
        }
        let number = self.metadata.float(&key).filter(|number| number.is_finite() && *number > 0.0);
        number.map(Some).ok_or_else(|| Damaged(format!("its {key} is not a number above zero")))
    }

    /// Refuses what makes a model compute something else.
    fn refuse_other_computations(&self, head_size: usize, context_length: usize) -> Result<(), Refusal> {
        if self.whole("expert_count")?.is_some_and(|count| count != 0) {
            return Err(Unsupported(format!("it is a mixture of experts ({})", self.key("expert_count"))));
        }
        for (name, expected) in [("rope.dimension_count", head_size), ("attention.value_length", head_size)] {
            if let Some(other) = self.count(name)?.filter(|&size| size != expected) {
                return Err(Unsupported(format!(
                    "its {} is {other}, and a head has {head_size} features",
                    self.key(name)
                )));
            }
        }
        self.refuse_scaled_positions()?;
        match self.whole("attention.sliding_window")?.filter(|&window| window != 0 && window < context_length) {
            Some(window) => Err(Unsupported(format!(
                "its attention sees only the last {window} tokens ({})",
                self.key("attention.sliding_window")
            ))),
            None => Ok(()),
        }
    }

    /// Refuses scaled positions. llama.cpp scales in proportion where a factor is written without a method.
    fn refuse_scaled_positions(&self) -> Result<(), Refusal> {
        let key = self.key("rope.scaling.type");
        let is_off = match self.metadata.text(&key) {
            Some("none") => true,
            Some(other) => {
                return Err(Unsupported(format!("its positions are scaled by the method {other:?} ({key})")));
            }
            None if self.metadata.has(&key) => return Err(Damaged(format!("its {key} is not a text"))),
            None => false,
        };
        let factors = ["rope.scaling.factor", "rope.scale_linear"].into_iter().filter(|_| !is_off);
        for name in factors.chain(["rope.scaling.attn_factor"]) {
            let key = self.key(name);
            if self.metadata.has(&key) && self.metadata.float(&key) != Some(1.0) {
                return Err(Unsupported(format!("its positions are scaled ({key})")));
            }
        }
        Ok(())
    }
}
