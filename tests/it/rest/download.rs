//! Downloads that are interrupted or refused.

use std::cell::RefCell;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::rest::DownloadOptions;
use tinkex::{Error, ErrorKind, Limit, RestClient};

use super::scene::{SIGNATURE, Scene, archive, cut, unpacked, whole};
use crate::support::{RecordedRequest, Reply};

const RUN: &str = "run";
const ID: &str = "weights/a";

/// Everything that an error prints.
fn shown(error: &Error) -> String {
    let mut shown = format!("{error} {error:?} {:?} {:?}", error.body(), error.header("location"));
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        shown.push_str(&format!("{error} {error:?}"));
        source = error.source();
    }
    shown
}

/// Asserts that a failed download left no files, and no secret in its error.
fn left_nothing(scene: &Scene, error: &Error) {
    assert_eq!(scene.directory.tree().into_keys().collect::<Vec<_>>(), [""; 0], "{error}");
    assert!(!shown(error).contains(SIGNATURE), "{}", shown(error));
}

fn ranges(scene: &Scene) -> Vec<Option<String>> {
    scene.storage.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn the_archive_is_fetched_without_our_headers() {
    let scene = Scene::new(|_, _| whole(archive(), "\"a\""));
    let config = scene.config().cloudflare_access("cf-id", "cf-secret").header("x-own", "mine").query("own", "mine");
    let rest = RestClient::new(config.build_with(|_| None).unwrap()).unwrap();
    let reports = RefCell::new(Vec::new());
    let options = DownloadOptions::new(scene.directory.join("new/out")).progress(|at| reports.borrow_mut().push(at));
    let downloaded = rest.download_checkpoint_archive("r/1", ID, options).unwrap();

    let size = archive().len() as u64;
    assert_eq!((downloaded.archive_bytes, downloaded.files), (size, Some(2)));
    assert_eq!(downloaded.path, scene.directory.join("new/out"));
    let mut expected = unpacked("new/out");
    expected.insert("new".to_owned(), None);
    assert_eq!(scene.directory.tree(), expected);
    let reports = reports.into_inner();
    assert!(reports.is_sorted_by_key(|at| at.bytes) && reports.iter().all(|at| at.total == Some(size)));
    assert_eq!((reports.first().unwrap().bytes, reports.last().unwrap().bytes), (0, size));

    let requests = scene.service.requests();
    assert_eq!(requests[0].path, "training_runs/r%2F1/checkpoints/weights/a/archive?own=mine");
    assert_eq!(requests[0].header("x-api-key"), Some("tml-test-key"));
    let downloads = scene.storage.requests();
    assert_eq!((requests.len(), downloads.len()), (1, 1));
    assert_eq!(downloads[0].path, format!("/archive-0?sig={SIGNATURE}"));
    let mut names: Vec<_> = downloads[0].headers.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
}

#[test]
fn an_interrupted_download_resumes() {
    let bytes = archive();
    let scene = Scene::new(move |number, seen| match number {
        0 => cut("200 OK", "etag: \"a\"\r\n", bytes.len(), &bytes[..100_000]),
        // The rest is interrupted, too.
        1 => {
            let range = format!("content-range: bytes 100000-{}/{}\r\n", bytes.len() - 1, bytes.len());
            cut("206 Partial Content", &range, bytes.len() - 100_000, &bytes[100_000..200_000])
        }
        _ => {
            assert_eq!(seen.header("if-range"), Some("\"a\""));
            let range = format!("bytes 200000-{}/{}", bytes.len() - 1, bytes.len());
            let headers = vec![("content-range", range)];
            Reply::Full { status: 206, headers, body: bytes[200_000..].to_vec() }
        }
    });
    let downloaded = scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
    assert_eq!(downloaded.archive_bytes, archive().len() as u64);
    assert_eq!(scene.directory.tree(), unpacked("out"));
    assert_eq!(ranges(&scene), [None, Some("bytes=100000-".to_owned()), Some("bytes=200000-".to_owned())]);
    assert_eq!(scene.service.requests().len(), 1, "the link still holds");
}

#[test]
fn a_download_restarts_if_ranges_are_unsupported() {
    let bytes = archive();
    for (headers, then, range) in [
        // The server sends no validator for the rest.
        ("", whole(bytes.clone(), "\"a\""), None),
        ("etag: W/\"a\"\r\n", whole(bytes.clone(), "\"a\""), None),
        ("etag: \"a\"\r\naccept-ranges: none\r\n", whole(bytes.clone(), "\"a\""), None),
        // The archive has changed.
        ("etag: \"old\"\r\n", whole(bytes.clone(), "\"a\""), Some("bytes=50000-")),
    ] {
        let first = cut("200 OK", headers, bytes.len() + 7, &vec![7; 50_000]);
        let replies = std::sync::Mutex::new(vec![then, first]);
        let scene = Scene::new(move |_, _| replies.lock().unwrap().pop().unwrap());
        scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
        assert_eq!(scene.directory.tree(), unpacked("out"), "{headers}");
        assert_eq!(ranges(&scene)[1].as_deref(), range, "{headers}");
    }
}

#[test]
fn a_range_that_does_not_fit_is_discarded() {
    let bytes = archive();
    let scene = Scene::new(move |number, _| match number {
        0 => cut("200 OK", "etag: \"a\"\r\n", bytes.len(), &bytes[..50_000]),
        1 => {
            let headers = vec![("content-range", format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len()))];
            Reply::Full { status: 206, headers, body: bytes.clone() }
        }
        _ => whole(bytes.clone(), "\"a\""),
    });
    scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
    assert_eq!(scene.directory.tree(), unpacked("out"));
    assert_eq!(ranges(&scene), [None, Some("bytes=50000-".to_owned()), None]);
}

#[test]
fn a_download_without_progress_fails() {
    let scene = Scene::new(|_, _| cut("200 OK", "", 60_000, &[7; 50_000]));
    let error = scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Connect, Some("download_checkpoint_archive")));
    left_nothing(&scene, &error);
    // Once, and two retries.
    assert_eq!(scene.storage.requests().len(), 3);
}

#[test]
fn an_expired_link_is_replaced() {
    let bytes = archive();
    let scene = Scene::new(move |_, seen: &RecordedRequest| match &seen.path[..10] {
        "/archive-0" if seen.header("range").is_none() => {
            cut("200 OK", "etag: \"a\"\r\n", bytes.len(), &bytes[..100_000])
        }
        "/archive-0" => Reply::Json(403, json!({"Code": "AccessDenied"})),
        _ => {
            let headers = vec![("content-range", format!("bytes 100000-{}/{}", bytes.len() - 1, bytes.len()))];
            Reply::Full { status: 206, headers, body: bytes[100_000..].to_vec() }
        }
    });
    scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
    assert_eq!(scene.directory.tree(), unpacked("out"));
    assert_eq!(ranges(&scene), [None, Some("bytes=100000-".to_owned()), Some("bytes=100000-".to_owned())]);
    assert_eq!(scene.service.requests().len(), 2);
}

#[test]
fn refused_links_are_an_error_without_signature() {
    for status in [403, 404, 410] {
        let scene = Scene::new(move |_, seen| Reply::Json(status, json!({"StringToSign": seen.path})));
        let error = scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        left_nothing(&scene, &error);
        assert_eq!(scene.service.requests().len(), 3);
    }
}

#[test]
fn only_temporary_storage_errors_are_retried() {
    let scene = Scene::new(|number, _| match number {
        0 => Reply::Json(500, json!({})),
        1 => Reply::Close,
        _ => whole(archive(), "\"a\""),
    });
    scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
    assert_eq!(scene.directory.tree(), unpacked("out"));

    let scene = Scene::new(|_, _| Reply::Json(400, json!({})));
    let error = scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap_err();
    assert_eq!((error.status(), scene.storage.requests().len()), (Some(400), 1));
    left_nothing(&scene, &error);
}

#[test]
fn storage_redirects_are_limited() {
    let scene = Scene::new(|number, _| match number {
        0 => Reply::with_headers(307, &[("location", "/elsewhere?sig=2")], &json!(null)),
        _ => whole(archive(), "\"a\""),
    });
    scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap();
    assert_eq!(scene.storage.requests()[1].path, "/elsewhere?sig=2");

    let to = format!("/again?sig={SIGNATURE}");
    let scene = Scene::new(move |_, _| Reply::with_headers(302, &[("location", &to)], &json!(null)));
    let error = scene.rest().download_checkpoint_archive(RUN, ID, scene.out()).unwrap_err();
    assert_eq!((error.kind(), scene.storage.requests().len()), (ErrorKind::Decode, 11));
    left_nothing(&scene, &error);
}

/// Runs a download on a thread while the test drives the clock, and returns its result.
fn by_clock(
    scene: &Scene,
    change: impl FnOnce(RestClient, DownloadOptions<'static>) -> (RestClient, DownloadOptions<'static>) + Send,
    drive: impl FnOnce(&ManualClock),
) -> Result<(), Error> {
    let manual = ManualClock::new();
    let config = scene.config().clock(manual.clock()).build_with(|_| None).unwrap();
    let out = scene.out();
    thread::scope(|scope| {
        let download = scope.spawn(move || {
            let (rest, options) = change(RestClient::new(config).unwrap(), DownloadOptions::new(out));
            rest.download_checkpoint_archive(RUN, ID, options).map(drop)
        });
        drive(&manual);
        download.join().unwrap()
    })
}

fn in_preparation(retry_after: &'static str) -> Option<Reply> {
    Some(Reply::with_headers(503, &[("retry-after", retry_after)], &json!({"detail": "the archive is being prepared"})))
}

#[test]
fn an_archive_in_preparation_is_polled() {
    let scene =
        Scene::with(|number| if number < 3 { in_preparation("120") } else { None }, |_, _| whole(archive(), "\"a\""));
    by_clock(
        &scene,
        |rest, options| (rest, options),
        |manual| {
            for _ in 0..3 {
                manual.until_waiting(|waits| waits == [Duration::from_secs(120)]);
                manual.advance(Duration::from_secs(120));
            }
        },
    )
    .unwrap();
    assert_eq!(scene.directory.tree(), unpacked("out"));
    let attempts: Vec<_> = scene
        .service
        .requests()
        .iter()
        .map(|request| request.header("x-stainless-retry-count").unwrap().to_owned())
        .collect();
    assert_eq!(attempts[..3], ["0", "1", "2"]);
}

#[test]
fn preparation_has_a_timeout() {
    let scene = Scene::with(|_| in_preparation("100"), |_, _| whole(archive(), "\"a\""));
    let error = by_clock(
        &scene,
        |rest, options| (rest, options.timeout_preparation(Duration::from_secs(150))),
        |manual| {
            manual.until_waiting(|waits| waits.len() == 1);
            manual.advance(Duration::from_secs(100));
        },
    )
    .unwrap_err();
    assert_eq!((error.status(), scene.service.requests().len()), (Some(503), 2));
    assert!(error.hint().unwrap().contains("timeout_preparation"), "{error}");
    left_nothing(&scene, &error);
}

#[test]
fn the_operation_timeout_covers_everything() {
    let scene = Scene::with(|_| in_preparation("100"), |_, _| whole(archive(), "\"a\""));
    let hasty = |rest: RestClient, options| (rest.with_timeout_operation(Some(Duration::from_secs(150))), options);
    let error = by_clock(&scene, hasty, |manual| {
        manual.until_waiting(|waits| waits.len() == 1);
        manual.advance(Duration::from_secs(100));
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    left_nothing(&scene, &error);
}

#[test]
fn a_waiting_or_reading_download_can_be_cancelled() {
    let scene = Scene::with(|_| in_preparation("100"), |_, _| whole(archive(), "\"a\""));
    let (give, given) = std::sync::mpsc::channel();
    let change = move |rest, options: DownloadOptions<'static>| {
        give.send(options.canceller()).unwrap();
        (rest, options)
    };
    let error = by_clock(&scene, change, |manual| {
        manual.until_waiting(|waits| waits.len() == 1);
        given.recv().unwrap().cancel();
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    left_nothing(&scene, &error);

    let half = archive().len() / 2;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", archive().len());
    let scene = Scene::new(move |_, _| Reply::Stall([head.as_bytes(), &archive()[..half]].concat()));
    let options = DownloadOptions::new(scene.out());
    let canceller = options.canceller();
    let options = options.progress(|at| {
        if at.bytes > 0 {
            canceller.cancel();
        }
    });
    let error = scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    left_nothing(&scene, &error);
}

#[test]
fn a_panicking_progress_function_is_an_error() {
    let scene = Scene::new(|_, _| whole(archive(), "\"a\""));
    let options = DownloadOptions::new(scene.out()).progress(|_| panic!("no bar"));
    let error = scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("no bar"), "{error}");
    left_nothing(&scene, &error);
}

#[test]
fn only_a_complete_download_overwrites() {
    let scene = Scene::new(|number, _| match number {
        0 => cut("200 OK", "", 60_000, b"short"),
        1..3 => Reply::Close,
        3 => whole(archive()[..200_000].to_vec(), "\"a\""),
        _ => whole(archive(), "\"a\""),
    });
    fs::create_dir(scene.out()).unwrap();
    fs::write(scene.out().join("old"), "old").unwrap();
    let before = scene.directory.tree();
    let rest = scene.rest();
    let overwriting = || DownloadOptions::new(scene.out()).overwrite(true);

    let error = rest.download_checkpoint_archive(RUN, ID, scene.out()).unwrap_err();
    assert_eq!((error.kind(), scene.service.requests().len()), (ErrorKind::InvalidInput, 0));
    // Neither if the download fails nor if the archive is damaged.
    for kind in [ErrorKind::Connect, ErrorKind::Decode] {
        assert_eq!(rest.download_checkpoint_archive(RUN, ID, overwriting()).unwrap_err().kind(), kind);
        assert_eq!(scene.directory.tree(), before);
    }
    rest.download_checkpoint_archive(RUN, ID, overwriting()).unwrap();
    assert_eq!(scene.directory.tree(), unpacked("out"));
    // A directory replaces a file, and vice versa.
    rest.download_checkpoint_archive(RUN, ID, overwriting().extract(false)).unwrap();
    assert_eq!(fs::read(scene.out()).unwrap(), archive());
    rest.download_checkpoint_archive(RUN, ID, overwriting()).unwrap();
    assert_eq!(scene.directory.tree(), unpacked("out"));
}

#[test]
fn a_destination_created_meanwhile_is_kept() {
    let scene = Scene::new(|_, _| whole(archive(), "\"a\""));
    let (out, made) = (scene.out(), std::cell::Cell::new(false));
    let options = DownloadOptions::new(scene.out()).progress(|_| {
        if !made.replace(true) {
            fs::write(&out, "mine").unwrap();
        }
    });
    let error = scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(scene.directory.tree().into_iter().collect::<Vec<_>>(), [("out".to_owned(), Some(b"mine".to_vec()))]);
}

#[test]
fn an_unwritable_destination_fails_before_any_request() {
    let scene = Scene::new(|_, _| whole(archive(), "\"a\""));
    fs::write(scene.directory.join("file"), "").unwrap();
    for (destination, kind) in
        [("file/out", ErrorKind::Io), ("..", ErrorKind::InvalidInput), ("", ErrorKind::InvalidInput)]
    {
        let destination = scene.directory.path().join(destination).components().collect::<std::path::PathBuf>();
        let error = scene.rest().download_checkpoint_archive(RUN, ID, destination).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(scene.service.requests().len(), 0);
}
