//! Every command that writes files, where none can be written.

use std::fs;
use std::path::Path;

use tinkex::local::LocalServer;

use super::place::Place;
use crate::cli::program::PROGRAM;

const MODEL: &str = "tinkex/bytes-tiny";

/// The files below a directory that have any content.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => Vec::from_iter(fs::metadata(&path).is_ok_and(|it| it.len() > 0).then(|| path.display().to_string())),
    };
    entries.flat_map(below).collect()
}

/// The program cannot write a byte to a file, as on a full disk.
#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let trained = place.run(&["train", "data.jsonl", "--base-model", MODEL, "--steps", "1"]);
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    let listed = place.run(&["checkpoint", "list", "-f", "json"]).document();
    let paths = listed["checkpoints"].as_array().unwrap().iter().map(|it| it["tinker_path"].as_str().unwrap());
    let saved = paths.into_iter().find(|path| path.contains("/sampler_weights/")).unwrap();
    for arguments in [
        format!("train data.jsonl --base-model {MODEL} --output full/out"),
        format!("checkpoint download {saved} --output full/out"),
        format!("export {saved} --to full/out"),
        "billing usage --csv full/usage.csv".to_owned(),
        "man --dir full/pages".to_owned(),
        "serve --port 0 --data-dir full/data".to_owned(),
        "auth login --key-stdin".to_owned(),
    ] {
        let full = place.file("full");
        fs::create_dir(&full).unwrap();
        let limited =
            format!(r#"sh -c "trap '' XFSZ; ulimit -f 0; echo tml-new | HOME=full exec {PROGRAM} {arguments}""#);
        let done = place.shell(&limited).finish();
        assert_eq!(done.code, Some(1), "{arguments}: {done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains("File too large"), "{arguments}: {done:?}");
        assert!(done.stderr.contains("hint: raise the limit of the size of files"), "{arguments}: {done:?}");
        assert_eq!(files(&full), Vec::<String>::new(), "{arguments}");
        fs::remove_dir_all(full).unwrap();
    }
}
