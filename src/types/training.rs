//! Losses, gradients and optimizer steps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::{Datum, TensorData};
use crate::{Error, Result};

open_enum! {
    /// A loss function of the server.
    #[derive(Default)]
    pub enum LossFn {
        /// The sum over tokens of `weights` times the negative log-probability of `target_tokens`, in nats.
        #[default]
        CrossEntropy = "cross_entropy",
        /// Policy gradient with importance weights: the negative sum over tokens of exp(new − old log-probability) times the
        /// advantage. Inputs: `target_tokens`, `logprobs` (the old ones, of the model that sampled), `advantages`.
        ImportanceSampling = "importance_sampling",
        /// Proximal policy optimization: the same inputs, with the ratio clipped to between the settings
        /// `clip_low_threshold` and `clip_high_threshold`, for instance 0.8 and 1.2.
        Ppo = "ppo",
        /// Clipped importance-sampling policy optimization: the same inputs. Later than 0.4.1.
        Cispo = "cispo",
        /// Direct reward optimization: the same inputs. Later than 0.4.1.
        Dro = "dro",
    }
}

/// A loss function with its settings.
///
/// ```
/// use tinkex::types::Loss;
///
/// let loss = Loss::ppo().config("clip_low_threshold", 0.8).config("clip_high_threshold", 1.2);
/// assert_eq!(loss.config.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loss {
    /// The function.
    pub function: LossFn,
    /// Its settings by name. When empty, null is sent.
    pub config: BTreeMap<String, f64>,
}

impl Loss {
    /// Any loss function, without settings.
    #[must_use]
    pub fn new(function: LossFn) -> Self {
        Loss { function, config: BTreeMap::new() }
    }

    /// [`LossFn::CrossEntropy`].
    #[must_use]
    pub fn cross_entropy() -> Self {
        LossFn::CrossEntropy.into()
    }

    /// [`LossFn::ImportanceSampling`].
    #[must_use]
    pub fn importance_sampling() -> Self {
        LossFn::ImportanceSampling.into()
    }

    /// [`LossFn::Ppo`].
    #[must_use]
    pub fn ppo() -> Self {
        LossFn::Ppo.into()
    }

    /// [`LossFn::Cispo`].
    #[must_use]
    pub fn cispo() -> Self {
        LossFn::Cispo.into()
    }

    /// [`LossFn::Dro`].
    #[must_use]
    pub fn dro() -> Self {
        LossFn::Dro.into()
    }

    /// Sets one of the function's settings.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: f64) -> Self {
        self.config.insert(name.into(), value);
        self
    }

    /// Checks that everything can be sent.
    ///
    /// # Errors
    ///
    /// A setting that is NaN or infinite.
    pub fn validate(&self) -> Result<()> {
        match self.config.iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => Err(Error::invalid_input(format!("the loss setting {name:?} is {value}"))),
            None => Ok(()),
        }
    }
}

impl From<LossFn> for Loss {
    fn from(function: LossFn) -> Self {
        Loss::new(function)
    }
}

/// A batch and the loss to compute on it: the body of [`ForwardRequest`] and [`ForwardBackwardRequest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardInput<'a> {
    /// The examples.
    pub data: Cow<'a, [Datum]>,
    /// The loss function.
    pub loss_fn: LossFn,
    /// The settings of the loss function; null when none.
    pub loss_fn_config: Option<Cow<'a, BTreeMap<String, f64>>>,
}

impl<'a> ForwardBackwardInput<'a> {
    /// Borrows the examples and the settings.
    #[must_use]
    pub fn new(data: &'a [Datum], loss: &'a Loss) -> Self {
        ForwardBackwardInput {
            data: Cow::Borrowed(data),
            loss_fn: loss.function.clone(),
            loss_fn_config: (!loss.config.is_empty()).then_some(Cow::Borrowed(&loss.config)),
        }
    }
}

/// Computes the loss alone: `POST forward`, answered by a promise of [`ForwardBackwardOutput`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardRequest<'a> {
    /// The examples and the loss.
    pub forward_input: ForwardBackwardInput<'a>,
    /// The model.
    pub model_id: Cow<'a, str>,
    /// The place in the model's order of requests, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// Computes the loss and adds up gradients: `POST forward_backward`, answered by a promise of
/// [`ForwardBackwardOutput`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardRequest<'a> {
    /// The examples and the loss.
    pub forward_backward_input: ForwardBackwardInput<'a>,
    /// The model.
    pub model_id: Cow<'a, str>,
    /// The place in the model's order of requests, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// What a loss function gave for a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForwardBackwardOutput {
    /// The name of the outputs' type on the server.
    #[serde(default)]
    pub loss_fn_output_type: String,
    /// One entry for each datum, in the order of the batch.
    pub loss_fn_outputs: Vec<LossFnOutput>,
    /// Numbers about the whole batch, by a name that ends in how they are reduced, such as `loss:sum`.
    #[serde(default, deserialize_with = "super::nan::metrics")]
    pub metrics: BTreeMap<String, f64>,
}

/// What a loss function gave for one datum, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossFnOutput(pub BTreeMap<String, TensorData>);

impl LossFnOutput {
    /// The log-probability of each target token.
    #[must_use]
    pub fn logprobs(&self) -> Option<&[f32]> {
        self.get("logprobs").and_then(TensorData::as_f32)
    }
}

impl Deref for LossFnOutput {
    type Target = BTreeMap<String, TensorData>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The settings of an Adam step.
///
/// ```
/// use tinkex::types::AdamParams;
///
/// let params = AdamParams { learning_rate: 3e-4, ..AdamParams::default() };
/// assert_eq!(params.eps, 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdamParams {
    /// The learning rate. Defaults to 1e-4.
    pub learning_rate: f64,
    /// The decay of the mean. Defaults to 0.9.
    pub beta1: f64,
    /// The decay of the variance. Defaults to 0.95.
    pub beta2: f64,
    /// What keeps the division stable. Defaults to 1e-12.
    pub eps: f64,
}

impl Default for AdamParams {
    fn default() -> Self {
        AdamParams { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-12 }
    }
}

impl AdamParams {
    /// Sets the learning rate. Defaults to 1e-4.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Checks that everything can be sent.
    ///
    /// # Errors
    ///
    /// A setting that is NaN or infinite.
    pub fn validate(&self) -> Result<()> {
        let AdamParams { learning_rate, beta1, beta2, eps } = *self;
        let settings = [("learning_rate", learning_rate), ("beta1", beta1), ("beta2", beta2), ("eps", eps)];
        match settings.into_iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => Err(Error::invalid_input(format!("{name} must be finite, it is {value}"))),
            None => Ok(()),
        }
    }
}

/// Moves the weights along the gradients: `POST optim_step`, answered by a promise of [`OptimStepResponse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "optim_step")]
pub struct OptimStepRequest<'a> {
    /// The settings of the step.
    pub adam_params: Cow<'a, AdamParams>,
    /// The model.
    pub model_id: Cow<'a, str>,
    /// The place in the model's order of requests, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// The answer to [`OptimStepRequest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OptimStepResponse {
    /// Numbers about the step, by name.
    #[serde(default, deserialize_with = "super::nan::optional_metrics")]
    pub metrics: Option<BTreeMap<String, f64>>,
}
