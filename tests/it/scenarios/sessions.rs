//! Sessions.

use tinkex::api::Api;
use tinkex::{ErrorKind, ServiceClient};

use super::replay::Scenario;

/// What both clients do in scenario 03.
pub(super) fn base_url_with_a_path(scenario: &Scenario) {
    for prefix in ["/services/tinker-prod", "/services/tinker-prod/"] {
        let config = scenario.service.config().base_url(format!("{}{prefix}", scenario.service.url()));
        let error = Api::new(config.build_with(|_| None).unwrap()).unwrap().get("/api/v1/healthz").send().unwrap_err();
        assert_eq!((error.status(), error.body()), (Some(404), Some("{\"detail\":\"Not Found\"}")));
    }
    scenario.is_played();
}

#[test]
fn scenario_01_session_and_capabilities() {
    let scenario = Scenario::start("01_session_default");
    assert!(!scenario.connect().get_server_capabilities().unwrap().supported_models.is_empty());
    scenario.is_played();
}

#[test]
fn scenario_03_base_url_with_a_path() {
    base_url_with_a_path(&Scenario::start("03_session_base_url_prefix"));
}

#[test]
fn scenario_05_messages_and_a_missing_session() {
    let scenario = Scenario::start("05_session_error_messages");
    scenario.connect();
    let error = ServiceClient::connect(scenario.service.config().build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("session_id"), "{error}");
    scenario.is_played();
}
