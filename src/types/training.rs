//! Losses, gradients and optimizer steps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::{Datum, TensorData};
use crate::{Error, Result};

open_enum! {
    /// A loss function of the server.
    ///
    /// Each is a sum, not a mean, over the tokens of all datums; the metric `loss:sum` has it. All inputs of a
    /// [`Datum`] have the shape `[N]`, one number for each token of its model input. Of token i,
    ///
    /// - *new* is the log-probability of `target_tokens[i]` under the model that is trained, in nats,
    /// - *old* is `logprobs[i]`: the same under the model that sampled the token, as [`SampledSequence::logprobs`] has
    ///   it,
    /// - *A* is `advantages[i]`, 0 for a token of the prompt,
    /// - *r* is exp(*new* − *old*), and *clip(r)* is *r* kept between `clip_low_threshold` and `clip_high_threshold`.
    ///
    /// | function | the loss of a token | inputs | settings |
    /// |---|---|---|---|
    /// | [`CrossEntropy`](LossFn::CrossEntropy) | −`weights[i]` · *new* | `target_tokens`, `weights` | |
    /// | [`ImportanceSampling`](LossFn::ImportanceSampling) | −*r* · *A* | `target_tokens`, `logprobs`, `advantages` | |
    /// | [`Ppo`](LossFn::Ppo) | −min(*r* · *A*, *clip(r)* · *A*) | the same | `clip_low_threshold`, `clip_high_threshold` |
    /// | [`Cispo`](LossFn::Cispo) | −*clip(r)* · *new* · *A*, with *clip(r)* as a constant | the same | the same |
    /// | [`Dro`](LossFn::Dro) | −(*new* · *A* − ½ · `beta` · (*new* − *old*)²) | the same | `beta` |
    ///
    /// The formulas are those of [Tinker's documentation](https://tinker-docs.thinkingmachines.ai/tinker/losses). Other
    /// servers may know fewer; one that they do not know is refused.
    ///
    /// ```
    /// use tinkex::types::{Datum, LossFn, ModelInput};
    ///
    /// // Token 12 was sampled after the prompt 10, 11, with log-probability -0.7, and was better than expected.
    /// let datum = Datum::new(ModelInput::from_tokens([10, 11]))
    ///     .input("target_tokens", [11, 12])?
    ///     .input("logprobs", [0.0, -0.7])?
    ///     .input("advantages", [0.0, 1.5])?;
    /// assert_eq!(datum.loss_fn_inputs.len(), 3);
    /// assert_eq!(LossFn::ImportanceSampling.as_str(), "importance_sampling");
    /// assert_eq!(LossFn::from("ppo"), LossFn::Ppo);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    ///
    /// [`SampledSequence::logprobs`]: super::SampledSequence::logprobs
    #[derive(Default)]
    pub enum LossFn {
        /// Negative log-likelihood: the sum over tokens of `weights` times the negative log-probability of
        /// `target_tokens`, in nats.
        #[default]
        CrossEntropy = "cross_entropy",
        /// Policy gradient with importance weights: the negative sum over tokens of exp(new − old log-probability) times the
        /// advantage. Inputs: `target_tokens`, `logprobs` (the old ones, of the model that sampled), `advantages`.
        ImportanceSampling = "importance_sampling",
        /// Proximal policy optimization: the same inputs. Of each token, the smaller of its advantage times the ratio
        /// and its advantage times the clipped ratio counts; the ratio is clipped to between the settings
        /// `clip_low_threshold` and `clip_high_threshold`, for instance 0.8 and 1.2.
        Ppo = "ppo",
        /// Clipped importance-sampling policy optimization: the same inputs and settings. The clipped ratio weights the
        /// log-probability and has no gradient of its own. Later than 0.4.1.
        Cispo = "cispo",
        /// Direct reward optimization: the same inputs, with a quadratic penalty on leaving the old log-probabilities,
        /// of the strength `beta`, for instance 0.05. Later than 0.4.1.
        Dro = "dro",
    }
}

/// A loss function with its settings.
///
/// ```
/// use tinkex::types::{Loss, LossFn};
///
/// let loss = Loss::ppo().config("clip_low_threshold", 0.8).config("clip_high_threshold", 1.2);
/// assert_eq!(loss.config["clip_high_threshold"], 1.2);
/// assert!(loss.validate().is_ok());
/// assert!(Loss::dro().config("beta", f64::NAN).validate().is_err());
///
/// // Where no settings are needed, the function alone will do.
/// assert_eq!(Loss::from(LossFn::CrossEntropy), Loss::cross_entropy());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
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

    /// Sets one of the function's settings: [`LossFn`] has their names.
    #[doc(alias = "loss_fn_config")]
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
///
/// ```
/// use tinkex::types::{Datum, ForwardBackwardInput, ForwardBackwardRequest, Loss, ModelInput};
///
/// let data = [Datum::new(ModelInput::from_tokens([1, 2]))];
/// let loss = Loss::cross_entropy();
/// let request = ForwardBackwardRequest {
///     forward_backward_input: ForwardBackwardInput::new(&data, &loss),
///     model_id: "m-1".into(),
///     seq_id: Some(1),
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(json.ends_with(r#""loss_fn":"cross_entropy","loss_fn_config":null},"model_id":"m-1","seq_id":1}"#));
/// assert_eq!(serde_json::from_str::<ForwardBackwardRequest<'_>>(&json)?, request);
/// # Ok::<(), serde_json::Error>(())
/// ```
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
///
/// [`ForwardBackwardInput`] has an example.
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
///
/// [`ForwardBackwardInput`] has an example.
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
///
/// ```
/// use tinkex::types::ForwardBackwardOutput;
///
/// let output: ForwardBackwardOutput = serde_json::from_str(
///     r#"{
///         "loss_fn_output_type": "ArrayRecord",
///         "loss_fn_outputs": [{"logprobs": {"data": [-0.5, -1.5], "dtype": "float32", "shape": [2]}}],
///         "metrics": {"loss:sum": 2.0}
///     }"#,
/// )?;
/// assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.5, -1.5][..]));
/// assert_eq!(output.metrics["loss:sum"], 2.0);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForwardBackwardOutput {
    /// The name of the outputs' type on the server.
    #[serde(default)]
    pub loss_fn_output_type: String,
    /// One entry for each datum, in the order of the batch.
    pub loss_fn_outputs: Vec<LossFnOutput>,
    /// Numbers about the whole batch, by a name that ends in how those of several chunks become one: `loss:sum`,
    /// `mfu:mean`, `step_max:max`. NaN where the server sent null.
    #[serde(default, deserialize_with = "super::nan::metrics")]
    pub metrics: BTreeMap<String, f64>,
}

/// What a loss function gave for one datum, by name. [`ForwardBackwardOutput`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossFnOutput(pub BTreeMap<String, TensorData>);

impl LossFnOutput {
    /// The log-probability of each target token, in nats, one for each token of the model input. None when the output
    /// has no such tensor, or one of integers.
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

/// The settings of one optimizer step with Adam. The defaults are those of the Python client.
///
/// ```
/// use tinkex::types::AdamParams;
///
/// let params = AdamParams::new().learning_rate(3e-4).weight_decay(0.01).grad_clip_norm(1.0);
/// params.validate()?;
/// assert_eq!((params.learning_rate, params.eps), (3e-4, 1e-12));
/// assert!(params.learning_rate(f64::NAN).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AdamParams {
    /// The learning rate. Defaults to 1e-4.
    pub learning_rate: f64,
    /// The decay rate of the running mean of the gradients, per step. Defaults to 0.9.
    pub beta1: f64,
    /// The decay rate of the running mean of the squared gradients, per step. Defaults to 0.95.
    pub beta2: f64,
    /// Added to the denominator for numerical stability. Defaults to 1e-12.
    pub eps: f64,
    /// The decoupled weight decay (AdamW): each step multiplies every weight by 1 − `learning_rate` · `weight_decay`.
    /// Defaults to 0, no decay. Later than 0.4.1, so 0 is not sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_decay: f64,
    /// The maximum L2 norm of the gradient over all weights together; a longer gradient is scaled down to it. Defaults
    /// to 0, no clipping. Later than 0.4.1, so 0 is not sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub grad_clip_norm: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Default for AdamParams {
    fn default() -> Self {
        AdamParams { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
    }
}

impl AdamParams {
    /// The defaults: learning rate 1e-4, betas 0.9 and 0.95, eps 1e-12, no weight decay, no gradient clipping.
    #[must_use]
    pub fn new() -> Self {
        AdamParams::default()
    }

    /// Sets the learning rate. Defaults to 1e-4.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Sets the decay rate of the running mean of the gradients. Defaults to 0.9.
    #[must_use]
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Sets the decay rate of the running mean of the squared gradients. Defaults to 0.95.
    #[must_use]
    pub fn beta2(mut self, beta2: f64) -> Self {
        self.beta2 = beta2;
        self
    }

    /// Sets the number added to the denominator for numerical stability. Defaults to 1e-12.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the decoupled weight decay (AdamW). Defaults to 0, no decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the maximum L2 norm of the gradient over all weights together. Defaults to 0, no clipping.
    #[must_use]
    pub fn grad_clip_norm(mut self, grad_clip_norm: f64) -> Self {
        self.grad_clip_norm = grad_clip_norm;
        self
    }

    /// Checks that every setting can be sent.
    ///
    /// # Errors
    ///
    /// A setting that is NaN or infinite.
    pub fn validate(&self) -> Result<()> {
        let AdamParams { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm } = *self;
        let settings = [
            ("learning_rate", learning_rate),
            ("beta1", beta1),
            ("beta2", beta2),
            ("eps", eps),
            ("weight_decay", weight_decay),
            ("grad_clip_norm", grad_clip_norm),
        ];
        match settings.into_iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => Err(Error::invalid_input(format!("{name} must be finite, it is {value}"))),
            None => Ok(()),
        }
    }
}

/// Moves the weights against the gradients: `POST optim_step`, answered by a promise of [`OptimStepResponse`].
///
/// ```
/// use std::borrow::Cow;
/// use tinkex::types::{AdamParams, OptimStepRequest, OptimStepResponse};
///
/// let request = OptimStepRequest {
///     adam_params: Cow::Owned(AdamParams::default()),
///     model_id: "m-1".into(),
///     seq_id: Some(2),
/// };
/// let json = serde_json::to_string(&request)?;
/// assert_eq!(serde_json::from_str::<OptimStepRequest<'_>>(&json)?, request);
/// let answer: OptimStepResponse = serde_json::from_str(r#"{"metrics":{"grad_norm":0.5}}"#)?;
/// assert_eq!(answer.metrics.map(|metrics| metrics["grad_norm"]), Some(0.5));
/// # Ok::<(), serde_json::Error>(())
/// ```
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

/// The answer to [`OptimStepRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OptimStepResponse {
    /// Numbers about the step, by name.
    #[serde(default, deserialize_with = "super::nan::optional_metrics")]
    pub metrics: Option<BTreeMap<String, f64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_adam_settings_are_not_sent() {
        let json = serde_json::to_string(&AdamParams::new()).unwrap();
        assert_eq!(json, r#"{"learning_rate":0.0001,"beta1":0.9,"beta2":0.95,"eps":1e-12}"#);
        let json = serde_json::to_string(&AdamParams::new().weight_decay(0.1).grad_clip_norm(1.0)).unwrap();
        assert!(json.ends_with(r#""eps":1e-12,"weight_decay":0.1,"grad_clip_norm":1.0}"#), "{json}");
    }

    #[test]
    fn every_adam_setting_must_be_finite() {
        let setters = [
            AdamParams::learning_rate,
            AdamParams::beta1,
            AdamParams::beta2,
            AdamParams::eps,
            AdamParams::weight_decay,
            AdamParams::grad_clip_norm,
        ];
        for set in setters {
            assert!(set(AdamParams::new(), 0.5).validate().is_ok());
            for value in [f64::NAN, f64::INFINITY] {
                assert!(set(AdamParams::new(), value).validate().is_err());
            }
        }
    }
}
