//! Samples of a base model, of saved weights and of a training client.

use tinkex::types::{ModelInput, SamplingParams};
use tinkex::{ErrorKind, SampleOptions, SamplingClient};

use super::scene::{Scene, ensure, prompt};
use super::{Check, Found};

pub const CHECKS: &[Check] = &[
    ("samples of the base model", |scene| {
        let sampler = scene.service.create_sampling_client(&scene.model)?;
        samples(scene, sampler)
    }),
    ("samples of saved weights", |scene| {
        let sampler = scene.service.create_sampling_client(scene.sampler_weights()?)?;
        samples(scene, sampler)
    }),
    ("samples of a training client", |scene| {
        let sampler = scene.trainer()?.save_weights_and_get_sampling_client()?;
        samples(scene, sampler)
    }),
    ("several sequences of a prompt", |scene| {
        let response = scene.sampler()?.sample(&prompt(), 2, &greedy())?;
        ensure(response.sequences.len() == 2, "not two sequences")
    }),
    ("stop as text", |scene| {
        let params = greedy().stop("nothing like it");
        Ok(scene.sampler()?.sample(&prompt(), 1, &params).map(drop)?)
    }),
    ("logprobs of a prompt with a sample", |scene| {
        let prompt = prompt();
        let options = SampleOptions::new(&prompt).sampling_params(greedy()).prompt_logprobs(true);
        let logprobs = scene.sampler()?.sample_with(options)?.prompt_logprobs.ok_or("no logprobs of the prompt")?;
        ensure(logprobs.len() == prompt.len(), "not one logprob for each token of the prompt")
    }),
    ("best tokens of each prompt position", |scene| {
        let prompt = prompt();
        let options = SampleOptions::new(&prompt).sampling_params(greedy()).prompt_logprobs(true);
        let response = scene.sampler()?.sample_with(options.topk_prompt_logprobs(3))?;
        let best = response.topk_prompt_logprobs.ok_or("no best tokens")?;
        let counts: Vec<_> = best.iter().map(|position| position.as_ref().map(Vec::len)).collect();
        ensure(counts[1..].iter().all(|count| *count == Some(3)), format!("not three tokens each: {counts:?}"))
    }),
    ("best tokens of each sampled position", |scene| {
        let prompt = prompt();
        let options = SampleOptions::new(&prompt).sampling_params(greedy()).topk_sample_logprobs(2);
        let sequence = scene.sampler()?.sample_with(options)?.sequences.pop().ok_or("no sequence")?;
        let best = sequence.topk_logprobs.ok_or("no best tokens")?;
        let counts: Vec<_> = best.iter().map(Vec::len).collect();
        ensure(counts == vec![2; sequence.tokens.len()], format!("not two tokens each: {counts:?}"))
    }),
    ("logprobs of a prompt alone", |scene| {
        let logprobs = scene.sampler()?.compute_logprobs(&prompt())?;
        ensure(logprobs.len() == 4 && logprobs[0].is_none(), format!("not one for each token: {logprobs:?}"))?;
        let plausible = logprobs[1..].iter().all(|logprob| logprob.is_some_and(|logprob| logprob <= 1e-3));
        ensure(plausible, format!("not logprobs: {logprobs:?}"))
    }),
    ("refusal of an unknown path", |scene| {
        let sampler = scene.service.create_sampling_client("tinker://no-such-run/sampler_weights/none");
        match sampler.and_then(|sampler| sampler.sample(&ModelInput::from_tokens(vec![1]), 1, &greedy())) {
            Err(error) if matches!(error.kind(), ErrorKind::Status | ErrorKind::RequestFailed) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err("a sample of weights that do not exist".into()),
        }
    }),
];

fn greedy() -> SamplingParams {
    SamplingParams::default().max_tokens(4).temperature(0.0)
}

fn samples(scene: &mut Scene, sampler: SamplingClient) -> Found {
    let response = sampler.sample(&prompt(), 1, &greedy())?;
    let sequence = response.sequences.first().ok_or("no sequence")?;
    ensure(sequence.tokens.len() <= 4, format!("{} tokens instead of 4", sequence.tokens.len()))?;
    let logprobs = sequence.logprobs.as_ref().map(Vec::len);
    ensure(logprobs.is_none_or(|count| count == sequence.tokens.len()), "not one logprob for each token")?;
    scene.sampler = Some(sampler);
    Ok(())
}
