//! Requests that fail, and go out again.

use tinkex::types::{AdamParams, ModelInput, SamplingParams};

use super::start;

/// Asserts that each wait before a further attempt, in seconds, is within a quarter below what it is without jitter.
fn assert_waits(waits: &[f64], longest: &[f64]) {
    let within = |(wait, longest): (&f64, &f64)| (0.74 * longest..=*longest).contains(wait);
    assert!(waits.len() == longest.len() && waits.iter().zip(longest).all(within), "{waits:?}, not {longest:?}");
}

#[test]
fn scenario_70_every_form_of_retry_after() {
    let scenario = start("70_retry_429_retry_after");
    let client = scenario.connect();
    let (waits, sampler) = scenario.freely(|| client.create_sampling_client("m"));
    assert_eq!(sampler.unwrap().sampling_session_id(), "sess-golden-0001:sample:0");
    assert_eq!((waits[..2].to_vec(), waits.len()), (vec![1.0, 0.3], 6));
    scenario.is_played();
}

#[test]
fn scenario_71_every_status_that_is_retried() {
    let scenario = start("71_retry_status_codes");
    let trainer = scenario.trainer();
    let (waits, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    step.unwrap();
    assert_waits(&waits, &[0.5, 1.0, 2.0, 4.0, 8.0]);
    scenario.is_played();
}

#[test]
fn scenario_72_an_empty_400_is_no_refusal() {
    let mut scenario = start("72_retry_400");
    let trainer = scenario.trainer();
    let refused = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert!(refused.status() == Some(400) && refused.to_string().contains("bad"), "{refused}");
    trainer.optim_step(AdamParams::default()).unwrap();
    let (waits, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    step.unwrap();
    assert_eq!(waits.len(), 2, "{waits:?}");
    // The refused number is used by the next request. Python leaves a hole.
    for exchange in &mut scenario.exchanges[6..] {
        if let Some(number) = exchange["body"]["json"]["seq_id"].as_u64() {
            exchange["body"]["json"]["seq_id"] = (number - 1).into();
        }
    }
    scenario.is_played();
}

#[test]
fn scenario_73_lost_connections() {
    let scenario = start("73_retry_connection");
    let trainer = scenario.trainer();
    let (waits, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    step.unwrap();
    // The first is lost with a reused connection, and retried at once.
    assert_waits(&waits, &[0.5, 1.0]);
    scenario.is_played();
}

#[test]
fn scenario_74_advice_about_retries() {
    let scenario = start("74_retry_x_should_retry");
    let client = scenario.connect();
    let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", tinkex::types::LoraConfig::default()).unwrap();
    let (waits, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    step.unwrap();
    assert_eq!(waits[..2], [1.0, 2.0], "the window outlasts the advice");
    let (waits, health) = scenario.freely(|| client.health());
    health.unwrap();
    assert_waits(&waits, &[0.5, 1.0]);
    scenario.is_played();
}

#[test]
fn scenario_75_the_last_response_is_the_error() {
    let scenario = start("75_retry_exhausted");
    let client =
        |retries| tinkex::api::Api::new(scenario.config().max_retries(retries).build_with(|_| None).unwrap()).unwrap();
    let (retrying, once) = (client(2), client(0));
    let (waits, health) = scenario.freely(|| retrying.get("/api/v1/healthz").send());
    assert_eq!(health.unwrap_err().body(), Some(r#"{"detail":"3"}"#));
    assert_waits(&waits, &[0.5, 1.0]);
    let health = || once.get("/api/v1/healthz").send();
    assert_eq!(health().unwrap_err().status(), Some(429));
    // The connection was reused, so the server may have closed it before it saw the request: it is retried at once.
    for _ in 0..2 {
        health().unwrap();
    }
    let error = health().unwrap_err();
    assert!(error.status() == Some(529) && error.to_string().contains("overloaded"), "{error}");
    scenario.is_played();
}

#[test]
fn scenario_76_the_submit_window() {
    let scenario = start("76_execute_with_retries_backoff");
    let trainer = scenario.trainer();
    let (waits, saved) = scenario.freely(|| trainer.save_state("x"));
    saved.unwrap();
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0]);
    scenario.is_played();
}

#[test]
fn scenario_77_samples_wait_after_a_429() {
    let scenario = start("77_asample_429_backpressure");
    let sampler = scenario.connect().create_sampling_client("m").unwrap();
    let prompt = ModelInput::from_tokens([1, 2]);
    let sample = || sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(1));
    let sample = || scenario.freely(sample).1;
    sample().unwrap();
    sample().unwrap();
    assert_eq!(sample().unwrap_err().status(), Some(400));
    sample().unwrap();
    scenario.is_played();
}

#[test]
fn scenario_99_a_402_pauses() {
    let scenario = start("99_billing_402");
    let trainer = scenario.trainer();
    let (waits, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    assert_eq!(step.unwrap().metrics.unwrap()["grad_norm"], 0.125);
    assert_eq!(waits, [5.0, 5.0]);
    scenario.is_played();
}
