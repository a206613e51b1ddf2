//! Keeps a client busy under faults for some minutes, and checks that nothing is lost, doubled, leaked or stuck.
//!
//! ```text
//! cargo run --release --features local --example soak [MINUTES]
//! ```
//!
//! 32 threads train, sample and list against the local server, in a process of its own, which resets connections, loses and truncates
//! responses, refuses requests with 429 and 503, and delays the rest. Every 10 s it prints what happened. It fails if
//!
//! - a result is not the one of an undisturbed run, bit by bit: a step was lost or doubled, or results were mixed up;
//! - the server's bill is not what the calls asked for: something was lost or ran twice;
//! - a call fails, or takes longer than a minute;
//! - memory or open sockets grow, by the least-squares slope of the second half, or threads and sockets stay after the end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its progress and results")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use tinkex::local::{Faults, LocalServer};
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams, Timestamp};
use tinkex::{Config, CustomLoss, Event, RestClient, ServiceClient};

const MODEL: &str = "tinkex/bytes-tiny";
const TRAINERS: usize = 6;
const LISTERS: usize = 4;
const THREADS: usize = 32;
/// Different models to train, and different prompts to sample.
const KINDS: usize = 8;
const STEPS: usize = 6;
const STUCK: Duration = Duration::from_secs(60);
/// What the slope of memory and sockets may come to over the time that it is fitted to.
const MAX_BYTES: f64 = 3.0 * 1024.0 * 1024.0;
const MAX_SOCKETS: f64 = 32.0;

/// Most requests are delayed, so that the load is that of the faults and not of the processor.
const CHAOS: &str = "*:reset%1; *:503%1; *:429%2,retry_after_ms=100; *:lost_response%1; *:truncate%0.5; *:reset_during%0.5; \
    *:reset_after%1; *:slow%25,delay_ms=50; *:slow%33,delay_ms=100; *:slow%50,delay_ms=150; *:slow,delay_ms=200";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    let argument = argument.as_deref().unwrap_or("1");
    let result = match (argument, argument.parse::<f64>()) {
        ("serve", _) => serve(),
        (_, Ok(minutes)) => soak(Duration::from_secs_f64(60.0 * minutes.clamp(0.1, 1e5))),
        (other, Err(_)) => Err(format!("{other} is not a number of minutes; usage: soak [MINUTES]").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The process of the server, which ends with its input.
fn serve() -> Result<()> {
    let server = LocalServer::builder()
        .faults(CHAOS.parse::<Faults>()?)
        .fault_seed(16)
        // Its own memory stays small, too.
        .result_time(Duration::from_secs(60))
        .log_capacity(0)
        .start()?;
    println!("{}", server.base_url());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The server's process, which is ended when this is dropped.
struct ServerProcess {
    child: Child,
    url: String,
}

impl ServerProcess {
    fn start() -> Result<Self> {
        let piped = |program: &mut Command| program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = piped(Command::new(env::current_exe()?).arg("serve"))?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut url)?;
        Ok(ServerProcess { child, url: url.trim().to_owned() })
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// What the calls did, and what they should cost.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    faults: AtomicU64,
    retries: AtomicU64,
    calls: AtomicU64,
    trained_tokens: AtomicU64,
    prompt_tokens: AtomicU64,
    sampled_tokens: AtomicU64,
    /// In milliseconds, of the calls since the last line.
    durations: Mutex<Vec<u64>>,
    /// The call of each thread, since when it runs.
    under_way: Mutex<HashMap<usize, (&'static str, Instant)>>,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Counts {
    fn note(&self, event: &Event) {
        let counters: &[&AtomicU64] = match event {
            Event::RequestStart { .. } => &[&self.requests],
            Event::Retry { .. } => &[&self.faults, &self.retries],
            Event::PollFailed { .. } => &[&self.faults],
            _ => &[],
        };
        for counter in counters {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fail(&self, why: String) {
        self.stop.store(true, Ordering::Relaxed);
        self.failures.lock().expect("no panic").push(why);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What undisturbed calls return, by kind.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    /// The bits of the losses, and the tokens of a sample after them.
    training: Vec<(Vec<u64>, Vec<u32>)>,
    samples: Vec<Vec<u32>>,
}

/// One thread's client, and where it counts.
struct Worker<'a> {
    service: &'a ServiceClient,
    counts: &'a Counts,
    thread: usize,
}

impl Worker<'_> {
    /// Makes a blocking call, and notes how long it takes.
    fn call<T>(&self, name: &'static str, call: impl FnOnce() -> tinkex::Result<T>) -> Result<T> {
        let (counts, start) = (self.counts, Instant::now());
        counts.under_way.lock().expect("no panic").insert(self.thread, (name, start));
        let result = call();
        counts.under_way.lock().expect("no panic").remove(&self.thread);
        counts.calls.fetch_add(1, Ordering::Relaxed);
        counts.durations.lock().expect("no panic").push(start.elapsed().as_millis() as u64);
        result.map_err(|error| format!("{name}: {error}").into())
    }

    /// Trains a model, one step ahead, with a custom loss at last, and samples from it.
    fn train(&self, kind: usize) -> Result<(Vec<u64>, Vec<u32>)> {
        let lora = LoraConfig::new().rank(4).seed(kind as u64);
        let trainer = self.call("create", || self.service.create_lora_training_client(MODEL, lora))?;
        let (batch, adam) = (batch(kind)?, || AdamParams::new().learning_rate(1e-2));
        let tokens = batch.iter().map(|datum| datum.model_input.len() as u64).sum::<u64>();
        let mut losses = Vec::new();
        for _ in 0..STEPS / 2 {
            let ahead = [0, 1].map(|_| {
                Ok((trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?, trainer.submit_optim_step(adam())?))
            });
            for submitted in ahead {
                let (pass, step) = submitted.map_err(|error: tinkex::Error| format!("submit: {error}"))?;
                losses.push(self.call("forward_backward", || pass.wait())?.metrics["loss:sum"].to_bits());
                self.call("optim_step", || step.wait())?;
            }
        }
        let custom = self.call("forward_backward_custom", || {
            trainer.forward_backward_custom(&batch, |_, logprobs| -> tinkex::Result<_> {
                let loss = logprobs.iter().map(|logprobs| f64::from(logprobs.sum())).sum::<f64>();
                Ok(CustomLoss::new(-loss, logprobs.iter().map(|logprobs| logprobs.mapv(|_| -1.0)).collect()))
            })
        })?;
        losses.push(custom.metrics["loss:sum"].to_bits());
        self.counts.trained_tokens.fetch_add(tokens * (STEPS as u64 + 2), Ordering::Relaxed);
        let sampler = self.call("save and sample", || trainer.save_weights_and_get_sampling_client())?;
        let sampled = self.sample(&sampler, kind)?;
        self.call("unload_model", || trainer.unload_model())?;
        Ok((losses, sampled))
    }

    fn sample(&self, sampler: &tinkex::SamplingClient, kind: usize) -> Result<Vec<u32>> {
        let (prompt, params) = (text(kind, 16), SamplingParams::default().max_tokens(8).temperature(0.0));
        let response = self.call("sample", || sampler.sample(&ModelInput::from_tokens(prompt.clone()), 1, &params))?;
        let tokens = response.sequences.into_iter().next().ok_or("no sequence")?.tokens;
        self.counts.prompt_tokens.fetch_add(prompt.len() as u64, Ordering::Relaxed);
        self.counts.sampled_tokens.fetch_add(tokens.len() as u64, Ordering::Relaxed);
        Ok(tokens)
    }

    /// Does one kind of work until the end, and compares what it gets.
    fn work(&self, expected: &Expected) -> Result<()> {
        let sampler = self.call("create_sampling_client", || self.service.create_sampling_client(MODEL))?;
        let rest = self.service.create_rest_client();
        for round in 0.. {
            if self.counts.stops() {
                break;
            }
            let kind = (self.thread + round) % KINDS;
            let is_right = match self.thread {
                0..TRAINERS => self.train(kind)? == expected.training[kind],
                thread if thread < TRAINERS + LISTERS => {
                    let models = self.call("capabilities", || rest.get_server_capabilities())?.supported_models;
                    self.call("list_training_runs", || rest.list_training_runs(5, 0))?;
                    models.iter().any(|model| model.model_name.as_deref() == Some(MODEL))
                }
                _ => self.sample(&sampler, kind)? == expected.samples[kind],
            };
            if !is_right {
                return Err(format!("thread {}: the result of kind {kind} is another one", self.thread).into());
            }
        }
        Ok(())
    }
}

/// Letters that a model of bytes can learn.
fn text(kind: usize, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|place| u32::from(b'a') + ((kind + place * (1 + kind % 3)) % 26) as u32).collect()
}

fn batch(kind: usize) -> tinkex::Result<Batch> {
    let datum = |length: usize| {
        let targets: Vec<i64> = text(kind + 1, length).into_iter().map(i64::from).collect();
        let datum = Datum::new(ModelInput::from_tokens(text(kind, length))).input("target_tokens", targets)?;
        datum.input("weights", vec![1.0_f32; length])
    };
    [6, 9, 12].into_iter().map(datum).collect()
}

/// What a server without faults returns.
fn undisturbed() -> Result<Expected> {
    let (server, counts) = (LocalServer::start()?, Counts::default());
    let config = Config::builder().api_key("tml-local").base_url(server.base_url()).build()?;
    let service = ServiceClient::connect(config)?;
    let worker = Worker { service: &service, counts: &counts, thread: 0 };
    let sampler = service.create_sampling_client(MODEL)?;
    Ok(Expected {
        training: (0..KINDS).map(|kind| worker.train(kind)).collect::<Result<_>>()?,
        samples: (0..KINDS).map(|kind| worker.sample(&sampler, kind)).collect::<Result<_>>()?,
    })
}

fn soak(time: Duration) -> Result<()> {
    let expected = undisturbed()?;
    let before = Process::now();
    let (server, counts, hour) = (ServerProcess::start()?, Arc::new(Counts::default()), SystemTime::now());
    let noting = Arc::clone(&counts);
    let config = Config::builder()
        .api_key("tml-local")
        .base_url(&server.url)
        .max_retries(20)
        .observer(move |event: &Event| noting.note(event))
        .build()?;
    let rest = RestClient::new(config.clone())?;
    let service = ServiceClient::connect(config)?;
    let mut history = Vec::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let worker = Worker { service: &service, counts: &counts, thread };
                let (expected, counts) = (&expected, &counts);
                scope.spawn(move || worker.work(expected).unwrap_or_else(|error| counts.fail(error.to_string())))
            })
            .collect();
        let start = Instant::now();
        for second in 1.. {
            thread::sleep(Duration::from_secs(1));
            history.push((start.elapsed().as_secs_f64(), Process::now()));
            if second % 10 == 0 {
                print_line(start.elapsed(), &counts);
            }
            let is_over = start.elapsed() >= time || workers.iter().all(|worker| worker.is_finished());
            counts.stop.fetch_or(is_over, Ordering::Relaxed);
            let under_way = counts.under_way.lock().expect("no panic");
            if let Some((name, since)) = under_way.values().find(|(_, since)| since.elapsed() > STUCK) {
                // Its thread cannot be joined.
                eprintln!("soak: {name} is stuck for {:?}", since.elapsed());
                std::process::exit(1);
            }
            if counts.stops() && workers.iter().all(|worker| worker.is_finished()) {
                break;
            }
        }
    });
    for failure in counts.failures.lock().expect("no panic").iter() {
        eprintln!("soak: {failure}");
    }
    check_bill(&rest, &counts, hour)?;
    check_growth(&history)?;
    drop((service, rest));
    check_end(&before)?;
    let failed = counts.failures.lock().expect("no panic").len();
    if failed > 0 {
        return Err(format!("{failed} threads failed").into());
    }
    println!("nothing lost, doubled, leaked or stuck");
    Ok(())
}

fn print_line(elapsed: Duration, counts: &Counts) {
    let mut durations = std::mem::take(&mut *counts.durations.lock().expect("no panic"));
    durations.sort_unstable();
    let at = |part: usize| durations.get(durations.len() * part / 100).copied().unwrap_or_default();
    let [requests, faults, retries, calls] = [&counts.requests, &counts.faults, &counts.retries, &counts.calls]
        .map(|counter| counter.load(Ordering::Relaxed));
    let seconds = elapsed.as_secs();
    println!(
        "{seconds:5} s: {requests} requests, {faults} faults, {retries} retries, {calls} calls; p50 {} ms, p99 {} ms; {}",
        at(50),
        at(99),
        Process::now(),
    );
}

/// The server counts what it computes, when it is done.
fn check_bill(rest: &RestClient, counts: &Counts, since: SystemTime) -> Result<()> {
    let hours = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map(|time| time.as_secs() / 3600);
    let stamp = |hour: u64| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * hour));
    let (first, last) = (stamp(hours(since)?), stamp(hours(SystemTime::now())? + 1));
    let usage = rest.get_billing_usage(&first, &last)?;
    let billed = |kind: &str| {
        let events = usage.data.iter().map(|event| &event.event_info);
        events.filter(|info| info.event_type.as_str() == kind).filter_map(|info| info.token_count).sum::<u64>()
    };
    let kinds = [
        ("training", &counts.trained_tokens),
        ("sampling_prefill", &counts.prompt_tokens),
        ("sampling_sample", &counts.sampled_tokens),
    ];
    for (kind, asked) in kinds {
        let (billed, asked) = (billed(kind), asked.load(Ordering::Relaxed));
        println!("{kind}: {asked} tokens asked for, {billed} billed");
        if billed != asked && counts.failures.lock().expect("no panic").is_empty() {
            return Err(format!("{kind}: {billed} tokens were computed, not {asked}").into());
        }
    }
    Ok(())
}

/// What Linux says about this process; zeros on other systems.
#[derive(Clone, Copy, Default)]
struct Process {
    threads: usize,
    sockets: usize,
    bytes: u64,
}

impl Process {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let is_socket =
            |link: io::Result<std::path::PathBuf>| link.is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let sockets = open.filter(|entry| is_socket(fs::read_link(entry.path()))).count();
        Process { threads: field("Threads:") as usize, sockets, bytes: 1024 * field("VmRSS:") }
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        write!(f, "{} threads, {} sockets, {megabytes:.1} MB", self.threads, self.sockets)
    }
}

/// The least-squares slope of the second half, when everything has been in use for a while.
fn check_growth(history: &[(f64, Process)]) -> Result<()> {
    let half = &history[history.len() / 2..];
    let time = half.last().map_or(0.0, |last| last.0) - half.first().map_or(0.0, |first| first.0);
    let growth = |of: fn(&Process) -> f64| {
        let count = half.len() as f64;
        let (x, y) = half.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + of(&point.1) / count));
        let (xy, xx) = half.iter().fold((0.0, 0.0), |(xy, xx), point| {
            let distance = point.0 - x;
            (xy + distance * (of(&point.1) - y), xx + distance * distance)
        });
        xy / f64::max(xx, f64::MIN_POSITIVE) * time
    };
    let (bytes, sockets) = (growth(|process| process.bytes as f64), growth(|process| process.sockets as f64));
    println!("slopes over the last {time:.0} s: {:.2} MB, {sockets:.1} sockets", bytes / 1e6);
    match (bytes > MAX_BYTES, sockets > MAX_SOCKETS) {
        (false, false) => Ok(()),
        (true, _) => Err("the memory grows".into()),
        (false, true) => Err("the number of open sockets grows".into()),
    }
}

/// Threads and sockets end with their clients; the last ones may take a moment.
fn check_end(before: &Process) -> Result<()> {
    for _ in 0..50 {
        let now = Process::now();
        if now.threads <= before.threads && now.sockets <= before.sockets {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(format!("after the end: {}; before: {before}", Process::now()).into())
}
