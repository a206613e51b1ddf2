//! The destination of a download, before and after.

use std::fs;
use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::json;
use tinkex::ErrorKind;
use tinkex::rest::DownloadOptions;

use super::scene::{Scene, archive, unpacked, whole};
use crate::support::Reply;

const RUN: &str = "run";
const ID: &str = "weights/a";

fn scene() -> Scene {
    Scene::new(|_, _| whole(archive(), "\"a\""))
}

#[test]
fn a_destination_needs_a_name() {
    let scene = scene();
    for destination in ["", ".", "./", "/", "..", "a/.."] {
        let error = scene.rest().download_checkpoint_archive(RUN, ID, destination).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{destination}: {error}");
    }
    assert_eq!(scene.service.requests().len(), 0);
}

#[test]
fn a_trailing_slash_or_dot_is_ignored() {
    for (end, extract) in [("/", true), ("/", false), ("/.", true), ("/.", false), ("//", false)] {
        let scene = scene();
        let destination = format!("{}{end}", scene.out().display());
        for overwrite in [false, true] {
            let options = DownloadOptions::new(&destination).extract(extract).overwrite(overwrite);
            scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap();
            let tree = scene.directory.tree();
            if extract {
                assert_eq!(tree, unpacked("out"));
            } else {
                assert_eq!(tree.into_iter().collect::<Vec<_>>(), [("out".to_owned(), Some(archive()))]);
            }
        }
        let error = scene.rest().download_checkpoint_archive(RUN, ID, &*destination).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{destination}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_relative_destination_is_below_the_current_directory() {
    use std::path::PathBuf;

    let scene = scene();
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let destination = up.join(scene.out().canonicalize().unwrap_or(scene.out()).strip_prefix("/").unwrap());
    let downloaded = scene.rest().download_checkpoint_archive(RUN, ID, &*destination).unwrap();
    assert_eq!((downloaded.path, scene.directory.tree()), (destination, unpacked("out")));
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_not_its_target() {
    use std::os::unix::fs::symlink;

    for end in ["", "/"] {
        let scene = scene();
        fs::create_dir(scene.directory.join("mine")).unwrap();
        fs::write(scene.directory.join("mine/file"), "mine").unwrap();
        symlink(scene.directory.join("mine"), scene.out()).unwrap();
        let destination = format!("{}{end}", scene.out().display());
        let error = scene.rest().download_checkpoint_archive(RUN, ID, &*destination).unwrap_err();
        assert_eq!((error.kind(), scene.service.requests().len()), (ErrorKind::InvalidInput, 0));
        let options = DownloadOptions::new(&destination).overwrite(true);
        scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap();
        let mut expected = unpacked("out");
        expected.insert("mine".to_owned(), None);
        expected.insert("mine/file".to_owned(), Some(b"mine".to_vec()));
        assert!(!scene.out().is_symlink());
        assert_eq!(scene.directory.tree(), expected);
    }
    // A broken link exists, too.
    let scene = scene();
    symlink(scene.directory.join("nowhere"), scene.out()).unwrap();
    let error = scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap_err();
    assert_eq!((error.kind(), scene.service.requests().len()), (ErrorKind::InvalidInput, 0));
}

#[test]
fn a_failed_download_removes_directories_it_created() {
    let scene = Scene::with(|_| Some(Reply::Json(404, json!({"detail": "no such run"}))), |_, _| Reply::Close);
    fs::create_dir(scene.directory.join("mine")).unwrap();
    for destination in ["a/b/out", "mine/c/out"] {
        let destination = scene.directory.join(destination);
        let error = scene.rest().download_checkpoint_archive(RUN, ID, destination).unwrap_err();
        assert_eq!(error.status(), Some(404));
    }
    assert_eq!(scene.directory.tree().into_keys().collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn of_two_concurrent_downloads_one_succeeds() {
    let both = Arc::new(Barrier::new(2));
    let scene = Scene::new(move |_, _| {
        both.wait();
        whole(archive(), "\"a\"")
    });
    let rest = scene.rest();
    let outcomes = thread::scope(|scope| {
        let download = || rest.download_checkpoint_archive(RUN, ID, scene.out());
        let threads = [scope.spawn(download), scope.spawn(download)];
        threads.map(|thread| thread.join().unwrap())
    });
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(failed.len() == 1 && failed[0].kind() == ErrorKind::InvalidInput, "{failed:?}");
    assert_eq!(scene.directory.tree(), unpacked("out"));
}
