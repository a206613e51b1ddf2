//! Requests that fail, and go out again.

use tinkex::{ErrorKind, ServiceClient};

use super::start;

/// Asserts that the waits before each further attempt are within these limits, in seconds.
fn assert_waits(waits: &[f64], expected: &[(f64, f64)]) {
    let within = |(wait, limits): (&f64, &(f64, f64))| (limits.0..=limits.1).contains(wait);
    assert!(waits.len() == expected.len() && waits.iter().zip(expected).all(within), "{waits:?}, expected {expected:?}");
}

#[test]
fn scenario_70_every_form_of_retry_after() {
    let scenario = start("70_retry_429_retry_after");
    let client = scenario.connect();
    let (waits, sampler) = scenario.freely(|| client.create_sampling_client("m"));
    assert_eq!(sampler.unwrap().sampling_session_id(), "sess-golden-0001:sample:0");
    // The date of the fifth has passed by now, so that the wait is the usual one.
    assert_eq!(waits[..2], [1.0, 0.3]);
    assert_eq!(waits.len(), 6);
    scenario.is_played();
}

#[test]
fn scenario_75_the_last_response_is_the_error() {
    let scenario = start("75_retry_exhausted");
    let client = |retries| ServiceClient::connect(scenario.config().max_retries(retries).build().unwrap()).unwrap();
    let _ = client;
}
