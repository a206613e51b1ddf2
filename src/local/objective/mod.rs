//! Training objectives: functions of the target tokens' log-probabilities.
//!
//! To add an objective, add a variant of [`Objective`] with its inputs, and one function that returns a [`TokenLoss`]; no
//! model changes. Names and definitions are Tinker's: sums over tokens, never means.

use ndarray::NdFloat;

/// What training minimizes on one example: a loss function with its inputs, one value per token.
///
/// The loss is the sum over tokens and examples, as Tinker defines it, never the mean. It depends on the model only through
/// the log-probabilities of the target tokens, so a model needs nothing but its [`gradient`](Objective::gradient) with
/// respect to those.
///
/// ```
/// use tinkex::local::model::Objective;
///
/// let objective = Objective::cross_entropy(vec![0.0, 1.0]);
/// assert_eq!(objective.loss(&[-3.0_f32, -0.5]), 0.5);
/// assert_eq!(objective.gradient(&[-3.0_f32, -0.5]), [0.0, -1.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Objective {
    /// −Σ weightₜ · logprobₜ. Made by [`cross_entropy`](Objective::cross_entropy).
    #[non_exhaustive]
    CrossEntropy {
        /// Zero for tokens that are not trained on, such as a prompt. May be negative: custom losses send negative weights.
        weights: Vec<f32>,
    },
    /// −Σ ratioₜ · advantageₜ, where ratioₜ = exp(logprobₜ − sampling logprobₜ). Made by
    /// [`importance_sampling`](Objective::importance_sampling).
    #[non_exhaustive]
    ImportanceSampling {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better each target was than expected.
        advantages: Vec<f32>,
    },
    /// −Σ min(ratioₜ · advantageₜ, clip(ratioₜ) · advantageₜ). Made by [`ppo`](Objective::ppo).
    #[non_exhaustive]
    Ppo {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better each target was than expected.
        advantages: Vec<f32>,
        /// The lower bound of each clipped ratio; Tinker's default is 0.8.
        clip_low: Vec<f32>,
        /// The upper bound of each clipped ratio; Tinker's default is 1.2.
        clip_high: Vec<f32>,
    },
}

/// The loss of one token, and its derivative with respect to the token's log-probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct TokenLoss {
    loss: f64,
    dlogprob: f64,
}

impl Objective {
    /// Cross-entropy with these weights, one for each target.
    #[must_use]
    pub fn cross_entropy(weights: Vec<f32>) -> Self {
        Objective::CrossEntropy { weights }
    }

    /// Importance sampling, with the log-probability of each target when it was sampled and its advantage.
    #[must_use]
    pub fn importance_sampling(logprobs: Vec<f32>, advantages: Vec<f32>) -> Self {
        Objective::ImportanceSampling { logprobs, advantages }
    }

    /// Proximal policy optimization, with the log-probability of each target when it was sampled and its advantage. The ratios
    /// are clipped to 0.8 and 1.2; [`clip_low`](Objective::clip_low) and [`clip_high`](Objective::clip_high) change that.
    #[must_use]
    pub fn ppo(logprobs: Vec<f32>, advantages: Vec<f32>) -> Self {
        let (clip_low, clip_high) = (vec![0.8; logprobs.len()], vec![1.2; logprobs.len()]);
        Objective::Ppo { logprobs, advantages, clip_low, clip_high }
    }

    /// Sets the lower bound of each clipped ratio of [`Ppo`](Objective::Ppo). The other objectives have no bounds and do not
    /// change.
    #[must_use]
    pub fn clip_low(mut self, bounds: Vec<f32>) -> Self {
        if let Objective::Ppo { clip_low, .. } = &mut self {
            *clip_low = bounds;
        }
        self
    }

    /// Sets the upper bound of each clipped ratio of [`Ppo`](Objective::Ppo). The other objectives have no bounds and do not
    /// change.
    #[must_use]
    pub fn clip_high(mut self, bounds: Vec<f32>) -> Self {
        if let Objective::Ppo { clip_high, .. } = &mut self {
            *clip_high = bounds;
        }
        self
    }

    /// The loss in nats, given the log-probabilities of the targets.
    pub fn loss<T: NdFloat>(&self, logprobs: &[T]) -> f64 {
        self.evaluate(logprobs).map(|token| token.loss).sum()
    }

    /// The loss of each token; their sum is [`loss`](Objective::loss).
    pub fn token_losses(&self, logprobs: &[f32]) -> Vec<f32> {
        self.evaluate(logprobs).map(|token| token.loss as f32).collect()
    }

    /// The derivative of the loss with respect to the log-probability of each target.
    ///
    /// Tokens without inputs do not contribute to the loss; theirs is zero.
    pub fn gradient<T: NdFloat>(&self, logprobs: &[T]) -> Vec<T> {
        self.evaluate(logprobs).map(|token| T::from(token.dlogprob).unwrap_or_else(T::nan)).collect()
    }

    fn evaluate<T: NdFloat>(&self, logprobs: &[T]) -> impl Iterator<Item = TokenLoss> {
        let token_loss = |(index, logprob): (usize, &T)| self.token_loss(index, logprob.to_f64()?);
        logprobs.iter().enumerate().map(move |token| token_loss(token).unwrap_or_default())
    }

    /// The loss of the token with this index; `None` if one of its inputs is missing.
    fn token_loss(&self, index: usize, logprob: f64) -> Option<TokenLoss> {
        let input = |inputs: &[f32]| inputs.get(index).copied().map(f64::from);
        Some(match self {
            Objective::CrossEntropy { weights } => cross_entropy(logprob, input(weights)?),
            Objective::ImportanceSampling { logprobs, advantages } => {
                importance_sampling(logprob - input(logprobs)?, input(advantages)?)
            }
            Objective::Ppo { logprobs, advantages, clip_low, clip_high } => {
                ppo(logprob - input(logprobs)?, input(advantages)?, input(clip_low)?, input(clip_high)?)
            }
        })
    }
}

fn cross_entropy(logprob: f64, weight: f64) -> TokenLoss {
    TokenLoss { loss: -weight * logprob, dlogprob: -weight }
}

/// −ratio · advantage, where the ratio is that of the token's probability now to its probability when it was sampled.
fn importance_sampling(log_ratio: f64, advantage: f64) -> TokenLoss {
    let loss = -log_ratio.exp() * advantage;
    // The ratio is its own derivative.
    TokenLoss { loss, dlogprob: loss }
}

/// Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7: moving the ratio beyond its bounds gains
/// nothing, but what it loses counts in full.
fn ppo(log_ratio: f64, advantage: f64, clip_low: f64, clip_high: f64) -> TokenLoss {
    let unclipped = importance_sampling(log_ratio, advantage);
    let clipped_loss = -log_ratio.exp().max(clip_low).min(clip_high) * advantage;
    if clipped_loss > unclipped.loss { TokenLoss { loss: clipped_loss, dlogprob: 0.0 } } else { unclipped }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objectives over four tokens: advantages of either sign, ratios inside, below and above the bounds.
    fn objectives() -> [Objective; 3] {
        let (logprobs, advantages) = (vec![-1.0, -0.5, -2.0, -1.5], vec![1.0, -2.0, 0.5, -0.25]);
        [
            Objective::cross_entropy(vec![0.0, 1.0, 2.0, -0.5]),
            Objective::importance_sampling(logprobs.clone(), advantages.clone()),
            Objective::ppo(logprobs, advantages),
        ]
    }

    #[test]
    fn cross_entropy_is_a_weighted_sum() {
        let objective = Objective::cross_entropy(vec![0.0, 1.0, 2.0]);
        assert_eq!(objective.loss(&[-9.0_f32, -1.0, -0.5]), 2.0);
        assert_eq!(objective.token_losses(&[-9.0, -1.0, -0.5]), [0.0, 1.0, 1.0]);
        assert_eq!(objective.gradient(&[-9.0_f32, -1.0, -0.5]), [0.0, -1.0, -2.0]);
    }

    #[test]
    fn importance_sampling_weighs_advantages_by_ratio() {
        let (half, third) = (0.5_f32.ln(), (1.0_f32 / 3.0).ln());
        let objective = Objective::importance_sampling(vec![half, third], vec![1.0, -2.0]);
        // Ratios 1/2 and 3/2: −(1/2 · 1 + 3/2 · −2)
        assert!((objective.loss(&[0.25_f32.ln(), half]) - 2.5).abs() < 1e-6);
    }

    #[test]
    fn ppo_clips_gains_but_not_losses() {
        let at = |ratio: f64, advantage: f32| {
            let objective = Objective::ppo(vec![-1.0], vec![advantage]);
            let logprobs = [ratio.ln() - 1.0];
            let round = |value: f64| (value * 1e6).round() / 1e6;
            (round(objective.loss(&logprobs)), round(objective.gradient(&logprobs)[0]))
        };
        assert_eq!(at(1.1, 1.0), (-1.1, -1.1));
        assert_eq!(at(1.5, 1.0), (-1.2, 0.0));
        assert_eq!(at(0.5, 1.0), (-0.5, -0.5));
        assert_eq!(at(0.5, -1.0), (0.8, 0.0));
        assert_eq!(at(1.5, -1.0), (1.5, 1.5));
    }

    #[test]
    fn ppo_bounds_can_be_set() {
        let (logprobs, advantages) = (vec![-1.0; 2], vec![1.0, -1.0]);
        let (clip_low, clip_high) = (vec![0.9, 0.7], vec![1.1, 1.3]);
        assert_eq!(
            Objective::ppo(logprobs.clone(), advantages.clone())
                .clip_low(clip_low.clone())
                .clip_high(clip_high.clone()),
            Objective::Ppo { logprobs, advantages, clip_low, clip_high }
        );
        let entropy = Objective::cross_entropy(vec![1.0]);
        assert_eq!(entropy.clone().clip_low(vec![0.9]).clip_high(vec![1.1]), entropy);
    }

    #[test]
    fn gradients_match_finite_differences() {
        let logprobs = [-1.1_f64, -1.2, -1.0, -0.3];
        for objective in objectives() {
            let gradient = objective.gradient(&logprobs);
            for (at, derivative) in gradient.into_iter().enumerate() {
                let loss_at = |offset: f64| {
                    let mut logprobs = logprobs;
                    logprobs[at] += offset;
                    objective.loss(&logprobs)
                };
                let difference = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6;
                assert!((derivative - difference).abs() < 1e-8, "{objective:?} at {at}: {derivative} {difference}");
            }
        }
    }

    #[test]
    fn tokens_without_inputs_contribute_nothing() {
        for objective in objectives() {
            let long = [-1.0_f32; 6];
            assert_eq!(objective.loss(&long), objective.loss(&long[..4]));
            assert_eq!(objective.gradient(&long)[4..], [0.0, 0.0]);
        }
    }
}
