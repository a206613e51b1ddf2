//! The files of the library that read what others wrote: each is tried, by a decoder or by another test of damaged input.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tinkex::decoders::DECODERS;

/// What reads bytes from elsewhere.
const READING: [&str; 7] = [
    "serde_json::from_slice",
    "Deserializer::from_slice",
    "httparse::Request::new",
    "GzDecoder::new",
    "zstd::Decoder",
    "ForwardBackwardRequest::decode",
    "Fields::new(reader)",
];

/// Other tests of damaged input.
const SERVER: &str = "tests/it/local_server/fuzz.rs";
const DISK: &str = "tests/it/local_server/disk.rs";
const STUB: &str = "tests/it/local_server/stub.rs";

/// Each file, and a decoder that goes through it.
const READERS: [(&str, &str); 38] = [
    ("chat/template/package.rs", "tokenizer_config"),
    ("credential_store.rs", "credentials_file"),
    ("gguf/header.rs", "gguf_header"),
    ("http/credentials/mod.rs", "results"),
    ("http/response.rs", "passes"),
    ("local/export/adapter.rs", "adapter_config"),
    ("local/export/base_files.rs", "model_config"),
    ("local/openai/parameters.rs", "openai_requests"),
    ("local/pretrained/download/listing.rs", "hub_listing"),
    ("local/pretrained/hugging_face/mod.rs", "model_config"),
    ("local/pretrained/hugging_face/safetensors.rs", "safetensors"),
    ("local/server/activity.rs", SERVER),
    ("local/server/api/body.rs", SERVER),
    ("local/server/api/decode/pass_request.rs", "protobuf_requests"),
    ("local/server/api/tokens.rs", SERVER),
    ("local/server/api/unsupported.rs", SERVER),
    ("local/server/faults/fault.rs", SERVER),
    ("local/server/http1/content_encoding.rs", "http_requests"),
    ("local/server/http1/message.rs", SERVER),
    ("local/server/http1/parser.rs", "http_requests"),
    ("local/server/state/store/mod.rs", DISK),
    ("local/server/stub/mod.rs", STUB),
    ("local/server/stub/outcome.rs", STUB),
    ("local/server/tokenizer_packages.rs", "tokenizer_config"),
    ("rest/download/unpack.rs", "tar"),
    ("rest/endpoint.rs", "stored"),
    ("rest/traces.rs", "stored"),
    ("rules/credential.rs", "token"),
    ("rules/error_message.rs", "error_message"),
    ("rules/json_numbers.rs", "passes"),
    ("rules/poll_response/mod.rs", "polls"),
    ("rules/sampler_handle.rs", "sampler_handle"),
    ("rules/service_settings.rs", "settings"),
    ("rules/session_poll.rs", "polls"),
    ("tokenizer/package.rs", "tokenizer_json"),
    ("types/wire/protobuf/mod.rs", "protobuf_requests"),
    ("types/wire/protobuf/pass_reader.rs", "protobuf_passes"),
    ("types/wire/protobuf/pass_request.rs", "protobuf_requests"),
];

/// The files below a folder, without those of unit tests.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match path.is_dir() {
            true if name != "bin" && name != "decoders" => sources(&path, into),
            false if name.ends_with(".rs") && !name.ends_with("tests.rs") => into.push(path),
            _ => {}
        }
    }
}

#[test]
fn every_reader_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let reads = |path: &&PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("\nmod tests {").next().unwrap();
        READING.iter().any(|call| code.contains(call))
    };
    let found: BTreeSet<String> =
        files.iter().filter(reads).map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect();
    let listed: BTreeSet<String> = READERS.iter().map(|(file, _)| format!("src/{file}")).collect();
    assert_eq!(found, listed, "each file that reads what others wrote has a row above");
    for (file, tried) in READERS {
        let is_tried = DECODERS.iter().any(|(name, _)| *name == tried) || root.join(tried).is_file();
        assert!(is_tried || !cfg!(feature = "pretrained"), "{file}: there is no decoder {tried}");
    }
}
