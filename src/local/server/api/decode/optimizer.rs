//! The parameters of optimizer steps.

use std::ops::Range;

use serde::Deserialize;

use crate::local::adam::AdamOptions;
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::types::OptimizerConfig;

/// An `optim_step` request, with fields of later protocol versions.
#[derive(Debug, Deserialize)]
pub(in crate::local::server::api) struct OptimStep {
    pub(in crate::local::server::api) model_id: String,
    pub(in crate::local::server::api) seq_id: Option<u64>,
    #[serde(default)]
    adam_params: AdamFields,
    /// The settings of another optimizer.
    optimizer_params: Option<OptimizerConfig>,
}

impl OptimStep {
    pub(in crate::local::server::api) fn to_options(&self) -> Result<AdamOptions, Response> {
        match &self.optimizer_params {
            Some(OptimizerConfig::Adam(_)) => {
                Err(bad_request("optimizer_params is for other optimizers: send the settings of AdamW as adam_params"))
            }
            Some(params) => Err(not_adam(params)),
            None => self.adam_params.to_options(),
        }
    }
}

/// The optimizer of a new training run, AdamW by default. Refuses every other.
pub(in crate::local::server::api) fn optimizer(config: Option<&OptimizerConfig>) -> Result<OptimizerConfig, Response> {
    match config {
        None => Ok(OptimizerConfig::default()),
        Some(adam @ OptimizerConfig::Adam(_)) => Ok(adam.clone()),
        Some(other) => Err(not_adam(other)),
    }
}

fn not_adam(config: &OptimizerConfig) -> Response {
    bad_request(format!("the local server has only AdamW, not the optimizer {:?}", config.name()))
}

/// The parameters of an optimizer step. Each may be absent; the defaults are those of [`AdamOptions`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AdamFields {
    learning_rate: Option<f64>,
    beta1: Option<f64>,
    beta2: Option<f64>,
    eps: Option<f64>,
    weight_decay: Option<f64>,
    grad_clip_norm: Option<f64>,
}

impl AdamFields {
    fn to_options(&self) -> Result<AdamOptions, Response> {
        // Checked after rounding to single precision, as the optimizer sees it: a large number becomes infinite, and one just
        // below 1 becomes 1.
        let check = |name: &str, value: Option<f64>, default: f32, allowed: Range<f32>| {
            let rounded = value.map_or(default, |value| value as f32);
            if allowed.contains(&rounded) {
                return Ok(rounded);
            }
            let bound =
                if allowed.end > 1.0 { "finite in single precision" } else { "less than 1 in single precision" };
            let value = value.unwrap_or_default();
            Err(bad_request(format!("{name} must be at least 0 and {bound}, but is {value}")))
        };
        let (finite, decay) = (0.0..f32::INFINITY, 0.0..1.0);
        let default = AdamOptions::default();
        Ok(AdamOptions {
            learning_rate: check("learning_rate", self.learning_rate, default.learning_rate, finite.clone())?,
            beta1: check("beta1", self.beta1, default.beta1, decay.clone())?,
            beta2: check("beta2", self.beta2, default.beta2, decay)?,
            eps: check("eps", self.eps, default.eps, finite.clone())?,
            weight_decay: check("weight_decay", self.weight_decay, default.weight_decay, finite.clone())?,
            grad_clip_norm: check("grad_clip_norm", self.grad_clip_norm, default.grad_clip_norm, finite)?,
        })
    }
}
