//! The parameters of a request, taken one by one, and what becomes of those that nothing takes.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;

/// Parameters that change nothing in an answer.
const HARMLESS: [&str; 9] = [
    "cache_prompt",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbose",
];

/// Parameters that are not supported, with the values, in JSON, that mean the same as leaving them out.
const NEUTRAL: [(&str, &[&str]); 18] = [
    ("add_generation_prompt", &["true"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("frequency_penalty", &["0"]),
    ("functions", &["[]"]),
    ("ignore_eos", &["false"]),
    ("length_penalty", &["1"]),
    ("logit_bias", &["{}"]),
    ("min_p", &["0"]),
    ("min_tokens", &["0"]),
    ("modalities", &[r#"["text"]"#]),
    ("parallel_tool_calls", &["true"]),
    ("presence_penalty", &["0"]),
    ("repetition_penalty", &["1"]),
    ("skip_special_tokens", &["true"]),
    ("suffix", &[r#""""#]),
    ("use_beam_search", &["false"]),
    ("verbosity", &[r#""medium""#]),
];

/// The parameters of a request.
#[derive(Clone, Debug)]
pub(super) struct Parameters(Map<String, Value>);

impl Parameters {
    /// The parameters in a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(parameters)) => Ok(Parameters(parameters)),
            Ok(_) => Err(ApiError::new(400, "the body is not a JSON object: send the parameters as one")),
            Err(error) => Err(ApiError::new(400, format!("the body is not valid JSON: {error}"))),
        }
    }

    /// Takes a parameter; `None` if it is missing or null. `wanted` says in words what it should be.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str, wanted: &str) -> Result<Option<T>, ApiError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                T::deserialize(value).map(Some).map_err(|_| ApiError::invalid(name, format!("must be {wanted}")))
            }
        }
    }

    /// Takes a parameter that must be there.
    pub(super) fn take_required<T: DeserializeOwned>(&mut self, name: &str, wanted: &str) -> Result<T, ApiError> {
        self.take(name, wanted)?.ok_or_else(|| ApiError::invalid(name, format!("is missing: it must be {wanted}")))
    }

    /// Refuses what nothing has taken, unless it changes nothing.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let refused = self.0.iter().find(|(name, value)| !is_without_effect(name, value));
        let Some((name, _)) = refused else { return Ok(()) };
        let neutral = NEUTRAL.iter().find(|(known, _)| known == name);
        let but = neutral.map(|(_, values)| format!(", or set it to {}", values.join(" or "))).unwrap_or_default();
        Err(ApiError::unsupported(name, format!("this server does not support it: leave it out{but}")))
    }
}

fn is_without_effect(name: &str, value: &Value) -> bool {
    let neutral = NEUTRAL.iter().find(|(known, _)| *known == name).map(|(_, values)| *values).unwrap_or_default();
    value.is_null() || HARMLESS.contains(&name) || neutral.iter().any(|text| is_same(value, text))
}

/// Whether a value is what this JSON says. Numbers are compared as numbers: 0.0 is 0.
fn is_same(value: &Value, json: &str) -> bool {
    let other: Value = serde_json::from_str(json).unwrap_or_default();
    value == &other || matches!((value.as_f64(), other.as_f64()), (Some(value), Some(other)) if value == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(body: &str) -> Result<(), String> {
        Parameters::parse(body.as_bytes()).and_then(Parameters::finish).map_err(|error| error.to_json().to_string())
    }

    #[test]
    fn what_changes_nothing_is_accepted() {
        for body in [
            "{}",
            r#"{"user": "me", "store": true, "metadata": {"a": "b"}}"#,
            r#"{"presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": {}, "logprobs": null, "unknown": null}"#,
            r#"{"modalities": ["text"], "parallel_tool_calls": true, "suffix": "", "best_of": 1, "echo": false}"#,
        ] {
            assert_eq!(finish(body), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        for (body, param) in [
            (r#"{"presence_penalty": 0.1}"#, "presence_penalty"),
            (r#"{"logit_bias": {"5": 1}}"#, "logit_bias"),
            (r#"{"parallel_tool_calls": false}"#, "parallel_tool_calls"),
            (r#"{"modalities": ["text", "audio"]}"#, "modalities"),
            (r#"{"functions": [{"name": "f"}]}"#, "functions"),
            (r#"{"guided_json": {}}"#, "guided_json"),
        ] {
            let error = finish(body).unwrap_err();
            assert!(error.contains(&format!(r#""param":"{param}""#)) && error.contains("leave it out"), "{error}");
        }
    }

    #[test]
    fn a_body_is_an_object() {
        for body in ["", "[]", "{", "null"] {
            assert_eq!(Parameters::parse(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
    }

    #[test]
    fn a_wrong_type_names_the_parameter() {
        let mut parameters = Parameters::parse(br#"{"n": "two", "top_p": null}"#).unwrap();
        assert_eq!(parameters.take::<f64>("top_p", "a number"), Ok(None));
        assert_eq!(parameters.take::<u32>("n", "a number"), Err(ApiError::invalid("n", "must be a number")));
        let missing = parameters.take_required::<String>("model", "a name");
        assert_eq!(missing, Err(ApiError::invalid("model", "is missing: it must be a name")));
    }
}
