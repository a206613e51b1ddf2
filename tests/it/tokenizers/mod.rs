//! Tokenizers: which one a model has, where its file comes from, and how it converts text.

mod files;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tempfile::{TempDir, tempdir};
use tinkex::types::{LoraConfig, ModelInput};
use tinkex::{Config, ErrorKind, Event, Tokenizer, TokenizerSource};

use crate::support::{RecordedRequest, Reply, Service, connect, healthy_service};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const ID: &str = "acme/words";
const TOKENIZER_PATH: &str = "/acme/words/resolve/main/tokenizer.json";
const CONFIG_PATH: &str = "/acme/words/resolve/main/tokenizer_config.json";
const TOKEN: &str = "hf_secret";
/// `hello`, ` w`, and the specials of the file in `tests/data`.
const HELLO: u32 = 259;
const SPACE_W: u32 = 260;
const BEGIN: u32 = 261;
const END: u32 = 262;

fn data(name: &str) -> Vec<u8> {
    fs::read(Path::new(DATA).join(name)).unwrap()
}

/// A directory that is removed after the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn stored(&self) -> PathBuf {
        self.path().join("cache/tokenizers/acme--words")
    }

    /// Every file below it.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.path(), &mut found);
        found
    }

    /// An environment with only a cache in this folder, and a hub at this URL.
    fn source(&self, hub: &str) -> TokenizerSource {
        let hasty = Config::builder().api_key("tml-key").base_url("http://127.0.0.1:1").max_retries(0);
        let hasty =
            hasty.header("x-of-the-service", "1").query("of", "the-service").cloudflare_access("id", "cf-secret");
        TokenizerSource::from_env_with(|_| None)
            .cache_dir(self.path().join("cache"))
            .hub_cache_dir(self.path().join("hub"))
            .endpoint(hub)
            .token(TOKEN)
            .config(&hasty.build_with(|_| None).unwrap())
    }
}

fn file(name: &str) -> Reply {
    Reply::Full { status: 200, headers: Vec::new(), body: data(name) }
}

fn redirect(status: u16, to: String) -> Reply {
    Reply::Full { status, headers: vec![("location", to)], body: Vec::new() }
}

/// A hub with one tokenizer.
fn hub_of(request: &RecordedRequest) -> Reply {
    match request.path.as_str() {
        TOKENIZER_PATH => file("tokenizer.json"),
        CONFIG_PATH => file("tokenizer_config.json"),
        _ => Reply::Json(404, json!({"error": "Repository not found"})),
    }
}

fn paths(service: &Service) -> Vec<String> {
    service.requests().into_iter().map(|request| request.path).collect()
}

#[test]
fn a_file_names_its_end_of_text_token() {
    let tokenizer = Tokenizer::from_path(DATA).unwrap();
    assert_eq!(Tokenizer::from_path(Path::new(DATA).join("tokenizer.json")).unwrap().eos_token(), Some(END));
    assert_eq!((tokenizer.id(), tokenizer.eos_token()), (DATA, Some(END)));
    // The file limits texts to four tokens, which is ignored.
    let tokens = [BEGIN, HELLO, SPACE_W, b'e'.into(), b'e'.into(), b'e'.into()];
    assert_eq!(tokenizer.encode("hello weee").unwrap(), tokens);
    assert_eq!(tokenizer.encode_continuation("hello").unwrap(), [HELLO]);
    assert_eq!(tokenizer.decode(&[BEGIN, HELLO, END]).unwrap(), "hello");
    assert_eq!(ModelInput::from_text(&tokenizer, "hello").unwrap().to_tokens().unwrap(), [BEGIN, HELLO]);
}

#[test]
fn a_rendered_prompt_can_be_inspected() {
    let tokenizer = Tokenizer::from_path(DATA).unwrap();
    let tokens = tokenizer.encode("<|begin|>hello<|end|>").unwrap();
    assert_eq!(tokens, [BEGIN, BEGIN, HELLO, END], "its text is the special token itself");
    assert_eq!(tokenizer.decode(&tokens).unwrap(), "hello");
    assert_eq!(tokenizer.decode_with_special_tokens(&tokens).unwrap(), "<|begin|><|begin|>hello<|end|>");
    assert_eq!(tokenizer.special_tokens(), [("<|begin|>".to_owned(), BEGIN), ("<|end|>".to_owned(), END)].into());
    for (token, id) in [("<|end|>", END), ("hello", HELLO), ("Ġw", SPACE_W)] {
        assert_eq!(tokenizer.token_to_id(token), Some(id), "{token}");
        assert_eq!(tokenizer.id_to_token(id).as_deref(), Some(token));
    }
    assert_eq!((tokenizer.token_to_id("<|none|>"), tokenizer.id_to_token(9999)), (None, None));
}

#[test]
fn half_a_character_is_held_back() {
    let tokenizer = Tokenizer::from_path(DATA).unwrap();
    let tokens = tokenizer.encode_continuation("hello wé😀").unwrap();
    let mut decoder = tokenizer.decoder();
    let pieces: Vec<String> = tokens.iter().map(|&token| decoder.push(&[token]).unwrap()).collect();
    assert_eq!(pieces, ["hello", " w", "", "é", "", "", "", "😀"]);
    assert_eq!(decoder.finish().unwrap(), "");
}

#[test]
fn a_tokenizer_is_downloaded_only_once() {
    let (folder, hub) = (Folder::new(), Service::start(hub_of));
    let first = folder.source(&hub.url()).load(ID).unwrap();
    assert_eq!((first.id(), first.eos_token()), (ID, Some(END)));
    assert_eq!(paths(&hub), [TOKENIZER_PATH, CONFIG_PATH]);
    let seen = &hub.requests()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer hf_secret"));
    for name in ["x-api-key", "cf-access-client-id", "cf-access-client-secret", "x-of-the-service", "x-stainless-os"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let second = folder.source(&hub.url()).load(ID).unwrap();
    assert_eq!(second.encode("hello").unwrap(), [BEGIN, HELLO]);
    assert_eq!(folder.source("http://127.0.0.1:1").offline(true).load(ID).unwrap().eos_token(), Some(END));
    assert_eq!(hub.requests().len(), 2);
    let mut stored = folder.files();
    stored.sort();
    assert_eq!(stored, [folder.stored().join("tokenizer.json"), folder.stored().join("tokenizer_config.json")]);
}

#[test]
fn the_token_stays_with_its_origin() {
    let folder = Folder::new();
    let store = Service::start(|request| match request.path.split('?').next() {
        Some("/blob/1") => file("tokenizer.json"),
        _ => Reply::Json(404, json!({})),
    });
    let signed = format!("{}/blob/1?signature=a%2Fb%3D&x=1", store.url());
    let hub = Service::start(move |request| match request.path.as_str() {
        // As for a renamed repository.
        TOKENIZER_PATH => redirect(307, "/acme/new-words/resolve/main/tokenizer.json".to_owned()),
        "/acme/new-words/resolve/main/tokenizer.json" => redirect(302, signed.clone()),
        _ => Reply::Json(404, json!({})),
    });
    let tokenizer = folder.source(&hub.url()).load(ID).unwrap();
    assert_eq!((tokenizer.encode("hello").unwrap(), tokenizer.eos_token()), (vec![BEGIN, HELLO], None));
    assert!(hub.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    assert_eq!(hub.requests().len(), 3);
    let at_store = store.requests();
    assert_eq!(at_store[0].path, "/blob/1?signature=a%2Fb%3D&x=1");
    assert!(at_store.iter().all(|request| request.headers.iter().all(|(_, value)| !value.contains("secret"))));
}

#[test]
fn a_hub_download_emits_no_event() {
    let (folder, hub) = (Folder::new(), Service::start(hub_of));
    let events = Arc::<AtomicUsize>::default();
    let counts = Arc::clone(&events);
    let config = Config::builder().api_key("tml-key").base_url("http://127.0.0.1:1");
    let config = config.timeout_drop(Duration::from_secs(30)).observer(move |_: &Event| {
        counts.fetch_add(1, Ordering::SeqCst);
    });
    folder.source(&hub.url()).config(&config.build_with(|_| None).unwrap()).load(ID).unwrap();
    assert_eq!((hub.requests().len(), events.load(Ordering::SeqCst)), (2, 0));
}

#[test]
fn redirects_are_limited() {
    let (folder, hub) = (Folder::new(), Service::start(|request| redirect(302, request.path.clone())));
    let error = folder.source(&hub.url()).load(ID).unwrap_err();
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
    assert!(hub.requests().len() < 20);
}

#[test]
fn a_refused_download_suggests_a_remedy() {
    for (status, advice) in [(401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (404, "check the id"), (500, "put its")] {
        let (folder, hub) = (Folder::new(), Service::start(move |_| Reply::Json(status, json!({"error": "no"}))));
        let error = folder.source(&hub.url()).load(ID).unwrap_err();
        let text = error.to_string();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)), "{text}");
        let place = folder.stored().join("tokenizer.json").display().to_string();
        assert!(text.contains(advice) && text.contains(&place) && text.contains(ID), "{text}");
        assert!(!text.contains(TOKEN) && !text.contains("TINKER"), "{text}");
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
    }
}

#[test]
fn another_format_is_named_with_its_conversion() {
    let file = "tokenizer.model";
    let folder = Folder::new();
    let destination = folder.stored().join("tokenizer.json").display().to_string();
    let hub = Service::start(move |request| match request.path.strip_prefix("/acme/words/resolve/main/") {
        Some(path) if path == file => Reply::ok(json!("not read")),
        _ => Reply::Json(404, json!({"error": "Entry not found"})),
    });
    let of_hub = folder.source(&hub.url()).load(ID).unwrap_err();
    fs::create_dir_all(folder.stored()).unwrap();
    fs::write(folder.stored().join(file), "not read").unwrap();
    let offline = folder.source("http://127.0.0.1:1").offline(true).load(ID).unwrap_err();
    let of_path = Tokenizer::from_path(folder.stored()).unwrap_err();
    let of_file = Tokenizer::from_path(folder.stored().join(file)).unwrap_err();
    for (error, names_destination) in [(of_hub, true), (offline, true), (of_path, true), (of_file, false)] {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Decode, "{text}");
        for part in [&format!("only {file}"), "save_pretrained"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!names_destination || text.contains(&destination), "{destination}: {text}");
    }
}

#[test]
fn offline_errors_say_where_files_go() {
    let folder = Folder::new();
    let place = folder.stored().join("tokenizer.json").display().to_string();
    // A port that was just closed.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = format!("http://{unused}");
    for (source, kind) in
        [(folder.source(&unreachable).offline(true), ErrorKind::Io), (folder.source(&unreachable), ErrorKind::Connect)]
    {
        let error = source.load(ID).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&place), "{error}");
    }
    // A file that was put there is found.
    fs::create_dir_all(folder.stored()).unwrap();
    fs::copy(Path::new(DATA).join("tokenizer.json"), folder.stored().join("tokenizer.json")).unwrap();
    assert_eq!(folder.source(&unreachable).load(ID).unwrap().encode("hello").unwrap(), [BEGIN, HELLO]);
}

#[test]
fn a_failed_download_leaves_nothing_behind() {
    let half =
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".as_slice(), &data("tokenizer.json")[..500]].concat();
    for (reply, kind) in [
        (half, ErrorKind::Connect),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnonsense!".to_vec(), ErrorKind::Decode),
    ] {
        let folder = Folder::new();
        let hub = Service::start(move |request| match request.path.as_str() {
            TOKENIZER_PATH => Reply::Raw(reply.clone()),
            _ => Reply::Json(404, json!({})),
        });
        let error = folder.source(&hub.url()).load(ID).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_download_has_a_size_limit() {
    let (folder, hub) = (Folder::new(), Service::start(hub_of));
    let small = hub.config().max_response_bytes(1000).build_with(|_| None).unwrap();
    let error = folder.source(&hub.url()).config(&small).load(ID).unwrap_err();
    assert!(error.to_string().contains("larger than 1000 bytes"), "{error}");
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_damaged_file_in_the_cache_is_named() {
    let folder = Folder::new();
    fs::create_dir_all(folder.stored()).unwrap();
    fs::write(folder.stored().join("tokenizer.json"), "{\"version\":").unwrap();
    let error = folder.source("http://127.0.0.1:1").load(ID).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains(&folder.stored().join("tokenizer.json").display().to_string()), "{error}");
}

#[test]
fn the_hugging_face_cache_is_read() {
    let folder = Folder::new();
    let model = folder.path().join("hub/models--acme--words");
    let snapshot = model.join("snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(DATA).join(name), snapshot.join(name)).unwrap();
    }
    let source = folder.source("http://127.0.0.1:1").offline(true);
    assert!(source.load(ID).is_err(), "without refs/main");
    fs::write(model.join("refs/main"), "0123abcd").unwrap();
    assert_eq!(source.load(ID).unwrap().eos_token(), Some(END));
    fs::write(model.join("refs/main"), "../../snapshots/0123abcd").unwrap();
    assert!(source.load(ID).is_err(), "a commit that leads elsewhere");
}

#[test]
fn an_id_that_leads_elsewhere_is_refused() {
    let (folder, hub) = (Folder::new(), Service::start(hub_of));
    for id in ["../words", "acme/..", "/etc/passwd", "acme/words/../x", "acme\\words", "acme/words?x=1", "a--b/c", ""] {
        let error = folder.source(&hub.url()).load(id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{id}: {error}");
    }
    assert!(hub.requests().is_empty() && folder.files().is_empty());
}

#[test]
fn the_environment_configures_the_source() {
    let folder = Folder::new();
    let hub = Service::start(hub_of);
    let environment = |name: &str| {
        Some(match name {
            "HOME" => folder.path().display().to_string(),
            "HF_ENDPOINT" => hub.url(),
            "HF_TOKEN" => TOKEN.to_owned(),
            _ => return None,
        })
    };
    TokenizerSource::from_env_with(environment).load(ID).unwrap();
    assert_eq!(hub.requests()[0].header("authorization"), Some("Bearer hf_secret"));
    assert!(folder.path().join(".cache/tinkex/tokenizers/acme--words/tokenizer.json").is_file());
    let offline = TokenizerSource::from_env_with(|name| match name {
        "XDG_CACHE_HOME" => Some(folder.path().join("elsewhere").display().to_string()),
        "HF_HUB_OFFLINE" => Some("YES".to_owned()),
        other => environment(other),
    });
    assert!(offline.load(ID).unwrap_err().to_string().contains("elsewhere/tinkex/tokenizers"));
    assert!(!format!("{offline:?}").contains(TOKEN));
}

#[test]
fn a_training_client_asks_for_its_tokenizer() {
    for (model_data, expected) in [
        (json!({"model_name": "acme/model", "tokenizer_id": "acme/words"}), "acme/words"),
        (json!({"model_name": "meta-llama/Llama-3.1-8B"}), "thinkingmachineslabinc/meta-llama-3-instruct-tokenizer"),
        (json!({"model_name": "acme/model/variant", "tokenizer_id": null}), "acme/model"),
        (json!({"model_name": "anything", "tokenizer_id": "bytes"}), "bytes"),
    ] {
        let service = Service::start(move |request| match request.path.as_str() {
            "get_info" => Reply::ok(json!({"model_id": "m", "model_data": model_data})),
            _ => healthy_service(request),
        });
        let trainer = connect(service.config()).create_lora_training_client("base", LoraConfig::default()).unwrap();
        assert_eq!(trainer.tokenizer_id().unwrap(), expected);
        if expected == "bytes" {
            assert_eq!(trainer.tokenizer().unwrap().encode("a").unwrap(), [97]);
        }
    }
}

#[test]
fn a_sampling_client_knows_or_asks() {
    let service = Service::start(|request| match request.path.as_str() {
        "samplers/sampler-1" => Reply::ok(json!({"sampler_id": "sampler-1", "base_model": "acme/model/variant"})),
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    assert_eq!(client.create_sampling_client("Qwen/Qwen3-8B").unwrap().tokenizer_id().unwrap(), "Qwen/Qwen3-8B");
    let from_path = client.create_sampling_client("tinker://run/sampler_weights/a").unwrap();
    assert_eq!(from_path.tokenizer_id().unwrap(), "acme/model");
    assert_eq!(service.requests_to("samplers/sampler-1").len(), 1);
}

#[test]
fn a_busy_hub_is_retried_with_the_token() {
    let (folder, count) = (Folder::new(), AtomicUsize::new(0));
    let hub = Service::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Close,
        1 => Reply::Json(503, json!({})),
        _ => hub_of(request),
    });
    let patient = hub.config().max_retries(9).retry_base(Duration::from_millis(1)).build_with(|_| None).unwrap();
    let tokenizer = folder.source(&hub.url()).config(&patient).load(ID).unwrap();
    assert_eq!(tokenizer.eos_token(), Some(END));
    assert_eq!(paths(&hub), [TOKENIZER_PATH, TOKENIZER_PATH, TOKENIZER_PATH, CONFIG_PATH]);
    assert!(hub.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
}

#[test]
fn an_invalid_endpoint_keeps_its_password_secret() {
    let folder = Folder::new();
    for address in ["http://me:hidden@127.0.0.1:1", "ftp://me:hidden@hub", "nonsense"] {
        let error = folder.source(address).load(ID).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
    }
}
