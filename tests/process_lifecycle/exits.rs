//! A process that ends with work in flight, and one that is stopped for a while.
#![cfg(target_os = "linux")]

use std::io::{self, BufRead, Read};
use std::process::{Child, Command, Stdio};
use std::{env, fs, mem, process};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::config_for;
use super::*;

/// Set in the process that ends: the base URL, and how it ends.
const URL: &str = "TINKEX_TEST_EXIT_URL";
const HOW: &str = "TINKEX_TEST_EXIT_HOW";

/// The limits of a process that is stopped for longer than they are.
const SHORT: Duration = Duration::from_millis(200);

/// Has a step, a sample and a pass in flight, and ends in this way when its input does.
fn end(url: String, how: &str) {
    let config = match how {
        "oversleeps" => config_for(url).timeout_idle(SHORT).timeout_poll(SHORT).heartbeat_interval(SHORT / 2),
        _ => config_for(url),
    };
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let (trainer, sampler) = (train(&client), client.create_sampling_client("base").unwrap());
    let step = trainer.submit_optim_step(adam()).unwrap();
    let reply = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    let blocked = trainer.clone();
    thread::spawn(move || blocked.forward(batch(), LossFn::CrossEntropy));
    io::stdin().lock().read_line(&mut String::new()).unwrap();
    match how {
        "returns" => {}
        "exits" => process::exit(0),
        "panics" => panic!("as the test wants"),
        "forgets" => mem::forget((client, trainer, sampler, step, reply)),
        "closes" => client.close(Duration::from_secs(1)),
        "waits" | "oversleeps" => {
            step.wait().unwrap();
            reply.wait().unwrap();
            trainer.optim_step(adam()).unwrap();
        }
        other => unreachable!("{other}"),
    }
}

/// A process, also a stopped one, that does not outlive its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A process that has its work in flight.
fn started(service: &Service, how: &str, test: &str) -> Started {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(URL, service.url()).env(HOW, how);
    let child = Started(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    service.wait_until(|requests| polls(requests, "") - polls(requests, "create_model") >= 3);
    child
}

/// The code of a process, which ends promptly.
fn code(mut child: Started) -> Option<i32> {
    drop(child.0.stdin.take());
    // Its output ends when it does.
    let mut output = child.0.stdout.take().unwrap();
    promptly(move || output.read_to_end(&mut Vec::new()).unwrap());
    child.0.wait().unwrap().code()
}

#[test]
fn a_process_ends_with_work_in_flight() {
    if let (Ok(url), Ok(how)) = (env::var(URL), env::var(HOW)) {
        return end(url, &how);
    }
    for (how, expected) in [("returns", 0), ("exits", 0), ("panics", 101), ("forgets", 0), ("closes", 0)] {
        for vanishes in [false, true] {
            let service = Service::start_vanishing(silent);
            let child = started(&service, how, "exits::a_process_ends_with_work_in_flight");
            if vanishes {
                service.vanish();
            }
            assert_eq!(code(child), Some(expected), "{how}, vanishes: {vanishes}");
        }
    }
}

/// A service that holds the results until the gate opens.
fn holding(gate: &Arc<Gate>) -> Service {
    let held = Arc::clone(gate);
    Service::start(move |request| match &*request.path {
        "retrieve_future" if !request.request_id().starts_with("create_model") => {
            Reply::held(&held, healthy_service(request))
        }
        _ => healthy_service(request),
    })
}

/// Stops a process. Returns how to let it go on.
fn stopped(child: &Started) -> impl FnOnce() + use<> {
    let id = Pid::from_raw(child.0.id().try_into().unwrap());
    kill(id, Signal::SIGSTOP).unwrap();
    let state = move || fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    promptly(move || {
        while !state().contains(") T ") {
            thread::yield_now();
        }
    });
    move || kill(id, Signal::SIGCONT).unwrap()
}

/// A suspended laptop: when the process goes on, its connections are gone.
#[test]
fn a_stopped_process_goes_on() {
    if let (Ok(url), Ok(how)) = (env::var(URL), env::var(HOW)) {
        return end(url, &how);
    }
    let gate = Arc::new(Gate::default());
    let service = holding(&gate);
    let child = started(&service, "waits", "exits::a_stopped_process_goes_on");
    let go_on = stopped(&child);
    service.connections().close_all();
    service.wait_for_no_connection();
    gate.open();
    go_on();
    assert_eq!(code(child), Some(0));
    let steps = service.requests_to("optim_step");
    assert_eq!(steps.iter().map(|step| step.seq_id().unwrap()).collect::<Vec<_>>(), [1, 3], "each step once");
}

/// When the process goes on, its heartbeat is overdue, its limits have passed, and responses wait to be read.
#[test]
fn a_process_goes_on_after_its_limits() {
    if let (Ok(url), Ok(how)) = (env::var(URL), env::var(HOW)) {
        return end(url, &how);
    }
    let gate = Arc::new(Gate::default());
    let service = holding(&gate);
    let child = started(&service, "oversleeps", "exits::a_process_goes_on_after_its_limits");
    let go_on = stopped(&child);
    gate.open();
    // Its limits are those of real time.
    let (_keep, never) = bounded::<()>(1);
    never.recv_timeout(3 * SHORT).unwrap_err();
    let beats = service.requests_to("session_heartbeat").len();
    go_on();
    service.wait_for_count("session_heartbeat", beats + 1);
    assert_eq!(code(child), Some(0));
    // On a busy machine a submission may also exceed its limit, and is sent again.
    let steps = service.requests_to("optim_step");
    let steps: BTreeSet<_> = steps.iter().map(|step| (step.seq_id(), step.header("x-idempotency-key"))).collect();
    assert_eq!(steps.iter().map(|step| step.0.unwrap()).collect::<Vec<_>>(), [1, 3], "each step once");
}
