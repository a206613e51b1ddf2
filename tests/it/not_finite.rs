//! Results with numbers that are not finite: a diverged model, and each way in which services write them.

use tinkex::types::{LoraConfig, LossFn, ModelInput};
#[cfg(feature = "local")]
use tinkex::{ServiceClient, Wire};

use crate::support::{Reply, batch, connect, service_with_polls};

fn prompt() -> ModelInput {
    ModelInput::from_tokens([97, 98, 99])
}

fn shown(logprobs: &[Option<f32>]) -> String {
    logprobs
        .iter()
        .map(|logprob| logprob.map_or("none".to_owned(), |value| value.to_string()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A service whose results have this text in place of some numbers.
fn results_with(word: &'static str) -> crate::support::Service {
    service_with_polls(move |request| {
        let body = match request.request_id().split(':').next() {
            Some("forward") => format!(
                r#"{{"loss_fn_outputs": [{{"logprobs": {{"data": [{word}, -1, -2], "dtype": "float32"}}}}],
                     "metrics": {{"loss:sum": {word}}}}}"#
            ),
            Some("asample") => format!(
                r#"{{"sequences": [{{"stop_reason": "stop", "tokens": [5], "logprobs": [{word}]}}],
                     "prompt_logprobs": [null, {word}, -2]}}"#
            ),
            _ => return crate::support::result(request.request_id()),
        };
        Reply::typed("application/json", body)
    })
}

#[test]
fn each_way_to_write_a_number_arrives() {
    for (word, expected) in [
        ("null", "NaN"),
        ("NaN", "NaN"),
        ("\"NaN\"", "NaN"),
        ("Infinity", "inf"),
        ("\"-Infinity\"", "-inf"),
        ("-Infinity", "-inf"),
    ] {
        let service = results_with(word);
        let client = connect(service.config());
        let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let output = trainer.forward(batch(), LossFn::CrossEntropy).unwrap();
        assert_eq!(output.metrics["loss:sum"].to_string(), expected, "{word}");
        assert_eq!(output.loss_fn_outputs[0].logprobs().unwrap()[0].to_string(), expected, "{word}");
        let sampler = client.create_sampling_client("base").unwrap();
        let reply = sampler.sample(&prompt(), 1, &tinkex::types::SamplingParams::default().max_tokens(1)).unwrap();
        assert_eq!(reply.sequences[0].logprobs.as_ref().unwrap()[0].to_string(), expected, "{word}");
        let logprobs = sampler.compute_logprobs(&prompt()).unwrap();
        assert_eq!(shown(&logprobs), format!("none {expected} -2"), "{word}");
    }
}

#[cfg(feature = "local")]
#[test]
fn a_diverged_model_gives_nan() {
    use tinkex::types::AdamParams;

    let server = tinkex::local::LocalServer::start().unwrap();
    for wire in [Wire::Json, Wire::Auto] {
        let config = tinkex::Config::builder().api_key("tml-local").base_url(server.base_url()).wire(wire);
        let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
        let trainer = client.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1)).unwrap();
        trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(AdamParams::new().learning_rate(3e38)).unwrap();
        let output = trainer.forward(batch(), LossFn::CrossEntropy).unwrap();
        assert!(output.metrics["loss:sum"].is_nan(), "{wire:?}: {output:?}");
        assert!(output.loss_fn_outputs[0].logprobs().unwrap().iter().all(|logprob| logprob.is_nan()), "{wire:?}");
        let logprobs = trainer.save_weights_and_get_sampling_client().unwrap().compute_logprobs(&prompt()).unwrap();
        assert_eq!(shown(&logprobs), "none NaN NaN", "{wire:?}");
    }
}
