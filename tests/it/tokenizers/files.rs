//! Files beside a tokenizer, and revisions of it.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tinkex::ErrorKind;

use super::{BEGIN, Folder, HELLO, ID, data, file, paths};
use crate::support::{Reply, Service};

const NAME: &str = "chat_template.jinja";
const TEMPLATE_PATH: &str = "/acme/words/resolve/main/chat_template.jinja";
const TEMPLATE: &str = "{{ messages }}";

fn with_template() -> Service {
    Service::start(|request| match request.path.as_str() {
        TEMPLATE_PATH => Reply::Full { status: 200, headers: Vec::new(), body: TEMPLATE.into() },
        _ => Reply::Json(404, json!({"error": "Entry not found"})),
    })
}

#[test]
fn a_file_is_downloaded_only_once() {
    let (folder, hub) = (Folder::new(), with_template());
    for _ in 0..2 {
        let template = folder.source(&hub.url()).load_file(ID, NAME).unwrap();
        assert_eq!(template.as_deref(), Some(TEMPLATE.as_bytes()));
    }
    assert_eq!(paths(&hub), [TEMPLATE_PATH]);
    assert_eq!(folder.files(), [folder.stored().join(NAME)]);
    assert_eq!(folder.source("http://127.0.0.1:1").load_file("bytes", NAME).unwrap(), None);
}

#[test]
fn a_missing_file_is_asked_for_once() {
    let (folder, hub) = (Folder::new(), with_template());
    fs::create_dir_all(folder.stored()).unwrap();
    fs::write(folder.stored().join("tokenizer.json"), data("tokenizer.json")).unwrap();
    for _ in 0..2 {
        assert_eq!(folder.source(&hub.url()).load_file(ID, "added_tokens.json").unwrap(), None);
    }
    assert_eq!(paths(&hub), ["/acme/words/resolve/main/added_tokens.json"]);
    assert_eq!(folder.source(&hub.url()).load(ID).unwrap().encode("hello").unwrap(), [BEGIN, HELLO]);
}

#[test]
fn offline_files_come_from_the_caches() {
    let folder = Folder::new();
    let offline = || folder.source("http://127.0.0.1:1").offline(true);
    let error = offline().load_file(ID, NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&folder.stored().join(NAME).display().to_string()), "{error}");
    let model = folder.path().join("hub/models--acme--words");
    fs::create_dir_all(model.join("snapshots/0123abcd")).unwrap();
    fs::create_dir_all(model.join("refs/refs/pr")).unwrap();
    fs::write(model.join("refs/main"), "0123abcd\n").unwrap();
    assert_eq!(offline().load_file(ID, NAME).unwrap(), None);
    fs::write(model.join("snapshots/0123abcd").join(NAME), TEMPLATE).unwrap();
    fs::write(model.join("refs/refs/pr/1"), "0123abcd").unwrap();
    for id in [ID, "acme/words@0123abcd", "acme/words@refs/pr/1"] {
        assert_eq!(offline().load_file(id, NAME).unwrap().as_deref(), Some(TEMPLATE.as_bytes()), "{id}");
    }
    // What Hugging Face's programs know not to exist is not asked for.
    fs::create_dir_all(model.join(".no_exist/0123abcd")).unwrap();
    fs::write(model.join(".no_exist/0123abcd/other.json"), "").unwrap();
    assert_eq!(folder.source("http://127.0.0.1:1").load_file(ID, "other.json").unwrap(), None);
}

#[test]
fn an_unreachable_hub_is_an_error() {
    let folder = Folder::new();
    fs::create_dir_all(folder.stored()).unwrap();
    let error = folder.source("http://127.0.0.1:1").load_file(ID, NAME).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Connect, "{text}");
    for part in [NAME, "set HF_HUB_OFFLINE=1", &folder.stored().join(NAME).display().to_string()] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_revision_has_its_own_files() {
    let (folder, hub) = (
        Folder::new(),
        Service::start(|request| match request.path.as_str() {
            "/acme/words/resolve/v1.0/tokenizer.json" => file("tokenizer.json"),
            "/acme/words/resolve/refs%2Fpr%2F1/chat_template.jinja" => file("tokenizer_config.json"),
            _ => Reply::Json(404, json!({})),
        }),
    );
    let tokenizer = folder.source(&hub.url()).load("acme/words@v1.0").unwrap();
    assert_eq!(tokenizer.id(), "acme/words@v1.0");
    let stored = folder.path().join("cache/tokenizers/acme--words@v1.0/tokenizer.json");
    assert_eq!(folder.files(), [stored]);
    assert!(folder.source(&hub.url()).load_file("acme/words@refs/pr/1", NAME).unwrap().is_some());
    assert!(folder.path().join("cache/tokenizers/acme--words@refs--pr--1").join(NAME).is_file());
    assert_eq!(folder.source(&hub.url()).load(ID).unwrap_err().status(), Some(404));
}

#[test]
fn names_and_ids_cannot_lead_elsewhere() {
    let folder = Folder::new();
    let source = folder.source("http://127.0.0.1:1");
    for (id, name) in [
        (ID, "../tokenizer.json"),
        (ID, ".hidden"),
        (ID, ""),
        (ID, "a/b"),
        (ID, "a\\b"),
        ("../words", NAME),
        ("acme/words@../x", NAME),
        ("acme/words@", NAME),
    ] {
        let error = source.load_file(id, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{id} {name}: {error}");
    }
}

#[test]
fn a_tiktoken_file_is_downloaded_with_its_configuration() {
    let words: String = (0..=u8::MAX)
        .map(|byte| format!("{} {byte}\n", STANDARD.encode([byte])))
        .chain(["YWI= 256\n".to_owned()])
        .collect();
    let folder = Folder::new();
    let hub = Service::start(move |request| match request.path.as_str() {
        "/acme/words/resolve/main/tiktoken.model" => {
            Reply::Full { status: 200, headers: Vec::new(), body: words.clone().into_bytes() }
        }
        "/acme/words/resolve/main/tokenizer_config.json" => {
            let tokens = json!({"257": {"content": "<|im_end|>", "special": true}});
            Reply::ok(json!({"eos_token": "<|im_end|>", "added_tokens_decoder": tokens}))
        }
        _ => Reply::Json(404, json!({})),
    });
    for source in [folder.source(&hub.url()), folder.source("http://127.0.0.1:1").offline(true)] {
        let tokenizer = source.load(ID).unwrap();
        assert_eq!((tokenizer.id(), tokenizer.eos_token()), (ID, Some(257)));
        assert_eq!(tokenizer.encode("abc<|im_end|>").unwrap(), [256, 99, 257]);
    }
    assert_eq!(hub.requests().len(), 3);
    assert!(folder.stored().join("tiktoken.model").is_file());
    fs::write(folder.stored().join("tiktoken.model"), "not read").unwrap();
    let error = folder.source("http://127.0.0.1:1").load(ID).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("tiktoken.model is damaged"), "{error}");
}
