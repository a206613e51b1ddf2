//! Fields of JSON bodies that would change what a request does, and that this server does not have. A request with one of them is
//! refused; all other fields that an endpoint does not know are ignored.
//!
//! The documentation of [`crate::local`] has the same table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::body::{bad_request, format};
use crate::local::server::http1::{Request, Response};
use crate::rules::wire_format::WireFormat;

/// What is refused in one object of a body.
struct Rule {
    endpoint: &'static str,
    /// The name of the object in the body; empty for the body itself.
    object: &'static str,
    refused: Refused,
}

enum Refused {
    /// These fields, each with what to do instead.
    These(&'static [(&'static str, &'static str)]),
    /// All but these: each field of the object is a setting.
    AllBut(&'static [&'static str]),
}

const BATCH: Refused = Refused::AllBut(&["data", "loss_fn", "loss_fn_config", "type"]);

/// The version is one of Dimuon, which is refused as a whole.
const OPTIMIZER: Refused = Refused::AllBut(&["type", "version"]);

const RULES: &[Rule] = &[
    Rule {
        endpoint: "forward_backward",
        object: "",
        refused: Refused::These(&[("forward_only", "send POST forward, or a body in protobuf")]),
    },
    Rule { endpoint: "forward_backward", object: "forward_backward_input", refused: BATCH },
    Rule { endpoint: "forward", object: "forward_input", refused: BATCH },
    Rule {
        endpoint: "asample",
        object: "",
        refused: Refused::These(&[
            ("base_model", "create a sampling session on the model"),
            ("model_path", "create a sampling session on the weights"),
        ]),
    },
    Rule {
        endpoint: "asample",
        object: "sampling_params",
        refused: Refused::AllBut(&["max_tokens", "seed", "stop", "temperature", "top_k", "top_p", "type"]),
    },
    Rule {
        endpoint: "optim_step",
        object: "adam_params",
        refused: Refused::AllBut(&["learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm", "type"]),
    },
    Rule {
        endpoint: "create_model",
        object: "lora_config",
        refused: Refused::AllBut(&["rank", "seed", "train_unembed", "train_mlp", "train_attn", "type"]),
    },
    Rule { endpoint: "create_model", object: "optimizer_config", refused: OPTIMIZER },
    Rule { endpoint: "load_weights", object: "optimizer_config", refused: OPTIMIZER },
];

type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Refuses a request with a field that this server does not support. A malformed body passes: its parser says more.
pub(super) fn check(endpoint: &str, request: &Request) -> Result<(), Response> {
    let mut rules = RULES.iter().filter(|rule| rule.endpoint == endpoint).peekable();
    if rules.peek().is_none() || format(request) != WireFormat::Json {
        return Ok(());
    }
    let Ok(body) = serde_json::from_slice::<Object<'_>>(&request.body) else { return Ok(()) };
    rules.try_for_each(|rule| match rule.object {
        "" => check_object(rule, &body),
        name => {
            let object = body.get(name).and_then(|object| serde_json::from_str::<Object<'_>>(object.get()).ok());
            object.map_or(Ok(()), |object| check_object(rule, &object))
        }
    })
}

fn check_object(rule: &Rule, object: &Object<'_>) -> Result<(), Response> {
    // These values switch nothing on.
    let set = object.iter().filter(|(_, value)| !matches!(value.get(), "null" | "false" | "0" | "0.0"));
    for name in set.map(|(name, _)| &**name) {
        let instead = match rule.refused {
            Refused::These(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, instead)| *instead),
            Refused::AllBut(fields) => (!fields.contains(&name)).then_some("leave it out"),
        };
        if let Some(instead) = instead {
            let dot = if rule.object.is_empty() { "" } else { "." };
            return Err(bad_request(format!(
                "this server does not support {}{dot}{name}, which would change the result: {instead}",
                rule.object
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(endpoint: &str, body: &Value) -> Option<String> {
        let request = Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: String::new(),
            headers: Vec::new(),
            body: body.to_string().into(),
            keep_alive: true,
        };
        check(endpoint, &request).err().map(|response| {
            assert_eq!(response.status, 400);
            response.detail()
        })
    }

    #[test]
    fn settings_that_are_not_known_are_named() {
        for (endpoint, body, expected) in [
            ("asample", json!({"sampling_params": {"min_p": 0.1}}), Some("sampling_params.min_p")),
            ("asample", json!({"sampling_params": {"min_p": 0.0, "logit_bias": null}}), None),
            ("asample", json!({"sampling_params": {"top_k": 3}, "later": 1}), None),
            ("asample", json!({"model_path": "tinker://a/b", "sampling_session_id": "s"}), Some("model_path")),
            ("asample", json!({"sampling_params": 3}), None),
            ("optim_step", json!({"adam_params": {"amsgrad": true}}), Some("adam_params.amsgrad")),
            ("create_model", json!({"lora_config": {"rank": 4, "alpha": 8}}), Some("lora_config.alpha")),
            ("create_model", json!({"optimizer_config": {"type": "adamw", "eps": 1}}), Some("optimizer_config.eps")),
            ("load_weights", json!({"optimizer_config": {"type": "adamw", "eps": 1}}), Some("optimizer_config.eps")),
            ("create_model", json!({"optimizer_config": {"type": "adamw"}}), None),
            ("forward_backward", json!({"forward_only": true}), Some("forward_only")),
            ("forward_backward", json!({"forward_only": false}), None),
            ("forward", json!({"forward_input": {"reduction": "mean"}}), Some("forward_input.reduction")),
            ("save_weights", json!({"alpha": 8}), None),
            ("asample", json!([]), None),
        ] {
            let refusal = refusal(endpoint, &body);
            assert_eq!(refusal.is_some(), expected.is_some(), "{body}: {refusal:?}");
            assert!(refusal.unwrap_or_default().contains(expected.unwrap_or_default()), "{body}");
        }
    }

    #[test]
    fn the_documentation_has_every_rule() {
        let docs = include_str!("../../mod.rs");
        for rule in RULES {
            let fields: Vec<&str> = match rule.refused {
                Refused::These(fields) => fields.iter().map(|(field, _)| *field).collect(),
                Refused::AllBut(fields) => {
                    fields.iter().copied().filter(|field| *field != "type").chain([rule.object]).collect()
                }
            };
            let mut lines = docs.lines().filter(|line| line.contains(&format!("`{}`", rule.endpoint)));
            assert!(
                lines.any(|line| fields.iter().all(|field| line.contains(&format!("`{field}`")))),
                "{} {}",
                rule.endpoint,
                rule.object
            );
        }
    }
}
