//! Signals that are ignored when the program starts, as `nohup` and `trap` have it, stay ignored.

use std::sync::Arc;

use nix::sys::signal::Signal;
use tinkex::local::LocalServer;

use super::place::Place;
use crate::cli::program::{PROGRAM, ignoring};
use crate::support::{Gate, Reply, Service, healthy_service};

const NOTE: &str = "press Ctrl-C again to stop immediately";

fn train(prefix: &str) -> String {
    format!("{prefix} train data.jsonl --base-model tinkex/bytes-tiny --batch-size 2 --steps 100000 --log-every 1")
}

#[test]
fn a_run_survives_an_ignored_signal() {
    let server = LocalServer::start().unwrap();
    for (ignored, other) in
        [(Signal::SIGHUP, Signal::SIGINT), (Signal::SIGINT, Signal::SIGTERM), (Signal::SIGTERM, Signal::SIGHUP)]
    {
        let place = Place::new(&server.base_url());
        let mut running = place.shell(&ignoring(ignored.as_str(), train("").trim()));
        running.until("step 2/100000");
        running.signal(ignored);
        // A caught signal allows two more steps.
        running.until("step 12/100000");
        running.signal(other);
        let done = running.finish();
        assert_eq!((done.code, done.stderr.matches(NOTE).count()), (Some(130), 1), "{ignored}: {}", done.stderr);
        assert!(done.stderr.contains("resume with: "), "{}", done.stderr);
    }
}

#[test]
fn nohup_keeps_a_run_alive() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let mut running = place.shell(&train(&format!("nohup {PROGRAM}")));
    running.until("step 2/100000");
    running.signal(Signal::SIGHUP);
    running.until("step 12/100000");
    running.interrupt();
    let done = running.finish();
    assert_eq!((done.code, done.stderr.matches(NOTE).count()), (Some(130), 1), "{}", done.stderr);
}

#[test]
fn a_short_command_ignores_it_as_well() {
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let service = Service::start(move |request| Reply::held(&held, healthy_service(request)));
        let place = Place::new(&service.url());
        let running = place.shell(&ignoring(ignored.as_str(), "model list"));
        service.wait_for_count("get_server_capabilities", 1);
        running.signal(ignored);
        gate.open();
        let done = running.finish();
        assert_eq!(done.code, Some(0), "{ignored}: {}", done.stderr);
    }
}
