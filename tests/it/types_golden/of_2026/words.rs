//! `pure_parsing` and `pure_misc`: words, and promises.

use serde_json::json;
use tinkex::types::wire::Promise;
use tinkex::types::*;

use super::cases;
use crate::support::golden::fixture_2026;

/// Whether the type knows each word that the Python client knows, and keeps the others.
fn assert_words<T: serde::de::DeserializeOwned>(fixture: &str, part: &str, known: fn(&T) -> bool) {
    for case in cases(fixture, part) {
        match serde_json::from_value::<T>(case["in"].clone()) {
            Ok(ours) => assert_eq!(known(&ours), case.get("out").is_some(), "{part}: {}", case["in"]),
            Err(_) => assert!(!case["in"].is_string(), "{part}: {}", case["in"]),
        }
    }
}

#[test]
fn words_are_known_as_in_python() {
    assert_words::<StopReason>("pure_parsing", "StopReason", |word| !matches!(word, StopReason::Other(_)));
    assert_words::<LossFn>("pure_parsing", "LossFnType", |word| !matches!(word, LossFn::Other(_)));
    for case in cases("pure_parsing", "RequestErrorCategory") {
        let ours: RequestErrorCategory = serde_json::from_value(case["in"].clone()).unwrap();
        if let Some(out) = case.get("out") {
            assert_eq!(ours.as_str(), out["value"], "{}", case["in"]);
        }
    }
    for case in cases("pure_misc", "rest_queue_state") {
        let ours = QueueState::from(case["in"].as_str().unwrap());
        let known = !matches!(ours, QueueState::Other(_));
        assert_eq!(known, case["out"] != "UNKNOWN", "{}", case["in"]);
    }
    // "unknown" is what Python calls a word that it does not know.
    for (name, word) in fixture_2026("pure_misc")["QueueState"].as_object().unwrap() {
        let known = !matches!(QueueState::from(word.as_str().unwrap()), QueueState::Other(_));
        assert_eq!(known, name != "UNKNOWN", "{word}");
    }
}

#[test]
fn promises_are_read_as_in_python() {
    let mut read = 0;
    for case in cases("pure_parsing", "response_validation").iter().filter(|case| case["type"] == "UntypedAPIFuture") {
        let python = case["strict_validation"].get("out");
        match (serde_json::from_value::<Promise>(case["in"].clone()), python) {
            (Ok(ours), Some(golden)) => {
                assert_eq!(ours.request_id, golden["request_id"]);
                assert_eq!(json!(ours.model_id), golden["model_id"]);
                assert_eq!(json!(ours.sample_sequence_ids), golden["sample_sequence_ids"]);
            }
            (Err(_), None) => {}
            (ours, golden) => panic!("{}: {ours:?} but {golden:?}", case["in"]),
        }
        read += 1;
    }
    assert_eq!(read, 4);
    let promise: Promise = serde_json::from_value(json!({"request_id": 7, "sample_sequence_ids": ["a", "b"]})).unwrap();
    assert_eq!((promise.request_id.as_str(), promise.sample_sequence_ids.unwrap().len()), ("7", 2));
    assert_eq!(json!(Promise::new("r")), json!({"request_id": "r"}));
}
