//! The command line of the Python client 0.4.1, replayed: the same requests, exit codes, tables and documents, except for the
//! intended differences, which `Difference` lists.

use serde_json::Value;
use tinkex::types::Timestamp;

use super::program::{Done, tinkex};
use crate::support::{RecordedRequest, Reply, Service, golden};

/// An intended difference of one command. In addition, no command creates a session, and times in documents are ISO 8601, as
/// on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Difference {
    None,
    /// Name and help are our own.
    OwnHelp,
    /// Python fails if a size is unknown; we print `N/A`. Ours has the column `Expires`, as Python has since 2026.
    UnknownSize,
    /// Python prints nothing on success; we print a line.
    PrintsResult,
    /// Without a terminal, Python asks anyway and exits with 1; we require `--yes`, send nothing and exit with 2.
    RequiresYes,
    /// For an invalid path, Python exits with 1; we exit with 2, as for all invalid usage.
    InvalidUsage,
}

fn difference(label: &str) -> Difference {
    match label {
        "tinker version" | "tinker --help" => Difference::OwnHelp,
        "tinker checkpoint list" | "tinker checkpoint list --run-id run-golden" => Difference::UnknownSize,
        "tinker checkpoint delete tinker://run-golden/weights/0001" => Difference::RequiresYes,
        "tinker checkpoint info bad-path" => Difference::InvalidUsage,
        label if ["publish", "unpublish", "delete -y"].iter().any(|word| label.contains(&format!(" {word} "))) => {
            Difference::PrintsResult
        }
        _ => Difference::None,
    }
}

/// Method, path below `/api/v1/` and query of an exchange.
pub(super) fn request_line(exchange: &Value) -> String {
    let path = exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/");
    let query = exchange["query"].as_str().map_or(String::new(), |query| format!("?{query}"));
    format!("{} {path}{query}", exchange["method"].as_str().unwrap())
}

pub(super) fn seen_request_line(request: &RecordedRequest) -> String {
    format!("{} {}", request.method, request.path)
}

/// A service that gives the recorded responses.
pub(super) fn service(exchanges: Vec<Value>) -> Service {
    Service::start(move |request| {
        let exchange = exchanges.iter().find(|exchange| request_line(exchange) == seen_request_line(request));
        let response = &exchange.unwrap_or_else(|| panic!("{request:?} is not in the recording"))["response"];
        let status = response["status"].as_u64().unwrap().try_into().unwrap();
        match response.get("json") {
            Some(body) => Reply::Json(status, body.clone()),
            None => Reply::Full { status, headers: Vec::new(), body: Vec::new() },
        }
    })
}

/// The title, the header and the rows of a table, without its borders.
pub(super) fn table(text: &str) -> Vec<Vec<String>> {
    let is_row = |line: &&str| line.starts_with(['│', '┃']);
    let cells = |line: &str| {
        let inner: Vec<&str> = line.split(['│', '┃', '┆']).collect();
        // Indentation inside a cell is kept.
        inner[1..inner.len() - 1].iter().map(|cell| cell[1..].trim_end().to_owned()).collect()
    };
    let title = text.lines().next().unwrap_or_default().trim().to_owned();
    std::iter::once(vec![title]).chain(text.lines().filter(is_row).map(cells)).collect()
}

/// The document with every timestamp replaced by its instant, so that different notations compare equal, and without the
/// fields that a checkpoint has since 2026.
fn with_instants(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| {
                let is_later =
                    fields.contains_key("checkpoint_id") && ["user_metadata", "expires_at"].contains(&&***name);
                !(is_later && value.is_null())
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .map(|(name, value)| match (name.as_str(), &value) {
                ("time" | "last_request_time", Value::String(text)) => {
                    let time = text.parse::<Timestamp>().unwrap();
                    (name, Value::from(format!("{}.{}", time.unix_seconds(), time.subsec_nanos())))
                }
                _ => (name, with_instants(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(with_instants).collect(),
        other => other,
    }
}

fn check(label: &str, theirs: &Value, done: &Done) {
    let (stdout, code) = (theirs["stdout"].as_str().unwrap(), theirs["exit"].as_i64().unwrap());
    let code = Some(i32::try_from(code).unwrap());
    match difference(label) {
        Difference::None if label.contains("-f json") => {
            assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{label}");
            let [ours, theirs] = [&done.stdout, stdout].map(|text| with_instants(serde_json::from_str(text).unwrap()));
            assert_eq!(ours, theirs, "{label}");
        }
        Difference::None if code == Some(0) => {
            assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{label}");
            // Python shows this, too, since 2026.
            let without_expiry = |rows: Vec<Vec<String>>| rows.into_iter().filter(|row| row[0] != "Expires");
            assert!(without_expiry(table(&done.stdout)).eq(table(stdout)), "{label}: {done:?}");
        }
        Difference::None => {
            assert_eq!((done.code, done.stdout.as_str(), stdout), (code, "", ""), "{label}");
            assert!(done.stderr.starts_with("error: "), "{label}: {done:?}");
        }
        Difference::OwnHelp => assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{label}"),
        Difference::UnknownSize => {
            assert_eq!((code, done.code), (Some(1), Some(0)), "{label}");
            let rows = table(&done.stdout);
            assert_eq!(rows[1], ["Checkpoint ID", "Type", "Size", "Public", "Created", "Expires", "Path"]);
            let sizes: Vec<_> = rows[2..].iter().map(|row| row[2].as_str()).collect();
            assert!(sizes.contains(&"N/A") && sizes.contains(&"117.7 MB"), "{label}: {done:?}");
        }
        Difference::PrintsResult => {
            assert_eq!((done.code, stdout), (code, ""), "{label}");
            assert!(done.stdout.ends_with("ed tinker://run-golden/weights/0001\n"), "{label}: {done:?}");
        }
        Difference::RequiresYes | Difference::InvalidUsage => {
            assert_eq!((code, done.code, done.stdout.as_str()), (Some(1), Some(2), ""), "{label}");
        }
    }
}

#[test]
fn commands_match_the_python_program() {
    let fixture = golden::fixture("52_cli");
    let results = fixture["results"].as_array().unwrap();
    assert_eq!(results.len(), 18);
    for theirs in results {
        let label = theirs["label"].as_str().unwrap();
        let of_command = |exchange: &&Value| {
            (theirs["first_seq"].as_u64()..=theirs["last_seq"].as_u64()).contains(&exchange["seq"].as_u64())
        };
        let exchanges: Vec<Value> =
            fixture["exchanges"].as_array().unwrap().iter().filter(of_command).cloned().collect();
        let asked: Vec<String> =
            exchanges.iter().map(request_line).filter(|line| line != "POST create_session").collect();
        let service = service(exchanges);
        let done = tinkex(label.trim_start_matches("tinker ")).at(&service.url()).run();
        check(label, theirs, &done);
        let ours: Vec<String> = service.requests().iter().map(seen_request_line).collect();
        let expected = if difference(label) == Difference::RequiresYes { Vec::new() } else { asked };
        assert_eq!(ours, expected, "{label}");
    }
}
