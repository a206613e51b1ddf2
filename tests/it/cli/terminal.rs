//! What only a terminal shows: progress, questions and colors.

use std::sync::Arc;

use httpmock::Method::DELETE;
use httpmock::MockServer;
use serde_json::json;
use tempfile::TempDir;

use super::download::{names, stalling};
use super::program::{Program, tinkex};
use crate::support::mock::{anything, respond};
use crate::support::terminal::Terminal;
use crate::support::{Gate, Reply, Service, healthy_service};

fn at_terminal(program: Program) -> Terminal {
    Terminal::start(program.command)
}

#[test]
fn delete_asks_for_confirmation() {
    for (answer, deletes) in [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("\u{4}", false)] {
        let server = MockServer::start();
        let deletion = |id: &str| {
            respond(&server, DELETE, &format!("training_runs/run/checkpoints/weights/{id}"), |then| then.status(204))
        };
        let deletions = ["a", "b"].map(deletion);
        let anything = anything(&server);
        let delete = tinkex("checkpoint delete tinker://run/weights/a tinker://run/weights/b");
        let mut terminal = at_terminal(delete.at(&server.base_url()));
        terminal.until_shown("Permanently delete these 2 checkpoints? [y/N]: ");
        deletions.iter().for_each(|deletion| deletion.assert_calls(0));
        terminal.types(answer);
        let (code, stdout, shown) = terminal.end();
        deletions.iter().for_each(|deletion| deletion.assert_calls(usize::from(deletes)));
        anything.assert_calls(0);
        assert!(shown.contains("tinker://run/weights/a\r\ntinker://run/weights/b\r\n"), "{shown:?}");
        if deletes {
            assert_eq!(code, Some(0), "{answer:?}");
            assert_eq!(stdout, "deleted tinker://run/weights/a\ndeleted tinker://run/weights/b\n");
        } else {
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{answer:?}");
            assert!(shown.contains("nothing was deleted"), "{shown:?}");
        }
    }
}

/// A list of 150 sessions, whose second page is held until the gate opens.
fn slow_list(gate: &Arc<Gate>) -> Service {
    let gate = Arc::clone(gate);
    Service::start(move |request| {
        let offset = if request.path.contains("offset=100") { 100 } else { 0 };
        let page: Vec<_> = (offset..150).take(100).map(|number| format!("session-{number}")).collect();
        let page = Reply::ok(json!({ "sessions": page }));
        if offset == 0 { page } else { Reply::held(&gate, page) }
    })
}

#[test]
fn a_long_list_shows_progress_then_clears_it() {
    let gate = Arc::<Gate>::default();
    let service = slow_list(&gate);
    let mut terminal = at_terminal(tinkex("session list --limit 0 -f json").at(&service.url()));
    terminal.until_shown("100/");
    gate.open();
    let (code, stdout, shown) = terminal.end();
    assert_eq!(code, Some(0));
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["sessions"].as_array().unwrap().len(), 150);
    // The cursor is back at the start of a cleared line.
    assert!(shown.trim_end_matches('\r').ends_with("\u{1b}[2K"), "{shown:?}");
}

#[test]
fn ctrl_c_stops_a_waiting_command() {
    let gate = Arc::<Gate>::default();
    let service = slow_list(&gate);
    let mut terminal = at_terminal(tinkex("session list --limit 0").at(&service.url()));
    terminal.until_shown("100/");
    terminal.interrupt();
    let (code, stdout, _) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
}

#[test]
fn ctrl_c_stops_a_download_and_leaves_nothing() {
    let (service, folder) = (stalling(), TempDir::new().unwrap());
    let program = tinkex("checkpoint download tinker://run/weights/a -o here").at(&service.url());
    let mut terminal = at_terminal(program.within(folder.path()));
    terminal.until_shown("1.00 KiB/4.00 KiB");
    terminal.interrupt();
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
    assert!(shown.contains("download interrupted; no files were left"), "{shown:?}");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn lists_fit_into_the_terminal() {
    let run = "session-00000000-0000-4000-8000-000000000000:train:0";
    let service = Service::start(move |request| match &*request.path {
        path if path.starts_with("training_runs") => Reply::ok(json!({"training_runs": [
            {"training_run_id": run, "base_model": "Qwen/Qwen3-30B-A3B-Instruct-2507", "model_owner": "tml:organization_user:x",
             "is_lora": true, "lora_rank": 32, "last_request_time": "2020-01-01T00:00:00Z"},
        ], "cursor": {"offset": 0, "limit": 20, "total_count": 1}})),
        _ => Reply::ok(json!({"checkpoints": [
            {"checkpoint_id": "sampler_weights/final", "checkpoint_type": "sampler", "time": "2020-01-01T00:00:00Z",
             "tinker_path": format!("tinker://{run}/sampler_weights/final"), "size_bytes": 2048},
        ], "cursor": {"offset": 0, "limit": 20, "total_count": 1}})),
    });
    for (command, values) in [
        ("run list", vec![run.to_owned(), "Qwen/Qwen3-30B-A3B-Instruct-2507".to_owned()]),
        ("checkpoint list", vec!["sampler_weights/final".to_owned(), format!("tinker://{run}/sampler_weights/final")]),
    ] {
        for columns in [70, 80, 100, 200] {
            let (code, _, shown) = Terminal::with_columns(tinkex(command).at(&service.url()).command, columns).end();
            assert_eq!(code, Some(0), "{shown}");
            let shown: String = strip(&shown);
            let longest = values.iter().map(|value| value.len() + "  Path: ".len()).max().unwrap().max(columns.into());
            for line in shown.lines() {
                assert!(line.chars().count() <= longest, "{columns}: {line:?}");
            }
            // No id is cut or wrapped.
            assert!(values.iter().all(|value| shown.contains(value)), "{columns}: {shown}");
            assert_eq!(shown.contains('┆'), columns == 200, "{columns}: {shown}");
        }
    }
}

/// The text without progress bars: what stands behind the last return to the start of a line.
fn strip(shown: &str) -> String {
    let lines = shown.split('\n').map(|line| line.trim_end_matches('\r'));
    let lines = lines.map(|line| line.rsplit(['\r', '\u{1b}']).next().unwrap_or_default());
    lines.map(|line| line.strip_prefix("[2K").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn errors_are_colored_unless_no_color_is_set() {
    for (name, is_colored) in [("COLOR", true), ("NO_COLOR", false)] {
        let list = || tinkex("run list").without_env("TINKER_API_KEY").env(name, "1");
        let (code, _, shown) = at_terminal(list()).end();
        assert_eq!(code, Some(2));
        assert_eq!(shown.contains("\u{1b}["), is_colored, "{shown:?}");
        assert!(!list().run().stderr.contains('\u{1b}'), "no terminal, no colors");
        let (_, _, shown) = at_terminal(tinkex("nope").env(name, "1")).end();
        assert_eq!(shown.contains("\u{1b}["), is_colored, "{shown:?}");
    }
}

#[test]
fn a_deletion_by_filter_shows_what_matches() {
    let service = Service::start(|request| match &*request.method {
        "GET" => Reply::ok(json!({"checkpoints": [
            {"checkpoint_id": "weights/a", "checkpoint_type": "training", "time": "2020-01-01T00:00:00Z",
             "tinker_path": "tinker://run/weights/a", "size_bytes": 2048},
            {"checkpoint_id": "b", "checkpoint_type": "sampler", "time": "2020-01-01T00:00:00Z",
             "tinker_path": "tinker://run/b", "size_bytes": 1024},
            {"checkpoint_id": "weights/c", "checkpoint_type": "training", "time": "2030-01-01T00:00:00Z",
             "tinker_path": "tinker://run/weights/c"},
        ]})),
        _ => Reply::no_content(),
    });
    for (answer, code) in [("n\n", Some(1)), ("y\n", Some(0))] {
        let delete = tinkex("checkpoint delete --run-id run --before 2021-01-01 --type training");
        let mut terminal = at_terminal(delete.at(&service.url()));
        terminal.until_shown("Permanently delete this checkpoint (2.0 KB)? [y/N]: ");
        terminal.types(answer);
        let (exit, stdout, shown) = terminal.end();
        assert_eq!(exit, code, "{shown}");
        assert!(shown.contains("tinker://run/weights/a (2.0 KB, saved 2020-01-01)\r\n"), "{shown:?}");
        assert_eq!(stdout.contains("deleted tinker://run/weights/a"), code == Some(0));
    }
    let deleted: Vec<_> = service.requests().into_iter().filter(|request| request.method == "DELETE").collect();
    assert_eq!(deleted.len(), 1);
}

#[test]
fn an_export_asks_before_it_costs() {
    let service = Service::start(|request| match &*request.path {
        "healthz" => healthy_service(request),
        "training_runs/run/checkpoints" => Reply::ok(json!({"checkpoints": [
            {"checkpoint_id": "weights/a", "checkpoint_type": "training", "time": "2020-01-01T00:00:00Z",
             "tinker_path": "tinker://run/weights/a"},
        ]})),
        _ => Reply::Json(410, json!({"detail": "gone"})),
    });
    let folder = TempDir::new().unwrap();
    let mut terminal = at_terminal(
        tinkex("checkpoint download tinker://run/weights/a -o out").within(folder.path()).at(&service.url()),
    );
    terminal.until_shown("Export it now? [y/N]: ");
    terminal.types("\n");
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(
        shown.contains("The service may charge for the training client.") && shown.contains("nothing was downloaded")
    );
    assert_eq!(service.requests_to("create_session").len(), 0);
    assert_eq!(names(folder.path()), [""; 0]);
}
