//! The loss functions of the server, and their settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// | [`Gspo`](LossFn::Gspo) | −min(*s* · *A*, *clip(s)* · *A*), with *s* the geometric mean of *r* over the marked tokens | the same, and `sequence_ratio_mask`: not 0 for sampled tokens | the same as for PPO |
    /// | [`StableReinforce`](LossFn::StableReinforce) | not published | the same, with provenance | `kl_coeff` |
    ///
    /// The formulas are those of [Tinker's documentation](https://tinker-docs.thinkingmachines.ai/tinker/losses), which also
    /// says more about each. Other servers may support fewer; a server rejects a function that it does not support. The defaults of
    /// the settings, as far as they are known, are those of the local server (`local::model::Objective`).
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
        /// Group sequence policy optimization: the loss of PPO with the ratio of the whole sequence, the geometric mean of the ratios
        /// of the tokens that `sequence_ratio_mask` marks. As a constant; the gradient is that of each token's own log-probability.
        /// Later than 0.4.1.
        Gspo = "gspo",
        /// A variant of REINFORCE that is stable for old samples. It needs the provenance of the tokens
        /// ([`Datum::with_provenance`](super::Datum::with_provenance)) and samples with
        /// [`record_stability_info`](crate::SamplerOptions::record_stability_info); only sampled tokens may have an advantage. Later
        /// than 0.4.1.
        StableReinforce = "stable_reinforce",
        /// A loss that was created on the server; the text setting `loss_id` names it. Later than 0.4.1.
        Custom = "custom",
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
/// // A setting may also be a text.
/// let custom = Loss::new(LossFn::Custom).config("loss_id", "loss-1");
/// assert_eq!(custom.config["loss_id"].as_text(), Some("loss-1"));
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
    pub config: BTreeMap<String, LossSetting>,
}

/// A setting of a loss function: a number or a text. [`Loss`] has an example.
///
/// ```
/// use tinkex::types::LossSetting;
///
/// let (number, text) = (LossSetting::from(0.8), LossSetting::from("loss-1"));
/// assert_eq!((number.as_number(), text.as_text()), (Some(0.8), Some("loss-1")));
/// assert_eq!(number, 0.8);
/// assert_eq!(serde_json::to_string(&[number, text])?, r#"[0.8,"loss-1"]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or a text")]
#[non_exhaustive]
pub enum LossSetting {
    /// A number.
    Number(f64),
    /// A text. Servers before 2026 know none.
    Text(String),
}

impl LossSetting {
    /// The setting, if it is a number.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            LossSetting::Number(number) => Some(*number),
            LossSetting::Text(_) => None,
        }
    }

    /// The setting, if it is a text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            LossSetting::Number(_) => None,
            LossSetting::Text(text) => Some(text),
        }
    }
}

impl From<f64> for LossSetting {
    fn from(number: f64) -> Self {
        LossSetting::Number(number)
    }
}

impl From<&str> for LossSetting {
    fn from(text: &str) -> Self {
        LossSetting::Text(text.to_owned())
    }
}

impl From<String> for LossSetting {
    fn from(text: String) -> Self {
        LossSetting::Text(text)
    }
}

impl PartialEq<f64> for LossSetting {
    fn eq(&self, number: &f64) -> bool {
        self.as_number() == Some(*number)
    }
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

    /// Sets one of the function's settings, a number or a text. [`LossFn`] lists their names.
    #[doc(alias = "loss_fn_config")]
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<LossSetting>) -> Self {
        self.config.insert(name.into(), value.into());
        self
    }

    /// Checks that all settings can be sent.
    ///
    /// # Errors
    ///
    /// A setting that is NaN or infinite.
    pub fn validate(&self) -> Result<()> {
        let numbers = self.config.iter().filter_map(|(name, value)| Some((name, value.as_number()?)));
        match numbers.into_iter().find(|(_, value)| !value.is_finite()) {
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
