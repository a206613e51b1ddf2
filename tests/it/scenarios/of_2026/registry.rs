//! Where each scenario is played, and why some are not.

use crate::support::golden;

/// Scenarios that other tests play, or that are not played, and why.
const ELSEWHERE: [(&str, &str); 19] = [
    ("07_tls_alpn", "not played: no traffic, and this crate speaks only HTTP/1.1"),
    ("21_fwdbwd_ce_3_inputs", "not played: inputs of every form, whose encodings `protobuf` compares with pure_proto"),
    ("31_training_client_from_state", "weights/as_python_2026.rs"),
    (
        "42_sample_chunks",
        "types_golden and protobuf: images without a size; this crate refuses empty prompts and audio",
    ),
    ("50_rest_all", "rest/scenarios_2026.rs"),
    ("51_rest_errors", "rest/scenarios.rs: the same statuses and bodies as for 0.4.1"),
    ("52_cli", "cli/fixture_2026.rs"),
    ("53_auth_api", "the program's tests of `auth`: the requests that check and revoke a key"),
    ("60_telemetry", "telemetry/scenarios.rs, of 0.4.1: 0.38.0 adds `process_uuid`, which this crate does not send"),
    ("61_telemetry_batching", "the same"),
    ("62_telemetry_failure", "the same"),
    ("63_telemetry_future_events", "the same"),
    ("81_future_poll_sample_queue_state", "events.rs: observers hear of each state; the requests are those of 80"),
    ("90_config_metadata_only", "polling/together.rs"),
    ("94_config_retrieve_futures", "polling/together.rs"),
    ("95_config_pjwt", "tokens.rs"),
    ("97_config_cancel", "polling/together.rs"),
    ("98_service_close", "session_end.rs"),
    ("9b_custom_loss_server_side", "not played: a trace of torch; this crate runs custom losses itself"),
];

#[test]
fn every_scenario_is_played_or_named() {
    let tests = [
        include_str!("failures.rs"),
        include_str!("passes.rs"),
        include_str!("polls.rs"),
        include_str!("sampling.rs"),
        include_str!("sessions.rs"),
        include_str!("training.rs"),
        include_str!("weights.rs"),
    ];
    let tests = tests.concat();
    let mut count = 0;
    for entry in std::fs::read_dir(golden::FOLDER_2026).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap().replace(".json", "");
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            let is_played = tests.contains(&format!("\"{name}\""));
            assert_ne!(is_played, ELSEWHERE.iter().any(|(other, _)| *other == name), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 58);
}
