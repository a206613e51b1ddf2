//! Twenty thousand unresolved results on few connections: `cargo bench --bench futures`.
//!
//! A service on loopback holds each poll for a second of real time. For 128 and for 2 poll connections this prints the memory
//! that each result takes, how soon one that is waited for comes although all connections are held by others, and, once
//! everything is ready, the order in which results are asked for: a training client's in order, clients in turns.
//!
//! Memory is the growth of the resident set (`/proc/self/statm`, so Linux only) by the second so many results, when threads,
//! connections and the allocator's arenas are there: the results themselves with what is needed to submit a sample anew, its
//! prompt of one token included, the service's side of it being a counter.
//! Without `--bench` (as under `cargo test --all-targets`) it runs with 200 results.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tinkex::config::Proxy;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SamplingParams};
use tinkex::{Config, Error, Pending, ServiceClient, wait_all};

/// How long the service holds a poll of a result that is not there.
const HOLD: Duration = Duration::from_secs(1);

const SAMPLERS: usize = 4;
const STEPS: usize = 20;

#[derive(Default)]
struct Service {
    state: Mutex<State>,
    changed: Condvar,
    submitted: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Whether every result is there.
    open: bool,
    /// The one that is there before.
    wanted: String,
    /// The polls that are held.
    held: usize,
    /// The results delivered since all are there, in order.
    delivered: Vec<String>,
}

impl Service {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let service = Arc::<Service>::default();
        let accepting = Arc::clone(&service);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = Arc::clone(&accepting);
                thread::spawn(move || service.serve(stream).ok());
            }
        });
        (service, url)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
        loop {
            let (mut path, mut length, mut line) = (String::new(), 0, String::new());
            while reader.read_line(&mut line)? > 2 {
                if path.is_empty() {
                    path = line.split(' ').nth(1).unwrap_or_default().replace("/api/v1/", "");
                } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            if path.is_empty() {
                return Ok(());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let (status, answer) = self.answer(&path, &String::from_utf8_lossy(&body));
            let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n", answer.len());
            writer.write_all((head + &answer).as_bytes())?;
        }
    }

    fn answer(&self, path: &str, body: &str) -> (u16, String) {
        let value = |key: &str| {
            let rest = body.split(&format!("\"{key}\":")).nth(1).unwrap_or_default();
            rest.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
        };
        let answer = match path {
            "create_session" => r#"{"session_id":"session"}"#.to_owned(),
            "create_model" => r#"{"request_id":"model"}"#.to_owned(),
            "create_sampling_session" => format!(r#"{{"sampling_session_id":"{}"}}"#, value("sampling_session_seq_id")),
            "asample" => {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                format!(r#"{{"request_id":"sample {} {}"}}"#, value("sampling_session_id"), value("seq_id"))
            }
            "optim_step" => format!(r#"{{"request_id":"step {}"}}"#, value("seq_id")),
            "retrieve_future" => return self.poll(&value("request_id")),
            _ => "{}".to_owned(),
        };
        (200, answer)
    }

    fn poll(&self, id: &str) -> (u16, String) {
        if id == "model" {
            return (200, r#"{"model_id":"model"}"#.to_owned());
        }
        let mut state = self.state.lock().expect("no panic");
        let is_there = |state: &State| state.open || state.wanted == id;
        if !is_there(&state) {
            state.held += 1;
            self.changed.notify_all();
            let waits = |state: &mut State| !is_there(state);
            state = self.changed.wait_timeout_while(state, HOLD, waits).expect("no panic").0;
            state.held -= 1;
        }
        if !is_there(&state) {
            return (408, r#"{"queue_state":"active"}"#.to_owned());
        }
        if state.open {
            state.delivered.push(id.to_owned());
        }
        let result = if id.starts_with("step") {
            r#"{"metrics":{}}"#
        } else {
            r#"{"sequences":[{"stop_reason":"stop","tokens":[1]}]}"#
        };
        (200, result.to_owned())
    }

    /// Changes what is there.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no panic"));
        self.changed.notify_all();
    }

    fn until(&self, ready: impl Fn(&State) -> bool) {
        let mut state = self.state.lock().expect("no panic");
        while !ready(&state) {
            state = self.changed.wait_timeout(state, Duration::from_millis(5)).expect("no panic").0;
        }
    }
}

/// The bytes of memory in use, where the system tells.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

fn run(connections: usize, futures: usize) -> Result<(), Error> {
    let (service, url) = Service::start();
    let config = Config::builder().api_key(format!("tml-bench-{connections}")).base_url(url).proxy(Proxy::Off);
    let client = ServiceClient::connect(config.max_poll_connections(connections).max_queued(4 * futures).build()?)?;
    let samplers = (0..SAMPLERS).map(|_| client.create_sampling_client("base")).collect::<Result<Vec<_>, _>>()?;
    let trainer = client.create_lora_training_client("base", LoraConfig::default())?;
    let prompt = ModelInput::from_tokens([1]);
    let submit = |count: usize| -> Result<Vec<Pending<_>>, Error> {
        let before = service.submitted.load(Ordering::Relaxed);
        let each = (0..count).map(|n| samplers[n % SAMPLERS].submit_sample(&prompt, 1, &SamplingParams::default()));
        let pendings = each.collect::<Result<Vec<_>, _>>()?;
        service.until(|_| service.submitted.load(Ordering::Relaxed) == before + count);
        Ok(pendings)
    };

    // As many first as are measured then: threads, connections, buffers and the allocator's arenas.
    let warm = submit(futures)?;
    service.until(|state| state.held >= connections);
    let before = resident();
    let began = Instant::now();
    let samples = submit(futures)?;
    service.until(|state| state.held >= connections);
    println!("{connections} connections, {futures} results, submitted in {:.1?}", began.elapsed());
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("  memory for each result: {} bytes", after.saturating_sub(before) / futures);
    }

    let wanted = &samples[futures / 2];
    let id = wanted.request_id().expect("it is submitted");
    service.change(|state| state.wanted = id);
    let began = Instant::now();
    wanted.wait_timeout(Duration::from_secs(60)).expect("it comes")?;
    println!("  one that is waited for, all connections held by others: {:.0?}", began.elapsed());

    let steps = (0..STEPS).map(|_| trainer.submit_optim_step(AdamParams::default())).collect::<Result<Vec<_>, _>>()?;
    service.until(|state| state.held >= connections);
    let began = Instant::now();
    service.change(|state| state.open = true);
    let mut samples = samples;
    drop(samples.swap_remove(futures / 2));
    // Nobody waits yet: what comes in the meantime comes in turns.
    let all = warm.len() + samples.len() + steps.len();
    service.until(|state| state.delivered.len() >= all / 2);
    wait_all(steps)?;
    wait_all(warm.into_iter().chain(samples))?;
    println!("  all of them, once they are there: {:.1?}", began.elapsed());
    let state = service.state.lock().expect("no panic");
    let numbers = |kind: &str| -> Vec<usize> {
        let of_kind = state.delivered.iter().filter_map(|id| id.strip_prefix(kind));
        of_kind.filter_map(|rest| rest.trim().parse().ok()).collect()
    };
    let steps = numbers("step");
    // The two oldest are asked for at once, so neighbours may swap.
    let displaced = steps.iter().enumerate().map(|(index, number)| number.abs_diff(index + 1)).max().unwrap_or(0);
    println!("  training results: {} of {STEPS}, at most {displaced} places out of order", steps.len());
    let samplers: Vec<_> =
        state.delivered.iter().take(all / 2).filter_map(|id| id.strip_prefix("sample ")?.split(' ').next()).collect();
    let counts: Vec<_> =
        (0..SAMPLERS).map(|n| samplers.iter().filter(|sampler| **sampler == n.to_string()).count()).collect();
    println!("  of the first half, each of {SAMPLERS} sampling clients had {counts:?}");
    drop(state);
    client.close(Duration::from_secs(5));
    Ok(())
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let futures = if args.iter().any(|arg| arg == "--bench") { 20_000 } else { 200 };
    if let Some(connections) = args.iter().find_map(|arg| arg.strip_prefix("--connections=")?.parse().ok()) {
        return run(connections, futures);
    }
    // Each in a process of its own, so that neither uses memory that the other left.
    for connections in [128, 2] {
        let run = Command::new(std::env::current_exe().map_err(Error::other)?)
            .args(&args[1..])
            .arg(format!("--connections={connections}"))
            .status();
        if !run.map_err(Error::other)?.success() {
            return Err(Error::other(format!("with {connections} connections")));
        }
    }
    Ok(())
}
