//! The loss functions of the server, and their settings.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

open_enum! {
    /// A loss function of the server.
    ///
    /// Each is a sum, not a mean, over the tokens of all datums, and reported as the metric `loss:sum`. All inputs of a
    /// [`Datum`](super::Datum) have the shape `[N]`, one number for each token of its model input. For token i,
    ///
    /// - *new* is the log-probability of `target_tokens[i]` under the model in training, in nats,
    /// - *old* is `logprobs[i]`: the same under the model that sampled the token, from [`SampledSequence::logprobs`],
    /// - *A* is `advantages[i]`, 0 for tokens of the prompt,
    /// - *r* is exp(*new* − *old*), and *clip(r)* is *r* clipped to `clip_low_threshold` … `clip_high_threshold`.
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
    /// servers may support fewer; a server rejects a function that it does not support.
    ///
    /// ```
    /// use tinkex::types::{Datum, LossFn, ModelInput};
    ///
    /// // Token 12 was sampled after the prompt 10, 11 with log-probability -0.7 and has a positive advantage.
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
        /// advantage. Inputs: `target_tokens`, `logprobs` (of the model that sampled the tokens), `advantages`.
        ImportanceSampling = "importance_sampling",
        /// Proximal policy optimization, with the inputs of importance sampling. The objective of each token is the smaller
        /// of advantage times ratio and advantage times clipped ratio. The settings `clip_low_threshold` and
        /// `clip_high_threshold`, for example 0.8 and 1.2, bound the clipped ratio.
        Ppo = "ppo",
        /// Clipped importance-sampling policy optimization, with the inputs and settings of PPO. The clipped ratio weights
        /// the log-probability and is treated as a constant in the gradient. Later than 0.4.1.
        Cispo = "cispo",
        /// Direct reward optimization, with the inputs of importance sampling. A quadratic penalty of strength `beta`, for
        /// example 0.05, keeps the log-probabilities near the old ones. Later than 0.4.1.
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
/// // A function converts to a loss without settings.
/// assert_eq!(Loss::from(LossFn::CrossEntropy), Loss::cross_entropy());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Loss {
    /// The function.
    pub function: LossFn,
    /// The settings of the function by name. If empty, null is sent.
    pub config: BTreeMap<String, f64>,
}

impl Loss {
    /// A loss function without settings.
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

    /// Sets one of the function's settings. [`LossFn`] lists their names.
    #[doc(alias = "loss_fn_config")]
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: f64) -> Self {
        self.config.insert(name.into(), value);
        self
    }

    /// Checks that all settings can be sent.
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
