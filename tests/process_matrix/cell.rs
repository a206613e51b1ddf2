//! One cell of the matrix: an operation, a fault, once or for ever, and what comes of it.

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::{Config, Error, ErrorKind, Limit, Result, SamplingClient, ServiceClient, TrainingClient};

use crate::faults::{Fault, IDLE, Kind, MOST_BYTES, page, status};
use crate::operations::{Needs, Operation, later};
use crate::stop::Stop;
use crate::support::double::{self, Double, Execution, create_trainer};
use crate::support::{Connections, KEY, RecordedRequest, Reply};

/// A call that takes longer than this in real time is stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The driver lets shorter waits of the client pass: those before the next attempt. All others last longer.
const WAITS: Duration = Duration::from_secs(65);
const LONGER: Duration = Duration::from_secs(3600);

/// The limit of a call, for what nothing else ends.
const OPERATION: Duration = Duration::from_secs(600);

/// No cell takes longer by the client's clock: a call that ends with its limit, and the wait before its last attempt.
const LONGEST: Duration = OPERATION.saturating_add(WAITS);

/// The driver looks again after this time.
const LOOK: Duration = Duration::from_millis(1);

/// How often the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Times {
    Once,
    Ever,
}

/// Strikes requests, from when it is armed.
struct Striker {
    target: &'static str,
    /// Whether a strike stops the server.
    stops: bool,
    stop: Arc<Stop>,
    state: Mutex<Strikes>,
    struck: Condvar,
}

#[derive(Default)]
struct Strikes {
    left: usize,
    skip: usize,
    struck: usize,
}

impl Striker {
    fn strikes(&self, request: &RecordedRequest) -> bool {
        let path = request.path.split('?').next().unwrap_or_default();
        let is_target = match self.target.split_once('*') {
            _ if self.target == "DELETE" => request.method == "DELETE",
            Some((before, after)) => path.starts_with(before) && path.ends_with(after),
            None => path == self.target,
        };
        let mut state = self.state.lock().unwrap();
        if !is_target || state.left == 0 {
            return false;
        }
        if state.skip > 0 {
            state.skip -= 1;
            return false;
        }
        state.left -= 1;
        state.struck += 1;
        if self.stops {
            self.stop.begin();
        }
        self.struck.notify_all();
        true
    }

    fn arm(&self, left: usize, skip: usize) {
        *self.state.lock().unwrap() = Strikes { left, skip, struck: 0 };
    }
}

/// What an operation works with.
pub struct Scene {
    double: Double,
    config: Config,
    striker: Arc<Striker>,
    service: OnceLock<ServiceClient>,
    trainer: OnceLock<TrainingClient>,
    sampler: OnceLock<SamplingClient>,
    saved: OnceLock<String>,
}

impl Scene {
    fn new(operation: &Operation, fault: &Arc<Fault>, times: Times, manual: &ManualClock) -> Self {
        let striker = Arc::new(Striker {
            target: operation.target,
            stops: matches!(fault.kind, Kind::Stopped),
            stop: Arc::default(),
            state: Mutex::default(),
            struck: Condvar::new(),
        });
        let connections = Arc::<OnceLock<Connections>>::default();
        let double = {
            let (early, striker, late) = (Arc::clone(&striker), Arc::clone(&striker), Arc::clone(fault));
            let (fault, connections) = (Arc::clone(fault), Arc::clone(&connections));
            Double::start_with_early_faults(
                (operation.server)(),
                move |request| {
                    (matches!(fault.kind, Kind::ResetWithin) && early.strikes(request)).then_some(Reply::Close)
                },
                move |request| match late.kind {
                    Kind::ResetWithin | Kind::ResetAtOnce => healthy(request, |reply| reply),
                    _ if !striker.strikes(request) => {
                        let held = striker.stop.hold();
                        healthy(request, move |reply| {
                            drop(held);
                            reply
                        })
                    }
                    Kind::Refused => {
                        connections.get().unwrap().refuse();
                        double::Fault::Instead(Reply::Close)
                    }
                    Kind::Instead(reply) => double::Fault::Instead(reply()),
                    Kind::Silence => double::Fault::Instead(Reply::Silence),
                    Kind::Stopped => {
                        let stop = Arc::clone(&striker.stop);
                        connections.get().unwrap().wait_for_the_client_to_close(request.connection);
                        healthy(request, move |_| {
                            stop.end();
                            Reply::Close
                        })
                    }
                    Kind::Restarted => {
                        let connections = connections.get().unwrap().clone();
                        healthy(request, move |_| {
                            connections.refuse();
                            connections.close_all();
                            Reply::Close
                        })
                    }
                    Kind::Page(code) => double::Fault::Instead(page(code)),
                    Kind::Status(code, header) => double::Fault::Instead(status(code, header)),
                    Kind::Changed(change) | Kind::Stalled(change) => healthy(request, change),
                    Kind::StatusAfter(code) => double::Fault::After(status(code, None)),
                },
            )
        };
        connections.set(double.service.connections()).ok().unwrap();
        // What only real time ends must end soon; what the driver ends must not end by itself.
        let limit = match fault.kind.is_silent() {
            // Among many others, the server takes its time to read a large pass.
            true if operation.name.contains("three chunks") => 3 * IDLE,
            true => IDLE,
            false => PATIENCE,
        };
        // The driver lets a heartbeat's interval pass as soon as one is sent, however long the call beside it takes.
        let is_heartbeat = operation.name == "heartbeat";
        let is_silent_for_ever = fault.kind.is_silent() && times == Times::Ever;
        let config = double
            .service
            .config()
            .clock(manual.clock())
            .timeout_idle(limit)
            .timeout_poll(limit)
            .timeout_submit(Duration::from_secs(20))
            .timeout_progress(if is_silent_for_ever { WAITS } else { Duration::from_secs(300) })
            .timeout_billing(Some(Duration::from_secs(20)))
            .timeout_operation((!is_heartbeat).then_some(OPERATION))
            .timeout_drop(LONGER)
            .idle_retention(LONGER)
            .heartbeat_interval(if is_heartbeat { WAITS } else { LONGER })
            .telemetry(operation.name == "telemetry")
            .wire(operation.wire)
            .max_retries(3)
            .max_response_bytes(MOST_BYTES)
            .build_with(|_| None)
            .unwrap();
        let (service, trainer, sampler, saved) = Default::default();
        let scene = Scene { double, config, striker, service, trainer, sampler, saved };
        if operation.needs != Needs::Nothing {
            scene.connect().unwrap();
        }
        match operation.needs {
            Needs::Nothing | Needs::Service => {}
            Needs::Trainer => drop(scene.trainer()),
            Needs::Sampler => drop(scene.sampler()),
            Needs::Saved => scene.saved.set(scene.trainer().save_state("saved").unwrap().path).unwrap(),
        }
        scene
    }

    pub fn connect(&self) -> Result<()> {
        let service = ServiceClient::connect(self.config.clone())?;
        self.service.set(service).ok().unwrap();
        Ok(())
    }

    /// The client. It is connected now if the operation failed to connect.
    pub fn service(&self) -> &ServiceClient {
        self.service.get_or_init(|| ServiceClient::connect(self.config.clone()).unwrap())
    }

    pub fn trainer(&self) -> &TrainingClient {
        self.trainer.get_or_init(|| create_trainer(self.service()))
    }

    pub fn sampler(&self) -> &SamplingClient {
        self.sampler.get_or_init(|| self.service().create_sampling_client("base").unwrap())
    }

    pub fn saved(&self) -> String {
        self.saved.get().unwrap().clone()
    }

    /// Closes the client.
    pub fn close(&self) {
        self.service().close(LONGER);
    }

    /// Waits until the fault has struck, and a stopped server has gone on, and sees that other calls are unaffected.
    pub fn until_struck(&self) -> Result<()> {
        let state = self.striker.state.lock().unwrap();
        let waited = self.striker.struck.wait_timeout_while(state, PATIENCE, |state| state.struck == 0).unwrap();
        assert!(!waited.1.timed_out(), "no such request");
        drop(waited);
        self.striker.stop.wait_for_the_rest();
        self.service().health().map(drop)
    }
}

/// The double's reply, changed so, or a token, which doubles do not give.
fn healthy(request: &RecordedRequest, change: impl FnOnce(Reply) -> Reply + 'static) -> double::Fault {
    if request.path != "auth/token" {
        return double::Fault::Changed(Box::new(change));
    }
    let claims = json!({"iat": 4_000_000_000_u64, "exp": 4_000_003_600_u64});
    let token = format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    double::Fault::Instead(change(Reply::ok(json!({"jwt": token}))))
}

/// Runs a cell, and says what came of it in a few words.
pub fn outcome(operation: &'static Operation, fault: &Arc<Fault>, times: Times) -> String {
    let manual = ManualClock::new();
    let (ended, end) = channel();
    let (driven, fault_of_body) = (manual.clone(), Arc::clone(fault));
    let refusing = Arc::<Mutex<Option<Connections>>>::default();
    let refused = Arc::clone(&refusing);
    // Small, for there are many.
    let body = thread::Builder::new().stack_size(512 * 1024).spawn(move || {
        let run = || body(operation, &fault_of_body, times, &driven, &refused);
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            format!(
                "WRONG: {}",
                text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
            )
        });
        ended.send(outcome.replace('\n', " ")).ok();
    });
    let (start, began) = (crate::now(), manual.clock().now());
    let is_polled_in_silence =
        times == Times::Ever && fault.kind.is_silent() && operation.target.starts_with("retrieve_future");
    loop {
        match end.recv_timeout(LOOK) {
            Ok(outcome) => {
                body.unwrap().join().unwrap();
                let took = manual.clock().now() - began;
                // The driver lets as many heartbeats pass as there is time for.
                let is_limited = operation.name != "heartbeat";
                return if took <= LONGEST || !is_limited {
                    outcome
                } else {
                    format!("{outcome}, WRONG: took {took:?}")
                };
            }
            Err(RecvTimeoutError::Disconnected) => unreachable!("it sends before it ends"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Its threads are left behind: the check at the end of the matrix fails, too.
        if start.elapsed() > PATIENCE {
            return "WRONG: stuck".to_owned();
        }
        if let Some(wait) = manual.waits().into_iter().next().filter(|wait| *wait <= WAITS) {
            let mut refusing = refusing.lock().unwrap();
            if refusing.as_ref().is_some_and(Connections::listen_again) {
                *refusing = None;
            }
            manual.advance(wait);
        } else if is_polled_in_silence {
            // The next poll follows at once, so there is no wait of the client's.
            manual.advance(LOOK * 50);
        }
    }
}

fn body(
    operation: &Operation,
    fault: &Arc<Fault>,
    times: Times,
    manual: &ManualClock,
    refusing: &Mutex<Option<Connections>>,
) -> String {
    let scene = Scene::new(operation, fault, times, manual);
    let (striker, connections) = (Arc::clone(&scene.striker), scene.double.service.connections());
    let before = scene.double.executions().len();
    let strikes = if times == Times::Once { 1 } else { usize::MAX };
    match fault.kind {
        Kind::Refused if operation.is_first => {
            connections.close_all();
            connections.refuse();
        }
        Kind::ResetAtOnce => connections.reset_next(strikes),
        _ => striker.arm(strikes, operation.skip),
    }
    if matches!(fault.kind, Kind::Refused | Kind::Restarted) && times == Times::Once {
        *refusing.lock().unwrap() = Some(connections.clone());
    }
    let result = (operation.run)(&scene);
    striker.arm(0, 0);
    refusing.lock().unwrap().take();
    connections.reset_next(0);
    connections.listen_for_good();
    scene.striker.stop.wait_for_the_rest();
    let was_run: Vec<_> = scene.double.executions().split_off(before);
    let later = match operation.name {
        "close" => ServiceClient::connect(scene.config.clone()).map(drop),
        _ => later(&scene, operation.needs),
    };
    let outcome = describe(operation, fault, result, &was_run, later);
    scene.double.assert_nothing_ran_twice();
    let Scene { double, service, trainer, sampler, .. } = scene;
    drop((trainer, sampler, service));
    double.service.wait_for_no_connection();
    connections.end();
    outcome
}

fn describe(
    operation: &Operation,
    fault: &Fault,
    result: Result<()>,
    was_run: &[Execution],
    later: Result<()>,
) -> String {
    let (path, expected) = operation.effect;
    let count = was_run.iter().filter(|run| run.path == path).count();
    let effect = match &result {
        _ if expected == 0 => String::new(),
        Ok(()) if count < expected => format!(", WRONG: run {count} of {expected} times"),
        Ok(()) if count == expected => String::new(),
        Err(error) if count > 0 && !error.may_have_taken_effect() => ", WRONG: was run".to_owned(),
        // How far a call of several requests came before one failed is a matter of time.
        _ if count > 0 && expected > 1 => ", run in part".to_owned(),
        _ => format!(", run {count} of {expected} times"),
    };
    let shown = [result.as_ref().err(), later.as_ref().err()].into_iter().flatten().any(shows_key);
    let shown = if shown { ", WRONG: the key is shown" } else { "" };
    let later = later.err().map(|error| format!(", WRONG: later {}", named(&error, fault))).unwrap_or_default();
    let result = result.err().map_or("ok".to_owned(), |error| named(&error, fault));
    format!("{result}{effect}{later}{shown}")
}

/// Whether an error shows the secret key anywhere, also in its sources.
fn shows_key(error: &Error) -> bool {
    let headers: Vec<_> = ["location", "content-type"].into_iter().filter_map(|name| error.header(name)).collect();
    format!("{error} {error:?} {:?} {headers:?}", error.body()).contains(KEY)
}

/// The kind of an error, and what else a program sees of it. Its status is named if it is not the fault's.
fn named(error: &Error, fault: &Fault) -> String {
    // Whether the last attempt is cut off by the end of its time, or fails just before, is a matter of chance.
    let last = match error.kind() {
        ErrorKind::Timeout(Limit::Submit | Limit::Operation) => error.source().and_then(|last| last.downcast_ref()),
        _ => None,
    };
    let last: &Error = last.unwrap_or(error);
    let mut name = format!("{:?}", last.kind());
    if let Some(status) = last.status().filter(|status| fault.kind.status() != Some(*status)) {
        name.push_str(&format!(" {status}"));
    }
    // Whether something was written before a connection is reset at once is a matter of chance, too.
    let may_have_run = error.may_have_taken_effect() && !matches!(fault.kind, Kind::ResetAtOnce);
    if may_have_run { format!("{name}, may have been run") } else { name }
}
