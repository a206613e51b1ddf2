//! The tokenizers and chat templates of models.

use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, Message};
use tinkex::local::model::{Model, TextPackage};
use tinkex::local::transformer::Transformer;

use super::model_copy::{ModelCopy, golden, load};

fn texts() -> Value {
    serde_json::from_slice(&std::fs::read(golden("golden/micro-tokens.json")).unwrap()).unwrap()
}

fn package(model: &Transformer) -> &TextPackage {
    model.text_package().unwrap()
}

/// The files of a package in a folder, as a client has them.
fn unpacked(package: &TextPackage) -> tempfile::TempDir {
    let directory = tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        if let Some(content) = package.get(name) {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
    }
    directory
}

#[test]
fn both_formats_have_the_reference_tokens() {
    for name in ["llama-gqa-tied-f32", "gguf/llama-f32.gguf", "gguf/qwen3-f16.gguf"] {
        let model = load(&golden(name)).unwrap();
        let unpacked = unpacked(package(&model));
        for tokenizer in [package(&model).tokenizer().clone(), Tokenizer::from_path(unpacked.path()).unwrap()] {
            assert_eq!(tokenizer.eos_token(), Some(2), "{name}");
            for (text, expected) in reference(&texts()) {
                assert_eq!(tokenizer.encode(&text).unwrap(), expected, "{name}: {text:?}");
                assert_eq!(tokenizer.decode_with_special_tokens(&expected).unwrap(), text, "{name}");
            }
        }
    }
}

/// Texts with their tokens.
fn reference(texts: &Value) -> Vec<(String, Vec<u32>)> {
    let entries = texts["texts"].as_array().or(texts.as_array()).unwrap();
    let pairs = entries.iter().map(|entry| {
        let text = entry["text"].as_str().unwrap().to_owned();
        (text, serde_json::from_value(entry["tokens"].clone()).unwrap())
    });
    let pairs: Vec<_> = pairs.collect();
    assert!(pairs.len() > 3);
    pairs
}

#[test]
fn clients_find_the_chat_template_in_the_package() {
    let conversation = Conversation::from([Message::user("Hi")]);
    for name in ["llama-gqa-tied-f32", "gguf/llama-f32.gguf"] {
        let model = load(&golden(name)).unwrap();
        let unpacked = unpacked(package(&model));
        let template = ChatTemplate::from_path(unpacked.path()).unwrap();
        let text = template.render(&conversation, true).unwrap();
        assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "{name}");
        let config: Value = serde_json::from_slice(package(&model).get("tokenizer_config.json").unwrap()).unwrap();
        assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast", "{name}");
        assert_eq!((&config["eos_token"], &config["model_max_length"]), (&json!("<|im_end|>"), &json!(512)), "{name}");
    }
}

#[test]
fn a_template_file_is_in_the_package() {
    let copy = ModelCopy::of("llama-gqa-tied-f32");
    std::fs::write(copy.file("chat_template.jinja"), "{{ 1 }}").unwrap();
    let model = copy.load().unwrap();
    assert_eq!(package(&model).get("chat_template.jinja"), Some(&b"{{ 1 }}"[..]));
    assert_eq!(package(&model).get("generation_config.json"), None);
}

#[test]
fn tokens_without_an_embedding_are_refused() {
    let copy = ModelCopy::of("llama-gqa-tied-f32").edit("tokenizer.json", |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let mut token = added[0].clone();
        (token["id"], token["content"]) = (json!(272), json!("<|more|>"));
        added.push(token);
    });
    let error = copy.refusal();
    assert!(error.contains("the token 272, and its embedding only 272 rows"), "{error}");
}

#[test]
fn each_file_adds_its_end_tokens() {
    let copy = ModelCopy::of("llama3-rope-f16")
        .options(json!({"eos_token_id": 5}))
        .edit("generation_config.json", |config| drop(config.insert("eos_token_id".to_owned(), json!([6, 5]))));
    assert_eq!(copy.load().unwrap().end_tokens(), [5, 6, 2]);
    let error = ModelCopy::of("llama3-rope-f16").options(json!({"eos_token_id": 272})).refusal();
    assert!(error.contains("the token 272, which ends a text, is not in its vocabulary"), "{error}");
}

#[test]
fn a_vocabulary_of_another_kind_needs_a_file() {
    let kind = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(4).position(|window| window == b"gpt2").unwrap();
        bytes[at..at + 4].copy_from_slice(b"bert");
    };
    let copy = ModelCopy::of("gguf/llama-f32.gguf").bytes("llama-f32.gguf", kind);
    let error = copy.refusal();
    assert!(error.contains("`bert`") && error.contains("put the tokenizer.json"), "{error}");
    let original = golden("llama-gqa-tied-f32/tokenizer.json");
    std::fs::write(copy.file("tokenizer.json"), std::fs::read(original).unwrap()).unwrap();
    let model = copy.load().unwrap();
    assert!(package(&model).tokenizer().token_to_id("Ġthe").is_some());
}
