//! The matrix: every operation with every fault, once and for ever, and what comes of it.
//!
//! `outcomes.txt` has the outcome of each cell. The default run compares a part of the cells; `MATRIX=all` compares all of them, and
//! `UPDATE_GOLDEN=1` writes the file. No outcome may contain `WRONG`: something ran twice or never, a number was left out, an error
//! hides that something was run, a later call fails, a call is stuck or takes longer than its limit by the client's clock, or an error
//! shows a secret. Nor may the log, with the bytes on the wire.
//!
//! It is a process of its own, for it counts the threads that are left at the end.
#![cfg(feature = "ndarray")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

mod cell;
mod describe;
mod faults;
mod limits;
mod operations;
mod outcomes;
mod secrets;
mod stop;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, io, panic};

use cell::Times;
use faults::{Fault, Kind};
use log::LevelFilter;
use operations::Operation;
use secrets::WATCH;
use support::each_at_once;

/// Cells mostly wait, for a limit or for a thread of theirs.
const AT_ONCE: usize = 24;

#[allow(clippy::disallowed_methods, reason = "whether a call is stuck is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}

/// The operations that also have the statuses with headers: one for each way of the code in which a request is tried again.
const WITH_HEADERS: [&str; 17] = [
    "connect: settings",
    "connect: token",
    "connect: session",
    "heartbeat",
    "telemetry",
    "create_lora_training_client: submission",
    "forward_backward in protobuf: submission",
    "forward_backward in protobuf: poll",
    "optim_step: submission",
    "optim_step: poll",
    "save_state: submission",
    "create_sampling_client",
    "sample: submission",
    "sample: poll of the session",
    "get_training_run",
    "download: archive",
    "download: file",
];

/// A pass to a server that runs numbers in order, and takes JSON only.
const IN_ORDER: &str = "forward_backward in JSON, numbers in order: submission";

/// Where a cell is: its operation, how often the fault strikes, and the fault.
type Place = (String, Times, String);

/// A cell to run.
#[derive(Clone)]
struct Cell {
    operation: &'static Operation,
    fault: Arc<Fault>,
    times: Times,
}

impl Cell {
    fn place(&self) -> Place {
        (self.operation.name.to_owned(), self.times, self.fault.name.clone())
    }

    /// Whether there is such a fault of such a request.
    fn exists(&self) -> bool {
        match self.fault.kind {
            Kind::ResetAtOnce if !self.operation.is_first => false,
            // For ever, these are silence, and a reset after the request is run.
            Kind::Stopped | Kind::Restarted if self.times == Times::Ever => false,
            // It takes passes in no other format, and waits for this one for ever.
            Kind::Status(415, None) if self.operation.name == IN_ORDER => false,
            // The headers mean the same wherever the same rules apply.
            Kind::Status(401, Some(_)) => self.operation.name.contains("token"),
            Kind::Status(_, Some(_)) if !WITH_HEADERS.contains(&self.operation.name) => false,
            // Which of several limits ends these is a matter of time.
            Kind::Status(429, _) if self.operation.target == "asample" => self.times == Times::Once,
            _ if self.is_poll_of_chunks() => self.times == Times::Once,
            _ => true,
        }
    }

    fn is_poll_of_chunks(&self) -> bool {
        self.operation.name.starts_with("forward_backward in three chunks")
            && self.operation.target == "retrieve_future"
    }

    /// Whether the default run has it: a few operations with all faults, and the others with a few kinds.
    fn is_default(&self) -> bool {
        let is_central =
            matches!(self.operation.name, "optim_step: submission" | "optim_step: poll" | "sample: submission");
        let is_short = matches!(
            (self.fault.name.as_str(), self.times),
            ("closed after it is run" | "503" | "401, invalid token", _)
                | ("closed within the body" | "404", Times::Once)
                | ("refused" | "200, HTML", Times::Ever)
        );
        is_central || is_short
    }
}

#[test]
fn every_fault_of_every_operation_has_its_outcome() {
    let updates = env::var_os("UPDATE_GOLDEN").is_some();
    let runs_all = updates || env::var("MATRIX").is_ok_and(|which| which == "all");
    let only = env::var("MATRIX_ONLY").unwrap_or_default();
    assert!(only.is_empty() || !updates, "the file has the outcomes of all operations");
    let operations: &'static [Operation] = Vec::leak(operations::all());
    let faults: Vec<_> = faults::all().into_iter().map(Arc::new).collect();
    let cells = operations.iter().flat_map(|operation| {
        let of_fault = |fault: &Arc<Fault>| {
            [Times::Once, Times::Ever].map(|times| Cell { operation, fault: Arc::clone(fault), times })
        };
        faults.iter().flat_map(of_fault).collect::<Vec<_>>()
    });
    let cells: Vec<_> = cells
        .filter(|cell| cell.exists() && (runs_all || cell.is_default()))
        .filter(|cell| cell.operation.name.contains(&only))
        .collect();
    log::set_logger(&WATCH).unwrap();
    log::set_max_level(LevelFilter::Trace);
    // Panics of cells are their outcomes.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let seen = run(cells.clone());
    panic::set_hook(hook);

    if updates {
        outcomes::write(
            &cells.iter().map(Cell::place).map(|place| (place.clone(), seen[&place].clone())).collect::<Vec<_>>(),
        );
    }
    let expected = outcomes::read();
    let differences: Vec<_> = seen
        .iter()
        .filter(|(place, outcome)| expected.get(*place) != Some(*outcome))
        .map(|(place, outcome)| format!("{place:?}\n  is       {outcome}\n  expected {:?}", expected.get(place)))
        .collect();
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), seen.len(), differences.join("\n"));
    let is_stale = |place: &&Place| runs_all && place.0.contains(&only) && !seen.contains_key(*place);
    let stale: Vec<_> = expected.keys().filter(is_stale).collect();
    assert!(stale.is_empty(), "there are no such cells: {stale:?}");
    writeln!(io::stderr(), "{} cells, of {} outcomes in the file", seen.len(), expected.len()).unwrap();
    let wrong: Vec<_> = expected.iter().filter(|(_, outcome)| outcome.contains("WRONG")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let [shown, lines, rows] = [&WATCH.shown, &WATCH.lines, &WATCH.rows].map(|count| count.load(Ordering::Relaxed));
    let first = WATCH.first.get();
    assert!(shown == 0, "{shown} of {lines} lines of the log and {rows} rows of bytes show a secret: {first:?}");
    assert!(lines > 0 && rows > 0, "the log was not captured");
    assert_no_thread_is_left();
}

/// Runs the cells, many at once.
fn run(cells: Vec<Cell>) -> BTreeMap<Place, String> {
    let seen = Mutex::<BTreeMap<Place, String>>::default();
    each_at_once(AT_ONCE, cells, |cell| {
        let outcome = cell::outcome(cell.operation, &cell.fault, cell.times);
        seen.lock().unwrap().insert(cell.place(), outcome);
    });
    seen.into_inner().unwrap()
}

/// The threads of all clients have ended. The last ones may take a moment.
fn assert_no_thread_is_left() {
    let left = || -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("tinkex-")).collect()
    };
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    for _ in 0..100 {
        if left().is_empty() {
            return;
        }
        never.recv_timeout(Duration::from_millis(50)).ok();
    }
    panic!("threads are left: {:?}", left());
}
