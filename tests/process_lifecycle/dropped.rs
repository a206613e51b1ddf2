//! The last handle of a client may be dropped on any thread, even on one of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::logger::on_log;
use super::*;

/// The last handles, for the thread that drops them.
type Handles = Box<dyn Any + Send>;

/// Drops the handles on the thread that logs this text, and returns which thread that was.
fn dropped_on_log(text: &'static str) -> (Sender<Handles>, Receiver<String>) {
    let (give, given) = bounded::<Handles>(1);
    let (sender, received) = bounded(1);
    on_log(text, move || {
        drop(given.recv_timeout(HANG));
        sender.send(thread::current().name().unwrap_or_default().to_owned()).ok();
    });
    (give, received)
}

#[test]
fn dropped_on_the_training_thread() {
    let service = Service::start(|request| match request.path.as_str() {
        "optim_step" => Reply::Json(503, json!({"detail": "dropped by training"})),
        _ => healthy_service(request),
    });
    let (give, received) = dropped_on_log("dropped by training");
    let client = connect(service.config());
    let trainer = train(&client);
    let step = trainer.submit_optim_step(adam()).unwrap();
    give.send(Box::new((client, trainer, step))).unwrap();
    assert_eq!(received.recv_timeout(HANG).unwrap(), "tinkex-training");
}

#[test]
fn dropped_on_a_submitting_thread() {
    let service = Service::start(|request| match request.path.as_str() {
        "asample" => Reply::Json(503, json!({"detail": "dropped by submit"})),
        _ => healthy_service(request),
    });
    let (give, received) = dropped_on_log("dropped by submit");
    let client = connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let reply = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    give.send(Box::new((client, sampler, reply))).unwrap();
    assert_eq!(received.recv_timeout(HANG).unwrap(), "tinkex-submit");
}

#[test]
fn dropped_on_the_poller() {
    let service = Service::start(|request| match request.path.as_str() {
        "retrieve_future" => Reply::Json(410, json!({"detail": "gone"})),
        _ => healthy_service(request),
    });
    let (give, received) = dropped_on_log("expired; resubmitting its request");
    let client = connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let reply = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    give.send(Box::new((client, sampler, reply))).unwrap();
    assert_eq!(received.recv_timeout(HANG).unwrap(), "tinkex-poller");
}

#[test]
fn dropped_on_the_heartbeat_thread() {
    let service = Service::start(|request| match request.path.as_str() {
        "session_heartbeat" => Reply::Json(503, json!({"detail": "dropped by heartbeat"})),
        _ => healthy_service(request),
    });
    let (give, received) = dropped_on_log("dropped by heartbeat");
    let client = connect(service.config().heartbeat_interval(Duration::from_millis(1)));
    give.send(Box::new(client)).unwrap();
    assert_eq!(received.recv_timeout(HANG).unwrap(), "tinkex-heartbeat");
}

#[test]
fn a_dropped_trainer_ends_its_own_submission() {
    let submitted = AtomicUsize::new(0);
    let service = Service::start(move |request| match request.path.as_str() {
        "optim_step" if submitted.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Silence,
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    let (first, second) = (train(&client), train(&client));
    let step = first.submit_optim_step(adam()).unwrap();
    let connection = service.wait_for_count("optim_step", 1).last().unwrap().connection;
    drop(step);
    promptly(move || drop(first));
    service.wait_for_disconnect(connection);
    second.optim_step(adam()).unwrap();
}

/// What a [`Dropper`] drops, and where it reports on which thread it did.
static TO_DROP: Mutex<Option<(Receiver<Handles>, Sender<String>)>> = Mutex::new(None);

/// A user's type that drops things while it is read from JSON.
struct Dropper;

impl<'de> Deserialize<'de> for Dropper {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        let (given, sender) = TO_DROP.lock().unwrap().take().unwrap();
        drop(given.recv_timeout(HANG));
        sender.send(thread::current().name().unwrap_or_default().to_owned()).ok();
        Ok(Dropper)
    }
}

impl PromiseResult for Dropper {}

#[test]
fn dropped_while_decoding_a_users_type() {
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    let (give, given) = bounded(1);
    let (sender, received) = bounded(1);
    *TO_DROP.lock().unwrap() = Some((given, sender));
    let pending = client.pending::<Dropper>("optim_step:model-0:1", RequestKind::OptimStep);
    give.send(Box::new((client, pending)) as Handles).unwrap();
    assert_eq!(received.recv_timeout(HANG).unwrap(), "tinkex-poll");
}
