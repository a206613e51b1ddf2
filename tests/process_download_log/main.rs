//! A link to an archive gives access like a key while it is valid. It is logged without its signature at every level but
//! trace, at which ureq logs what it sends and receives.
//!
//! The logger is global, so this file has one test.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../it/rest/scene.rs"]
#[allow(dead_code, reason = "each test file uses its own part of the support")]
mod scene;
#[path = "../support/mod.rs"]
mod support;

use scene::{SIGNATURE, Scene, archive, cut, whole};
use serde_json::json;
use support::{Reply, captured_log};

#[test]
fn the_log_has_no_signature() {
    captured_log::start(log::LevelFilter::Debug);
    let busy = || {
        Some(Reply::with_headers(503, &[("retry-after-ms", "1")], &json!({"detail": "the archive is being prepared"})))
    };
    let scene = Scene::with(
        move |number| if number == 0 { busy() } else { None },
        |number, _| match number {
            0 => cut("200 OK", "etag: \"a\"\r\n", 60_000, b"short"),
            1 => Reply::Close,
            2 => Reply::Json(403, json!({"detail": "expired"})),
            3 => Reply::with_headers(302, &[("location", &format!("/more?sig={SIGNATURE}"))], &json!(null)),
            _ => whole(archive(), "\"a\""),
        },
    );
    scene.rest().download_checkpoint_archive("run", "weights/a", scene.out()).unwrap();
    let log: String = captured_log::take().iter().map(|line| format!("{line}\n")).collect();
    assert!(!log.contains(SIGNATURE) && !log.contains("tml-test-key"), "{log}");
    assert!(!log.contains("in 0ns"), "{log}");
    for said in ["the archive is being prepared", "returned 403", "retrying in", "ureq"] {
        assert!(log.contains(said), "{said} is not in the log:\n{log}");
    }
}
