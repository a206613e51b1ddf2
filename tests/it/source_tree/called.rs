//! Which public methods a test calls.

use std::fs;

use super::{public_methods, rust_files};

/// The types whose every method is called by name in some test: what talks to the service, and what comes back.
const TYPES: [&str; 14] = [
    "Api",
    "DownloadOptions",
    "Error",
    "FromStateBuilder",
    "LoraBuilder",
    "Pages",
    "Pending",
    "Request",
    "Response",
    "RestClient",
    "SamplingClient",
    "ServiceClient",
    "Telemetry",
    "TrainingClient",
];

#[test]
fn every_method_of_a_client_is_called() {
    let tests: String = rust_files("tests").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let (mut count, mut uncalled) = (0, Vec::new());
    for (owner, name, _) in public_methods() {
        if !TYPES.contains(&&*owner) || ["clone", "drop", "fmt", "from", "next", "source"].contains(&&*name) {
            continue;
        }
        count += 1;
        let is_called = |end| tests.contains(&format!(".{name}{end}")) || tests.contains(&format!("::{name}{end}"));
        if !["(", "::<", ")"].into_iter().any(is_called) {
            uncalled.push(format!("{owner}::{name}"));
        }
    }
    assert!(count > 150, "only {count} methods were found");
    assert!(uncalled.is_empty(), "no test calls {uncalled:?}");
}
