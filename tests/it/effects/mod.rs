//! Exactly once: what a failed attempt leaves open is never forgotten, and never run twice.

#[cfg(feature = "local")]
mod chaos;
mod damaged;
mod mixed;
#[cfg(feature = "local")]
mod outage;
mod statuses;
mod windows;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{ConfigBuilder, TrainingClient};

use crate::support::pass_server::{CONTIGUOUS, Generation, Mishap, PassServer};
use crate::support::{Reply, Service, connect, healthy_service};

/// A client whose retries follow at once, in real time.
fn quick(service: &Service) -> ConfigBuilder {
    service.config().retry_base(Duration::from_millis(1)).retry_cap(Duration::from_millis(1))
}

fn trainer(config: ConfigBuilder) -> TrainingClient {
    connect(config).create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn step(trainer: &TrainingClient) -> tinkex::Result<f64> {
    trainer.optim_step(AdamParams::default()).map(|response| response.metrics.unwrap()["step"])
}

/// A service that answers the first requests to this path in this way.
fn failing(path: &'static str, count: usize, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Service {
    let seen = AtomicUsize::new(0);
    Service::start(move |request| match request.path == path && seen.fetch_add(1, Ordering::SeqCst) < count {
        true => reply(),
        false => healthy_service(request),
    })
}

/// A server whose first steps meet this, in turn.
fn server(
    generation: Generation,
    mishap: impl Fn(usize) -> Option<Mishap> + Send + Sync + 'static,
) -> (PassServer, Service) {
    let server = PassServer::in_turn(generation, json!({}), "optim_step", mishap);
    let replies = server.clone();
    (server, Service::start_current(move |request| replies.reply(request)))
}

/// Asserts that a step that is run, and gets this response, is not run again.
fn assert_runs_once(response: Reply) {
    let response = Mutex::new(Some(response));
    let (server, service) = server(CONTIGUOUS, move |_| response.lock().unwrap().take().map(Mishap::Answered));
    let trainer = trainer(quick(&service));
    // The server insists on the next number, and so refuses the one that it has seen.
    let error = step(&trainer).unwrap_err();
    assert_eq!((error.status(), error.may_have_taken_effect()), (Some(409), true), "{error}");
    assert_eq!(step(&trainer).unwrap(), 2.0);
    assert_eq!(server.order(), [("optim_step", 1), ("optim_step", 2)]);
}
