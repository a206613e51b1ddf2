//! The contract with a Tinker service, checked against the service at `TEST_API_BASE_URL`.
//!
//! `TINKER_API_KEY` is the key and `TEST_API_BASE_MODEL` the model. Nothing depends on the local server:
//! metrics may be missing, ids may have any form, and the tokens are small numbers that every vocabulary has.

use std::env;
use std::io::Write;
use std::time::Duration;

use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Error, ErrorKind, SampleOptions, ServiceClient};

/// A real model may take minutes to load; one that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

#[test]
fn the_service_keeps_the_contract() {
    let Ok(base_url) = env::var("TEST_API_BASE_URL") else {
        // Not `eprintln`, which the test harness captures: a skipped test must say so.
        let message = "skipped: set TEST_API_BASE_URL, TINKER_API_KEY and TEST_API_BASE_MODEL to test a service";
        writeln!(std::io::stderr(), "{message}").unwrap();
        return;
    };
    let model = env::var("TEST_API_BASE_MODEL").expect("set TEST_API_BASE_MODEL to a model of the service");
    let config = Config::builder().base_url(base_url).timeout_operation(Some(PATIENCE)).build().unwrap();
    keeps_the_contract(config, &model).unwrap();
}

#[cfg(feature = "local")]
#[test]
fn the_local_server_keeps_the_contract() {
    let server = tinkex::local::LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key("tml-contract");
    keeps_the_contract(config.build().unwrap(), "tinkex/bytes-tiny").unwrap();
}

fn keeps_the_contract(config: Config, model: &str) -> Result<(), Error> {
    let service = ServiceClient::connect(config)?;
    service.health()?;
    assert!(!service.get_server_capabilities()?.supported_models.is_empty());

    let lora = LoraConfig::new().rank(8).seed(1);
    let trainer = service.create_lora_training_client(model, lora)?;
    assert_eq!(trainer.get_info()?.model_id, trainer.model_id());

    let batch = batch()?;
    let nats = |step: &tinkex::types::ForwardBackwardOutput| -> f32 {
        assert_eq!(step.loss_fn_outputs.len(), batch.len());
        step.loss_fn_outputs.iter().flat_map(|output| output.logprobs().unwrap()).map(|logprob| -logprob).sum()
    };
    let first = nats(&trainer.forward_backward(&batch, LossFn::CrossEntropy)?);
    trainer.optim_step(adam())?;
    let mut pending = Vec::new();
    for _ in 0..5 {
        let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        pending.push((pass, trainer.submit_optim_step(adam())?));
    }
    for (pass, step) in pending {
        pass.wait()?;
        step.wait()?;
    }
    let trained = nats(&trainer.forward(&batch, LossFn::CrossEntropy)?);
    assert!(trained < first, "six steps did not lower the loss: {first} -> {trained}");

    // Names that no earlier run against the same service has used.
    let name = format!("contract-{:x}", fastrand::u64(..));
    let state = trainer.save_state(&name)?;
    assert!(state.path.starts_with("tinker://"), "{}", state.path);
    trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
    trainer.optim_step(adam())?;
    trainer.load_state(&state.path)?;
    let loaded = nats(&trainer.forward(&batch, LossFn::CrossEntropy)?);
    assert!((loaded - trained).abs() < 0.05 * trained.max(1.0), "loading changed the loss: {trained} -> {loaded}");

    let saved = trainer.save_weights_for_sampler(&name)?;
    for sampler in [
        service.create_sampling_client(model)?,
        service.create_sampling_client(&saved.path)?,
        trainer.save_weights_and_get_sampling_client()?,
    ] {
        let prompt = ModelInput::from_tokens(vec![10, 11, 12, 13]);
        let greedy = SamplingParams::default().max_tokens(4).temperature(0.0);
        let reply = sampler.sample(&prompt, 1, &greedy)?;
        let sequence = &reply.sequences[0];
        assert!(sequence.tokens.len() <= 4, "{sequence:?}");
        let reply = sampler
            .sample_with(SampleOptions::new(&prompt).num_samples(2).sampling_params(greedy).prompt_logprobs(true))?;
        assert_eq!(reply.sequences.len(), 2);
        assert_eq!(reply.prompt_logprobs.map(|logprobs| logprobs.len()), Some(prompt.len()));
        let logprobs = sampler.compute_logprobs(&prompt)?;
        assert_eq!(logprobs.len(), prompt.len());
        assert!(logprobs[0].is_none());
        assert!(logprobs[1..].iter().all(|logprob| logprob.is_some_and(|logprob| logprob <= 1e-3)), "{logprobs:?}");
    }

    let unknown = service.create_sampling_client("tinker://no-such-run/sampler_weights/none");
    let unknown =
        unknown.and_then(|sampler| sampler.sample(&ModelInput::from_tokens(vec![1]), 1, &SamplingParams::default()));
    let error = unknown.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Status | ErrorKind::RequestFailed), "{error:?}");
    service.close(Duration::from_secs(5));
    Ok(())
}

fn adam() -> AdamParams {
    AdamParams::new().learning_rate(1e-3)
}

fn batch() -> Result<Batch, Error> {
    let datum = |tokens: [u32; 5]| {
        Datum::new(ModelInput::from_tokens(tokens[..4].to_vec()))
            .input("target_tokens", tokens[1..].to_vec())?
            .input("weights", vec![1.0_f32; 4])
    };
    Ok(Batch::from(vec![datum([10, 11, 12, 13, 14])?, datum([20, 21, 22, 23, 24])?]))
}
