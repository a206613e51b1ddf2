//! The comparison of a request with a recorded one.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{self, prost::Message};

use super::replay::{Generation, asked_line, decoded, line_of};
use crate::support::RecordedRequest;
use crate::support::double::{Form, form_of};

/// Keys that only this crate writes, on purpose.
fn besides(generation: Generation) -> &'static [&'static str] {
    match generation {
        Generation::Of2025 => {
            &["type", "learning_rate", "beta1", "beta2", "eps", "temperature", "top_k", "top_p", "optimizer"]
        }
        // 0.38.0 leaves fields without a value out.
        Generation::Of2026 => &["base_model: null", "model_path: null"],
    }
}

/// Whether only the Python client writes this. 0.38.0 also writes what has the value by default; servers of 2025 do not know it.
fn is_unsent(key: &str, value: &Value) -> bool {
    match key {
        // A null of 0.4.1 that some servers refuse.
        "user_metadata" | "seed" => value.is_null(),
        "optimizer_config" => *value == json!({"type": "adamw"}),
        "weight_decay" | "grad_clip_norm" => *value == 0.0,
        "prompt_alt_tokens_k" | "topk_sample_logprobs" => *value == 0,
        "record_stability_info" | "overwrite" => *value == false,
        "kind" => value == "snapshot",
        _ => false,
    }
}

/// Compares requests with those of a scenario, one with one.
pub fn compare_all(generation: Generation, requests: &[RecordedRequest], exchanges: &[&Value]) {
    for (index, (ours, theirs)) in requests.iter().zip(exchanges).enumerate() {
        let place = format!("{index} {}", ours.path);
        assert_eq!(asked_line(ours), line_of(theirs), "{place}");
        compare_bodies(generation, ours, &theirs["body"], &place);
        compare_headers(generation, ours, &theirs["headers"], &place);
    }
}

fn compare_bodies(generation: Generation, ours: &RecordedRequest, theirs: &Value, place: &str) {
    if form_of(ours) == Form::Protobuf || theirs["proto"].is_object() {
        return compare_passes(ours, theirs, place);
    }
    let mut only_ours = BTreeSet::new();
    compare(&ours.body, &theirs["json"], place, &mut only_ours);
    assert!(only_ours.iter().all(|key| besides(generation).contains(&&**key)), "{place}: {only_ours:?}");
}

fn compare_passes(ours: &RecordedRequest, theirs: &Value, place: &str) {
    assert_eq!(ours.header("content-encoding"), theirs["content_encoding"].as_str(), "{place}");
    let body = crate::support::double::plain_body(ours).unwrap();
    let Some(recorded) = decoded(&theirs["raw_b64"]) else {
        // Too large to be recorded: the order of a map's entries does not change the length.
        assert_eq!(Some(body.len() as u64), theirs["len"].as_u64(), "{place}");
        return;
    };
    let recorded = match theirs["content_encoding"].as_str() {
        None => recorded,
        #[cfg(feature = "zstd")]
        Some("zstd") => zstd::decode_all(&*recorded).unwrap(),
        Some(other) => panic!("{place}: the encoding {other}"),
    };
    let read = |body: &[u8]| protobuf::ForwardBackwardRequest::decode(body).unwrap();
    assert_eq!(read(&body), read(&recorded), "{place}");
}

fn compare_headers(generation: Generation, ours: &RecordedRequest, theirs: &Value, place: &str) {
    let mut names = vec!["x-tinker-request-iteration", "x-tinker-request-type"];
    if generation == Generation::Of2026 {
        names.extend(["content-type", "x-tinker-weights-access-token"]);
        let accepted = ours.header("accept").unwrap_or_default();
        assert!(theirs["accept"].as_str().is_none_or(|theirs| accepted.contains(theirs)), "{place}: {accepted}");
        let key = theirs["x-api-key"].as_str().unwrap_or_default();
        assert!(key == "tml-golden-key" || ours.header("x-api-key") == Some(key), "{place}: another credential");
    }
    for name in names {
        assert_eq!(ours.header(name), theirs[name].as_str(), "{place}: {name}");
    }
    let name = "x-tinker-create-promise-roundtrip-time";
    assert_eq!(ours.header(name).is_some(), theirs[name].is_string(), "{place}: {name}");
}

/// Asserts that `ours` contains all of `theirs`, and collects its additional keys.
fn compare(ours: &Value, theirs: &Value, place: &str, besides: &mut BTreeSet<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, theirs) in theirs {
                let Some(ours) = ours.get(key) else {
                    assert!(is_unsent(key, theirs), "{place}.{key} is missing");
                    continue;
                };
                // Both name the version of the protocol that they speak.
                if key != "sdk_version" {
                    compare(ours, theirs, &format!("{place}.{key}"), besides);
                }
            }
            let only_ours = ours.iter().filter(|(key, _)| !theirs.contains_key(*key));
            besides.extend(
                only_ours.map(|(key, value)| if value.is_null() { format!("{key}: null") } else { key.clone() }),
            );
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let mut rest = ours.iter();
            for theirs in theirs {
                match left_out(theirs) {
                    Some(count) => assert!(rest.nth(count - 1).is_some(), "{place}"),
                    None => compare(rest.next().unwrap_or(&Value::Null), theirs, place, besides),
                }
            }
            assert_eq!(rest.len(), 0, "{place}");
        }
        // float32: our digits are the shortest that parse to the same f32.
        (Value::Number(ours), Value::Number(theirs)) => {
            assert_eq!(ours.as_f64().unwrap() as f32, theirs.as_f64().unwrap() as f32, "{place}");
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}

/// A list in a fixture may be abbreviated: `"<<3 more>>"` stands for three items.
pub fn left_out(item: &Value) -> Option<usize> {
    item.as_str()?.strip_prefix("<<")?.strip_suffix(" more>>")?.parse().ok()
}
