//! Models of the hub: what is fetched, once, and where it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use tinkex::local::model::{Cancellation, Model};
use tinkex::local::pretrained::{LoadProgress, ModelLoader};
use tinkex::{Config, Error, ErrorKind, TokenizerSource};

use crate::support::{Gate, RecordedRequest, Reply, Service};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models");
pub const WHOLE: &str = "llama-gqa-tied-f32";
const SHARDED: &str = "llama-mha-untied-sharded-f32";
const ID: &str = "acme/small";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const LISTING: &str = "/api/models/acme/small/revision/main?blobs=true";
const WEIGHTS: &str = "model.safetensors";
const TOKEN: &str = "hf_secret";

/// The files of a repository.
#[derive(Clone)]
pub struct Repository(BTreeMap<String, Vec<u8>>);

impl Repository {
    /// A model of the fixtures, and a file that no model needs.
    pub fn of(model: &str) -> Self {
        let entries = fs::read_dir(Path::new(MODELS).join(model)).unwrap().map(|entry| entry.unwrap().path());
        let mut repository = Repository([("README.md".to_owned(), b"unneeded".to_vec())].into());
        for path in entries {
            repository = repository.with(path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        }
        repository
    }

    /// Two GGUF files, one in a folder.
    fn of_gguf() -> Self {
        let gguf = |name: &str| fs::read(Path::new(MODELS).join("gguf").join(name)).unwrap();
        Repository(BTreeMap::new())
            .with("small-f32.gguf", gguf("llama-f32.gguf"))
            .with("small/q8_0.gguf", gguf("llama-q8_0.gguf"))
    }

    fn with(mut self, name: &str, content: Vec<u8>) -> Self {
        self.0.insert(name.to_owned(), content);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.remove(name).unwrap();
        self
    }

    /// As the hub describes it: hashes of large files.
    fn listing(&self) -> Value {
        let sibling = |(name, content): (&String, &Vec<u8>)| {
            let (size, hash) = (content.len(), format!("{:x}", Sha256::digest(content)));
            let is_large = name.ends_with(".safetensors") || name.ends_with(".gguf");
            let lfs = is_large.then(|| json!({"sha256": hash, "size": size, "pointerSize": 135}));
            json!({"rfilename": name, "size": size, "blobId": "0", "lfs": lfs})
        };
        json!({"id": ID, "sha": COMMIT, "siblings": self.0.iter().map(sibling).collect::<Vec<_>>()})
    }

    /// What the hub replies.
    fn reply(&self, request: &RecordedRequest) -> Reply {
        if request.path == LISTING {
            return Reply::ok(self.listing());
        }
        let name = request.path.strip_prefix(&format!("/{ID}/resolve/{COMMIT}/"));
        let Some(content) = name.and_then(|name| self.0.get(name)) else {
            return Reply::Json(404, json!({"error": "Entry not found"}));
        };
        let from =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let Some(from) = from else {
            return Reply::Full { status: 200, headers: Vec::new(), body: content.clone() };
        };
        let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
        let body = content.get(from..).unwrap().to_vec();
        Reply::Full { status: 206, headers: vec![("content-range", range)], body }
    }

    pub fn serve(self) -> Service {
        Service::start(move |request| self.reply(request))
    }
}

/// The beginning of a response with this body, which then ends too early.
fn half_of(content: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 Scripted\r\ncontent-length: {}\r\n\r\n", content.len());
    [head.as_bytes(), &content[..content.len() / 2]].concat()
}

/// The caches of a user.
struct Caches(TempDir);

impl Caches {
    fn new() -> Self {
        Caches(tempdir().unwrap())
    }

    fn source(&self, hub: &str) -> TokenizerSource {
        let hasty = Config::builder().api_key("tml-key").base_url("http://127.0.0.1:1").max_retries(0);
        TokenizerSource::from_env_with(|_| None)
            .cache_dir(self.0.path().join("cache"))
            .hub_cache_dir(self.0.path().join("hub"))
            .endpoint(hub)
            .token(TOKEN)
            .config(&hasty.build_with(|_| None).unwrap())
    }

    fn loader(&self, model: &str, hub: &Service) -> ModelLoader {
        ModelLoader::new(model).source(&self.source(&hub.url())).threads(1)
    }

    fn refused(&self, model: &str, hub: &Service) -> Error {
        self.loader(model, hub).load().unwrap_err()
    }

    /// The model's directory in this crate's cache.
    fn own(&self) -> PathBuf {
        self.0.path().join("cache/models/acme--small")
    }

    /// The names in the model's directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.own()).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A snapshot in the cache of Hugging Face's programs.
    fn snapshot(&self) -> PathBuf {
        let model = self.0.path().join("hub/models--acme--small");
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), COMMIT).unwrap();
        let snapshot = model.join("snapshots").join(COMMIT);
        fs::create_dir_all(&snapshot).unwrap();
        snapshot
    }
}

fn paths(hub: &Service) -> Vec<String> {
    hub.requests().into_iter().map(|request| request.path).collect()
}

fn resolved(names: &[&str]) -> Vec<String> {
    let files = names.iter().map(|name| format!("/{ID}/resolve/{COMMIT}/{name}"));
    [LISTING.to_owned()].into_iter().chain(files).collect()
}

#[test]
fn a_model_is_fetched_only_once() {
    let (caches, hub) = (Caches::new(), Repository::of(WHOLE).serve());
    let model = caches.loader(ID, &hub).load().unwrap();
    assert_eq!(model.name(), ID);
    assert_eq!(paths(&hub), resolved(&["config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS]));
    for name in ["config.json", WEIGHTS] {
        let expected = fs::read(Path::new(MODELS).join(WHOLE).join(name)).unwrap();
        assert_eq!(fs::read(caches.own().join(name)).unwrap(), expected, "{name}");
    }
    caches.loader(ID, &hub).load().unwrap();
    let offline = caches.source(&hub.url()).offline(true);
    let named = ModelLoader::new(ID).source(&offline).name("mine").load().unwrap();
    assert_eq!(named.name(), "mine");
    assert_eq!(hub.requests().len(), 5);
}

#[test]
fn shards_are_those_of_the_index() {
    let (caches, hub) = (Caches::new(), Repository::of(SHARDED).serve());
    caches.loader(ID, &hub).load().unwrap();
    let shards = [1, 2].map(|number| format!("/{ID}/resolve/{COMMIT}/model-0000{number}-of-00002.safetensors"));
    assert!(paths(&hub).ends_with(&shards), "{:?}", paths(&hub));
    let requests = hub.requests().len();
    caches.loader(ID, &hub).load().unwrap();
    assert_eq!(hub.requests().len(), requests);
    // A shard that is gone is fetched again, and nothing else.
    fs::remove_file(caches.own().join("model-00002-of-00002.safetensors")).unwrap();
    caches.loader(ID, &hub).load().unwrap();
    assert_eq!(paths(&hub)[requests..], shards[1..]);
}

#[test]
fn an_index_may_not_name_other_files() {
    let index =
        |name: &str| json!({"metadata": {}, "weight_map": {"model.norm.weight": name}}).to_string().into_bytes();
    for (name, words) in [
        ("gone.safetensors", "does not have"),
        ("../../other", "is no name of a file"),
        ("listing.json", "is no name of a file"),
    ] {
        let repository = Repository::of(SHARDED).with("model.safetensors.index.json", index(name));
        let error = Caches::new().refused(ID, &repository.serve());
        assert!(error.kind() == ErrorKind::Decode && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let repository = Repository::of(WHOLE);
    let storage = repository.clone().serve();
    let to = storage.url();
    let hub = Service::start(move |request| match request.path.ends_with(WEIGHTS) {
        true => {
            Reply::Full { status: 302, headers: vec![("location", format!("{to}{}", request.path))], body: Vec::new() }
        }
        false => repository.reply(request),
    });
    Caches::new().loader(ID, &hub).load().unwrap();
    assert!(hub.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    let [stored] = storage.requests().try_into().unwrap();
    assert!(stored.path.ends_with(WEIGHTS) && stored.header("authorization").is_none(), "{stored:?}");
}

#[test]
fn an_interrupted_download_goes_on() {
    let repository = Repository::of(WHOLE);
    let weights = repository.0[WEIGHTS].clone();
    let (half, whole) = (weights.len() / 2, weights.len() as u64);
    let hub = Service::start(move |request| {
        let is_first = request.path.ends_with(WEIGHTS) && request.header("range").is_none();
        if is_first { Reply::Raw(half_of(&weights)) } else { repository.reply(request) }
    });
    let caches = Caches::new();
    let error = caches.refused(ID, &hub);
    assert!(
        error.is_retryable() && error.to_string().contains("downloading model.safetensors of \"acme/small\""),
        "{error}"
    );
    assert_eq!(fs::metadata(caches.own().join("model.safetensors.part")).unwrap().len(), half as u64);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = seen.clone();
    let loader = caches.loader(ID, &hub).progress(move |at| report.lock().unwrap().push(at));
    loader.load().unwrap();
    let request = hub.requests().pop().unwrap();
    assert_eq!((request.header("range"), request.header("if-range")), (Some(format!("bytes={half}-").as_str()), None));
    let first = LoadProgress::Downloading { file: WEIGHTS.to_owned(), bytes: half as u64, total: Some(whole) };
    assert_eq!(seen.lock().unwrap()[0], first);
    assert!(caches.names().iter().all(|name| !name.ends_with(".part")), "{:?}", caches.names());
}

#[test]
fn a_lost_connection_is_made_again() {
    let repository = Repository::of(WHOLE);
    let hub = Service::start(move |request| match request.header("range") {
        None if request.path.ends_with(WEIGHTS) => Reply::Raw(half_of(&repository.0[WEIGHTS])),
        _ => repository.reply(request),
    });
    let caches = Caches::new();
    let config = Config::builder()
        .api_key("tml-key")
        .base_url("http://127.0.0.1:1")
        .retry_base(std::time::Duration::from_millis(1));
    let source = caches.source(&hub.url()).config(&config.build_with(|_| None).unwrap());
    ModelLoader::new(ID).source(&source).load().unwrap();
    assert!(hub.requests().pop().unwrap().header("range").is_some());
}

#[test]
fn other_content_than_listed_is_refused() {
    let whole = Repository::of(WHOLE);
    let mut weights = whole.0[WEIGHTS].clone();
    *weights.last_mut().unwrap() ^= 1;
    let cases = [
        (WEIGHTS, weights, "has the SHA-256"),
        (WEIGHTS, b"short".to_vec(), "does not have the"),
        ("config.json", b"{}".to_vec(), "does not have the"),
    ];
    for (name, content, words) in cases {
        let (listing, sent) = (whole.listing(), whole.clone().with(name, content));
        let hub = Service::start(move |request| match request.path.as_str() {
            LISTING => Reply::ok(listing.clone()),
            _ => sent.reply(request),
        });
        let caches = Caches::new();
        let error = caches.refused(ID, &hub);
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains(name), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("put its files at")), "{error}");
        assert!(!caches.own().join(name).exists());
    }
}

#[test]
fn one_of_several_gguf_files_is_chosen() {
    let (caches, hub) = (Caches::new(), Repository::of_gguf().serve());
    let error = caches.refused(ID, &hub);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("has 2 GGUF files"), "{error}");
    assert!(error.hint().unwrap().contains("acme/small:small-f32.gguf, of small-f32.gguf, small/q8_0.gguf"), "{error}");
    let model = caches.loader("acme/small:small/q8_0.gguf", &hub).load().unwrap();
    assert_eq!(model.name(), ID);
    caches.loader("acme/small:small/q8_0.gguf", &hub).load().unwrap();
    assert_eq!(paths(&hub)[1..], resolved(&["small/q8_0.gguf"]));
    let only = Repository::of_gguf().without("small-f32.gguf").serve();
    Caches::new().loader(ID, &only).load().unwrap();
    assert_eq!(paths(&only), resolved(&["small/q8_0.gguf"]));
}

#[test]
fn a_file_that_is_new_is_found() {
    let (caches, old) = (Caches::new(), Repository::of_gguf().without("small/q8_0.gguf").serve());
    caches.loader("acme/small:small-f32.gguf", &old).load().unwrap();
    let hub = Repository::of_gguf().serve();
    caches.loader("acme/small:small/q8_0.gguf", &hub).load().unwrap();
    assert_eq!(paths(&hub), resolved(&["small/q8_0.gguf"]));
    // Of two files, the one that was fetched first is no answer.
    assert!(caches.refused(ID, &hub).to_string().contains("has 2 GGUF files"));
    for model in ["acme/small:small-f32.gguf", "acme/small:small/q8_0.gguf"] {
        caches.loader(model, &hub).load().unwrap();
    }
    assert_eq!(hub.requests().len(), 3);
}

#[test]
fn the_cache_of_hugging_face_is_read() {
    let (caches, hub) = (Caches::new(), Repository::of(WHOLE).serve());
    let snapshot = caches.snapshot();
    let copy = |name: &str| fs::copy(Path::new(MODELS).join(WHOLE).join(name), snapshot.join(name)).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS] {
        copy(name);
    }
    caches.loader(ID, &hub).load().unwrap();
    assert_eq!((hub.requests().len(), caches.names().len()), (0, 0));
    // It may hold a tokenizer alone.
    fs::remove_file(snapshot.join(WEIGHTS)).unwrap();
    caches.loader(ID, &hub).load().unwrap();
    assert_eq!(hub.requests().len(), 5);
}

#[test]
fn files_may_be_put_there_by_hand() {
    let (caches, hub) = (Caches::new(), Repository::of_gguf().serve());
    fs::create_dir_all(caches.own()).unwrap();
    fs::copy(Path::new(MODELS).join("gguf/llama-f32.gguf"), caches.own().join("small-f32.gguf")).unwrap();
    for model in [ID, "acme/small:small-f32.gguf"] {
        caches.loader(model, &hub).load().unwrap();
    }
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn a_missing_repository_is_explained() {
    for (status, remedy) in [(404, "check the id"), (401, "set HF_TOKEN"), (403, "set HF_TOKEN")] {
        let hub = Service::start(move |_| Reply::Json(status, json!({"error": "Repository not found"})));
        let caches = Caches::new();
        let error = caches.refused(ID, &hub);
        assert_eq!(error.status(), Some(status));
        assert!(error.to_string().contains("the list of files of \"acme/small\""), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(remedy) && hint.contains("cache/models/acme--small"), "{hint}");
        assert!(!caches.own().exists(), "nothing is left");
    }
}

#[test]
fn a_vanished_commit_is_listed_again() {
    let (caches, gone) = (Caches::new(), Repository::of(WHOLE));
    let hub = Service::start(move |request| match request.path.as_str() {
        LISTING => gone.reply(request),
        _ => Reply::Json(404, json!({"error": "Revision not found"})),
    });
    assert_eq!(caches.refused(ID, &hub).status(), Some(404));
    caches.loader(ID, &Repository::of(WHOLE).serve()).load().unwrap();
}

#[test]
fn cancelling_ends_a_stalled_download() {
    let repository = Repository::of(WHOLE);
    let hub = Service::start(move |request| match request.path.ends_with(WEIGHTS) {
        true => Reply::Stall(half_of(&repository.0[WEIGHTS])),
        false => repository.reply(request),
    });
    let (caches, cancellation) = (Caches::new(), Cancellation::new());
    let canceller = cancellation.clone();
    let loader = caches.loader(ID, &hub).cancellation(&cancellation).progress(move |at| match at {
        LoadProgress::Downloading { file, bytes, .. } if file == WEIGHTS && bytes > 0 => canceller.cancel(),
        _ => {}
    });
    assert_eq!(loader.load().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(caches.own().join("model.safetensors.part").exists());
}

#[test]
fn two_programs_do_not_download_at_once() {
    let (gate, repository, caches) = (Arc::new(Gate::default()), Repository::of(WHOLE), Caches::new());
    let held = gate.clone();
    let hub = Service::start(move |request| match repository.reply(request) {
        file if request.path.contains("resolve") => Reply::held(&held, file),
        listing => listing,
    });
    let first = caches.loader(ID, &hub);
    let first = std::thread::spawn(move || first.load().map(drop));
    hub.wait_until(|requests| requests.len() > 1);
    let error = caches.refused(ID, &hub);
    assert!(error.to_string().contains("another program is downloading \"acme/small\""), "{error}");
    gate.open();
    first.join().unwrap().unwrap();
}
