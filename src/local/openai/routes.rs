//! The paths of the API.

use serde_json::{Value, json};

use super::error::ApiError;

/// Where the API is.
pub(in crate::local) const PREFIX: &str = "/v1/";

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::local) enum Endpoint {
    Models,
    /// One model, by its name, percent-encoded.
    Model(String),
    Chat,
    Completion,
}

impl Endpoint {
    /// The endpoint of a method and a path.
    pub(in crate::local) fn of(method: &str, path: &str) -> Result<Self, ApiError> {
        let (wanted, endpoint) = match path.strip_prefix(PREFIX) {
            Some("models") => ("GET", Endpoint::Models),
            Some("chat/completions") => ("POST", Endpoint::Chat),
            Some("completions") => ("POST", Endpoint::Completion),
            Some(path) if path.starts_with("models/") => ("GET", Endpoint::Model(path["models/".len()..].to_owned())),
            _ => {
                let known = "models, chat/completions and completions";
                return Err(ApiError::new(404, format!("there is no {path}: use {known} below {PREFIX}")));
            }
        };
        if method == wanted {
            return Ok(endpoint);
        }
        Err(ApiError::new(405, format!("{path} takes {wanted}, not {method}")))
    }
}

/// A model in a list of models.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::local) struct ModelEntry {
    pub(in crate::local) name: String,
    /// In seconds since 1970.
    pub(in crate::local) created: u64,
    /// The base model of a checkpoint.
    pub(in crate::local) base_model: Option<String>,
    /// The most tokens of a prompt and its answer, if it is known.
    pub(in crate::local) context_length: Option<usize>,
}

impl ModelEntry {
    pub(in crate::local) fn to_json(&self) -> Value {
        let root = self.base_model.as_ref().unwrap_or(&self.name);
        let mut entry = json!({
            "id": self.name, "object": "model", "created": self.created, "owned_by": "tinkex",
            "root": root, "parent": self.base_model,
        });
        if let Some(length) = self.context_length {
            entry["max_model_len"] = length.into();
        }
        entry
    }
}

/// The body with these models.
pub(in crate::local) fn list(models: &[ModelEntry]) -> Vec<u8> {
    let data: Vec<Value> = models.iter().map(ModelEntry::to_json).collect();
    json!({ "object": "list", "data": data }).to_string().into_bytes()
}

/// The key in an `authorization` header. The scheme has any case.
pub(in crate::local) fn bearer_key(authorization: &str) -> Option<&str> {
    let (scheme, key) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_endpoints() {
        let name = "tinker%3A%2F%2Frun%2Fsampler_weights%2Fa";
        for (method, path, expected) in [
            ("GET", "/v1/models", Ok(Endpoint::Models)),
            ("GET", "/v1/models/a/b", Ok(Endpoint::Model("a/b".to_owned()))),
            ("GET", &format!("/v1/models/{name}"), Ok(Endpoint::Model(name.to_owned()))),
            ("POST", "/v1/chat/completions", Ok(Endpoint::Chat)),
            ("POST", "/v1/completions", Ok(Endpoint::Completion)),
            ("POST", "/v1/models", Err(405)),
            ("GET", "/v1/chat/completions", Err(405)),
            ("POST", "/v1/embeddings", Err(404)),
            ("POST", "/v2/completions", Err(404)),
        ] {
            assert_eq!(Endpoint::of(method, path).map_err(|error| error.status), expected, "{method} {path}");
        }
    }

    #[test]
    fn keys_follow_the_word_bearer() {
        for (header, key) in [
            ("Bearer tml-1", Some("tml-1")),
            ("bearer  tml-1 ", Some("tml-1")),
            ("Basic tml-1", None),
            ("tml-1", None),
            ("", None),
        ] {
            assert_eq!(bearer_key(header), key, "{header}");
        }
    }

    #[test]
    fn a_list_has_bases_and_checkpoints() {
        let base = ModelEntry { name: "m".to_owned(), created: 1, base_model: None, context_length: Some(8) };
        let path = "tinker://run/sampler_weights/a".to_owned();
        let checkpoint = ModelEntry { name: path, created: 2, base_model: Some("m".to_owned()), context_length: None };
        let body: Value = serde_json::from_slice(&list(&[base, checkpoint])).unwrap();
        assert_eq!(body["data"][0]["max_model_len"], 8);
        assert_eq!((&body["data"][1]["root"], &body["data"][1]["object"]), (&json!("m"), &json!("model")));
    }
}
