//! Tokens of texts: added tokens where a template wrote them, and plain text everywhere else.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::{ErrorKind, Tokenizer};

use crate::byte_level::visible;
use crate::fixtures::{fixture, smollm2_tokenizer};

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn assert_tokens_of_the_reference(tokenizer: &Tokenizer) {
    let cases = fixture("templates/smollm2")["cases"].as_array().unwrap().clone();
    let cases = cases.iter().filter_map(|case| Some((case["text"].as_str()?, ids(case.get("tokens")?))));
    let mut checked = 0;
    for (text, tokens) in cases {
        assert_eq!(tokenizer.encode_continuation(text).unwrap(), tokens, "{text}");
        if text.is_ascii() {
            assert_eq!(tokenizer.decode_with_special_tokens(&tokens).unwrap(), text);
        }
        checked += 1;
    }
    assert_eq!(checked, 46);
}

/// SmolLM2's `tokenizer.json`.
fn vocabulary() -> Arc<Value> {
    fixture("tokenizers/smollm2/tokenizer")
}

/// The words with their ids, in the order of the ids.
fn words(vocabulary: &Value) -> Vec<(String, u64)> {
    let words = vocabulary["model"]["vocab"].as_object().unwrap();
    let mut words: Vec<(String, u64)> = words.iter().map(|(word, id)| (word.clone(), id.as_u64().unwrap())).collect();
    words.sort_by_key(|(_, id)| *id);
    words
}

/// The texts of the added tokens.
fn added(vocabulary: &Value) -> BTreeSet<&str> {
    vocabulary["added_tokens"].as_array().unwrap().iter().map(|token| token["content"].as_str().unwrap()).collect()
}

/// A GGUF file with these entries of its metadata: numbers, flags, texts and lists.
fn gguf(entries: &[(&str, Value)]) -> Vec<u8> {
    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }
    fn item(value: &Value) -> (u32, Vec<u8>) {
        match value {
            Value::Bool(flag) => (7, vec![u8::from(*flag)]),
            Value::String(string) => (8, text(string)),
            Value::Array(items) => {
                let kind = items.first().map_or(8, |first| item(first).0);
                let mut bytes = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
                bytes.extend(items.iter().flat_map(|value| item(value).1));
                (9, bytes)
            }
            other => (4, u32::try_from(other.as_u64().unwrap()).unwrap().to_le_bytes().to_vec()),
        }
    }
    let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        let (kind, value) = item(value);
        bytes.extend([&text(key)[..], &kind.to_le_bytes(), &value].concat());
    }
    bytes
}

/// SmolLM2's vocabulary as the metadata of a GGUF file.
fn gguf_entries() -> Vec<(&'static str, Value)> {
    let vocabulary = vocabulary();
    let words = words(&vocabulary);
    let added = added(&vocabulary);
    let types = words.iter().map(|(word, _)| if added.contains(word.as_str()) { 3 } else { 1 });
    let tokens = words.iter().map(|(word, _)| word.as_str());
    entries_of(tokens.collect(), types.collect(), vocabulary["model"]["merges"].clone())
}

fn entries_of(tokens: Value, types: Value, merges: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", "llama".into()),
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", "smollm".into()),
        ("tokenizer.ggml.token_type", types),
        ("tokenizer.ggml.tokens", tokens),
        ("tokenizer.ggml.merges", merges),
        ("tokenizer.ggml.bos_token_id", 1.into()),
        ("tokenizer.ggml.eos_token_id", 2.into()),
    ]
}

fn write_gguf(path: &Path, entries: &[(&str, Value)]) {
    fs::write(path, gguf(entries)).unwrap();
}

#[test]
fn texts_have_the_tokens_of_the_reference() {
    assert_tokens_of_the_reference(&smollm2_tokenizer());
}

#[test]
fn a_gguf_file_has_the_same_tokens() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("SmolLM2-Q8_0.gguf");
    let entries = gguf_entries();
    write_gguf(&file, &entries);
    let special = smollm2_tokenizer().special_tokens();
    for path in [&file, folder.path()] {
        let tokenizer = Tokenizer::from_path(path).unwrap();
        assert_tokens_of_the_reference(&tokenizer);
        assert_eq!(tokenizer.eos_token(), Some(2));
        assert_eq!(tokenizer.special_tokens(), special);
        assert_eq!(tokenizer.encode("a").unwrap(), tokenizer.encode_text("a").unwrap());
    }
    let begins = [("tokenizer.ggml.add_bos_token", json!(true)), ("tokenizer.ggml.add_eos_token", json!(true))];
    write_gguf(&file, &[entries, begins.to_vec()].concat());
    let tokenizer = Tokenizer::from_path(&file).unwrap();
    let between = tokenizer.encode_text("a b").unwrap();
    assert_eq!(tokenizer.encode("a b").unwrap(), [vec![1], between, vec![2]].concat());
    fs::write(folder.path().join("other.gguf"), "").unwrap();
    let error = Tokenizer::from_path(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("2 GGUF files") && error.to_string().contains("SmolLM2-Q8_0.gguf"), "{error}");
}

#[test]
fn other_gguf_vocabularies_are_refused_clearly() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    for (key, value, why) in [
        ("tokenizer.ggml.model", json!("llama"), "only byte-level BPE (`gpt2`) can be read, and this is `llama`"),
        ("tokenizer.ggml.model", json!(1), "does not say of what kind it is"),
        ("tokenizer.ggml.pre", json!("default"), "does not say how a text is cut"),
        ("tokenizer.ggml.pre", json!("unheard-of"), "how `unheard-of` cuts a text into words is not known"),
        ("tokenizer.ggml.tokens", json!(1), "has no tokens"),
        ("tokenizer.ggml.merges", json!(1), "has no merges"),
        ("tokenizer.ggml.merges", json!(["ab"]), "is not a merge of two words"),
        ("tokenizer.ggml.merges", json!(["a nothing-like-this"]), "not in the vocabulary"),
        ("tokenizer.ggml.add_bos_token", json!(true), "is 99999999, which is not a token"),
    ] {
        let mut entries = entries_of(json!(["a", "b", "ab"]), json!([1, 1, 1]), json!(["a b"]));
        if key == "tokenizer.ggml.add_bos_token" {
            entries.push(("tokenizer.ggml.add_bos_token", true.into()));
            entries
                .iter_mut()
                .filter(|entry| entry.0.ends_with("bos_token_id"))
                .for_each(|entry| entry.1 = 99_999_999.into());
        }
        entries.iter_mut().filter(|entry| entry.0 == key).for_each(|entry| entry.1 = value.clone());
        write_gguf(&file, &entries);
        let error = Tokenizer::from_path(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        for part in [why, "model.gguf", "use the tokenizer.json"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    fs::write(&file, "nonsense").unwrap();
    let error = Tokenizer::from_path(&file).unwrap_err();
    assert!(error.to_string().contains("does not begin as a GGUF file"), "{error}");
    assert_eq!(Tokenizer::from_path(folder.path().join("none.gguf")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_tiktoken_file_has_the_same_tokens() {
    use base64::Engine as _;
    let vocabulary = vocabulary();
    let bytes: HashMap<char, u8> = (0..=u8::MAX).map(|byte| (visible(byte), byte)).collect();
    let marks = added(&vocabulary);
    let spelled = words(&vocabulary).into_iter().filter(|(word, _)| !marks.contains(word.as_str()));
    let mut ranks: Vec<(Vec<u8>, u64)> =
        spelled.map(|(word, id)| (word.chars().map(|letter| bytes[&letter]).collect(), id)).collect();
    // The bytes that SmolLM2 has no token for.
    let single: BTreeSet<u8> = ranks.iter().filter(|(word, _)| word.len() == 1).map(|(word, _)| word[0]).collect();
    let missing: Vec<u8> = (0..=u8::MAX).filter(|byte| !single.contains(byte)).collect();
    assert_eq!(missing.len(), 21);
    ranks.extend(missing.into_iter().zip(49152..).map(|(byte, id)| (vec![byte], id)));
    let lines =
        ranks.iter().map(|(word, id)| format!("{} {id}\n", base64::engine::general_purpose::STANDARD.encode(word)));
    let added =
        vocabulary["added_tokens"].as_array().unwrap().iter().map(|token| (token["id"].to_string(), token.clone()));
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("tiktoken.model"), lines.collect::<String>()).unwrap();
    let config = json!({
        "eos_token": "<|im_end|>",
        "pat_str": r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
        "added_tokens_decoder": added.collect::<serde_json::Map<String, Value>>(),
    });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    for path in [folder.path().to_owned(), folder.path().join("tiktoken.model")] {
        let tokenizer = Tokenizer::from_path(path).unwrap();
        assert_tokens_of_the_reference(&tokenizer);
        assert_eq!(tokenizer.eos_token(), Some(2));
        let controls = "\u{4}\u{13}";
        assert_eq!(tokenizer.decode(&tokenizer.encode_text(controls).unwrap()).unwrap(), controls);
    }
}

#[test]
fn added_tokens_are_text_in_a_text() {
    let tokenizer = smollm2_tokenizer();
    let added = tokenizer.added_tokens();
    assert_eq!(added.len(), 17);
    let marks: BTreeSet<u32> = added.values().copied().collect();
    for (token, id) in &added {
        assert_eq!(tokenizer.encode_continuation(token).unwrap(), [*id]);
        for text in [token.clone(), format!("a {token}\n"), token.repeat(3)] {
            let tokens = tokenizer.encode_text(&text).unwrap();
            assert!(tokens.iter().all(|token| !marks.contains(token)), "{text}: {tokens:?}");
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        }
    }
}

#[test]
fn text_without_added_tokens_is_encoded_alike() {
    let tokenizer = smollm2_tokenizer();
    for case in fixture("templates/smollm2")["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap_or_default().replace("<|", "< |");
        assert_eq!(tokenizer.encode_text(&text).unwrap(), tokenizer.encode_continuation(&text).unwrap(), "{text}");
    }
}

#[test]
fn damaged_files_are_errors() {
    let tokenizer = |model: Value, normalizer: Value, post_processor: Value| {
        let folder = tempdir().unwrap();
        let file =
            json!({"added_tokens": [], "model": model, "normalizer": normalizer, "post_processor": post_processor});
        fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        Tokenizer::from_path(folder.path())
    };
    let bpe = |prefix: Value, merge: [&str; 2]| {
        let vocabulary = json!({"ab": 0, "a": 1, "é": 2});
        json!({"type": "BPE", "continuing_subword_prefix": prefix, "vocab": vocabulary, "merges": [merge]})
    };
    let charsmap = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
    for (model, normalizer) in [
        (bpe(Value::Null, ["ab", "ab"]), Value::Null),
        (bpe("##".into(), ["ab", "a"]), Value::Null),
        (bpe("#".into(), ["a", "é"]), Value::Null),
        (bpe(Value::Null, ["a", "a"]), charsmap),
    ] {
        let error = tokenizer(model, normalizer, Value::Null).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert!(error.to_string().contains("damaged"), "{error}");
    }
    let single = json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
    let post = json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}});
    let model = json!({"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}});
    let tokenizer = tokenizer(model, Value::Null, post).unwrap();
    let error = tokenizer.encode("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(tokenizer.encode_text("a").unwrap(), [0]);
}

#[test]
fn endless_white_space_is_refused() {
    let tokenizer = smollm2_tokenizer();
    let text = format!("{}x", " ".repeat(500_001));
    for error in [tokenizer.encode(&text).unwrap_err(), tokenizer.encode_text(&text).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("500000 bytes of white space in a row"), "{error}");
    }
}
