//! The only normalisation between a body of Python 0.4.1 and ours: `type` added, unset
//! defaults filled in, numbers of float32 tensors compared as `f32`, tags as a set, the version omitted.
//!
//! Nulls are compared exactly, except for those of [`UNSENT`]. A single text to stop at is a string in Python and a list here,
//! since some servers refuse a string.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Fields whose null Python 0.4.1 sends and we leave out, as 0.38.0 does: some servers refuse the null.
const UNSENT: [(&str, &str); 3] =
    [("sampling_params", "stop"), ("create_model", "user_metadata"), ("lora_config", "seed")];

/// A body of Python, completed; `kind` is the last segment of the request's path.
pub(crate) fn python(kind: &str, mut body: Value) -> Value {
    complete(kind, &mut body);
    comparable(&mut body);
    body
}

/// One of our bodies, in which nothing is filled in.
pub(crate) fn ours(mut body: Value) -> Value {
    comparable(&mut body);
    body
}

/// Adds `type` and unset defaults.
fn complete(kind: &str, value: &mut Value) {
    match value {
        // `chunks` of `chunk`, `data` of datums; numbers have nothing to fill.
        Value::Array(items) => {
            let kind = if kind == "chunks" { "chunk" } else { "" };
            items.iter_mut().for_each(|item| complete(kind, item));
        }
        Value::Object(_) => {
            let defaults = defaults(kind, value);
            let fields = value.as_object_mut().unwrap();
            for (key, default) in defaults.as_object().unwrap() {
                fields.entry(key).or_insert_with(|| default.clone());
            }
            let unsent = UNSENT.iter().filter(|(of, key)| *of == kind && fields.get(*key) == Some(&Value::Null));
            unsent.collect::<Vec<_>>().into_iter().for_each(|(_, key)| drop(fields.remove(*key)));
            if let Some(text @ Value::String(_)) = fields.get_mut("stop") {
                *text = json!([text]);
            }
            fields.iter_mut().for_each(|(key, field)| complete(key, field));
        }
        _ => {}
    }
}

/// Rounds the numbers of float32 tensors to `f32`, sorts tags, and removes the version.
fn comparable(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(comparable),
        Value::Object(fields) => {
            if fields.get("dtype") == Some(&json!("float32")) {
                let numbers = fields["data"].as_array_mut().unwrap();
                // An abbreviated fixture has a text among the numbers.
                numbers.iter_mut().filter(|number| number.is_number()).for_each(|number| {
                    *number = json!(number.as_f64().unwrap() as f32);
                });
            }
            if let Some(Value::Array(tags)) = fields.get_mut("tags") {
                tags.sort_by_key(ToString::to_string);
            }
            if let Some(version) = fields.get_mut("sdk_version") {
                *version = json!("VERSION");
            }
            fields.values_mut().for_each(comparable);
        }
        _ => {}
    }
}

/// Keys that Python omits unless the caller sets them, and that we write.
fn defaults(kind: &str, value: &Value) -> Value {
    match kind {
        "adam_params" => json!({"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12}),
        "sampling_params" => json!({"temperature": 1.0, "top_k": -1, "top_p": 1.0}),
        "lora_config" => json!({"train_unembed": true, "train_mlp": true, "train_attn": true}),
        "forward_input" | "forward_backward_input" => json!({"loss_fn_config": null}),
        "chunk" if value.get("data").is_some() => json!({"type": "image"}),
        "chunk" if value.get("location").is_some() => json!({"type": "image_asset_pointer"}),
        "chunk" => json!({"type": "encoded_text"}),
        "asample" => json!({"type": "sample", "num_samples": 1, "prompt_logprobs": null, "topk_prompt_logprobs": 0}),
        "create_session" => json!({"type": kind, "user_metadata": null}),
        // Always sent: servers of today refuse a request without it, or restore the optimizer.
        "load_weights" => json!({"type": kind, "optimizer": false}),
        "create_sampling_session" => json!({"type": kind, "base_model": null, "model_path": null}),
        "session_heartbeat"
        | "get_info"
        | "unload_model"
        | "optim_step"
        | "create_model"
        | "save_weights"
        | "save_weights_for_sampler" => json!({"type": kind}),
        _ => json!({}),
    }
}

/// Asserts that ours equals the fixture, whose lists may be abbreviated: `"<<3 more>>"` stands for three items.
pub(crate) fn assert_same(ours: &Value, golden: &Value, place: &str) {
    match (ours, golden) {
        (Value::Object(ours), Value::Object(golden)) => {
            let keys = |map: &Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(ours), keys(golden), "{place}");
            ours.iter().for_each(|(key, value)| assert_same(value, &golden[key], &format!("{place}.{key}")));
        }
        (Value::Array(ours), Value::Array(golden)) => {
            let cut = golden.iter().enumerate().find_map(|(index, item)| Some((index, cut(item)?)));
            let (head, left_out) = cut.unwrap_or((golden.len(), 0));
            let tail = golden.len() - head - usize::from(cut.is_some());
            assert_eq!(ours.len(), head + left_out + tail, "{place}");
            let ends = ours[..head]
                .iter()
                .zip(&golden[..head])
                .chain(ours[head + left_out..].iter().zip(&golden[golden.len() - tail..]));
            ends.enumerate()
                .for_each(|(index, (ours, golden))| assert_same(ours, golden, &format!("{place}[{index}]")));
        }
        _ => assert_eq!(ours, golden, "{place}"),
    }
}

fn cut(item: &Value) -> Option<usize> {
    item.as_str()?.strip_prefix("<<")?.strip_suffix(" more>>")?.parse().ok()
}
