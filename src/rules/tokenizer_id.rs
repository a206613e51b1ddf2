//! Which tokenizer a model uses, and which tokenizer ids are valid.

use crate::error::{Error, ErrorKind, Result};

/// The id of the tokenizer whose tokens are the bytes of a text.
pub(crate) const BYTES: &str = "bytes";

/// The names of the local server's models start with this.
const LOCAL_MODELS: &str = "tinkex/bytes";

/// The maximum length of an id: the Hugging Face hub's limit.
#[cfg(feature = "tokenizers")]
const MAX_ID: usize = 96;

/// The tokenizer of Meta's Llama 3 models that is free to download.
const LLAMA_3: &str = "thinkingmachineslabinc/meta-llama-3-instruct-tokenizer";

/// The tokenizer of a model for which the service gives none. The rules are those of the Python client 0.38.0: a variant
/// after a colon does not count, Meta's Llama 3 models use one that is free to download, `org/model/variant` uses the
/// tokenizer of `org/model`, and other models use the one of their own name. The local server's models are an addition, since
/// its description of a sampler does not include a tokenizer.
pub(crate) fn of_model(name: &str) -> String {
    let name = without_variant(name);
    if name.starts_with(LOCAL_MODELS) {
        return BYTES.to_owned();
    }
    if name.starts_with("meta-llama/Llama-3") {
        return LLAMA_3.to_owned();
    }
    match *name.split('/').collect::<Vec<_>>() {
        [org, model, _variant] => format!("{org}/{model}"),
        _ => name.to_owned(),
    }
}

/// `NAME` of `NAME:peft:262144`.
fn without_variant(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _variant)| name)
}

/// The parts of an id: the repository, and the revision after an `@`.
#[cfg(feature = "tokenizers")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HubId<'a> {
    pub(crate) repository: &'a str,
    pub(crate) revision: Option<&'a str>,
}

#[cfg(feature = "tokenizers")]
impl std::fmt::Display for HubId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.repository)?;
        self.revision.map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// Takes an id apart. The repository is `name` or `organization/name`, the revision a branch, tag or commit. All parts consist of
/// letters, digits and `-_.`, the hub's rule, so that as part of a path or a URL they cannot lead anywhere else.
#[cfg(feature = "tokenizers")]
pub(crate) fn parse(id: &str) -> Result<HubId<'_>> {
    let named = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let outer = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        part.bytes().all(inner) && outer(part.as_bytes().first()) && outer(part.as_bytes().last())
    };
    let valid = |text: &str, parts: usize| {
        let counted = text.split('/').count() <= parts && text.len() <= MAX_ID;
        counted && text.split('/').all(named) && !text.contains("--") && !text.contains("..")
    };
    let (repository, revision) = id.split_once('@').map_or((id, None), |(id, revision)| (id, Some(revision)));
    if valid(repository, 2) && revision.is_none_or(|revision| valid(revision, 4)) {
        return Ok(HubId { repository, revision });
    }
    Err(Error::invalid_input(format!("{id:?} is not the id of a tokenizer")).with_hint(
        "use an id such as organization/name, or organization/name@revision; for a file, use Tokenizer::from_path",
    ))
}

/// The id from the service's description of a model: its tokenizer if given, else the one of the model's name.
pub(crate) fn of_info(tokenizer_id: Option<String>, model_name: Option<String>) -> Result<String> {
    let named = |text: &String| !text.trim().is_empty();
    let tokenizer_id = tokenizer_id.map(|id| without_variant(&id).to_owned()).filter(named);
    tokenizer_id.or_else(|| model_name.filter(named).map(|name| of_model(&name))).ok_or_else(|| {
        Error::new(ErrorKind::Decode, "the service names neither the model nor its tokenizer")
            .with_hint("load the tokenizer by its id or from a file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizer_follows_from_the_model_name() {
        for (model, tokenizer) in [
            ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
            ("moonshotai/Kimi-K2-Thinking", "moonshotai/Kimi-K2-Thinking"),
            ("openai/gpt-oss-120b/peft", "openai/gpt-oss-120b"),
            ("a/b/c/d", "a/b/c/d"),
            ("gpt2", "gpt2"),
            ("meta-llama/Llama-3.1-8B-Instruct", LLAMA_3),
            ("meta-llama/Llama-3.2-1B/variant", LLAMA_3),
            ("meta-llama/Llama-3.3-70B-Instruct:peft:131072", LLAMA_3),
            ("moonshotai/Kimi-K2.5:peft:262144", "moonshotai/Kimi-K2.5"),
            ("openai/gpt-oss-120b/peft:131072", "openai/gpt-oss-120b"),
            ("meta-llama/Llama-2-7b", "meta-llama/Llama-2-7b"),
            ("other/Llama-3.1-8B", "other/Llama-3.1-8B"),
            ("tinkex/bytes-tiny", "bytes"),
        ] {
            assert_eq!(of_model(model), tokenizer, "{model}");
        }
    }

    #[test]
    fn tokenizer_given_by_the_service_comes_first() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of_info(some("a/b"), some("Qwen/Qwen3-8B")).unwrap(), "a/b");
        assert_eq!(of_info(some("a/b:peft:262144"), None).unwrap(), "a/b");
        assert_eq!(of_info(some(" "), some("a/b/c")).unwrap(), "a/b");
        assert_eq!(of_info(some(":x"), some("a/b:y")).unwrap(), "a/b");
        assert_eq!(of_info(None, some("tinkex/bytes-small")).unwrap(), BYTES);
        assert!(of_info(None, None).is_err());
    }

    #[cfg(feature = "tokenizers")]
    #[test]
    fn ids_cannot_lead_to_another_path() {
        for id in ["gpt2", "Qwen/Qwen3-8B", "a/b", "a_b/c.d-e_f", "0/1", "_a/b_"] {
            assert_eq!(parse(id).unwrap(), HubId { repository: id, revision: None }, "{id}");
        }
        for revision in ["main", "v1.0", "refs/pr/7", "0123abcd"] {
            let id = format!("a/b@{revision}");
            assert_eq!(parse(&id).unwrap(), HubId { repository: "a/b", revision: Some(revision) });
        }
        let long = "a".repeat(MAX_ID + 1);
        for id in [
            "",
            "/",
            "a/",
            "/a",
            "/etc/passwd",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/b/c",
            "a/.b",
            "a--b/c",
            "a\\b",
            "a b",
            "a/b\n",
            "a%2e",
            "C:",
            "é",
            "a/b?c",
            "a/b#c",
            "-a/b",
            "a/b.",
            "~",
            &long,
        ] {
            assert!(parse(id).is_err(), "{id}");
            assert!(parse(&format!("a/b@{id}")).is_err() || ["a/b/c"].contains(&id), "{id}");
        }
    }
}
