//! Fields of JSON bodies that this server does not know, in requests that change or compute something. A request with one of them is
//! refused by name: a setting that is misspelled, or newer than this server, would otherwise do nothing without a word.
//!
//! The documentation of [`crate::local`] has the same table.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::body::bad_request;
use crate::local::server::http1::{Request, Response};
use crate::rules::wire_format::WireFormat;

/// What is refused in one object of a body.
struct Rule {
    endpoint: &'static str,
    /// The path of the object in the body; empty for the body itself. Each name may be that of a list of objects, or [`ANY`].
    object: &'static [&'static str],
    refused: Refused,
}

enum Refused {
    /// These fields, each with what to do instead.
    These(&'static [(&'static str, &'static str)]),
    /// All but these: each field of the object is a setting.
    AllBut(&'static [&'static str]),
}

const BATCH: Refused = Refused::AllBut(&["data", "loss_fn", "loss_fn_config", "type"]);

/// One example of a batch. `key` is a field of the official client, which it sends if the program sets it.
const DATUM: Refused =
    Refused::AllBut(&["model_input", "loss_fn_inputs", "model_input_spans", "loss_fn_input_spans", "key"]);

/// In a path: whatever the name is.
const ANY: &str = "*";

const INPUT: Refused = Refused::AllBut(&["chunks"]);

/// The fields of all kinds of chunks: those that this server does not take are refused as a whole.
const CHUNK: Refused =
    Refused::AllBut(&["tokens", "data", "dmel", "format", "location", "expected_tokens", "height", "width", "type"]);

const TENSOR: Refused = Refused::AllBut(&["data", "dtype", "shape", "sparse_crow_indices", "sparse_col_indices"]);

/// The version is one of Dimuon, which is refused as a whole.
const OPTIMIZER: Refused = Refused::AllBut(&["type", "version"]);

/// Settings of other servers that zero switches off.
const OFF_AT_ZERO: [&str; 3] = ["min_p", "frequency_penalty", "presence_penalty"];

const RULES: &[Rule] = &[
    Rule {
        endpoint: "forward_backward",
        object: &[],
        refused: Refused::These(&[("forward_only", "send POST forward, or a body in protobuf")]),
    },
    Rule {
        endpoint: "forward_backward",
        object: &[],
        refused: Refused::AllBut(&["model_id", "seq_id", "forward_backward_input", "type", "forward_only"]),
    },
    Rule { endpoint: "forward_backward", object: &["forward_backward_input"], refused: BATCH },
    Rule { endpoint: "forward_backward", object: &["forward_backward_input", "data"], refused: DATUM },
    Rule { endpoint: "forward_backward", object: &["forward_backward_input", "data", "model_input"], refused: INPUT },
    Rule {
        endpoint: "forward_backward",
        object: &["forward_backward_input", "data", "model_input", "chunks"],
        refused: CHUNK,
    },
    Rule {
        endpoint: "forward_backward",
        object: &["forward_backward_input", "data", "loss_fn_inputs", ANY],
        refused: TENSOR,
    },
    Rule {
        endpoint: "forward",
        object: &[],
        refused: Refused::AllBut(&["model_id", "seq_id", "forward_input", "type"]),
    },
    Rule { endpoint: "forward", object: &["forward_input"], refused: BATCH },
    Rule { endpoint: "forward", object: &["forward_input", "data"], refused: DATUM },
    Rule { endpoint: "forward", object: &["forward_input", "data", "model_input"], refused: INPUT },
    Rule { endpoint: "forward", object: &["forward_input", "data", "model_input", "chunks"], refused: CHUNK },
    Rule { endpoint: "forward", object: &["forward_input", "data", "loss_fn_inputs", ANY], refused: TENSOR },
    Rule {
        endpoint: "asample",
        object: &[],
        refused: Refused::These(&[
            ("base_model", "create a sampling session on the model"),
            ("model_path", "create a sampling session on the weights"),
        ]),
    },
    Rule {
        endpoint: "asample",
        object: &[],
        refused: Refused::AllBut(&[
            "sampling_session_id",
            "seq_id",
            "num_samples",
            "prompt",
            "sampling_params",
            "prompt_logprobs",
            "topk_prompt_logprobs",
            "topk_sample_logprobs",
            "target_prompt_logprobs",
            "prompt_alt_tokens_k",
            "prompt_logprobs_last_n",
            "record_stability_info",
            "type",
        ]),
    },
    Rule {
        endpoint: "asample",
        object: &["sampling_params"],
        refused: Refused::AllBut(&["max_tokens", "seed", "stop", "temperature", "top_k", "top_p", "type"]),
    },
    Rule { endpoint: "asample", object: &["prompt"], refused: INPUT },
    Rule { endpoint: "asample", object: &["prompt", "chunks"], refused: CHUNK },
    Rule { endpoint: "asample", object: &["target_prompt_logprobs"], refused: TENSOR },
    Rule {
        endpoint: "optim_step",
        object: &[],
        refused: Refused::AllBut(&["model_id", "seq_id", "adam_params", "optimizer_params", "type"]),
    },
    Rule {
        endpoint: "optim_step",
        object: &["adam_params"],
        refused: Refused::AllBut(&["learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm", "type"]),
    },
    Rule {
        endpoint: "create_model",
        object: &[],
        refused: Refused::AllBut(&[
            "session_id",
            "model_seq_id",
            "base_model",
            "user_metadata",
            "lora_config",
            "optimizer_config",
            "type",
        ]),
    },
    Rule {
        endpoint: "create_model",
        object: &["lora_config"],
        refused: Refused::AllBut(&["rank", "seed", "train_unembed", "train_mlp", "train_attn", "type"]),
    },
    Rule { endpoint: "create_model", object: &["optimizer_config"], refused: OPTIMIZER },
    Rule {
        endpoint: "load_weights",
        object: &[],
        refused: Refused::AllBut(&[
            "model_id",
            "seq_id",
            "session_id",
            "model_seq_id",
            "base_model",
            "user_metadata",
            "path",
            "optimizer",
            "optimizer_config",
            "weights_access_token",
            "type",
        ]),
    },
    Rule { endpoint: "load_weights", object: &["optimizer_config"], refused: OPTIMIZER },
    Rule {
        endpoint: "save_weights",
        object: &[],
        refused: Refused::AllBut(&["model_id", "seq_id", "path", "overwrite", "ttl_seconds", "user_metadata", "type"]),
    },
    Rule {
        endpoint: "save_weights_for_sampler",
        object: &[],
        refused: Refused::AllBut(&[
            "model_id",
            "seq_id",
            "path",
            "kind",
            "sampling_session_seq_id",
            "ttl_seconds",
            "user_metadata",
            "type",
        ]),
    },
    Rule {
        endpoint: "save_weights_external",
        object: &[],
        refused: Refused::AllBut(&["model_id", "seq_id", "path", "ttl_seconds", "age_encryption_recipients", "type"]),
    },
    Rule {
        endpoint: "create_sampling_session",
        object: &[],
        refused: Refused::AllBut(&["session_id", "sampling_session_seq_id", "base_model", "model_path", "type"]),
    },
    Rule {
        endpoint: "copy_weights",
        object: &[],
        refused: Refused::AllBut(&["source_path", "destination_project_id", "ttl_seconds", "type"]),
    },
];

/// Refuses a request with a field that this server does not support. A malformed body passes: its parser says more.
pub(super) fn check(endpoint: &str, request: &Request) -> Result<(), Response> {
    let rules: Vec<&Rule> = RULES.iter().filter(|rule| rule.endpoint == endpoint).collect();
    if rules.is_empty() || request.format() != WireFormat::Json {
        return Ok(());
    }
    let (mut refusal, mut json) = (None, serde_json::Deserializer::from_slice(&request.body));
    let body = Checked { rules: &rules, path: &[], refusal: &mut refusal };
    let is_json = body.deserialize(&mut json).and_then(|()| json.end()).is_ok();
    refusal.filter(|_| is_json).map_or(Ok(()), Err)
}

/// A value at this path of a body, or each of a list of them. It is checked while it is read, with what is below it, and no deeper
/// than the JSON parser goes.
struct Checked<'a> {
    /// Those whose paths lead here.
    rules: &'a [&'a Rule],
    path: &'a [&'a str],
    /// That of the first field that is refused.
    refusal: &'a mut Option<Response>,
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Checked { rules, path, refusal } = self;
        while values.next_element_seed(Checked { rules, path, refusal: &mut *refusal })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Checked { rules, path, refusal } = self;
        while let Some(name) = fields.next_key::<String>()? {
            let leads_below =
                |rule: &&Rule| rule.object.get(path.len()).is_some_and(|next| *next == ANY || *next == name);
            let below: Vec<&Rule> = rules.iter().copied().filter(leads_below).collect();
            if below.is_empty() {
                let value: &RawValue = fields.next_value()?;
                let mut of_here = rules.iter().filter(|rule| rule.object.len() == path.len());
                let refused = of_here.find_map(|rule| refusal_of(rule, path, &name, value.get()));
                *refusal = refusal.take().or(refused);
            } else {
                let path = [path, &[&*name]].concat();
                fields.next_value_seed(Checked { rules: &below, path: &path, refusal: &mut *refusal })?;
            }
        }
        Ok(())
    }
}

/// What a rule says of a field of the object at this path.
fn refusal_of(rule: &Rule, path: &[&str], name: &str, value: &str) -> Option<Response> {
    if value == "null" {
        return None;
    }
    let is_zero = matches!(value, "false" | "0" | "0.0");
    let instead = match rule.refused {
        Refused::These(fields) => {
            let field = fields.iter().find(|(field, _)| *field == name && !is_zero);
            field.map(|(_, instead)| *instead)
        }
        // A zero is a setting, too: "train_mpl": false, "temprature": 0.
        Refused::AllBut(fields) => {
            let is_known = fields.contains(&name) || is_zero && OFF_AT_ZERO.contains(&name);
            (!is_known).then_some("correct its name, or leave it out")
        }
    }?;
    let path: String = path.iter().map(|object| format!("{object}.")).collect();
    Some(bad_request(format!(
        "this server does not know {path}{name}, which would change what the request does: {instead}"
    )))
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
            takes_chunks: true,
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
            ("asample", json!({"sampling_params": {"temprature": 0}}), Some("sampling_params.temprature")),
            ("asample", json!({"sampling_params": {"temprature": 0.0}}), Some("sampling_params.temprature")),
            ("asample", json!({"sampling_params": {"top_k": 3}, "later": 1}), Some("know later")),
            ("asample", json!({"sampling_params": {"top_k": 3}, "later": null, "seq_id": 1}), None),
            ("asample", json!({"model_path": "tinker://a/b", "sampling_session_id": "s"}), Some("model_path")),
            ("asample", json!({"sampling_params": 3}), None),
            ("optim_step", json!({"adam_params": {"amsgrad": true}}), Some("adam_params.amsgrad")),
            ("optim_step", json!({"adam_params": {"lr": 0.0}}), Some("adam_params.lr")),
            ("create_model", json!({"lora_config": {"train_mpl": false}}), Some("lora_config.train_mpl")),
            ("create_model", json!({"lora_config": {"rank": 4, "alpha": 8}}), Some("lora_config.alpha")),
            ("create_model", json!({"optimizer_config": {"type": "adamw", "eps": 1}}), Some("optimizer_config.eps")),
            ("load_weights", json!({"optimizer_config": {"type": "adamw", "eps": 1}}), Some("optimizer_config.eps")),
            ("create_model", json!({"optimizer_config": {"type": "adamw"}}), None),
            ("forward_backward", json!({"forward_only": true}), Some("forward_only")),
            ("forward_backward", json!({"forward_only": false}), None),
            ("forward", json!({"forward_input": {"reduction": "mean"}}), Some("forward_input.reduction")),
            ("forward", json!({"forward_input": {"data": [{}, {"wieghts": [1]}]}}), Some("forward_input.data.wieghts")),
            ("forward_backward", json!({"forward_backward_input": {"data": [{"key": "a"}, 3]}}), None),
            ("forward_backward", json!({"batch": []}), Some("know batch")),
            (
                "forward_backward",
                json!({"forward_backward_input": {"data": [{"model_input": {"mask": [0]}}]}}),
                Some("forward_backward_input.data.model_input.mask"),
            ),
            (
                "forward",
                json!({"forward_input": {"data": [{"model_input": {"chunks": [{"tokens": [1], "weight": 0}]}}]}}),
                Some("forward_input.data.model_input.chunks.weight"),
            ),
            (
                "forward_backward",
                json!({"forward_backward_input": {"data": [{"loss_fn_inputs": {"a": [1], "b": {"scale": 2}}}]}}),
                Some("forward_backward_input.data.loss_fn_inputs.b.scale"),
            ),
            ("asample", json!({"prompt": {"chunks": [{"type": "image", "data": "", "format": "png"}, 3]}}), None),
            ("asample", json!({"prompt": {"chunks": [{"text": "a"}]}}), Some("prompt.chunks.text")),
            ("asample", json!({"target_prompt_logprobs": {"shpe": [1]}}), Some("target_prompt_logprobs.shpe")),
            ("save_weights", json!({"path": "a", "ttl": 8}), Some("know ttl")),
            ("save_weights", json!({"path": "a", "overwrite": true, "ttl_seconds": 8}), None),
            ("save_weights_for_sampler", json!({"path": "a", "overwrite": true}), Some("know overwrite")),
            ("create_model", json!({"rank": 4}), Some("know rank")),
            ("create_sampling_session", json!({"model": "a"}), Some("know model")),
            ("copy_weights", json!({"ttl": 8}), Some("know ttl")),
            ("create_session", json!({"extra": 8}), None),
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
                    let names = fields.iter().chain(rule.object).copied();
                    names.filter(|name| !["type", ANY].contains(name)).collect()
                }
            };
            let mut lines = docs.lines().filter(|line| line.contains(&format!("`{}`", rule.endpoint)));
            assert!(
                lines.any(|line| fields.iter().all(|field| line.contains(&format!("`{field}`")))),
                "{} {:?}",
                rule.endpoint,
                rule.object
            );
        }
    }
}
