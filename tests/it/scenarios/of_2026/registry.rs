//! Where each scenario is played, and why some are not.

use crate::support::golden;

/// Scenarios that other tests play, or that are not played, and why.
const ELSEWHERE: [(&str, &str); 14] = [
    ("07_tls_alpn", "not played: no traffic, and this crate speaks only HTTP/1.1"),
    ("21_fwdbwd_ce_3_inputs", "not played: inputs of every form, whose encodings `protobuf` compares with pure_proto"),
    ("50_rest_all", "played in rest/scenarios_2026.rs"),
    ("51_rest_errors", "played in rest/scenarios_2026.rs"),
    ("52_cli", "played in cli/fixture_2026.rs"),
    ("53_auth_api", "not played: cli/auth.rs has its requests, for a key that is known and one that is not"),
    ("60_telemetry", "played in telemetry/scenarios.rs"),
    ("61_telemetry_batching", "played in telemetry/scenarios.rs"),
    ("62_telemetry_failure", "played in telemetry/scenarios.rs"),
    ("63_telemetry_future_events", "played in telemetry/scenarios.rs"),
    (
        "94_config_retrieve_futures",
        "not played: the poller acknowledges at other times; polling/together.rs has its requests and failures",
    ),
    ("95_config_pjwt", "played in tokens.rs"),
    ("98_service_close", "played in session_end.rs"),
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
            let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name);
            let file = elsewhere.and_then(|(_, place)| place.strip_prefix("played in "));
            let reads =
                |file| std::fs::read_to_string(format!("{}/tests/it/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            assert!(file.is_none_or(|file| reads(file).contains(&format!("\"{name}\""))), "{name}");
            assert_ne!(is_played, elsewhere.is_some(), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 58);
}
