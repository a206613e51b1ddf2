//! What the checks share: the clients, and what earlier checks made.

use std::error::Error;

use tinkex::types::{Batch, Datum, ForwardBackwardOutput, LossFn, ModelInput};
use tinkex::{Config, RestClient, SamplingClient, ServiceClient, TrainingClient, TrainingOptions};

use super::Found;

pub struct Scene {
    pub service: ServiceClient,
    pub model: String,
    /// A name that no earlier run against the same service has used.
    pub name: String,
    pub trainer: Option<TrainingClient>,
    /// The path of saved training weights, with the loss that they had.
    pub state: Option<(String, f32)>,
    /// The path of saved sampler weights.
    pub sampler_weights: Option<String>,
    /// A sampling client that gave a sample.
    pub sampler: Option<SamplingClient>,
}

impl Scene {
    pub fn open(config: Config, model: &str) -> tinkex::Result<Self> {
        let (service, model) = (ServiceClient::connect(config)?, model.to_owned());
        let name = format!("contract-{:x}", fastrand::u64(..));
        Ok(Scene { service, model, name, trainer: None, state: None, sampler_weights: None, sampler: None })
    }

    pub fn create_trainer(&self) -> tinkex::Result<TrainingClient> {
        let lora = tinkex::types::LoraConfig::new().rank(8).seed(1);
        let options = TrainingOptions::from(lora).user_metadata("purpose", "contract");
        self.service.create_lora_training_client(&self.model, options)
    }

    pub fn trainer(&self) -> Result<&TrainingClient, Box<dyn Error>> {
        self.trainer.as_ref().ok_or_else(|| "not tried, since there is no training client".into())
    }

    pub fn state(&self) -> Result<(&str, f32), Box<dyn Error>> {
        let state = self.state.as_ref().ok_or("not tried, since no training weights were saved")?;
        Ok((&state.0, state.1))
    }

    pub fn sampler_weights(&self) -> Result<&str, Box<dyn Error>> {
        self.sampler_weights.as_deref().ok_or_else(|| "not tried, since no sampler weights were saved".into())
    }

    pub fn sampler(&self) -> Result<&SamplingClient, Box<dyn Error>> {
        self.sampler.as_ref().ok_or_else(|| "not tried, since no sampling client gave a sample".into())
    }

    pub fn rest(&self) -> RestClient {
        self.service.create_rest_client()
    }

    /// The loss of the batch in nats, by a pass without gradients.
    pub fn loss(&self) -> Result<f32, Box<dyn Error>> {
        loss_of(&self.trainer()?.forward(batch(), LossFn::CrossEntropy)?)
    }
}

/// The loss of a pass over the batch: of its logprobs or, where the service gives none, its metric.
pub fn loss_of(output: &ForwardBackwardOutput) -> Result<f32, Box<dyn Error>> {
    nats(output).or_else(|error| output.metrics.get("loss:sum").map(|loss| *loss as f32).ok_or(error))
}

/// The sum of the negative logprobs of a pass over the batch.
pub fn nats(output: &ForwardBackwardOutput) -> Result<f32, Box<dyn Error>> {
    ensure(output.loss_fn_outputs.len() == 2, "not one output for each datum")?;
    let logprobs: Option<Vec<&[f32]>> = output.loss_fn_outputs.iter().map(|output| output.logprobs()).collect();
    let logprobs = logprobs.ok_or("an output has no logprobs")?;
    ensure(logprobs.iter().all(|logprobs| logprobs.len() == 4), "not one logprob for each token")?;
    Ok(logprobs.concat().iter().map(|logprob| -logprob).sum())
}

pub fn ensure(condition: bool, what: impl Into<String>) -> Found {
    if condition { Ok(()) } else { Err(what.into().into()) }
}

/// Two datums of four tokens.
pub fn batch() -> Batch {
    let datum = |tokens: [u32; 5]| {
        let datum = Datum::new(ModelInput::from_tokens(tokens[..4].to_vec()));
        datum.input("target_tokens", tokens[1..].to_vec()).unwrap().input("weights", vec![1.0_f32; 4]).unwrap()
    };
    vec![datum([10, 11, 12, 13, 14]), datum([20, 21, 22, 23, 24])].into()
}

pub fn prompt() -> ModelInput {
    ModelInput::from_tokens(vec![10, 11, 12, 13])
}
