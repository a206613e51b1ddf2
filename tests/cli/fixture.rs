//! The command line of the Python client 0.4.1, replayed: the same requests, exit codes, tables and documents, but for the
//! differences that are meant, which are listed by their names.

use serde_json::Value;
use tinkex::types::Timestamp;

use crate::program::{Done, tinkex};
use crate::support::{Reply, Seen, Service};

/// What differs on purpose in all commands: they make no session, and a document's times are ISO 8601, as on the wire.
/// Besides, of one command:
#[derive(Clone, Copy, Debug, PartialEq)]
enum Difference {
    None,
    /// The program names itself and has its own help.
    OwnWords,
    /// It ended with an error where a size is not known; here that is `N/A`.
    UnknownSize,
    /// It says nothing of what it has done; here a line says so.
    SaysWhatWasDone,
    /// Without a terminal it asked all the same, and ended with 1; here nothing is asked or sent, and `--yes` is required: 2.
    NobodyToAsk,
    /// A path that does not parse ended with 1; here it is wrong usage: 2.
    WrongUsage,
}

fn difference(label: &str) -> Difference {
    match label {
        "tinker version" | "tinker --help" => Difference::OwnWords,
        "tinker checkpoint list" | "tinker checkpoint list --run-id run-golden" => Difference::UnknownSize,
        "tinker checkpoint delete tinker://run-golden/weights/0001" => Difference::NobodyToAsk,
        "tinker checkpoint info bad-path" => Difference::WrongUsage,
        label if ["publish", "unpublish", "delete -y"].iter().any(|word| label.contains(&format!(" {word} "))) => {
            Difference::SaysWhatWasDone
        }
        _ => Difference::None,
    }
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../golden/v0.4.1/52_cli.json")).unwrap()
}

/// Method and path of an exchange, below `/api/v1/`, with the query.
fn place(exchange: &Value) -> String {
    let path = exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/");
    let query = exchange["query"].as_str().map_or(String::new(), |query| format!("?{query}"));
    format!("{} {path}{query}", exchange["method"].as_str().unwrap())
}

fn seen_place(seen: &Seen) -> String {
    format!("{} {}", seen.method, seen.path)
}

/// A service that answers these exchanges as they were answered.
fn service(exchanges: Vec<Value>) -> Service {
    Service::start(move |seen| {
        let exchange = exchanges.iter().find(|exchange| place(exchange) == seen_place(seen));
        let answer = &exchange.unwrap_or_else(|| panic!("{seen:?} was not asked"))["response"];
        let status = answer["status"].as_u64().unwrap().try_into().unwrap();
        match answer.get("json") {
            Some(body) => Reply::Json(status, body.clone()),
            None => Reply::Full { status, headers: Vec::new(), body: Vec::new() },
        }
    })
}

/// The title and the rows of a table, the header first, without the lines around them.
fn table(text: &str) -> Vec<Vec<String>> {
    let is_row = |line: &&str| line.starts_with(['│', '┃']);
    let cells = |line: &str| {
        let inner: Vec<&str> = line.split(['│', '┃', '┆']).collect();
        // Indented cells say what they belong to.
        inner[1..inner.len() - 1].iter().map(|cell| cell[1..].trim_end().to_owned()).collect()
    };
    let title = text.lines().next().unwrap_or_default().trim().to_owned();
    std::iter::once(vec![title]).chain(text.lines().filter(is_row).map(cells)).collect()
}

/// The document with every time as its instant.
fn by_instant(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| match (name.as_str(), &value) {
                ("time" | "last_request_time", Value::String(text)) => {
                    let time = text.parse::<Timestamp>().unwrap();
                    (name, Value::from(format!("{}.{}", time.unix_seconds(), time.subsec_nanos())))
                }
                _ => (name, by_instant(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(by_instant).collect(),
        other => other,
    }
}

fn check(label: &str, theirs: &Value, done: &Done) {
    let (stdout, code) = (theirs["stdout"].as_str().unwrap(), theirs["exit"].as_i64().unwrap());
    let code = Some(i32::try_from(code).unwrap());
    match difference(label) {
        Difference::None if label.contains("-f json") => {
            assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{label}");
            let [ours, theirs] = [&done.stdout, stdout].map(|text| by_instant(serde_json::from_str(text).unwrap()));
            assert_eq!(ours, theirs, "{label}");
        }
        Difference::None if code == Some(0) => {
            assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{label}");
            assert_eq!(table(&done.stdout), table(stdout), "{label}");
        }
        Difference::None => {
            assert_eq!((done.code, done.stdout.as_str(), stdout), (code, "", ""), "{label}");
            assert!(done.stderr.starts_with("error: "), "{label}: {done:?}");
        }
        Difference::OwnWords => assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{label}"),
        Difference::UnknownSize => {
            assert_eq!((code, done.code), (Some(1), Some(0)), "{label}");
            let rows = table(&done.stdout);
            assert_eq!(rows[1], ["Checkpoint ID", "Type", "Size", "Public", "Created", "Path"]);
            let sizes: Vec<_> = rows[2..].iter().map(|row| row[2].as_str()).collect();
            assert!(sizes.contains(&"N/A") && sizes.contains(&"117.7 MB"), "{label}: {done:?}");
        }
        Difference::SaysWhatWasDone => {
            assert_eq!((done.code, stdout), (code, ""), "{label}");
            assert!(done.stdout.ends_with("ed tinker://run-golden/weights/0001\n"), "{label}: {done:?}");
        }
        Difference::NobodyToAsk | Difference::WrongUsage => {
            assert_eq!((code, done.code, done.stdout.as_str()), (Some(1), Some(2), ""), "{label}");
        }
    }
}

#[test]
fn what_the_python_program_was_asked_is_answered_alike() {
    let fixture = fixture();
    let results = fixture["results"].as_array().unwrap();
    assert_eq!(results.len(), 18);
    for theirs in results {
        let label = theirs["label"].as_str().unwrap();
        let of_command = |exchange: &&Value| {
            (theirs["first_seq"].as_u64()..=theirs["last_seq"].as_u64()).contains(&exchange["seq"].as_u64())
        };
        let exchanges: Vec<Value> =
            fixture["exchanges"].as_array().unwrap().iter().filter(of_command).cloned().collect();
        let asked: Vec<String> = exchanges.iter().map(place).filter(|place| place != "POST create_session").collect();
        let service = service(exchanges);
        let done = tinkex(label.trim_start_matches("tinker ")).at(&service.url()).run();
        check(label, theirs, &done);
        let ours: Vec<String> = service.seen().iter().map(seen_place).collect();
        let expected = if difference(label) == Difference::NobodyToAsk { Vec::new() } else { asked };
        assert_eq!(ours, expected, "{label}");
    }
}
