//! The export and download of a training checkpoint, on a service without archives.

use serde_json::{Value, json};
use tinkex::rest::DownloadOptions;
use tinkex::{ErrorKind, ServiceClient};

use super::scene::Directory;
use crate::support::{RecordedRequest, Reply, Service, connect, healthy_service};

/// A service whose external weights are one file with this content, or none.
fn service(content: Option<&'static str>, deletion: u16) -> Service {
    Service::start(move |request| {
        let host = request.header("host").unwrap();
        match (&*request.method, &*request.path) {
            ("GET", path) if path.ends_with("/external_weights_urls") => Reply::ok(json!({
                "urls": {"adapter_model.safetensors": format!("http://{host}/file")}, "expires": "2999-01-01T00:00:00Z",
            })),
            ("GET", "/file") => match content {
                Some(content) => Reply::Full { status: 200, headers: Vec::new(), body: content.into() },
                None => Reply::Json(400, json!({})),
            },
            ("GET", "training_runs/run") => Reply::ok(json!({
                "training_run_id": "run", "base_model": "base", "model_owner": "me", "is_lora": true, "lora_rank": 8,
                "last_request_time": "2025-11-01T12:00:00Z",
            })),
            ("POST", "weights_info") => Reply::ok(json!({"base_model": "base", "is_lora": true, "lora_rank": 8})),
            ("DELETE", _) if deletion == 204 => Reply::no_content(),
            ("DELETE", _) => Reply::Json(deletion, Value::Null),
            _ => healthy_service(request),
        }
    })
}

fn client(service: &Service) -> ServiceClient {
    connect(service.config().max_retries(0))
}

fn paths(service: &Service, expected: impl Fn(&RecordedRequest) -> bool) -> Vec<String> {
    service.requests().into_iter().filter(expected).map(|request| request.path).collect()
}

#[test]
fn the_export_is_deleted_whatever_happens() {
    for (content, deletion, is_ok) in [(Some("weights"), 204, true), (None, 204, false), (Some("weights"), 404, true)] {
        let service = service(content, deletion);
        let directory = Directory::new();
        let out = directory.join("out");
        let result = client(&service).export_and_download_checkpoint("tinker://run/weights/1", &*out);
        let deleted = paths(&service, |request| request.method == "DELETE");
        assert_eq!(deleted, ["training_runs/run/checkpoints/external_weights/a"]);
        assert_eq!(paths(&service, |request| request.path == "unload_model").len(), 1);
        match result {
            Ok(downloaded) => {
                assert_eq!((downloaded.files, downloaded.archive_bytes, is_ok), (Some(1), 7, true));
                let file = directory.tree()["out/adapter_model.safetensors"].clone();
                assert_eq!(file.as_deref(), Some(&b"weights"[..]));
            }
            Err(error) => {
                assert_eq!((error.operation(), is_ok), (Some("export_and_download_checkpoint"), false));
                assert!(directory.tree().is_empty());
            }
        }
    }
}

#[test]
fn invalid_input_costs_no_training_client() {
    let service = service(Some("weights"), 204);
    let directory = Directory::new();
    let client = client(&service);
    let before = service.requests().len();
    let out = directory.join("out");
    for (path, options) in [
        ("tinker://run/sampler_weights/1", DownloadOptions::new(&out)),
        ("tinker://run/external_weights/1", DownloadOptions::new(&out)),
        ("tinker://run/weights/1", DownloadOptions::new(&out).extract(false)),
        ("tinker://run/weights/1", DownloadOptions::new(directory.path())),
    ] {
        let error = client.export_and_download_checkpoint(path, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(service.requests().len(), before);
}
