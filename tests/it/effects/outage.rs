//! A service that goes away after an attempt, or before it.

use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use tinkex::clock::ManualClock;
use tinkex::local::{Fault, LocalServer, LoggedRequest};
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SampleResponse, SamplingParams};
use tinkex::{ErrorKind, SamplingClient, ServiceClient};

use crate::support::{advance_past_wait, config_for};

const BASE: &str = "tinkex/bytes-tiny";

/// A client whose submissions have time for two attempts.
fn connect(server: &LocalServer, manual: &ManualClock) -> ServiceClient {
    let config = config_for(server.base_url());
    let config = config.clock(manual.clock()).timeout_submit(Duration::from_millis(1300)).max_retries(1);
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap()
}

fn numbers(server: &LocalServer, endpoint: &str) -> Vec<u64> {
    let own = |request: &LoggedRequest| request.endpoint() == endpoint;
    server.requests().into_iter().filter(own).map(|request| request.seq.unwrap()).collect()
}

/// Runs a call whose first attempt fails, with the server away for the second.
fn without_second_attempt<T: Send>(
    server: &LocalServer,
    manual: &ManualClock,
    call: impl FnOnce() -> tinkex::Result<T> + Send,
    millis: RangeInclusive<u128>,
) -> tinkex::Error {
    let error = thread::scope(|scope| {
        let call = scope.spawn(call);
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| millis.contains(&wait.as_millis())));
        // It may be away already.
        server.pause().ok();
        advance_past_wait(manual, millis);
        call.join().unwrap().map(drop).unwrap_err()
    });
    server.resume().unwrap();
    error
}

fn sample(sampler: &SamplingClient) -> tinkex::Result<SampleResponse> {
    sampler.sample(&ModelInput::from_tokens([97]), 1, &SamplingParams::default().max_tokens(1))
}

#[test]
fn an_outage_does_not_forget_a_lost_step() {
    let manual = ManualClock::new();
    let server = LocalServer::builder().fault(Fault::on("optim_step").times(1).truncate()).start().unwrap();
    let trainer = connect(&server, &manual).create_lora_training_client(BASE, LoraConfig::default()).unwrap();
    let error = without_second_attempt(&server, &manual, || trainer.optim_step(AdamParams::default()), 375..=500);
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Connect, true), "{error}");
    // It keeps its number, and is settled before the request that follows.
    trainer.save_state("a").unwrap();
    assert_eq!((numbers(&server, "optim_step"), numbers(&server, "save_weights")), (vec![1, 1], vec![2]));
}

#[test]
fn a_step_that_never_left_has_no_effect() {
    let manual = ManualClock::new();
    let server = LocalServer::start().unwrap();
    let trainer = connect(&server, &manual).create_lora_training_client(BASE, LoraConfig::default()).unwrap();
    server.pause().unwrap();
    let error = without_second_attempt(&server, &manual, || trainer.optim_step(AdamParams::default()), 375..=500);
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Connect, false), "{error}");
    trainer.save_state("a").unwrap();
    assert_eq!((numbers(&server, "optim_step"), numbers(&server, "save_weights")), (vec![], vec![1]));
}

#[test]
fn a_lost_sample_keeps_its_number() {
    let manual = ManualClock::new();
    let server = LocalServer::builder().fault(Fault::on("asample").times(1).lost_response()).start().unwrap();
    let sampler = connect(&server, &manual).create_sampling_client(BASE).unwrap();
    let error = without_second_attempt(&server, &manual, || sample(&sampler), 1000..=1000);
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Connect, true), "{error}");
    sample(&sampler).unwrap();
    assert_eq!(numbers(&server, "asample"), [0, 1]);
}

#[test]
fn a_sample_that_never_left_takes_no_number() {
    let manual = ManualClock::new();
    let server = LocalServer::start().unwrap();
    let sampler = connect(&server, &manual).create_sampling_client(BASE).unwrap();
    server.pause().unwrap();
    let error = without_second_attempt(&server, &manual, || sample(&sampler), 1000..=1000);
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Connect, false), "{error}");
    sample(&sampler).unwrap();
    sample(&sampler).unwrap();
    assert_eq!(numbers(&server, "asample"), [0, 1]);
}
