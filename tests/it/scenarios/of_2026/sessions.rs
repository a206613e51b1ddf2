//! Sessions, models and what the service says about itself.

use std::time::Duration;

use tinkex::api::Api;
use tinkex::{ErrorKind, ServiceClient};

use super::{start, start_whole};
use crate::scenarios::sessions::base_url_with_a_path;

#[test]
fn scenario_01_session_and_capabilities() {
    let scenario = start("01_session_default");
    let models = scenario.connect().get_server_capabilities().unwrap().supported_models;
    assert_eq!(models.len(), 3);
    // Python lists models with another client, which asks for the settings once more.
    let [.., last] = &scenario.exchanges[..] else { panic!("no exchanges") };
    let seen = scenario.service.requests();
    assert_eq!(format!("/api/v1/{}", seen[3].path), last["path"].as_str().unwrap());
}

#[test]
fn scenario_03_base_url_with_a_path() {
    base_url_with_a_path(&start("03_session_base_url_prefix"));
}

#[test]
fn scenario_04_the_service_ends_the_heartbeat() {
    let scenario = start_whole("04_session_heartbeat");
    let every = Duration::from_secs(10);
    let config = scenario.config().heartbeat_interval(every);
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    for count in 1..=3 {
        scenario.clock.until_waiting(|waits| waits.contains(&every));
        scenario.clock.advance(every);
        scenario.service.wait_for_count("session_heartbeat", count);
    }
    scenario.clock.until_waiting(|waits| !waits.iter().any(|wait| *wait <= every));
    drop(client);
    scenario.is_played();
}

#[test]
fn scenario_05_messages_and_a_missing_session() {
    let scenario = start("05_session_error_messages");
    assert_eq!(scenario.connect().session_id(), "s-1");
    let error = ServiceClient::connect(scenario.config().build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("session_id"), "{error}");
    scenario.is_played();
}

#[test]
fn scenario_06_calls_without_a_session() {
    let scenario = start("06_low_level_service");
    let api = Api::new(scenario.config().build_with(|_| None).unwrap()).unwrap();
    for path in ["/api/v1/healthz", "/api/v1/get_server_capabilities"] {
        api.get(path).send().unwrap();
    }
    scenario.is_played();
}

#[test]
fn scenario_02_project_name_tags_and_metadata() {
    let scenario = start("02_session_tags_metadata");
    let config = scenario.config().project_id("proj-1").display_name("golden run").tags(["alpha", "beta"]);
    let config = config.user_metadata("k", "v").user_metadata("ünï", "✓ \" \\ \n");
    drop(ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap());
    scenario.is_played();
}

#[test]
fn scenario_9a_settings_of_a_later_service() {
    let scenario = start("9a_client_config_variants");
    let (_, client) = scenario.freely(|| scenario.connect());
    drop(client);
    scenario.is_played();
}
