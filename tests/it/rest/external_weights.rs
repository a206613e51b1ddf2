//! Downloads of external weights, file by file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tinkex::rest::DownloadOptions;
use tinkex::{ErrorKind, RestClient};

use super::scene::{Directory, SIGNATURE, noise, whole};
use crate::support::{RecordedRequest, Reply, Service};

const RUN: &str = "run";
const ID: &str = "external_weights/e1";

struct Scene {
    service: Service,
    storage: Service,
    directory: Directory,
}

impl Scene {
    /// A service with files of these names, whose links change with each request; `storage` gets the number of the request,
    /// from 0.
    fn new(names: &[&str], storage: impl Fn(usize, &RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let (fetched, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let storage = Service::start(move |request| storage(fetched.fetch_add(1, Ordering::SeqCst), request));
        let (url, names) = (storage.url(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let service = Service::start(move |_| {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            let link = |(index, name): (usize, &String)| {
                (name.clone(), json!(format!("{url}/{index}?sig={SIGNATURE}&link={number}")))
            };
            let urls: serde_json::Map<String, Value> = names.iter().enumerate().map(link).collect();
            Reply::ok(json!({"urls": urls, "expires": "2999-01-01T00:00:00Z", "later": 1}))
        });
        Scene { service, storage, directory: Directory::new() }
    }

    fn rest(&self) -> RestClient {
        let config = self.service.config().retry_base(std::time::Duration::from_millis(1)).max_retries(2);
        RestClient::new(config.build_with(|_| None).unwrap()).unwrap()
    }

    fn left_nothing(&self, error: &tinkex::Error) {
        assert!(self.directory.tree().is_empty(), "{error}");
        assert!(!format!("{error} {error:?}").contains(SIGNATURE), "{error}");
    }
}

const NAMES: [&str; 2] = ["adapter_config.json", "sub/adapter_model.safetensors"];

fn content(index: usize) -> Vec<u8> {
    if index == 0 { b"{}".to_vec() } else { noise(300_000) }
}

fn index(request: &RecordedRequest) -> usize {
    request.path[1..2].parse().unwrap()
}

fn files(out: &str) -> BTreeMap<String, Option<Vec<u8>>> {
    BTreeMap::from([
        (out.to_owned(), None),
        (format!("{out}/adapter_config.json"), Some(content(0))),
        (format!("{out}/sub"), None),
        (format!("{out}/sub/adapter_model.safetensors"), Some(content(1))),
    ])
}

#[test]
fn every_file_is_fetched_without_our_headers() {
    let scene = Scene::new(&NAMES, |_, request| whole(content(index(request)), "\"a\""));
    let reports = RefCell::new(Vec::new());
    let options = DownloadOptions::new(scene.directory.join("out")).progress(|at| reports.borrow_mut().push(at));
    let downloaded = scene.rest().download_checkpoint_archive("r/1", ID, options).unwrap();
    assert_eq!((downloaded.archive_bytes, downloaded.files), (300_002, Some(2)));
    assert_eq!(downloaded.path, scene.directory.join("out"));
    assert_eq!(scene.directory.tree(), files("out"));
    let reports = reports.into_inner();
    assert!(reports.is_sorted_by_key(|at| at.bytes), "{reports:?}");
    let last = reports.last().unwrap();
    assert_eq!((last.bytes, last.total), (300_002, Some(300_002)));
    let requests = scene.service.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "training_runs/r%2F1/checkpoints/external_weights/e1/external_weights_urls");
    for request in scene.storage.requests() {
        let mut names: Vec<_> = request.headers.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
    }
}

#[test]
fn an_interrupted_file_resumes_with_a_new_link() {
    let scene = Scene::new(&NAMES, |number, request| {
        let bytes = content(index(request));
        match number {
            1 => super::scene::cut("200 OK", "etag: \"a\"\r\n", bytes.len(), &bytes[..100_000]),
            2 => Reply::Json(403, json!({"StringToSign": request.path})),
            3 => {
                assert_eq!(
                    (request.header("range"), request.header("if-range")),
                    (Some("bytes=100000-"), Some("\"a\""))
                );
                assert!(request.path.contains("link=1"), "{}", request.path);
                let headers = vec![("content-range", format!("bytes 100000-{}/{}", bytes.len() - 1, bytes.len()))];
                Reply::Full { status: 206, headers, body: bytes[100_000..].to_vec() }
            }
            _ => whole(bytes, "\"a\""),
        }
    });
    scene.rest().download_checkpoint_archive(RUN, ID, &*scene.directory.join("out")).unwrap();
    assert_eq!(scene.directory.tree(), files("out"));
    assert_eq!((scene.storage.requests().len(), scene.service.requests().len()), (4, 2));
}

#[test]
fn hostile_names_are_refused_before_any_fetch() {
    for names in [
        &["a", "../b"][..],
        &["/etc/passwd"],
        &["a/../../b"],
        &["C:\\a"],
        &["a\u{1b}[2J"],
        &[""],
        &["."],
        &["sub/"],
        // One file instead of the other, or below it.
        &["a", "./a"],
        &["a", "a/b"],
    ] {
        let scene = Scene::new(names, |_, _| panic!("nothing is fetched"));
        let error = scene.rest().download_checkpoint_archive(RUN, ID, &*scene.directory.join("out")).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Decode, Some("download_checkpoint_archive")));
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        scene.left_nothing(&error);
    }
}

#[test]
fn limits_count_all_files() {
    let scene = Scene::new(&NAMES, |_, request| whole(content(index(request)), "\"a\""));
    let out = scene.directory.join("out");
    for (options, text) in [
        (DownloadOptions::new(&out).max_bytes(300_001), "larger than 300001 bytes"),
        (DownloadOptions::new(&out).max_files(1), "more than 1 files"),
    ] {
        let error = scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap_err();
        assert!(error.kind() == ErrorKind::Decode && error.to_string().contains(text), "{error}");
        scene.left_nothing(&error);
    }
    let options = DownloadOptions::new(&out).max_bytes(300_002).max_files(2);
    scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap();
}

#[test]
fn external_weights_have_no_archive() {
    let scene = Scene::new(&NAMES, |_, _| panic!("nothing is fetched"));
    let options = DownloadOptions::new(scene.directory.join("out")).extract(false);
    let error = scene.rest().download_checkpoint_archive(RUN, ID, options).unwrap_err();
    assert_eq!((error.kind(), scene.service.requests().len()), (ErrorKind::InvalidInput, 0));
}

#[test]
fn unusable_urls_show_no_signature() {
    for body in [
        json!({"urls": {"a": format!("ftp://storage/a?sig={SIGNATURE}")}, "expires": "2999-01-01T00:00:00Z"}),
        json!({"urls": {"a": format!("http://storage/a?sig={SIGNATURE}")}}),
        json!({"urls": format!("http://storage/a?sig={SIGNATURE}"), "expires": "2999-01-01T00:00:00Z"}),
        json!({"urls": {}, "expires": "2999-01-01T00:00:00Z"}),
    ] {
        let service = Service::start(move |_| Reply::ok(body.clone()));
        let directory = Directory::new();
        let rest = RestClient::new(service.config().build_with(|_| None).unwrap()).unwrap();
        let error = rest.download_checkpoint_archive(RUN, ID, &*directory.join("out")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert!(!format!("{error} {error:?} {:?}", error.body()).contains(SIGNATURE), "{error:?}");
        assert!(directory.tree().is_empty());
    }
}

#[test]
fn a_dropped_archive_has_a_hint() {
    for status in [404, 405, 410] {
        let service = Service::start(move |_| Reply::Json(status, json!({"detail": "Not Found"})));
        let directory = Directory::new();
        let rest = RestClient::new(service.config().build_with(|_| None).unwrap()).unwrap();
        let error = rest.download_checkpoint_archive(RUN, "weights/a", &*directory.join("out")).unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert!(error.hint().unwrap().contains("no archives any more"), "{error}");
        assert_eq!(service.requests().len(), 1);
        assert_eq!(rest.get_checkpoint_archive_url(RUN, "weights/a").unwrap_err().hint(), error.hint());
    }
}
