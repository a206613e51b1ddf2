//! Training objectives: functions of the target tokens' log-probabilities.
//!
//! To add an objective, add a variant of [`Objective`] with its inputs, and one function in `token_loss` that returns a
//! `TokenLoss`; no model changes. Names and definitions are Tinker's: sums over tokens, never means.

mod constructors;
#[cfg(test)]
mod tests;
mod token_loss;

use ndarray::NdFloat;

use self::token_loss::{TokenLoss, cispo, cross_entropy, dro, importance_sampling, ppo, stable_reinforce};

/// What training minimizes on one example: a loss function with its inputs, one value for each target.
///
/// The loss is the sum over targets and examples, as Tinker defines it, never the mean. It depends on the model only through
/// the log-probabilities of the target tokens, so a model needs nothing but its [`gradient`](Objective::gradient) with
/// respect to those.
///
/// For each target, *new* is its log-probability under the model, *old* the one when it was sampled, in nats, *A* its
/// advantage, *r* = exp(*new* − *old*), *clip(x)* is *x* clipped to `clip_low` … `clip_high`, and *sg(x)* is *x* as a constant
/// (stop gradient).
///
/// | objective | loss of a target | settings by default | source |
/// |---|---|---|---|
/// | [`CrossEntropy`](Objective::CrossEntropy) | −weight · *new* | | [Tinker's documentation](https://tinker-docs.thinkingmachines.ai/tinker/losses) |
/// | [`ImportanceSampling`](Objective::ImportanceSampling) | −*r* · *A* | | the same |
/// | [`Ppo`](Objective::Ppo) | −min(*r* · *A*, *clip(r)* · *A*) | 0.8 … 1.2 | the same; Schulman et al. 2017 |
/// | [`Cispo`](Objective::Cispo) | −*sg(clip(r))* · *new* · *A* | 0 … 4 | the same; MiniMax 2025; Khatri et al. 2025 |
/// | [`Dro`](Objective::Dro) | −(*new* · *A* − ½ · beta · (*new* − *old*)²) | beta 0.05 | the same; Richemond et al. 2024; the default is that of its example |
/// | [`Gspo`](Objective::Gspo) | −min(*s* · *A*, *clip(s)* · *A*), where *s* = *sg*(exp(mean of *new* − *old*)) · exp(*new* − *sg(new)*) | 0.9997 … 1.0004 | the same; Zheng et al. 2025, whose bounds are the default |
/// | [`StableReinforce`](Objective::StableReinforce) | −*sg*(min(*r*, 1)) · *new* · *A* + ½ · kl_coeff · (*new* − *old*)² for sampled tokens, 0 for others | kl_coeff 0.01 | this crate: Tinker does not publish its formula |
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
    /// −Σ clip(ratioₜ) · logprobₜ · advantageₜ, with the clipped ratio as a constant. Made by [`cispo`](Objective::cispo).
    #[non_exhaustive]
    Cispo {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better each target was than expected.
        advantages: Vec<f32>,
        /// The lower bound of each clipped ratio; Tinker's default is 0.
        clip_low: Vec<f32>,
        /// The upper bound of each clipped ratio; Tinker's default is 4.
        clip_high: Vec<f32>,
    },
    /// −Σ (logprobₜ · advantageₜ − ½ · beta · (logprobₜ − sampling logprobₜ)²). Made by [`dro`](Objective::dro).
    #[non_exhaustive]
    Dro {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better each target was than expected.
        advantages: Vec<f32>,
        /// The strength of the quadratic penalty.
        beta: f32,
    },
    /// The loss of [`Ppo`](Objective::Ppo) with the ratio of the whole sequence in place of each target's own: the geometric mean
    /// of the ratios of the marked targets, as a constant; the gradient of a target's loss is that of its own log-probability
    /// ("GSPO-token"). Made by [`gspo`](Objective::gspo).
    #[non_exhaustive]
    Gspo {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better each target was than expected.
        advantages: Vec<f32>,
        /// Which targets the ratio of the sequence is taken over: the sampled ones.
        ratio_mask: Vec<bool>,
        /// The lower bound of the clipped ratio for each target.
        clip_low: Vec<f32>,
        /// The upper bound of the clipped ratio for each target.
        clip_high: Vec<f32>,
    },
    /// −Σ min(ratioₜ, 1) · logprobₜ · advantageₜ + ½ · kl_coeff · (logprobₜ − sampling logprobₜ)² over the sampled targets, with the
    /// truncated ratio as a constant: a policy gradient whose weights cannot explode (Espeholt et al. 2018, "IMPALA"), kept near
    /// the policy that sampled. Made by [`stable_reinforce`](Objective::stable_reinforce).
    #[non_exhaustive]
    StableReinforce {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better each target was than expected.
        advantages: Vec<f32>,
        /// Which targets were sampled; the others do not count.
        sampled: Vec<bool>,
        /// The strength of the quadratic penalty.
        kl_coeff: f32,
    },
}

impl Objective {
    /// The loss in nats, given the log-probabilities of the targets.
    pub fn loss<T: NdFloat>(&self, logprobs: &[T]) -> f64 {
        self.evaluate(logprobs).map(|token| token.loss).sum()
    }

    /// The loss of each target; their sum is [`loss`](Objective::loss).
    pub fn token_losses(&self, logprobs: &[f32]) -> Vec<f32> {
        self.evaluate(logprobs).map(|token| token.loss as f32).collect()
    }

    /// The derivative of the loss with respect to the log-probability of each target.
    ///
    /// Targets without inputs do not contribute to the loss; theirs is zero.
    pub fn gradient<T: NdFloat>(&self, logprobs: &[T]) -> Vec<T> {
        self.evaluate(logprobs).map(|token| T::from(token.dlogprob).unwrap_or_else(T::nan)).collect()
    }

    fn evaluate<T: NdFloat>(&self, logprobs: &[T]) -> impl Iterator<Item = TokenLoss> {
        let sequence_log_ratio = self.sequence_log_ratio(logprobs);
        let token_loss =
            move |(index, logprob): (usize, &T)| self.token_loss(index, logprob.to_f64()?, sequence_log_ratio);
        logprobs.iter().enumerate().map(move |token| token_loss(token).unwrap_or_default())
    }

    /// The mean log-ratio of the targets that [`Gspo`](Objective::Gspo) marks; zero without any, and for the other objectives.
    fn sequence_log_ratio<T: NdFloat>(&self, new: &[T]) -> f64 {
        let Objective::Gspo { logprobs, ratio_mask, .. } = self else { return 0.0 };
        let targets = new.iter().zip(logprobs).zip(ratio_mask).filter(|(_, marked)| **marked);
        let log_ratio = |((new, old), _): ((&T, &f32), &bool)| Some(new.to_f64()? - f64::from(*old));
        let (sum, count) =
            targets.filter_map(log_ratio).fold((0.0, 0.0), |(sum, count), term| (sum + term, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// The loss of the target with this index; `None` if one of its inputs is missing.
    fn token_loss(&self, index: usize, new: f64, sequence_log_ratio: f64) -> Option<TokenLoss> {
        let input = |inputs: &[f32]| inputs.get(index).copied().map(f64::from);
        Some(match self {
            Objective::CrossEntropy { weights } => cross_entropy(new, input(weights)?),
            Objective::ImportanceSampling { logprobs, advantages } => {
                importance_sampling(new - input(logprobs)?, input(advantages)?)
            }
            Objective::Ppo { logprobs, advantages, clip_low, clip_high } => {
                ppo(new - input(logprobs)?, input(advantages)?, input(clip_low)?, input(clip_high)?)
            }
            Objective::Cispo { logprobs, advantages, clip_low, clip_high } => {
                cispo(new, input(logprobs)?, input(advantages)?, input(clip_low)?, input(clip_high)?)
            }
            Objective::Dro { logprobs, advantages, beta } => {
                dro(new, input(logprobs)?, input(advantages)?, f64::from(*beta))
            }
            Objective::Gspo { logprobs, advantages, clip_low, clip_high, .. } => {
                input(logprobs)?;
                ppo(sequence_log_ratio, input(advantages)?, input(clip_low)?, input(clip_high)?)
            }
            Objective::StableReinforce { logprobs, advantages, sampled, kl_coeff } => {
                let (old, advantage) = (input(logprobs)?, input(advantages)?);
                let sampled = sampled.get(index).copied()?;
                if sampled { stable_reinforce(new, old, advantage, f64::from(*kl_coeff)) } else { TokenLoss::default() }
            }
        })
    }
}
