//! `tinkex checkpoint download`.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::local::stocked;
use super::program::{golden, tinkex};
use crate::support::{RecordedRequest, Reply, Service, healthy_service};

/// The sorted names of a directory's entries.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_is_unpacked_or_kept_as_archive() {
    let stocked = stocked();
    let folder = TempDir::new().unwrap();
    let run = |words: &str| tinkex(&stocked.words(words)).at(&stocked.server.base_url()).within(folder.path()).run();
    let path = "tinker://RUN/weights/step-1";
    let runs = [
        run(&format!("checkpoint download {path} --output new/here")),
        run(&format!("checkpoint download {path} -o new/here")),
        run(&format!("checkpoint download {path} -o new/here --overwrite -f json")),
        run(&format!("checkpoint download {path} -o step.tar --archive -f json")),
        run("checkpoint download tinker://RUN/weights/missing -o missing"),
    ];
    assert_eq!(runs.each_ref().map(|done| done.code), [0, 2, 0, 0, 1].map(Some), "{runs:?}");
    // The compressed size differs from run to run.
    let (_, size) = runs[0].stdout.trim_end().trim_end_matches(')').rsplit_once(", ").unwrap();
    let archive = fs::metadata(folder.path().join("step.tar")).unwrap().len();
    let volatile = stocked.volatile.value(size, "SIZE").value(&archive.to_string(), "BYTES");
    golden("download", &runs, &volatile);
    assert_eq!(names(folder.path()), ["new", "step.tar"], "no other files");
    let files = fs::read_dir(folder.path().join("new/here")).unwrap().count();
    let document: serde_json::Value = serde_json::from_str(&runs[2].stdout).unwrap();
    assert_eq!(document["files"], files);
    assert_eq!(document["archive_bytes"], archive);
}

#[test]
fn the_default_directory_is_named_after_the_checkpoint() {
    let stocked = stocked();
    let folder = TempDir::new().unwrap();
    let words = stocked.words("checkpoint download tinker://RUN/sampler_weights/final");
    let done = tinkex(&words).at(&stocked.server.base_url()).within(folder.path()).run();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(names(folder.path()), [format!("{}_sampler_weights_final", stocked.run.replace(':', "_"))]);
}

/// A service whose archive of 4096 bytes stalls after 1024.
pub fn stalling() -> Service {
    Service::start(|request: &RecordedRequest| {
        if request.path == "healthz" {
            return healthy_service(request);
        }
        if !request.path.ends_with("/archive") {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\n";
            return Reply::Stall([&head[..], &[0; 1024]].concat());
        }
        let archive = format!("http://{}/file", request.header("host").unwrap());
        Reply::Full { status: 302, headers: vec![("location", archive)], body: Vec::new() }
    })
}
