//! The names of tensors in GGUF files, and in Hugging Face's format.

use super::architecture::{EMBEDDING, FINAL_NORM, HEAD};

/// The frequencies of rotary positions are divided by what this tensor has.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

const OUTER: [(&str, &str); 3] =
    [("token_embd.weight", EMBEDDING), ("output_norm.weight", FINAL_NORM), ("output.weight", HEAD)];

/// The parts of a layer.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The name in Hugging Face's format; the name itself, if there is none.
pub(super) fn of_label(label: &str) -> String {
    if let Some((_, name)) = OUTER.iter().find(|(known, _)| *known == label) {
        return (*name).to_owned();
    }
    let layer = || {
        let (index, rest) = label.strip_prefix("blk.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, name) = PARTS.iter().find(|(known, _)| *known == part)?;
        Some(format!("model.layers.{index}.{name}.{kind}"))
    };
    layer().unwrap_or_else(|| label.to_owned())
}

/// The name in a GGUF file of a tensor of Hugging Face's format.
pub(super) fn label(name: &str) -> String {
    if let Some((label, _)) = OUTER.iter().find(|(_, known)| *known == name) {
        return (*label).to_owned();
    }
    let layer = || {
        let (index, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (label, _) = PARTS.iter().find(|(_, known)| *known == part)?;
        Some(format!("blk.{index}.{label}.{kind}"))
    };
    layer().unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_label() {
        for (name, expected) in [
            (HEAD, "output.weight"),
            ("model.layers.11.self_attn.k_norm.weight", "blk.11.attn_k_norm.weight"),
            ("model.layers.0.self_attn.q_proj.bias", "blk.0.attn_q.bias"),
            ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
        ] {
            assert_eq!(label(name), expected);
            assert_eq!(of_label(expected), name);
        }
        for other in ["blk.0.attn_sinks.weight", "rope_freqs.weight", "blk.", ""] {
            assert_eq!(of_label(other), other);
        }
    }
}
