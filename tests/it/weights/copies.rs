//! Copies of weights through a session's client.

use serde_json::json;
use tinkex::ErrorKind;
use tinkex::rest::CopyWeights;

use super::client;
use crate::support::{Reply, Service, healthy_service};

#[test]
fn a_copy_goes_over_the_session() {
    let service = Service::start(|request| match request.path.as_str() {
        "copy_weights" => Reply::ok(json!({"tinker_path": "tinker://copied/weights/a"})),
        _ => healthy_service(request),
    });
    let client = client(&service);
    let copy = CopyWeights::new("tinker://run/weights/a").weights_access_token("a-secret");
    assert_eq!(client.copy_weights(&copy).unwrap_err().kind(), ErrorKind::InvalidInput, "no project");
    let path = client.copy_weights(&copy.destination_project_id("p-1")).unwrap();
    assert_eq!(path, "tinker://copied/weights/a");
    let sent = &service.requests_to("copy_weights")[0];
    assert_eq!(sent.body, json!({"source_path": "tinker://run/weights/a", "destination_project_id": "p-1"}));
    assert_eq!(sent.header("x-tinker-weights-access-token"), Some("a-secret"));
}
