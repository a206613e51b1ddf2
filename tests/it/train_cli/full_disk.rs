//! Every command that writes files, where none can be written.

use std::fs;
use std::path::{Path, PathBuf};

use tinkex::local::LocalServer;

use super::place::Place;
use crate::cli::program::PROGRAM;
use crate::local_models::downloads::{Repository, WHOLE};

const MODEL: &str = "tinkex/bytes-tiny";

/// The files below a directory, also empty ones, as paths below `root`.
fn files(root: &Path, directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files(root, &path),
        false => vec![path.strip_prefix(root).unwrap().display().to_string()],
    };
    let mut files: Vec<_> = entries.flat_map(below).collect();
    files.sort();
    files
}

/// Trains a model, and returns the paths of its checkpoints.
fn trained(place: &Place) -> Vec<String> {
    let done = place.run(&["train", "data.jsonl", "--base-model", MODEL, "--steps", "1"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let listed = place.run(&["checkpoint", "list", "-f", "json"]).document();
    listed["checkpoints"].as_array().unwrap().iter().map(|it| it["tinker_path"].as_str().unwrap().to_owned()).collect()
}

/// The program in a shell that lets no file grow beyond a few of its blocks, of 512 or 1024 bytes.
fn limited(blocks: u32, before: &str, arguments: &str) -> String {
    format!(r#"sh -c "trap '' XFSZ; ulimit -f {blocks}; {before} exec {PROGRAM} {arguments}""#)
}

/// The program cannot write a byte to a file, as on a full disk.
#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let saved = trained(&place).into_iter().find(|path| path.contains("/sampler_weights/")).unwrap();
    // The lock is what a server has of a directory, and its next start takes it.
    for (arguments, left) in [
        (format!("train data.jsonl --base-model {MODEL} --output full/out"), ""),
        (format!("checkpoint download {saved} --output full/out"), ""),
        (format!("export {saved} --to full/out"), ""),
        ("billing usage --csv full/usage.csv".to_owned(), ""),
        ("man --dir full/pages".to_owned(), ""),
        ("serve --port 0 --data-dir full/data".to_owned(), "data/server.lock"),
        ("auth login --key-stdin".to_owned(), ""),
    ] {
        let full = place.file("full");
        fs::create_dir(&full).unwrap();
        let done = place.shell(&limited(0, "echo tml-new | HOME=full", &arguments)).finish();
        assert_eq!(done.code, Some(1), "{arguments}: {done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains("File too large"), "{arguments}: {done:?}");
        assert!(done.stderr.contains("hint: raise the limit of the size of files"), "{arguments}: {done:?}");
        assert_eq!(files(&full, &full).join(" "), left, "{arguments}");
        fs::remove_dir_all(full).unwrap();
    }
}

#[test]
fn a_disk_that_fills_halfway_is_named() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let saved = trained(&place).remove(0);
    let full = place.file("full");
    fs::create_dir(&full).unwrap();
    let done = place.shell(&limited(2, "", &format!("checkpoint download {saved} --output full/out"))).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    let first = done.stderr.lines().next().unwrap();
    assert!(first.starts_with("error: ") && first.contains("full/") && first.contains("cannot be written"), "{done:?}");
    assert!(done.stderr.contains("hint: raise the limit of the size of files"), "{done:?}");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 0);
}

/// The weights of a model do not fit. What is there of them stays, as with every download of a model that ends early.
#[test]
fn a_disk_that_fills_keeps_a_model() {
    let hub = Repository::of(WHOLE).serve();
    let place = Place::new("http://127.0.0.1:1");
    let hub_url = hub.url();
    let before = format!("HF_HUB_OFFLINE=0 HF_ENDPOINT={hub_url} TINKEX_CACHE=cache");
    let done = place.shell(&limited(16, &before, "serve --port 0 --model acme/small")).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    let first = done.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(first.contains("cache/") && first.contains("model.safetensors"), "{done:?}");
    assert!(first.contains("cannot be written"), "{done:?}");
    assert!(done.stderr.contains("hint: raise the limit of the size of files"), "{done:?}");
    let kept = files(&place.file("cache"), &place.file("cache"));
    assert!(kept.iter().any(|file| file.ends_with("model.safetensors.part")), "{kept:?}");
    assert!(!kept.iter().any(|file| file.ends_with("model.safetensors")), "{kept:?}");
}
