//! Downloads that are cancelled or closed while they run, and links that expire early.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::json;
use tinkex::ErrorKind;
use tinkex::rest::DownloadOptions;

use super::scene::{Scene, archive, cut, unpacked, whole};
use crate::support::{Reply, connect};

const RUN: &str = "run";
const ID: &str = "weights/a";

/// Longer than anything here takes, and shorter than the timeout for a silent server.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_expired_link_is_not_reused() {
    for (expires, requests) in [("Thu, 01 Jan 1970 00:00:00 GMT", 2), ("Fri, 01 Jan 2100 00:00:00 GMT", 1)] {
        let bytes = archive();
        let storage = crate::support::Service::start(move |request| match request.header("range") {
            None => cut("200 OK", "etag: \"a\"\r\n", bytes.len(), &bytes[..100_000]),
            Some(_) => whole(bytes.clone(), "\"a\""),
        });
        let link = format!("{}/archive", storage.url());
        let redirect = move |_| {
            let headers = [("location", &*link), ("expires", expires)];
            Some(Reply::with_headers(302, &headers, &json!(null)))
        };
        let scene = Scene::with(redirect, |_, _| Reply::Close);
        scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
        assert_eq!((scene.service.requests().len(), scene.directory.tree()), (requests, unpacked("out")), "{expires}");
    }
}

#[test]
fn an_unpacking_download_can_be_cancelled() {
    let scene = Scene::new(|_, _| whole(archive(), "\"a\""));
    let options = DownloadOptions::new(scene.out());
    let canceller = options.canceller();
    let options = options.progress(|at| {
        if Some(at.bytes) == at.total {
            canceller.cancel();
        }
    });
    let error = scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap_err();
    assert_eq!((error.kind(), scene.directory.tree()), (ErrorKind::Cancelled, BTreeMap::new()));
}

#[test]
fn closing_the_client_ends_its_downloads() {
    let session = |number| (number == 0).then(|| Reply::ok(json!({"session_id": "session-1"})));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", archive().len());
    let scene = Scene::with(session, move |_, _| Reply::Stall([head.as_bytes(), &archive()[..100_000]].concat()));
    let (client, destination) = (connect(scene.config()), scene.out());
    let (rest, (done, is_done)) = (client.create_rest_client(), bounded(1));
    thread::spawn(move || {
        let options = DownloadOptions::new(destination).progress(|at| {
            if at.bytes > 0 {
                client.close(PATIENCE);
            }
        });
        done.send(rest.download_checkpoint_archive(RUN, ID, options)).unwrap();
    });
    let error = is_done.recv_timeout(PATIENCE).expect("the download is still running").unwrap_err();
    assert_eq!((error.kind(), scene.directory.tree()), (ErrorKind::Closed, BTreeMap::new()));
}
