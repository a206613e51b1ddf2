//! How clients begin and end: connections, heartbeats, close, drops, lost answers.

mod support;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use support::{Gate, Reply, Seen, Service, batch, well};
use tinkex::clock::ManualClock;
use tinkex::config::ConfigBuilder;
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, OptimStepResponse, RequestKind, SamplingParams};
use tinkex::{Error, ErrorKind, Pending, ServiceClient, TrainingClient};

/// What a hang takes until it is called one; far more than any of this takes.
const HANG: Duration = Duration::from_secs(5);

/// A limit that nothing below may need: what ends, ends by itself.
const FAR: Duration = Duration::from_secs(3600);

fn connect(builder: ConfigBuilder) -> ServiceClient {
    ServiceClient::connect(builder.timeout_drop(FAR).build().unwrap()).unwrap()
}

fn train(client: &ServiceClient) -> TrainingClient {
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn adam() -> AdamParams {
    AdamParams::default()
}

fn prompt() -> ModelInput {
    ModelInput::from_tokens(vec![1, 2, 3])
}

fn params() -> SamplingParams {
    SamplingParams::default().max_tokens(1)
}

/// Accepts everything and never says what came of it, but for the creation of models.
fn silent(seen: &Seen) -> Reply {
    match seen.path.as_str() {
        "retrieve_future" if !seen.request_id().starts_with("create_model") => Reply::Silence,
        _ => well(seen),
    }
}

fn polls(seen: &[Seen], of: &str) -> usize {
    seen.iter().filter(|seen| seen.path == "retrieve_future" && seen.request_id().starts_with(of)).count()
}

/// Runs something that must return at once, on a thread of its own.
fn promptly<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = bounded(1);
    thread::spawn(move || done.send(run()).ok());
    result.recv_timeout(HANG).expect("it did not return in time")
}

/// Runs a call that waits, on a thread of its own, and reports the kind of its error.
fn waiting<T: 'static>(call: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Receiver<ErrorKind> {
    let (done, result) = bounded(1);
    thread::spawn(move || done.send(call().map(drop).unwrap_err().kind()).ok());
    result
}

/// Does something when a line with a certain text is logged, on the thread that logs it.
fn on_log(text: &'static str, run: impl FnOnce() + Send + 'static) {
    LOGGER.1.call_once(|| {
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
    LOGGER.0.lock().unwrap().push((text, Box::new(run)));
}

type Hooks = Mutex<Vec<(&'static str, Box<dyn FnOnce() + Send>)>>;

struct Logger(Hooks, Once);

static LOGGER: Logger = Logger(Mutex::new(Vec::new()), Once::new());

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("tinkex")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            let mut hooks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let place = hooks.iter().position(|(text, _)| line.contains(text));
            let hook = place.map(|place| hooks.swap_remove(place));
            drop(hooks);
            if let Some((_, run)) = hook {
                run();
            }
        }
    }

    fn flush(&self) {}
}

#[test]
fn close_returns_at_once_while_polls_are_held_and_the_waiting_get_closed() {
    let service = Service::start(silent);
    let client = connect(service.config());
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let (pass, reply) = (
        trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap(),
        sampler.submit_sample(&prompt(), 1, &params()).unwrap(),
    );
    let waiters = [
        waiting({
            let trainer = trainer.clone();
            move || trainer.optim_step(adam())
        }),
        waiting({
            let sampler = sampler.clone();
            move || sampler.sample(&prompt(), 1, &params())
        }),
        waiting(move || pass.wait()),
        waiting(move || reply.wait_timeout(FAR).unwrap()),
    ];
    service.until_seen(|seen| polls(seen, "") - polls(seen, "create_model") == 4);
    let open: BTreeSet<_> = service.seen().iter().map(|seen| seen.connection).collect();
    promptly(move || client.close(FAR));
    for waiter in waiters {
        assert_eq!(waiter.recv_timeout(HANG).unwrap(), ErrorKind::Closed);
    }
    open.into_iter().for_each(|connection| service.until_ended(connection));
}

#[test]
fn every_wait_of_a_client_ends_with_closed() {
    let service = Service::start(|seen| match (seen.path.as_str(), seen.seq_id()) {
        ("optim_step" | "healthz", _) => Reply::Silence,
        ("get_info", _) => Reply::with_headers(503, &[("retry-after-ms", "33000")], &json!({})),
        ("asample", Some(1)) => Reply::Silence,
        _ => silent(seen),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).max_queued(1).sampling_burst(2).sampling_rate(1);
    let client = connect(config.api_key("tml-every-wait"));
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let (for_room, for_promise, for_repeat) = (trainer.clone(), trainer.clone(), trainer.clone());
    let (samples, submits, gated, asks) = (sampler.clone(), sampler.clone(), sampler.clone(), client.clone());

    let sample = waiting(move || samples.sample(&prompt(), 1, &params()));
    service.until_seen(|seen| polls(seen, "asample") == 1);
    let sample_submission = waiting(move || submits.sample(&prompt(), 1, &params()));
    service.until_count("asample", 2);
    // The burst is used up: a token comes in a second that the clock does not let pass.
    let gate = waiting(move || gated.sample(&prompt(), 1, &params()));
    manual.until_waiting(|waits| waits.contains(&Duration::from_secs(1)));
    let submission = waiting(move || for_promise.optim_step(adam()));
    service.until_count("optim_step", 1);
    // The only place in the queue is taken until that submission has its promise.
    let limit = Duration::from_secs(77);
    let room = waiting(move || for_room.timeout_operation(Some(limit)).optim_step(adam()));
    manual.until_waiting(|waits| waits.contains(&limit));
    let repeat = waiting(move || for_repeat.get_info());
    manual.until_waiting(|waits| waits.contains(&Duration::from_secs(33)));
    let request = waiting(move || asks.health());
    service.until_count("healthz", 1);

    promptly(move || client.close(FAR));
    for (name, waiter) in [
        ("a sample's result", sample),
        ("a sample's submission", sample_submission),
        ("the sampling gate", gate),
        ("a step's submission", submission),
        ("room in the queue", room),
        ("the next attempt", repeat),
        ("a short request", request),
    ] {
        assert_eq!(waiter.recv_timeout(HANG).expect(name), ErrorKind::Closed, "{name}");
    }
    assert_eq!(service.seen_at("asample").len(), 2);
    assert_eq!(service.seen_at("optim_step").len(), 1);
}

#[test]
fn what_is_queued_at_the_close_is_answered_with_closed_and_never_sent() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "optim_step" | "asample" => Reply::Silence,
        _ => silent(seen),
    });
    let client = connect(service.config().max_sampling_threads(1).api_key("tml-queued"));
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let steps: Vec<_> = (0..3).map(|_| trainer.submit_optim_step(adam()).unwrap()).collect();
    let replies: Vec<_> = (0..3).map(|_| sampler.submit_sample(&prompt(), 1, &params()).unwrap()).collect();
    service.until_seen(|seen| ["optim_step", "asample"].iter().all(|path| seen.iter().any(|seen| seen.path == *path)));
    promptly(move || client.close(FAR));
    let effects: Vec<_> = steps.into_iter().map(|step| closed(step).may_have_taken_effect()).collect();
    assert_eq!(effects, [true, false, false]);
    let effects: Vec<_> = replies.into_iter().map(|reply| closed(reply).may_have_taken_effect()).collect();
    assert_eq!(effects, [true, false, false]);
    assert_eq!((service.seen_at("optim_step").len(), service.seen_at("asample").len()), (1, 1));
}

/// The error of a call that the close of its client ended.
fn closed<T: Send + 'static>(pending: Pending<T>) -> Error {
    let error = promptly(move || pending.wait().map(drop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    error
}

#[test]
fn a_closed_client_refuses_everything_and_can_be_closed_again_by_anyone() {
    let service = Service::start(silent);
    let client = connect(service.config());
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    let clone = client.clone();
    promptly(move || clone.close(FAR));
    let clone = client.clone();
    promptly(move || clone.close(FAR));
    client.close(Duration::ZERO);
    let before = service.seen().len();
    // Of a promise nobody here knows what became of it.
    let promise = client.pending::<OptimStepResponse>("optim_step:model-0:1", RequestKind::OptimStep);
    assert!(closed(promise).may_have_taken_effect());
    let kinds = promptly({
        let client = client.clone();
        move || {
            [
                client.health().unwrap_err(),
                client.create_lora_training_client("base", LoraConfig::default()).unwrap_err(),
                client
                    .submit_create_lora_training_client("base", LoraConfig::default())
                    .and_then(Pending::wait)
                    .unwrap_err(),
                client.create_sampling_client("base").unwrap_err(),
                trainer.optim_step(adam()).unwrap_err(),
                trainer.submit_optim_step(adam()).and_then(Pending::wait).unwrap_err(),
                trainer.get_info().unwrap_err(),
                sampler.sample(&prompt(), 1, &params()).unwrap_err(),
                sampler.submit_sample(&prompt(), 1, &params()).and_then(Pending::wait).unwrap_err(),
            ]
            .map(|error| {
                assert!(!error.may_have_taken_effect(), "{error}");
                assert!(error.operation().is_some(), "{error}");
                error.kind()
            })
        }
    });
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Closed), "{kinds:?}");
    assert_eq!(service.seen().len(), before);
}

#[test]
fn a_pending_keeps_its_session_and_the_last_one_ends_it() {
    let service = Service::start(silent);
    let (step, reply) = {
        let client = connect(service.config());
        let trainer = train(&client);
        let sampler = client.create_sampling_client("base").unwrap();
        (trainer.submit_optim_step(adam()).unwrap(), sampler.submit_sample(&prompt(), 1, &params()).unwrap())
    };
    let seen = service.until_seen(|seen| polls(seen, "optim_step") == 1 && polls(seen, "asample") == 1);
    promptly(move || drop(step));
    assert!(!reply.is_ready());
    promptly(move || drop(reply));
    let all: BTreeSet<_> = seen.iter().map(|seen| seen.connection).collect();
    all.into_iter().for_each(|connection| service.until_ended(connection));
}

/// What the thread that drops the last handles is given.
type Handles = Box<dyn Any + Send>;

/// Drops what it gets on the thread that logs this text, and says which thread that was.
fn dropped_on_log(text: &'static str) -> (Sender<Handles>, Receiver<String>) {
    let (give, given) = bounded::<Handles>(1);
    let (tell, told) = bounded(1);
    on_log(text, move || {
        drop(given.recv_timeout(HANG));
        tell.send(thread::current().name().unwrap_or_default().to_owned()).ok();
    });
    (give, told)
}

#[test]
fn the_last_handle_can_be_dropped_on_the_training_thread() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "optim_step" => Reply::Json(503, json!({"detail": "dropped by training"})),
        _ => well(seen),
    });
    let (give, told) = dropped_on_log("dropped by training");
    let client = connect(service.config());
    let trainer = train(&client);
    let step = trainer.submit_optim_step(adam()).unwrap();
    give.send(Box::new((client, trainer, step))).unwrap();
    assert_eq!(told.recv_timeout(HANG).unwrap(), "tinkex-training");
}

#[test]
fn the_last_handle_can_be_dropped_on_a_submitting_thread() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "asample" => Reply::Json(503, json!({"detail": "dropped by submit"})),
        _ => well(seen),
    });
    let (give, told) = dropped_on_log("dropped by submit");
    let client = connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let reply = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    give.send(Box::new((client, sampler, reply))).unwrap();
    assert_eq!(told.recv_timeout(HANG).unwrap(), "tinkex-submit");
}

#[test]
fn the_last_handle_can_be_dropped_on_the_poller() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "retrieve_future" => Reply::Json(410, json!({"detail": "gone"})),
        _ => well(seen),
    });
    let (give, told) = dropped_on_log("expired, submitted anew");
    let client = connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let reply = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    give.send(Box::new((client, sampler, reply))).unwrap();
    assert_eq!(told.recv_timeout(HANG).unwrap(), "tinkex-poller");
}

#[test]
fn the_last_handle_can_be_dropped_on_the_heartbeats_thread() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "session_heartbeat" => Reply::Json(503, json!({"detail": "dropped by heartbeat"})),
        _ => well(seen),
    });
    let (give, told) = dropped_on_log("dropped by heartbeat");
    let client = connect(service.config().heartbeat_interval(Duration::from_millis(1)));
    give.send(Box::new(client)).unwrap();
    assert_eq!(told.recv_timeout(HANG).unwrap(), "tinkex-heartbeat");
}

/// What a [`Dropper`] is given, and whom it tells on which thread it dropped that.
static TO_DROP: Mutex<Option<(Receiver<Handles>, Sender<String>)>> = Mutex::new(None);

/// A user's type that drops things while it is read from JSON.
struct Dropper;

impl<'de> Deserialize<'de> for Dropper {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        let (given, tell) = TO_DROP.lock().unwrap().take().unwrap();
        drop(given.recv_timeout(HANG));
        tell.send(thread::current().name().unwrap_or_default().to_owned()).ok();
        Ok(Dropper)
    }
}

#[test]
fn the_last_handle_can_be_dropped_while_a_users_type_is_decoded() {
    let service = Service::start(well);
    let client = connect(service.config());
    let (give, given) = bounded(1);
    let (tell, told) = bounded(1);
    *TO_DROP.lock().unwrap() = Some((given, tell));
    let pending = client.pending::<Dropper>("optim_step:model-0:1", RequestKind::OptimStep);
    give.send(Box::new((client, pending)) as Handles).unwrap();
    assert_eq!(told.recv_timeout(HANG).unwrap(), "tinkex-poll");
}

/// The purpose that a request belongs to.
fn purpose(path: &str) -> &'static str {
    match path {
        "retrieve_future" => "futures",
        "asample" => "sampling",
        "create_session" | "session_heartbeat" | "healthz" | "get_server_capabilities" | "create_sampling_session" => {
            "session"
        }
        _ => "training",
    }
}

#[test]
fn each_purpose_has_connections_of_its_own_and_reuses_them() {
    let service = Service::start(well);
    let client = connect(service.config());
    let trainer = train(&client);
    let sampler = client.create_sampling_client("base").unwrap();
    for _ in 0..3 {
        client.health().unwrap();
        client.get_server_capabilities().unwrap();
        trainer.get_info().unwrap();
        trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(adam()).unwrap();
        sampler.sample(&prompt(), 1, &params()).unwrap();
    }
    let mut connections: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for seen in service.seen() {
        connections.entry(purpose(&seen.path)).or_default().insert(seen.connection);
    }
    assert_eq!(connections.keys().copied().collect::<Vec<_>>(), ["futures", "sampling", "session", "training"]);
    // One call after the other needs one connection of each.
    assert!(connections.values().all(|numbers| numbers.len() == 1), "{connections:?}");
    let all: BTreeSet<_> = connections.values().flatten().collect();
    assert_eq!(all.len(), 4, "{connections:?}");
}

#[test]
fn a_dropped_pending_frees_its_connection_and_a_step_is_not_taken_back() {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let service = Service::start(move |seen| {
        if seen.path == "forward_backward" {
            gate.pass();
        }
        silent(seen)
    });
    let client = connect(service.config());
    let trainer = train(&client);
    let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    let dropped = trainer.submit_optim_step(adam()).unwrap();
    let cancelled = trainer.submit_save_state("never").unwrap();
    let last = trainer.submit_forward(batch(), LossFn::CrossEntropy).unwrap();
    service.until_count("forward_backward", 1);
    drop(dropped);
    cancelled.cancel();
    opened.open();
    let seen = service.until_seen(|seen| polls(seen, "forward:") == 1 && polls(seen, "forward_backward:") == 1);
    let sent: Vec<_> = seen.iter().filter_map(|seen| Some((&*seen.path, seen.seq_id()?))).collect();
    // The number that the cancelled call did not need goes to the next.
    assert_eq!(sent, [("forward_backward", 1), ("optim_step", 2), ("forward", 3)]);
    assert_eq!(polls(&seen, "optim_step"), 0);

    let poll = |of: &str| seen.iter().find(|seen| seen.request_id().starts_with(of)).unwrap().connection;
    drop(pass);
    service.until_ended(poll("forward_backward:"));
    assert!(!last.is_ready());
    last.cancel();
    service.until_ended(poll("forward:"));
}

#[test]
fn a_lost_answer_may_have_taken_effect_and_its_number_stays_used() {
    let service = Service::start(|seen| match (seen.path.as_str(), seen.seq_id()) {
        ("optim_step", Some(1)) => Reply::Close,
        _ => well(seen),
    });
    let manual = ManualClock::new();
    // Too short a window for a second round.
    let config = service.config().clock(manual.clock()).max_retries(0).timeout_submit(Duration::from_millis(999));
    let trainer = train(&connect(config));
    let error = trainer.optim_step(adam()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.may_have_taken_effect() && error.is_retryable());
    assert!(error.to_string().contains("the server may have carried it out"), "{error}");
    assert_eq!(trainer.optim_step(adam()).unwrap().metrics.unwrap()["step"], 2.0);
}

#[test]
fn a_repeated_submission_keeps_its_number_and_key() {
    let failures = Mutex::new(vec![Reply::Close, Reply::Json(503, json!({})), Reply::Json(429, json!({}))]);
    let service = Service::start(move |seen| match seen.path.as_str() {
        "optim_step" => failures.lock().unwrap().pop().unwrap_or_else(|| well(seen)),
        _ => well(seen),
    });
    let quick = service.config().retry_base(Duration::from_millis(1));
    let trainer = train(&connect(quick));
    trainer.optim_step(adam()).unwrap();
    trainer.optim_step(adam()).unwrap();
    let steps = service.seen_at("optim_step");
    let numbers: Vec<_> = steps.iter().map(|seen| seen.seq_id().unwrap()).collect();
    assert_eq!(numbers, [1, 1, 1, 1, 2]);
    let keys: Vec<_> = steps.iter().map(|seen| seen.header("x-idempotency-key").unwrap()).collect();
    assert!(keys[..4].iter().all(|key| *key == keys[0]) && keys[4] != keys[0], "{keys:?}");
    let attempts: Vec<_> = steps.iter().map(|seen| seen.header("x-stainless-retry-count").unwrap()).collect();
    // A pooled connection that turns out to be closed is replaced within the attempt.
    assert_eq!(attempts, ["0", "1", "2", "2", "0"]);
}

#[test]
fn heartbeats_go_on_after_failures_and_stop_with_the_close() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "session_heartbeat" => Reply::Json(503, json!({})),
        _ => well(seen),
    });
    let manual = ManualClock::new();
    let interval = Duration::from_secs(7);
    let client = connect(service.config().clock(manual.clock()).heartbeat_interval(interval));
    for beats in 1..=3 {
        manual.until_waiting(|waits| waits == [interval]);
        manual.advance(interval);
        let last = service.until_count("session_heartbeat", beats).pop().unwrap();
        assert_eq!(last.body["session_id"], "session-1");
    }
    promptly(move || client.close(FAR));
    manual.advance(FAR);
    assert_eq!(service.seen_at("session_heartbeat").len(), 3);
    assert_eq!(manual.waits(), []);
}

#[test]
fn heartbeats_stop_when_the_service_says_that_the_session_has_ended() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "session_heartbeat" => Reply::Json(410, json!({"detail": "this session has ended"})),
        _ => well(seen),
    });
    let manual = ManualClock::new();
    let (tell, told) = bounded(1);
    on_log("this session has ended; no more heartbeats are sent", move || tell.send(()).unwrap());
    let client = connect(service.config().clock(manual.clock()));
    manual.until_waiting(|waits| waits == [Duration::from_secs(10)]);
    manual.advance(Duration::from_secs(10));
    told.recv_timeout(HANG).unwrap();
    manual.advance(FAR);
    promptly(move || client.close(FAR));
    assert_eq!(service.seen_at("session_heartbeat").len(), 1);
}
