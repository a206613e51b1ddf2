//! `pure_parsing`: words, paths, times, durations and the shapes of responses.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, from_str, from_value};
use tinkex::types::wire::*;
use tinkex::types::*;

use super::{entries, fixture};

/// The cases of one function: its input, and Python's result (none: an exception).
fn cases(function: &str) -> Vec<(Value, Option<Value>)> {
    let fixture = fixture("pure_parsing");
    entries(&fixture[function]).iter().map(|case| (case["in"].clone(), case.get("out").cloned())).collect()
}

#[test]
fn categories_are_parsed_in_any_case() {
    for (word, python) in cases("RequestErrorCategory") {
        let ours: RequestErrorCategory = from_value(word.clone()).unwrap();
        // Python accepts only lower case.
        let lower = word.as_str().unwrap_or_default().to_lowercase();
        let expected = if ["server", "user"].contains(&lower.as_str()) { lower.as_str() } else { "unknown" };
        assert_eq!(ours.as_str(), expected, "{word}");
        if let Some(python) = python {
            assert_eq!(format!("{ours:?}"), python["name"].as_str().unwrap());
            assert_eq!(ours.as_str(), python["value"].as_str().unwrap());
        }
    }
    assert!(RequestErrorCategory::Unknown.is_retryable() && RequestErrorCategory::Server.is_retryable());
    assert!(!RequestErrorCategory::User.is_retryable());
}

#[test]
fn unknown_words_are_kept() {
    for (word, python) in cases("StopReason") {
        match from_value::<StopReason>(word.clone()) {
            Ok(ours) => {
                assert_eq!(matches!(ours, StopReason::Other(_)), python.is_none(), "{word}");
                assert_eq!(ours.as_str(), word.as_str().unwrap());
            }
            Err(_) => assert!(word.is_null()),
        }
    }
    for (word, python) in cases("LossFnType") {
        let ours: LossFn = from_value(word.clone()).unwrap();
        // Later servers know these.
        let later = ["cispo", "dro", "gspo", "stable_reinforce", "custom"];
        let known = python.is_some() || later.contains(&word.as_str().unwrap());
        assert_eq!(!matches!(ours, LossFn::Other(_)), known, "{word}");
        assert_eq!(ours.as_str(), word.as_str().unwrap());
    }
}

#[test]
fn checkpoint_paths() {
    for (path, python) in cases("ParsedCheckpointTinkerPath.from_tinker_path") {
        let path = path.as_str().unwrap();
        // The Python client knows external weights since 2026.
        if path == "tinker://run-1/external_weights/x" {
            assert_eq!(path.parse::<CheckpointPath>().unwrap().checkpoint_type(), CheckpointType::External);
            continue;
        }
        match (path.parse::<CheckpointPath>(), python) {
            (Ok(ours), Some(python)) => {
                let parts =
                    [ours.as_str(), ours.training_run_id(), &ours.checkpoint_type().to_string(), ours.checkpoint_id()]
                        .map(str::to_owned);
                let keys = ["tinker_path", "training_run_id", "checkpoint_type", "checkpoint_id"];
                assert_eq!(parts, keys.map(|key| python[key].as_str().unwrap().to_owned()), "{path}");
                assert!(ours.checkpoint_id().ends_with(&format!("weights/{}", ours.name())));
            }
            (Err(error), None) => assert!(error.to_string().contains("tinker://RUN/weights/NAME"), "{error}"),
            (ours, python) => panic!("{path}: {ours:?} but {python:?}"),
        }
    }
}

#[test]
fn timestamps() {
    for (text, python) in cases("datetime") {
        match (from_value::<Timestamp>(text.clone()), python) {
            (Ok(ours), Some(python)) => {
                let python = match text.as_str() {
                    // Python truncates nanoseconds; here they are kept.
                    Some("2025-11-01T10:00:00.123456789Z") => "2025-11-01T10:00:00.123456789Z",
                    _ => python["json"].as_str().unwrap(),
                };
                assert_eq!(ours.to_string(), python, "{text}");
                assert_eq!(serde_json::to_value(&ours).unwrap(), python);
                assert_eq!(text.as_str().unwrap_or(&text.to_string()), ours.as_str());
                // A time without a zone is UTC.
                let seconds = if text == "2025-11-01" { 1_761_955_200 } else { 1_761_991_200 };
                assert_eq!(
                    ours.unix_seconds() + i64::from(ours.offset_seconds().unwrap_or_default()),
                    seconds,
                    "{text}"
                );
            }
            (Err(_), None) => {}
            (ours, python) => panic!("{text}: {ours:?} but {python:?}"),
        }
    }
}

#[test]
fn durations() {
    let fixture = fixture("pure_parsing");
    for case in entries(&fixture["timedelta_str (SESSION_END.duration)"]) {
        let duration = Duration::from_secs_f64(case["seconds"].as_f64().unwrap());
        let ours = SessionDuration::from(duration);
        assert_eq!(ours.to_string(), case["out"].as_str().unwrap());
        assert_eq!(from_value::<SessionDuration>(case["out"].clone()).unwrap(), ours);
    }
    for text in ["", "1", "1:00", "0:60:00", "0:00:60", "0:00:00.5", "-1 day, 0:00:00", "+1:00:00", "1 week, 0:00:00"] {
        assert!(text.parse::<SessionDuration>().is_err(), "{text}");
    }
}

#[test]
fn shapes_of_responses() {
    /// Responses that either only Python or only this crate reads, by their place in the fixture.
    const DIFFERENT: [(&str, &str); 5] = [
        (r#"{"session_id":"s","type":"wrong"}"#, "`type` of a response is not looked at"),
        (r#"{"limit":2.0,"offset":"1","total_count":true}"#, "texts and booleans are no numbers"),
        (r#"{"metrics":{"a":"1.5","b":2}}"#, "texts are no numbers"),
        (r#"{"metrics":{"a":null}}"#, "null is NaN"),
        (r#"{"status":"degraded"}"#, "any status is kept"),
    ];
    fn reads<T: DeserializeOwned>(response: &Value) -> bool {
        from_value::<T>(response.clone()).is_ok()
    }
    for case in entries(&fixture("pure_parsing")["response_validation"]) {
        let response = &case["in"];
        let ours = match case["type"].as_str().unwrap() {
            "CreateSessionResponse" => reads::<CreateSessionResponse>(response),
            "UntypedAPIFuture" => reads::<Promise>(response),
            "Cursor" => reads::<Cursor>(response),
            "OptimStepResponse" => reads::<OptimStepResponse>(response),
            // `"is_lora": "true"` and `"lora_rank": "8"`: a text is neither a boolean nor a number.
            "TrainingRun" => !reads::<TrainingRun>(response),
            "HealthResponse" => reads::<HealthResponse>(response),
            other => panic!("{other} is not covered"),
        };
        let python = case["strict_validation"].get("out").is_some();
        let different = DIFFERENT.iter().any(|(json, _)| from_str::<Value>(json).unwrap() == *response);
        assert_eq!(ours != python, different, "{response}");
    }
}
