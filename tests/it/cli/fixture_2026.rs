//! The command line of the Python client 0.38.0, replayed: the same exit codes, and the same requests except for the settings and the
//! scope, which our REST client does not ask for or send by default, and for the run of a checkpoint. Its tables are compared where
//! they have the same columns.

use serde_json::Value;

use super::fixture::{request_line, seen_request_line, service, table};
use super::program::tinkex;
use crate::support::golden;

/// An intended difference of one command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Difference {
    None,
    /// Name, help, options and results in text are our own.
    OwnText,
    /// The columns are our own: those of the client 0.4.1, or fewer than all fields.
    OwnColumns,
    /// Without a terminal, Python asks anyway and exits with 1; we require `--yes`, send nothing and exit with 2.
    RequiresYes,
    /// For an invalid path, Python exits with 1; we exit with 2, as for all invalid usage.
    InvalidUsage,
    /// Python asks for the run, too, and shows its adapter.
    NoAdapter,
    /// It belongs to another command of ours.
    Elsewhere,
}

fn difference(label: &str) -> Difference {
    let has = |word: &str| label.contains(word);
    match label {
        "tinker version" | "tinker --help" => Difference::OwnText,
        "tinker checkpoint delete tinker://run-golden/weights/0001" => Difference::RequiresYes,
        "tinker checkpoint info bad-path" => Difference::InvalidUsage,
        _ if has("checkpoint info") => Difference::NoAdapter,
        _ if has("run list") || has("run info") || has("billing") => Difference::OwnColumns,
        _ if has("publish") || has("delete -y") || has("set-ttl") || has("--help") => Difference::OwnText,
        _ if has("auth ") => Difference::Elsewhere,
        _ => Difference::None,
    }
}

#[test]
fn commands_match_the_python_program_of_2026() {
    let fixture = golden::fixture_2026("52_cli");
    let results = fixture["results"].as_array().unwrap();
    let mut compared = 0;
    for theirs in results {
        let label = theirs["label"].as_str().unwrap();
        let of_command = |exchange: &&Value| {
            (theirs["first_seq"].as_u64()..=theirs["last_seq"].as_u64()).contains(&exchange["seq"].as_u64())
        };
        let is_setting = |exchange: &Value| exchange["path"].as_str().unwrap().starts_with("/api/v1/client/");
        let exchanges: Vec<Value> =
            fixture["exchanges"].as_array().unwrap().iter().filter(of_command).cloned().collect();
        let without_scope = |mut exchange: Value| {
            let query = exchange["query"].as_str().unwrap_or_default();
            let kept: Vec<&str> =
                query.split('&').filter(|pair| !pair.is_empty() && *pair != "access_scope=owned").collect();
            exchange["query"] = if kept.is_empty() { Value::Null } else { kept.join("&").into() };
            exchange
        };
        let exchanges: Vec<Value> =
            exchanges.into_iter().filter(|exchange| !is_setting(exchange)).map(without_scope).collect();
        let difference = difference(label);
        if difference == Difference::Elsewhere {
            continue;
        }
        let mut expected: Vec<String> = exchanges.iter().map(request_line).collect();
        let bodies: Vec<Value> = exchanges.iter().map(|exchange| exchange["body"]["json"].clone()).collect();
        let service = service(exchanges);
        let done = tinkex(label.trim_start_matches("tinker ")).at(&service.url()).run();
        let code = Some(i32::try_from(theirs["exit"].as_i64().unwrap()).unwrap());
        match difference {
            Difference::RequiresYes | Difference::InvalidUsage => {
                assert_eq!((code, done.code, done.stdout.as_str()), (Some(1), Some(2), ""), "{label}");
            }
            _ => assert_eq!(done.code, code, "{label}: {done:?}"),
        }
        let stdout = theirs["stdout"].as_str().unwrap();
        if difference == Difference::None && code == Some(0) && !label.contains("-f json") {
            // Python's tables cut long paths short, and a list of models has no title.
            let rows = |text: &str| table(text).into_iter().skip(1).collect::<Vec<_>>();
            for (ours, theirs) in rows(&done.stdout).iter().zip(rows(stdout)) {
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!(
                        *ours == theirs || ours.starts_with(theirs.trim_end_matches('…')),
                        "{label}: {ours} {theirs}"
                    );
                }
            }
            assert_eq!(rows(&done.stdout).len(), rows(stdout).len(), "{label}");
        }
        if label.contains("-f json") {
            let ours: Value = serde_json::from_str(&done.stdout).unwrap();
            let theirs: Value = serde_json::from_str(stdout).unwrap();
            let keys = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            let adapter =
                |key: &String| !["is_lora", "lora_rank"].contains(&key.as_str()) || label.contains("run info");
            assert_eq!(keys(&ours), keys(&theirs).into_iter().filter(adapter).collect::<Vec<_>>(), "{label}");
        }
        if difference == Difference::NoAdapter {
            expected.truncate(1);
        }
        let seen = service.requests();
        assert_eq!(seen.iter().map(seen_request_line).collect::<Vec<_>>(), expected, "{label}");
        seen.iter().zip(&bodies).for_each(|(ours, theirs)| assert_eq!(ours.body, *theirs, "{label}"));
        compared += 1;
    }
    assert_eq!(compared + 1, results.len());
}
