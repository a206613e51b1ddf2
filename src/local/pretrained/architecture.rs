//! The families of models, and the tensors that they have.

use std::fmt;

use super::refusal::Refusal;
use crate::local::transformer::ModelConfig;

/// The name of the matrix of the last layer, which tied models do not have.
pub(crate) const HEAD: &str = "lm_head.weight";
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const FINAL_NORM: &str = "model.norm.weight";

/// A family of models whose computation is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Architecture {
    /// Its name in `architectures` of a `config.json`, and its `model_type`.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Architecture::Llama => ("LlamaForCausalLM", "llama"),
            Architecture::Mistral => ("MistralForCausalLM", "mistral"),
            Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
            Architecture::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        }
    }

    pub(super) const ALL: [Architecture; 4] =
        [Architecture::Llama, Architecture::Mistral, Architecture::Qwen2, Architecture::Qwen3];

    /// Whether queries, keys and values have biases.
    pub(super) fn has_biases(self) -> bool {
        self == Architecture::Qwen2
    }

    /// Whether each head of the queries and keys is normalized.
    pub(super) fn has_head_norms(self) -> bool {
        self == Architecture::Qwen3
    }

    /// The tensors of a layer, by what follows `model.layers.N.`, with their shapes.
    fn layer_tensors(self, config: &ModelConfig) -> Vec<(&'static str, Vec<usize>)> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_heads.saturating_mul(config.head_size);
        let keys = config.num_kv_heads.saturating_mul(config.head_size);
        let mut tensors = vec![
            ("input_layernorm.weight", vec![hidden]),
            ("self_attn.q_proj.weight", vec![queries, hidden]),
            ("self_attn.k_proj.weight", vec![keys, hidden]),
            ("self_attn.v_proj.weight", vec![keys, hidden]),
            ("self_attn.o_proj.weight", vec![hidden, queries]),
            ("post_attention_layernorm.weight", vec![hidden]),
            ("mlp.gate_proj.weight", vec![inner, hidden]),
            ("mlp.up_proj.weight", vec![inner, hidden]),
            ("mlp.down_proj.weight", vec![hidden, inner]),
        ];
        if self.has_biases() {
            tensors.extend([
                ("self_attn.q_proj.bias", vec![queries]),
                ("self_attn.k_proj.bias", vec![keys]),
                ("self_attn.v_proj.bias", vec![keys]),
            ]);
        }
        if self.has_head_norms() {
            let head = config.head_size;
            tensors.extend([("self_attn.q_norm.weight", vec![head]), ("self_attn.k_norm.weight", vec![head])]);
        }
        tensors
    }

    /// The tensors of a model, with their shapes. They are made one after the other: a configuration may claim any number.
    pub(super) fn tensors(self, config: &ModelConfig, is_tied: bool) -> impl Iterator<Item = (String, Vec<usize>)> {
        let table = vec![config.vocab_size, config.hidden_size];
        let head = (!is_tied).then(|| (HEAD.to_owned(), table.clone()));
        let outer = [(EMBEDDING.to_owned(), table), (FINAL_NORM.to_owned(), vec![config.hidden_size])];
        let layer = self.layer_tensors(config);
        let layers = (0..config.num_layers).flat_map(move |index| {
            layer.clone().into_iter().map(move |(name, shape)| (layer_tensor(index, name), shape))
        });
        outer.into_iter().chain(head).chain(layers)
    }
}

/// The name of a tensor of a layer.
pub(super) fn layer_tensor(index: usize, name: &str) -> String {
    format!("model.layers.{index}.{name}")
}

/// Whether the heads can be computed with.
pub(super) fn check_heads(heads: usize, kv_heads: usize, size: usize) -> Result<(), Refusal> {
    if heads % kv_heads != 0 {
        return Err(Refusal::Damaged(format!(
            "its {heads} heads of queries cannot share {kv_heads} heads of keys evenly"
        )));
    }
    if size == 0 || size % 2 != 0 {
        return Err(Refusal::Damaged(format!("a head has {size} features, which are not pairs to rotate")));
    }
    Ok(())
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().0)
    }
}
