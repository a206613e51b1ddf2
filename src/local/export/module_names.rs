//! The names of an adapter's tensors, and the modules of transformers that they belong to.

/// The module of the unembedding.
pub(super) const HEAD: &str = "lm_head";

/// What the hosted service calls it.
const UNEMBEDDING: &str = "model.unembed_tokens";

/// The modules of a layer that an adapter can change.
const LAYER: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// One of the two matrices of an adapted module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// Rank × inputs.
    A,
    /// Outputs × rank.
    B,
}

/// The module and the factor that a tensor of an adapter is; `None` if no module of the known models has it.
pub(super) fn parse(tensor: &str) -> Option<(String, Factor)> {
    let name = tensor.strip_prefix("base_model.model.")?;
    let a = name.strip_suffix(".lora_A.weight").map(|module| (module, Factor::A));
    let (module, factor) = a.or_else(|| Some((name.strip_suffix(".lora_B.weight")?, Factor::B)))?;
    let module = if module == UNEMBEDDING { HEAD } else { module };
    is_known(module).then(|| (module.to_owned(), factor))
}

fn is_known(module: &str) -> bool {
    let in_layer = module.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    match in_layer {
        Some((layer, name)) => !layer.is_empty() && layer.bytes().all(|c| c.is_ascii_digit()) && LAYER.contains(&name),
        None => module == HEAD,
    }
}

/// The name of a factor in PEFT's files.
pub(super) fn tensor(module: &str, factor: Factor) -> String {
    format!("base_model.model.{module}.lora_{factor:?}.weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_transformers() {
        for (name, module, factor) in [
            ("base_model.model.model.layers.11.mlp.up_proj.lora_A.weight", "model.layers.11.mlp.up_proj", Factor::A),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
                "model.layers.0.self_attn.q_proj",
                Factor::B,
            ),
            ("base_model.model.lm_head.lora_A.weight", "lm_head", Factor::A),
        ] {
            assert_eq!(parse(name), Some((module.to_owned(), factor)));
            assert_eq!(tensor(module, factor), name);
        }
        let head = parse("base_model.model.model.unembed_tokens.lora_B.weight");
        assert_eq!(head, Some(("lm_head".to_owned(), Factor::B)));
    }

    #[test]
    fn what_no_model_has_is_no_module() {
        for name in [
            "model.layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.up_proj.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_C.weight",
            "base_model.model.model.layers.0.mlp.experts.3.up_proj.lora_A.weight",
            "base_model.model.model.layers.x.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers..mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.lora_A.weight",
            "base_model.model.model.embed_tokens.lora_A.weight",
            "base_model.model.lora_A.weight",
            "",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
