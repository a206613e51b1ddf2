//! One cell of the matrix: an operation, a fault, once or for ever, and what comes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use tinkex::clock::ManualClock;
use tinkex::{Config, Result, SamplingClient, ServiceClient, TrainingClient};

use crate::describe::{describe, is_number_open};
use crate::faults::{Fault, IDLE, Kind, MOST_BYTES, page, status};
use crate::limits;
use crate::operations::{Needs, Operation, later};
use crate::secrets::{GATEWAY, Tokens};
use crate::stop::Stop;
use crate::support::double::{self, Double, create_trainer};
use crate::support::{Connections, RecordedRequest, Reply};

/// A call that takes longer than this in real time is stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The driver lets shorter waits of the client pass: those before the next attempt. All others last longer.
pub const WAITS: Duration = Duration::from_secs(65);
const LONGER: Duration = Duration::from_secs(3600);

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
    tokens: Arc<Tokens>,
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
        let tokens = Arc::<Tokens>::default();
        let double = {
            let (early, striker, late) = (Arc::clone(&striker), Arc::clone(&striker), Arc::clone(fault));
            let (fault, connections) = (Arc::clone(fault), Arc::clone(&connections));
            let tokens = Arc::clone(&tokens);
            Double::start_with_early_faults(
                (operation.server)(),
                move |request| {
                    (matches!(fault.kind, Kind::ResetWithin) && early.strikes(request)).then_some(Reply::Close)
                },
                move |request| match late.kind {
                    Kind::ResetWithin | Kind::ResetAtOnce => tokens.healthy(request, |reply| reply),
                    _ if !striker.strikes(request) => {
                        let held = striker.stop.hold();
                        tokens.healthy(request, move |reply| {
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
                        tokens.healthy(request, move |_| {
                            stop.end();
                            Reply::Close
                        })
                    }
                    Kind::Restarted => {
                        let connections = connections.get().unwrap().clone();
                        tokens.healthy(request, move |_| {
                            connections.refuse();
                            connections.close_all();
                            Reply::Close
                        })
                    }
                    Kind::Page(code) => double::Fault::Instead(page(code)),
                    Kind::Status(code, header) => double::Fault::Instead(status(code, header)),
                    Kind::Changed(change) | Kind::Stalled(change) => tokens.healthy(request, change),
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
            .timeout_submit(limits::SUBMIT)
            .timeout_progress(if is_silent_for_ever { limits::SILENCE } else { limits::PROGRESS })
            .timeout_billing(Some(limits::BILLING))
            .timeout_operation((!is_heartbeat).then_some(limits::OPERATION))
            .timeout_drop(LONGER)
            .idle_retention(LONGER)
            .heartbeat_interval(if is_heartbeat { WAITS } else { LONGER })
            .telemetry(operation.name == "telemetry")
            .wire(operation.wire)
            .max_retries(limits::RETRIES)
            .cloudflare_access(GATEWAY[0], GATEWAY[1])
            .max_response_bytes(MOST_BYTES)
            .build_with(|_| None)
            .unwrap();
        let (service, trainer, sampler, saved) = Default::default();
        let scene = Scene { double, config, striker, tokens, service, trainer, sampler, saved };
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

    /// From now on the service refuses the tokens that it has given.
    pub fn expire_tokens(&self) {
        self.tokens.expire();
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
    let start = crate::now();
    let is_polled_in_silence =
        times == Times::Ever && fault.kind.is_silent() && operation.target.starts_with("retrieve_future");
    loop {
        match end.recv_timeout(LOOK) {
            Ok(outcome) => {
                body.unwrap().join().unwrap();
                return outcome;
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
    let began = manual.clock().now();
    let result = (operation.run)(&scene);
    let took = manual.clock().now() - began;
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
    let is_number_open = is_number_open(&result, fault);
    let mut outcome = describe(operation, fault, result, &was_run, later);
    let longest = limits::longest(operation, &fault.kind, times);
    if took > longest {
        outcome.push_str(&format!(", WRONG: took {took:?}, and at most {longest:?} is right"));
    }
    scene.double.assert_nothing_ran_twice();
    if !is_number_open {
        scene.double.assert_numbers_have_no_holes();
    }
    let Scene { double, service, trainer, sampler, .. } = scene;
    drop((trainer, sampler, service));
    double.service.wait_for_no_connection();
    connections.end();
    outcome
}
