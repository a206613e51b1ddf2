//! What an `adapter_config.json` says.

use serde_json::{Map, Value};

/// The options of an adapter that its numbers depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdapterConfig {
    pub(super) rank: usize,
    pub(super) alpha: f64,
    /// The base model, by whatever name the trainer gave it.
    pub(super) base_model: Option<String>,
}

/// Options of PEFT with which an adapter computes something else than W + alpha / rank · B · A, unless they are off.
const OTHER_COMPUTATIONS: [&str; 14] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "bias",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_qalora",
    "use_rslora",
];

/// How adapters begin that leave their base model as it is. All other ways by name change it.
const INITIALIZATIONS: [&str; 3] = ["eva", "gaussian", "orthogonal"];

/// Reads a configuration, or says why it cannot be used.
pub(crate) fn read(map: &Map<String, Value>) -> Result<AdapterConfig, String> {
    if let Some(other) = map.get("peft_type").filter(|kind| kind.as_str() != Some("LORA")) {
        return Err(format!("its peft_type is {other}, and only \"LORA\" can be exported"));
    }
    if let Some(name) = OTHER_COMPUTATIONS.iter().find(|name| map.get(**name).is_some_and(|value| !is_off(value))) {
        return Err(format!("its option {name} is {}, with which it computes something else", map[*name]));
    }
    if let Some(way) = map.get("init_lora_weights").filter(|way| !keeps_base(way)) {
        return Err(format!("its option init_lora_weights is {way}, with which the base model itself was changed"));
    }
    let rank = map.get("r").and_then(Value::as_u64).and_then(|rank| usize::try_from(rank).ok());
    let alpha = map.get("lora_alpha").and_then(Value::as_f64);
    Ok(AdapterConfig {
        rank: rank.filter(|&rank| rank > 0).ok_or("its rank (r) is missing, or no number from 1")?,
        alpha: alpha.ok_or("its lora_alpha is missing, or no number")?,
        base_model: map.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Whether an adapter that begins in this way is one of the unchanged base model.
fn keeps_base(initialization: &Value) -> bool {
    match initialization {
        Value::Null | Value::Bool(_) => true,
        Value::String(way) => INITIALIZATIONS.contains(&way.as_str()),
        _ => false,
    }
}

/// Whether this is how an option is written that is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none",
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_with(options: Value) -> Result<AdapterConfig, String> {
        let mut map = json!({
            "peft_type": "LORA", "r": 8, "lora_alpha": 32, "bias": "none", "use_dora": false, "modules_to_save": null, "rank_pattern": {},
            "base_model_name_or_path": "acme/small", "lora_dropout": 0.1, "target_modules": ["q_proj"],
        });
        let (Some(map), Value::Object(options)) = (map.as_object_mut(), options) else { panic!("objects") };
        map.extend(options);
        read(map)
    }

    #[test]
    fn options_that_are_off_are_read_over() {
        let base_model = Some("acme/small".to_owned());
        assert_eq!(read_with(json!({})), Ok(AdapterConfig { rank: 8, alpha: 32.0, base_model }));
        assert_eq!(read_with(json!({"base_model_name_or_path": null, "lora_alpha": 0.5})).unwrap().base_model, None);
        for way in [json!(null), json!(true), json!(false), json!("gaussian"), json!("eva"), json!("orthogonal")] {
            assert!(read_with(json!({"init_lora_weights": way})).is_ok(), "{way}");
        }
    }

    #[test]
    fn other_computations_are_refused_by_name() {
        for (options, why) in [
            (json!({"peft_type": "IA3"}), "\"IA3\""),
            (json!({"use_dora": true}), "use_dora is true"),
            (json!({"use_rslora": true}), "use_rslora"),
            (json!({"bias": "all"}), "bias is \"all\""),
            (json!({"modules_to_save": ["embed_tokens"]}), "modules_to_save"),
            (json!({"rank_pattern": {"q_proj": 4}}), "rank_pattern"),
            (json!({"init_lora_weights": "pissa"}), "init_lora_weights is \"pissa\""),
            (json!({"init_lora_weights": "pissa_niter_16"}), "init_lora_weights"),
            (json!({"init_lora_weights": "olora"}), "init_lora_weights"),
            (json!({"init_lora_weights": "corda"}), "init_lora_weights"),
            (json!({"init_lora_weights": "loftq"}), "init_lora_weights"),
            (json!({"init_lora_weights": 1}), "init_lora_weights"),
            (json!({"r": 0}), "rank"),
            (json!({"r": -1}), "rank"),
            (json!({"r": null}), "rank"),
            (json!({"lora_alpha": null}), "lora_alpha"),
            (json!({"lora_alpha": "32"}), "lora_alpha"),
        ] {
            let error = read_with(options).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
