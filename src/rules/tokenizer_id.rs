//! Which tokenizer a model has, and which ids name one.

use crate::error::{Error, Result};

/// The tokenizer whose tokens are the bytes of a text.
pub(crate) const BYTES: &str = "bytes";

/// The models of the local server begin like this.
const LOCAL_MODELS: &str = "tinkex/bytes";

/// As the hub has it.
#[cfg(feature = "tokenizers")]
const MAX_ID: usize = 96;

/// The tokenizer of a model for which the service names none, as the Python client 0.4.1 has it: those of Meta's Llama 3 have
/// one that is free to download, of `org/model/variant` the variant does not count, else it is called like the model. The
/// models of the local server are named besides, since what it tells of a sampler has no tokenizer.
pub(crate) fn of_model(name: &str) -> String {
    if name.starts_with(LOCAL_MODELS) {
        return BYTES.to_owned();
    }
    if name.starts_with("meta-llama/Llama-3") {
        return "baseten/Meta-Llama-3-tokenizer".to_owned();
    }
    match *name.split('/').collect::<Vec<_>>() {
        [org, model, _variant] => format!("{org}/{model}"),
        _ => name.to_owned(),
    }
}

/// Checks that an id is `name` or `organisation/name` of letters, digits and `-_.`, as the hub has them, so that it leads
/// nowhere else as a path or URL.
#[cfg(feature = "tokenizers")]
pub(crate) fn check(id: &str) -> Result<()> {
    let named = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let outer = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        part.bytes().all(inner) && outer(part.as_bytes().first()) && outer(part.as_bytes().last())
    };
    let parts = id.split('/').count();
    if parts <= 2 && id.len() <= MAX_ID && id.split('/').all(named) && !id.contains("--") && !id.contains("..") {
        return Ok(());
    }
    Err(Error::invalid_input(format!("{id:?} is not the id of a tokenizer"))
        .with_hint("it looks like organisation/name; for a file use Tokenizer::from_path"))
}

/// The id from what the service says of a model: the tokenizer that it names, else that of the model.
pub(crate) fn of_info(tokenizer_id: Option<String>, model_name: Option<String>) -> Result<String> {
    let named = |text: &String| !text.trim().is_empty();
    tokenizer_id.filter(named).or_else(|| model_name.filter(named).map(|name| of_model(&name))).ok_or_else(|| {
        Error::new(crate::ErrorKind::Decode, "the service names neither the model nor its tokenizer")
            .with_hint("load the tokenizer by its id or from a file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_without_a_tokenizer_of_its_own_follows_the_rule_of_its_name() {
        for (model, tokenizer) in [
            ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
            ("moonshotai/Kimi-K2-Thinking", "moonshotai/Kimi-K2-Thinking"),
            ("openai/gpt-oss-120b/peft", "openai/gpt-oss-120b"),
            ("a/b/c/d", "a/b/c/d"),
            ("gpt2", "gpt2"),
            ("meta-llama/Llama-3.1-8B-Instruct", "baseten/Meta-Llama-3-tokenizer"),
            ("meta-llama/Llama-3.2-1B/variant", "baseten/Meta-Llama-3-tokenizer"),
            ("meta-llama/Llama-2-7b", "meta-llama/Llama-2-7b"),
            ("other/Llama-3.1-8B", "other/Llama-3.1-8B"),
            ("tinkex/bytes-tiny", "bytes"),
        ] {
            assert_eq!(of_model(model), tokenizer, "{model}");
        }
    }

    #[test]
    fn the_service_has_the_first_word_on_the_tokenizer() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of_info(some("a/b"), some("Qwen/Qwen3-8B")).unwrap(), "a/b");
        assert_eq!(of_info(some(" "), some("a/b/c")).unwrap(), "a/b");
        assert_eq!(of_info(None, some("tinkex/bytes-small")).unwrap(), BYTES);
        assert!(of_info(None, None).is_err());
    }

    #[cfg(feature = "tokenizers")]
    #[test]
    fn an_id_is_a_name_or_two_and_nothing_that_leads_elsewhere() {
        for id in ["gpt2", "Qwen/Qwen3-8B", "a/b", "a_b/c.d-e_f", "0/1", "_a/b_"] {
            assert!(check(id).is_ok(), "{id}");
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
            assert!(check(id).is_err(), "{id}");
        }
    }
}
