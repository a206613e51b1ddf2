//! Waiting for many results, and observing their queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use serde_json::{Value, json};
use tinkex::clock::ManualClock;
use tinkex::types::{ModelInput, QueueState, RequestKind, SamplingParams};
use tinkex::{
    AsCompleted, ErrorKind, Limit, Pending, QueueStateUpdate, ServiceClient, as_completed, wait_all, wait_any,
};

use crate::support::{Gate, Reply, Service, advance_past_wait, connect, healthy_service, service_with_polls};

const SECOND: Duration = Duration::from_secs(1);

/// How long an awaited poll keeps its connection while another awaited poll needs it, and how long it then stays away.
const SLICE: Duration = Duration::from_secs(2);

/// The minimum time between two polls that give up their connections.
const BETWEEN_CUTS: Duration = Duration::from_millis(250);

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn pending(client: &ServiceClient, request_id: &str) -> Pending<Value> {
    client.pending(request_id, RequestKind::OptimStep)
}

fn done(value: impl Into<Value>) -> Reply {
    let value: Value = value.into();
    Reply::ok(json!({"status": "completed", "result": {"value": value}}))
}

/// A service that holds the polls of `held…` until the gate opens, fails `bad`, and returns all other ids as results.
fn holding(gate: &Arc<Gate>) -> Service {
    let gate = Arc::clone(gate);
    service_with_polls(move |request| match request.request_id() {
        id if id.starts_with("held") => Reply::held(&gate, done(id)),
        "bad" => Reply::ok(json!({"error": "no", "category": "user"})),
        id => done(id),
    })
}

fn try_again(queue_state: &str, reason: Option<&str>) -> Value {
    json!({"type": "try_again", "request_id": "r", "queue_state": queue_state, "queue_state_reason": reason})
}

#[test]
fn results_keep_the_order_of_the_calls() {
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.config());
    let pendings: Vec<_> = ["held-1", "a", "held-2", "b"].into_iter().map(|id| pending(&client, id)).collect();
    let ready = pendings[3].ready();
    let waiting = thread::spawn(move || wait_all(pendings).unwrap());
    ready.recv_timeout(PATIENCE).unwrap();
    assert!(!waiting.is_finished());
    gate.open();
    let values: Vec<_> = waiting.join().unwrap().iter().map(|result| result["value"].clone()).collect();
    assert_eq!(values, ["held-1", "a", "held-2", "b"]);
    assert!(wait_all(Vec::<Pending<Value>>::new()).unwrap().is_empty());
}

#[test]
fn the_first_error_cancels_the_others() {
    let never = Arc::<Gate>::default();
    let service = holding(&never);
    let client = connect(service.config());
    let held = pending(&client, "held");
    let polls = service.wait_for_count("retrieve_future", 1);
    let error = wait_all([held, pending(&client, "bad")]).unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::RequestFailed, Some("bad")));
    service.wait_for_disconnect(polls[0].connection);
}

#[test]
fn any_takes_them_as_they_come() {
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.config());
    let mut pendings = vec![pending(&client, "held"), pending(&client, "quick"), pending(&client, "bad")];
    let mut came = Vec::new();
    while let Some(index) = wait_any(&pendings) {
        came.push(pendings.remove(index).wait().map(|result| result["value"].clone()).map_err(|e| e.kind()));
        if came.len() == 2 {
            gate.open();
        }
    }
    assert_eq!(came.pop(), Some(Ok("held".into())));
    assert!(came.contains(&Ok("quick".into())) && came.contains(&Err(ErrorKind::RequestFailed)));
}

#[test]
fn completed_results_come_with_their_index() {
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.config());
    let pendings = ["held", "quick", "bad"].map(|id| pending(&client, id));
    let mut completed = as_completed(pendings);
    assert_eq!(completed.len(), 3);
    let mut came = Vec::new();
    for _ in 0..2 {
        let (index, result) = completed.next().unwrap();
        came.push((index, result.map(|result| result["value"].clone()).map_err(|error| error.kind())));
    }
    came.sort_by_key(|(index, _)| *index);
    assert_eq!(came, [(1, Ok("quick".into())), (2, Err(ErrorKind::RequestFailed))]);
    // Another call, while one is still on its way.
    completed.add(pending(&client, "late"));
    let (index, result) = completed.next().unwrap();
    assert_eq!((index, &result.unwrap()["value"]), (3, &json!("late")));
    gate.open();
    assert_eq!(completed.by_ref().map(|(index, result)| (index, result.is_ok())).collect::<Vec<_>>(), [(0, true)]);
    assert!(completed.next().is_none() && completed.is_empty());
    assert_eq!(AsCompleted::<Value>::new().count(), 0);
}

#[test]
fn dropping_the_rest_abandons_it() {
    let never = Arc::<Gate>::default();
    let service = holding(&never);
    let client = connect(service.config());
    let mut completed = as_completed([pending(&client, "held"), pending(&client, "quick")]);
    let polls = service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "held"));
    let held = polls.iter().find(|request| request.request_id() == "held").unwrap().connection;
    assert_eq!(completed.next().map(|(index, _)| index), Some(1));
    drop(completed);
    service.wait_for_disconnect(held);
}

#[test]
fn each_call_times_out_by_itself() {
    let manual = ManualClock::new();
    let never = Arc::<Gate>::default();
    let service = holding(&never);
    let client = connect(service.manual_config(&manual).timeout_operation(Some(60 * SECOND)));
    let patient = client.with_timeout_operation(None);
    let mut completed = as_completed([pending(&patient, "held-1"), pending(&client, "held-2"), pending(&patient, "a")]);
    assert_eq!(completed.next().map(|(index, _)| index), Some(2));
    let waiting = thread::spawn(move || (completed.next().unwrap(), completed.len()));
    manual.until_waiting(|waits| waits.contains(&(60 * SECOND)));
    manual.advance(60 * SECOND);
    let ((index, result), rest) = waiting.join().unwrap();
    assert_eq!((index, result.unwrap_err().kind(), rest), (1, ErrorKind::Timeout(Limit::Operation), 1));
}

#[test]
fn waiting_for_all_prioritizes_all() {
    let manual = ManualClock::new();
    let gate = Arc::<Gate>::default();
    let service = holding(&gate);
    let client = connect(service.manual_config(&manual).max_poll_connections(1));
    // Nobody waits for this result, which has the only connection.
    let idle = pending(&client, "held-idle");
    service.wait_for_count("retrieve_future", 1);
    let pendings: Vec<_> = (0..3).map(|n| pending(&client, &format!("r-{n}"))).collect();
    // Awaited results take the connection from one that nobody waits for.
    assert_eq!(wait_all(pendings).unwrap().len(), 3);
    service.wait_until(|requests| requests.iter().filter(|request| request.request_id() == "held-idle").count() == 2);
    let rest = [pending(&client, "held-2"), pending(&client, "r-3")];
    let waiting = thread::spawn(move || (wait_any(&rest), rest));
    // Not again immediately; then the first one keeps the connection for a time slice, although both are awaited.
    manual.until_waiting(|waits| waits.contains(&BETWEEN_CUTS));
    manual.advance(BETWEEN_CUTS);
    manual.until_waiting(|waits| waits.contains(&SLICE));
    manual.advance(SLICE);
    let (index, rest) = waiting.join().unwrap();
    assert!(index == Some(1) && !rest[0].is_ready() && !idle.is_ready());
    gate.open();
    manual.advance(SLICE);
    rest.into_iter().chain([idle]).for_each(|pending| drop(pending.wait().unwrap()));
}

#[test]
fn the_operations_limit_ends_the_wait_for_many() {
    let manual = ManualClock::new();
    let never = Arc::<Gate>::default();
    let service = holding(&never);
    let client = connect(service.manual_config(&manual));
    let (short, long) =
        (client.with_timeout_operation(Some(5 * SECOND)), client.with_timeout_operation(Some(9 * SECOND)));
    let limited = [pending(&long, "held-1"), pending(&short, "held-2"), pending(&client, "held-3")];
    let waiting = thread::spawn(move || (wait_any(&limited), limited));
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    let (index, limited) = waiting.join().unwrap();
    assert_eq!(index, Some(1));
    let error = limited[1].try_get().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Timeout(Limit::Operation), Some("held-2")));
    let [first, _, third] = limited;
    let waiting = thread::spawn(move || wait_all([first, third]).unwrap_err());
    manual.until_waiting(|waits| waits.contains(&(9 * SECOND)));
    manual.advance(9 * SECOND);
    let error = waiting.join().unwrap();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Timeout(Limit::Operation), Some("held-1")));
}

#[test]
fn queue_states_are_reported_before_the_result() {
    let manual = ManualClock::new();
    let service = service_with_polls(|request| match request.iteration() {
        Some(0 | 1) => Reply::ok(json!({"status": "pending"})),
        Some(2) => Reply::ok(try_again("paused_capacity", None)),
        _ => done(42),
    });
    let (sender, received) = unbounded();
    let observer = move |update: &QueueStateUpdate| sender.send(update.clone()).unwrap();
    let client = connect(service.manual_config(&manual).queue_state_observer(observer));
    let pending = pending(&client, "r-1");
    advance_past_wait(&manual, 75..=100);
    advance_past_wait(&manual, 150..=200);
    let update = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!((update.operation, &*update.request_id), ("pending", "r-1"));
    assert_eq!((update.queue_state, update.reason), (QueueState::PausedCapacity, None));
    advance_past_wait(&manual, 1000..=1000);
    assert_eq!(pending.wait().unwrap(), json!({"value": 42}));
    assert!(received.is_empty(), "only an response with a queue state is an update");
}

#[test]
fn every_queue_state_is_reported_with_its_reason() {
    let manual = ManualClock::new();
    let service = Service::start(|request| match (&*request.path, request.iteration()) {
        ("retrieve_future", Some(0)) => {
            Reply::Json(408, json!({"queue_state": "paused_rate_limit", "queue_state_reason": "too many"}))
        }
        ("retrieve_future", Some(1)) => Reply::ok(try_again("resting", None)),
        ("retrieve_future", Some(2)) => Reply::Json(408, Value::Null),
        ("retrieve_future", Some(3)) => Reply::ok(try_again("active", None)),
        _ => healthy_service(request),
    });
    let (sender, received) = unbounded();
    let observer = move |update: &QueueStateUpdate| sender.send(update.clone()).unwrap();
    let client = connect(service.manual_config(&manual).queue_state_observer(observer));
    let sampler = client.create_sampling_client("base").unwrap();
    let sample = sampler.submit_sample(&ModelInput::from_tokens(vec![1]), 1, &SamplingParams::default()).unwrap();
    for wait in [1000..=1000, 150..=200, 300..=400, 600..=800] {
        advance_past_wait(&manual, wait);
    }
    sample.wait().unwrap();
    let updates: Vec<_> = (0..3).map(|_| received.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(updates.iter().all(|update| update.operation == "sample" && &*update.request_id == "asample:sampler-0:0"));
    let said: Vec<_> = updates.iter().map(|u| (u.queue_state.as_str(), u.reason.as_deref())).collect();
    assert_eq!(said, [("paused_rate_limit", Some("too many")), ("resting", None), ("active", None)]);
}

/// A service whose results come after one "not yet" with a queue state.
fn paused_once() -> Service {
    service_with_polls(|request| match request.iteration() {
        Some(0) if request.request_id() != "quick" => Reply::ok(try_again("active", None)),
        _ => done(request.request_id()),
    })
}

#[test]
fn an_observer_that_panics_or_blocks_hurts_nobody() {
    let service = paused_once();
    let (calls, (release, released)) = (Arc::<AtomicUsize>::default(), bounded::<()>(0));
    let called = Arc::clone(&calls);
    let observer = move |_: &QueueStateUpdate| {
        if called.fetch_add(1, Ordering::SeqCst) == 0 {
            panic!("on purpose");
        }
        released.recv().ok();
    };
    let client = connect(service.config().max_poll_connections(1).queue_state_observer(observer));
    let pendings: Vec<_> = (0..5).map(|n| pending(&client, &format!("r-{n}"))).collect();
    for (n, pending) in pendings.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap()["value"], format!("r-{n}"));
    }
    assert!(calls.load(Ordering::SeqCst) <= 2, "one panicked, one blocks, the others wait");
    drop(release);
    client.close(PATIENCE);
}

#[test]
fn a_queue_observer_may_use_the_client() {
    let service = paused_once();
    let (give, given) = bounded::<ServiceClient>(1);
    let (sender, received) = bounded(1);
    let observer = move |_: &QueueStateUpdate| {
        if let Ok(client) = given.try_recv() {
            let quick = pending(&client, "quick").wait().map(|result| result["value"].clone());
            let other = pending(&client, "other").wait().map(|result| result["value"].clone());
            drop(client);
            sender.send((quick.unwrap(), other.unwrap())).unwrap();
        }
    };
    let client = connect(service.config().max_poll_connections(1).queue_state_observer(observer));
    give.send(client.clone()).unwrap();
    drop(pending(&client, "r-1").wait().unwrap());
    drop(client);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), ("quick".into(), "other".into()));
}

#[test]
fn a_result_on_its_way_keeps_its_connection() {
    let body = json!({"status": "completed", "result": {"value": "slow"}}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    // Longer in all than the time slice.
    let (pieces, pause) = (body.len().min(25), Duration::from_millis(100));
    let size = body.len().div_ceil(pieces);
    let script: Vec<Vec<u8>> =
        [head.into_bytes()].into_iter().chain(body.as_bytes().chunks(size).map(<[u8]>::to_vec)).collect();
    assert!(pause * script.len() as u32 > SLICE);
    let service = service_with_polls(move |request| match request.request_id() {
        "slow" => Reply::Drip(script.clone(), pause),
        id => done(id),
    });
    let client = connect(service.config().max_poll_connections(1));
    let slow = pending(&client, "slow");
    service.wait_for_count("retrieve_future", 1);
    assert_eq!(wait_all([slow, pending(&client, "quick")]).unwrap()[0]["value"], "slow");
    assert_eq!(service.requests_to("retrieve_future").len(), 2);
}
