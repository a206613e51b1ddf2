//! Tokenizers and templates that come from the server itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use tinkex::chat::{ChatTemplate, Conversation, Message};
use tinkex::local::LocalServer;
use tinkex::local::model::TextPackage;
use tinkex::types::LoraConfig;
use tinkex::{Config, ErrorKind, SamplingClient, ServiceClient, Tokenizer, TokenizerSource};

use super::text_model::{DATA, TEMPLATE, TextModel};
use crate::local_server::client::{Client, Response};
use crate::support::{Reply, Service, connect, healthy_service};

const NAME: &str = "acme/smol";
/// `hello` and the end-of-text token of the tokenizer in `tests/data`.
const HELLO: u32 = 259;
const END: u32 = 262;

fn config(server: &LocalServer) -> Config {
    Config::builder().base_url(server.base_url()).api_key("tml-test").build_with(|_| None).unwrap()
}

fn service(server: &LocalServer) -> ServiceClient {
    ServiceClient::connect(config(server)).unwrap()
}

/// The source with caches in this folder, and a hub that does not exist.
fn isolated(source: TokenizerSource, folder: &TempDir) -> TokenizerSource {
    let path = folder.path();
    source.cache_dir(path.join("cache")).hub_cache_dir(path.join("hub")).endpoint("http://127.0.0.1:1")
}

/// The files that were fetched, in order.
fn fetched(server: &LocalServer) -> Vec<String> {
    let requests = server.requests().into_iter().filter(|request| request.path.contains("/resolve/"));
    requests.map(|request| request.endpoint().to_owned()).collect()
}

fn get(server: &LocalServer, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut client = Client::new(server);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client
        .write(format!("{method} {path} HTTP/1.1\r\nhost: local.test\r\n{headers}connection: close\r\n\r\n"))
        .unwrap();
    if method == "HEAD" { client.receive_head().unwrap() } else { client.receive().unwrap() }
}

#[test]
fn clients_load_tokenizers_from_the_server() {
    let (server, folder) = (TextModel::new(NAME).serve(), tempdir().unwrap());
    let service = service(&server);
    let trainer = service.create_lora_training_client(NAME, LoraConfig::default()).unwrap();
    assert_eq!(trainer.tokenizer_id().unwrap(), NAME);
    let source = isolated(trainer.tokenizer_source().unwrap(), &folder);
    let tokenizer = source.load(NAME).unwrap();
    assert_eq!((tokenizer.encode_continuation("hello").unwrap(), tokenizer.eos_token()), (vec![HELLO], Some(END)));
    assert!(tokenizer.id().starts_with("acme/smol@"), "{}", tokenizer.id());
    assert_eq!(fetched(&server), ["tokenizer_config.json", "chat_template.jinja", "tokenizer.json"]);

    // Everything after that comes from the cache: for another client, and without the service.
    let sampler = service.create_sampling_client(NAME).unwrap();
    let again = isolated(sampler.tokenizer_source().unwrap(), &folder);
    assert_eq!(again.load(&sampler.tokenizer_id().unwrap()).unwrap().id(), tokenizer.id());
    for source in [again, isolated(TokenizerSource::from_env_with(|_| None), &folder)] {
        let template = ChatTemplate::load(tokenizer.id(), &source).unwrap().unwrap();
        assert_eq!(template.source(), TEMPLATE);
        let text = template.render(&Conversation::from([Message::user("hello")]), true).unwrap();
        assert_eq!(text, "<|begin|>hello<|end|>");
    }
    assert_eq!(fetched(&server).len(), 3);
}

#[test]
fn templates_come_without_a_cache() {
    let server = TextModel::new(NAME).serve();
    let sampler = service(&server).create_sampling_client(NAME).unwrap();
    // A file is where the cache should be.
    let source = sampler.tokenizer_source().unwrap().cache_dir(file!()).hub_cache_dir(file!());
    let source = source.endpoint("http://127.0.0.1:1");
    let tokenizer = source.load(NAME).unwrap();
    for id in [NAME, tokenizer.id()] {
        assert_eq!(ChatTemplate::load(id, &source).unwrap().unwrap().source(), TEMPLATE);
        assert_eq!(source.load_file(id, "vocab.json").unwrap(), None);
    }
}

#[test]
fn samplers_of_saves_and_handles_know_it() {
    let (server, folder) = (TextModel::new(NAME).serve(), tempdir().unwrap());
    let trainer = service(&server).create_lora_training_client(NAME, LoraConfig::default()).unwrap();
    let saved = trainer.save_weights_and_get_sampling_client().unwrap();
    let handle = saved.get_sampler_handle().unwrap();
    let worker = SamplingClient::from_sampler_handle(config(&server), &handle).unwrap();
    for sampler in [saved, worker] {
        let source = isolated(sampler.tokenizer_source().unwrap(), &folder);
        assert!(source.load(NAME).unwrap().id().starts_with("acme/smol@"));
    }
}

#[test]
fn nobody_is_asked_for_what_nobody_offers() {
    let (server, folder) = (LocalServer::start().unwrap(), tempdir().unwrap());
    let sampler = service(&server).create_sampling_client("tinkex/bytes-tiny").unwrap();
    assert_eq!(sampler.tokenizer().unwrap().id(), "bytes");
    let worker = SamplingClient::from_sampler_handle(config(&server), &sampler.get_sampler_handle().unwrap()).unwrap();
    let source = isolated(worker.tokenizer_source().unwrap(), &folder);
    assert_eq!(source.load_file("bytes", "chat_template.jinja").unwrap(), None);
    let asked = server.requests().into_iter().filter(|request| request.method == "GET");
    assert_eq!(asked.map(|request| request.path).collect::<Vec<_>>(), [""; 0]);
    assert!(!String::from_utf8_lossy(&Client::new(&server).get("get_server_capabilities").body).contains("package"));
}

#[test]
fn models_say_what_text_they_read() {
    let server = TextModel::new(NAME).serve();
    let digests: serde_json::Map<String, Value> = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
        .into_iter()
        .map(|name| {
            let content = fs::read(Path::new(DATA).join(name)).unwrap_or_else(|_| TEMPLATE.into());
            let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            (name.to_owned(), digest.into())
        })
        .collect();
    let package = json!({ "id": NAME, "files": digests, "has_chat_template": true });
    let mut client = Client::new(&server);
    let capabilities = client.get("get_server_capabilities").json();
    let model = &capabilities["supported_models"][0];
    assert_eq!((&model["tokenizer_package"], &model["max_context_length"]), (&package, &json!(1024)));

    let trainer = service(&server).create_lora_training_client(NAME, LoraConfig::default()).unwrap();
    let info = trainer.get_info().unwrap().model_data;
    assert_eq!((info.tokenizer_id.as_deref(), info.max_context_length), (Some(NAME), Some(1024)));
    assert_eq!(serde_json::to_value(info.tokenizer_package).unwrap(), package);
}

#[test]
fn bytes_may_have_a_template() {
    let text = TextPackage::new(Tokenizer::bytes()).file("chat_template.jinja", TEMPLATE);
    let (server, folder) = (TextModel::new("acme/bytes").text(text).serve(), tempdir().unwrap());
    let trainer = service(&server).create_lora_training_client("acme/bytes", LoraConfig::default()).unwrap();
    let tokenizer = trainer.tokenizer().unwrap();
    assert_eq!((tokenizer.id(), trainer.tokenizer_id().unwrap().as_str()), ("bytes", "bytes"));
    let source = isolated(trainer.tokenizer_source().unwrap(), &folder);
    assert_eq!(ChatTemplate::load(tokenizer.id(), &source).unwrap().unwrap().source(), TEMPLATE);
}

#[test]
fn any_program_for_the_hub_finds_the_files() {
    let server = LocalServer::builder()
        .model(Arc::new(TextModel::new(NAME)))
        .model(Arc::new(TextModel::new("org/model/variant")))
        .start()
        .unwrap();
    let content = fs::read(Path::new(DATA).join("tokenizer.json")).unwrap();
    let path = "/acme/smol/resolve/main/tokenizer.json";
    let whole = get(&server, "GET", path, &[]);
    assert_eq!((whole.status, &whole.body), (200, &content));
    let commit = whole.header("x-repo-commit").unwrap().to_owned();
    assert_eq!((commit.len(), whole.header("etag").unwrap().len()), (40, 66));

    let head = get(&server, "HEAD", path, &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(content.len().to_string().as_str()));
    assert_eq!(head.header("etag"), whole.header("etag"));

    let part = get(&server, "GET", &format!("/acme%2Fsmol/resolve/{commit}/tokenizer.json"), &[("range", "bytes=1-3")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &content[1..=3]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 1-3/{}", content.len()).as_str()));
    assert_eq!(get(&server, "GET", path, &[("range", "bytes=99999999-")]).status, 416);

    // A model's name, and what the official clients make of it.
    for id in ["org/model/variant", "org/model"] {
        let description = get(&server, "GET", &format!("/api/models/{id}"), &[]).json();
        assert_eq!(description["siblings"][1], json!({ "rfilename": "tokenizer.json" }), "{id}");
    }
    let tree = get(&server, "GET", "/api/models/acme/smol/tree/main", &[]).json();
    assert_eq!((&tree[1]["path"], &tree[1]["size"]), (&json!("tokenizer.json"), &json!(content.len())));

    for (path, code) in [
        ("/acme/smol/resolve/main/vocab.json", "EntryNotFound"),
        ("/acme/smol/resolve/main/../../secret", "EntryNotFound"),
        ("/acme/smol/resolve/v2/tokenizer.json", "RevisionNotFound"),
        ("/acme/other/resolve/main/tokenizer.json", "RepoNotFound"),
        ("/api/models/acme/smol/tree/main/additional_chat_templates", "EntryNotFound"),
    ] {
        let refused = get(&server, "GET", path, &[]);
        assert_eq!((refused.status, refused.header("x-error-code")), (404, Some(code)), "{path}");
        assert!(!refused.detail().is_empty());
    }
    assert_eq!(get(&server, "POST", path, &[("content-length", "0")]).status, 405);

    // This crate is such a program, too.
    let folder = tempdir().unwrap();
    let source = isolated(TokenizerSource::from_env_with(|_| None), &folder).endpoint(server.base_url());
    assert_eq!(source.load(NAME).unwrap().eos_token(), Some(END));
    assert_eq!(ChatTemplate::load(NAME, &source).unwrap().unwrap().source(), TEMPLATE);
}

#[test]
fn checked_keys_guard_the_files() {
    let model = Arc::new(TextModel::new(NAME));
    let server = LocalServer::builder().model(model).api_key_check(|key| key == "tml-test").start().unwrap();
    let path = "/acme/smol/resolve/main/tokenizer.json";
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-api-key", "tml-other")], 401),
        (&[("authorization", "Basic tml-test")], 401),
        (&[("x-api-key", "tml-test")], 200),
        (&[("authorization", "Bearer tml-test")], 200),
    ] {
        assert_eq!(get(&server, "GET", path, headers).status, status, "{headers:?}");
    }
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none_or(|value| value == "…")));
    let folder = tempdir().unwrap();
    let sampler = service(&server).create_sampling_client(NAME).unwrap();
    assert!(isolated(sampler.tokenizer_source().unwrap(), &folder).load(NAME).is_ok());
}

#[test]
fn files_must_be_those_that_were_announced() {
    let announced = json!({ "id": "smol", "files": { "tokenizer.json": "00" } });
    let service = Service::start(move |request| match request.path.as_str() {
        "create_sampling_session" => {
            Reply::ok(json!({ "sampling_session_id": "s-1:sample:0", "tokenizer_package": announced }))
        }
        path if path.contains("/resolve/") => Reply::Full {
            status: 200,
            headers: Vec::new(),
            body: fs::read(Path::new(DATA).join("tokenizer.json")).unwrap(),
        },
        _ => healthy_service(request),
    });
    let folder = tempdir().unwrap();
    let sampler = connect(service.config()).create_sampling_client("smol").unwrap();
    let source = isolated(sampler.tokenizer_source().unwrap(), &folder);
    let error = source.load("smol").unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Decode, Some("load")));
    assert!(error.to_string().contains("another tokenizer.json now"), "{error}");
    assert!(!folder.path().join("cache").exists());
}
