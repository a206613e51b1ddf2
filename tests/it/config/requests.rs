//! The settings that every request carries.

use serde_json::json;

use super::{connect, everything};
use crate::support::{RecordedRequest, Service, healthy_service};

#[test]
fn tags_and_metadata_are_sent_with_the_session() {
    let service = Service::start(healthy_service);
    let config = service.config().tags(["a", "b"]).user_metadata("run", "7").user_metadata("who", "me");
    connect(config).unwrap();
    let session = &service.requests_to("create_session")[0].body;
    assert_eq!(session["tags"], json!(["a", "b"]));
    assert_eq!(session["user_metadata"], json!({"run": "7", "who": "me"}));
    assert_eq!(session["sdk_version"], "0.4.1");
}

#[test]
fn every_request_has_the_configured_headers_and_url() {
    let service = Service::start(|request| {
        let path = request.path.strip_prefix("/gateway/tinker/api/v1/").unwrap();
        let path = path.strip_suffix("?team=a%2Cb&x=1").unwrap();
        healthy_service(&RecordedRequest { path: path.to_owned(), ..request.clone() })
    });
    let config = service
        .config()
        .api_key("tml-key-of-every-request")
        .base_url(format!("{}/gateway/tinker/", service.url()))
        .cloudflare_access("the-id", "the-secret")
        .header("X-Team", "blue")
        .header("User-Agent", "mine/1")
        .query("team", ["a", "b"])
        .query("x", 1);
    everything(config);
    let seen = service.requests();
    assert!(seen.len() > 15, "{}", seen.len());
    for seen in seen {
        for (name, value) in [
            ("x-api-key", "tml-key-of-every-request"),
            ("cf-access-client-id", "the-id"),
            ("cf-access-client-secret", "the-secret"),
            ("x-team", "blue"),
            ("user-agent", "mine/1"),
        ] {
            let values: Vec<_> = seen.headers.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(values, [value], "{}", seen.path);
        }
    }
}
