//! Scenarios of the Python clients 0.4.1 and 0.38.0, replayed through the clients: the requests, their order and the headers of
//! the polls.

mod compare;
mod of_2026;
mod replay;
mod sampling;
mod sessions;
mod training;

use crate::support::golden;

/// Scenarios of 0.4.1 from 01 to 31 and 40 to 43 that are not played here, and why. The bodies of all but 03 are rebuilt in
/// `types_golden/requests.rs`. There is no fixture 07 (how Python offers HTTP/2): the crate speaks only HTTP/1.1.
const NOT_PLAYED: [(&str, &str); 5] = [
    ("02_session_tags_metadata", "the order of tags is Python's set's"),
    ("04_session_heartbeat", "`process_heartbeat` has it, on a manual clock"),
    ("06_low_level_service", "`http/build_request.rs` has what low-level access adds"),
    ("21_fwdbwd_ce_3_inputs", "an empty map of loss settings, which `Loss` does not write"),
    ("23_fwdbwd_size_limit", "2 million numbers; `training.rs` splits smaller batches by the same rule"),
];

#[test]
fn every_scenario_is_played_or_named() {
    let tests = [include_str!("sessions.rs"), include_str!("training.rs"), include_str!("sampling.rs")].concat();
    let mut count = 0;
    for entry in std::fs::read_dir(golden::FOLDER).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap().replace(".json", "");
        let number = name.split('_').next().unwrap().parse::<u32>();
        if number.is_ok_and(|number| number <= 31 || (40..=43).contains(&number)) {
            let is_played = tests.contains(&format!("Scenario::start(\"{name}\")"));
            assert_ne!(is_played, NOT_PLAYED.iter().any(|(other, _)| *other == name), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 23);
}
