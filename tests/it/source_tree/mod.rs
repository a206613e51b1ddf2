//! Rules of the source tree itself: which module may use which, how files and tests are named, and
//! which methods have examples and are called by tests.

mod called;
mod examples;
mod layers;
mod modules;
mod names;
mod uses;

use std::fs;
use std::path::{Path, PathBuf};

/// A file below the package's root.
fn in_package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The type, the name and the rest of each public method, from `docs/public-api.txt`. The type of a function of a module is the module.
pub(crate) fn public_methods() -> Vec<(String, String, String)> {
    let api = fs::read_to_string(in_package("docs/public-api.txt")).unwrap();
    let mut methods = Vec::new();
    for function in api.lines().filter_map(|line| line.strip_prefix("pub fn tinkex::")) {
        let (path, signature) = function.split_once('(').unwrap();
        let path: Vec<_> = path.split("::").map(|part| part.split('<').next().unwrap()).collect();
        if let [.., owner, name] = path[..] {
            methods.push((owner.to_owned(), name.to_owned(), signature.to_owned()));
        }
    }
    methods
}

/// Every Rust file below a directory of the package.
pub(crate) fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![in_package(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
