//! Which public methods a test calls.

use std::fs;

use super::{in_package, rust_files};

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
    let api = fs::read_to_string(in_package("docs/public-api.txt")).unwrap();
    let (mut count, mut uncalled) = (0, Vec::new());
    for function in api.lines().filter_map(|line| line.strip_prefix("pub fn tinkex::")) {
        let path: Vec<_> = function.split('(').next().unwrap().split("::").map(without_generics).collect();
        let [.., owner, name] = path[..] else { continue };
        if !TYPES.contains(&owner) || ["clone", "drop", "fmt", "from", "next", "source"].contains(&name) {
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

fn without_generics(part: &str) -> &str {
    part.split('<').next().unwrap_or_default()
}
