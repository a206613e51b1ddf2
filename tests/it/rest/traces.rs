//! The export of a session's trace.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::clock::ManualClock;
use tinkex::rest::DownloadOptions;
use tinkex::{ErrorKind, Limit, RestClient};

use super::scene::{Directory, SIGNATURE, cut, noise, whole};
use crate::support::{RecordedRequest, Reply, Service, advance_past_wait};

/// A service with these responses to the export, the last of which stays; `STORAGE` is the address of the storage.
fn service(responses: Vec<Value>, storage: &Service) -> Service {
    let text = json!(responses).to_string().replace("STORAGE", &storage.url());
    let responses: Vec<Value> = serde_json::from_str(&text).unwrap();
    let next = std::sync::atomic::AtomicUsize::new(0);
    Service::start(move |request| {
        assert_eq!((&*request.method, &*request.path), ("GET", "sessions/s%2F1/trace_export"));
        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::ok(responses[number.min(responses.len() - 1)].clone())
    })
}

fn storage(reply: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Service {
    Service::start(reply)
}

fn ready() -> Value {
    json!({"status": "ready", "url": format!("STORAGE/trace?sig={SIGNATURE}"), "later": 1})
}

fn rest(service: &Service, manual: &ManualClock) -> RestClient {
    let config = service.manual_config(manual).max_retries(2).retry_base(Duration::from_millis(100));
    RestClient::new(config.build_with(|_| None).unwrap()).unwrap()
}

#[test]
fn an_export_that_takes_too_long_ends() {
    let storage = storage(|_| panic!("nothing is fetched"));
    let service = service(vec![json!({"status": "pending"})], &storage);
    let manual = ManualClock::new();
    let rest = rest(&service, &manual);
    let error = thread::scope(|scope| {
        let export = scope.spawn(|| rest.export_session_trace("s/1", Duration::from_secs(12)));
        advance_past_wait(&manual, 5000..=5000);
        advance_past_wait(&manual, 5000..=5000);
        export.join().unwrap().unwrap_err()
    });
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout(Limit::Operation), Some("export_session_trace")));
    assert_eq!(error.message(), "the trace was not ready within 12s");
    assert!(error.hint().unwrap().contains("raise the timeout"), "{error}");
    assert_eq!(service.requests().len(), 3);
}

#[test]
fn a_failed_export_says_why() {
    let storage = storage(|_| panic!("nothing is fetched"));
    let manual = ManualClock::new();
    for (response, kind) in [
        (json!({"status": "failed", "error": "too old"}), ErrorKind::RequestFailed),
        (json!({"status": "ready"}), ErrorKind::Decode),
        (json!({"status": "ready", "url": "ftp://x?sig=Sig7Hidden"}), ErrorKind::Decode),
        (json!({"url": "http://x?sig=Sig7Hidden"}), ErrorKind::Decode),
    ] {
        let service = service(vec![response], &storage);
        let error = rest(&service, &manual).export_session_trace("s/1", Duration::from_secs(12)).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (kind, Some("export_session_trace")), "{error}");
        assert_eq!(error.to_string().contains("too old"), kind == ErrorKind::RequestFailed);
        assert!(!format!("{error} {error:?}").contains(SIGNATURE), "{error}");
    }
}

#[test]
fn a_trace_is_downloaded_with_resume() {
    let bytes = noise(200_000);
    let content = bytes.clone();
    let storage = storage(move |request| match request.header("range") {
        None => cut("200 OK", "etag: \"a\"\r\n", content.len(), &content[..100_000]),
        // The link has expired meanwhile.
        Some(_) if request.path.contains("first") => Reply::Json(403, json!({})),
        Some(_) => {
            let headers = vec![("content-range", format!("bytes 100000-{}/{}", content.len() - 1, content.len()))];
            Reply::Full { status: 206, headers, body: content[100_000..].to_vec() }
        }
    });
    let first = json!({"status": "ready", "url": "STORAGE/first"});
    let service = service(vec![json!({"status": "pending"}), first, ready()], &storage);
    let (manual, directory) = (ManualClock::new(), Directory::new());
    let rest = rest(&service, &manual);
    let out = directory.join("new/s.pftrace");
    let trace = thread::scope(|scope| {
        let download = scope.spawn(|| rest.download_session_trace("s/1", &*out));
        advance_past_wait(&manual, 5000..=5000);
        // After the lost connection.
        advance_past_wait(&manual, 1..=1000);
        download.join().unwrap().unwrap()
    });
    assert_eq!((trace.path, trace.archive_bytes, trace.files), (out, 200_000, None));
    assert_eq!(directory.tree()["new/s.pftrace"].as_ref(), Some(&bytes));
    assert_eq!(storage.requests().last().unwrap().header("x-api-key"), None);
    assert_eq!(service.requests().len(), 3);
}

#[test]
fn a_cancelled_export_leaves_nothing() {
    let storage = storage(|_| whole(noise(10), "\"a\""));
    let service = service(vec![json!({"status": "pending"})], &storage);
    let (manual, directory) = (ManualClock::new(), Directory::new());
    let rest = rest(&service, &manual);
    let out = directory.join("s.pftrace");
    let (give, given) = std::sync::mpsc::channel();
    let error = thread::scope(|scope| {
        let download = scope.spawn(|| {
            let options = DownloadOptions::new(&out);
            give.send(options.canceller()).unwrap();
            rest.download_session_trace("s/1", options)
        });
        manual.until_waiting(|waits| waits.len() == 1);
        given.recv().unwrap().cancel();
        download.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(directory.tree().is_empty());
}
