//! Stored runs and weights, and their files.

use serde_json::{Value, json};

use super::pass::Form;
use super::server::WeightsFiles;
use super::world::{Execution, Weights};
use super::{Shared, not_found};
use crate::support::{RecordedRequest, Reply};

/// The files of saved weights.
const FILES: [(&str, &[u8]); 2] =
    [("adapter_config.json", b"{\"r\": 8}"), ("adapter_model.safetensors", b"not really tensors")];

const EXPIRES: &str = "2030-01-01T00:00:00Z";

impl Shared {
    pub(super) fn stored(&self, request: &RecordedRequest, path: &str) -> Reply {
        let host = request.header("host").unwrap_or_default();
        let mut world = self.world.lock().unwrap();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let path_of = |run: &str, kind: &str, name: &str| format!("tinker://{}/{kind}/{name}", run.replace("%3A", ":"));
        if let (["training_runs", run, "checkpoints", kind, name], "DELETE") = (&*parts, &*request.method) {
            let path = path_of(run, kind, name);
            if world.saved.remove(&path).is_none() {
                return not_found();
            }
            let (form, data) = (Form::Json, Vec::new());
            world.executions.push(Execution { path: "delete", owner: path, number: 0, form, data });
            return Reply::no_content();
        }
        let saved = |run: &str, kind: &str, name: &str| world.saved.contains_key(&path_of(run, kind, name));
        match (parts.as_slice(), self.server.weights_files) {
            (["weights_info"], _) => {
                let weights = request.body["tinker_path"].as_str().and_then(|path| world.saved.get(path));
                weights.map_or_else(not_found, |weights| Reply::ok(weights_info(weights)))
            }
            (["training_runs", run], _) => match world.models.get(&run.replace("%3A", ":")) {
                Some(model) => Reply::ok(training_run(&model.weights)),
                None => not_found(),
            },
            (["training_runs", run, "checkpoints", kind, name, "archive"], WeightsFiles::Archive)
                if saved(run, kind, name) =>
            {
                let url = format!("http://{host}/files/archive.tar");
                Reply::with_headers(
                    302,
                    &[("location", &url), ("expires", "Tue, 01 Jan 2030 00:00:00 GMT")],
                    &Value::Null,
                )
            }
            (
                ["training_runs", run, "checkpoints", kind @ "external_weights", name, "external_weights_urls"],
                WeightsFiles::External,
            ) if saved(run, kind, name) => {
                let urls: serde_json::Map<_, _> = FILES
                    .iter()
                    .map(|(file, _)| ((*file).to_owned(), json!(format!("http://{host}/files/{file}"))))
                    .collect();
                Reply::ok(json!({"urls": urls, "expires": EXPIRES}))
            }
            (["files", "archive.tar"], _) => file(&archive()),
            (["files", name], _) => {
                FILES.iter().find(|(file, _)| file == name).map_or_else(not_found, |(_, bytes)| file(bytes))
            }
            _ => not_found(),
        }
    }
}

fn file(bytes: &[u8]) -> Reply {
    Reply::Full {
        status: 200,
        headers: vec![("content-type", "application/octet-stream".to_owned())],
        body: bytes.to_vec(),
    }
}

fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in FILES {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn weights_info(weights: &Weights) -> Value {
    json!({"base_model": weights.base_model, "is_lora": true, "lora_rank": weights.rank})
}

fn training_run(weights: &Weights) -> Value {
    json!({
        "training_run_id": weights.model_id,
        "base_model": weights.base_model,
        "model_owner": "owner",
        "is_lora": true,
        "lora_rank": weights.rank,
        "last_request_time": "2026-01-01T00:00:00Z",
    })
}
