//! How objectives are made, with the defaults of their settings.

use super::Objective;

/// The bounds of the clipped ratio by default, as the table of [`Objective`] has them.
const PPO_BOUNDS: (f32, f32) = (0.8, 1.2);
const CISPO_BOUNDS: (f32, f32) = (0.0, 4.0);
const GSPO_BOUNDS: (f32, f32) = (0.9997, 1.0004);

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
        let (clip_low, clip_high) = bounds(logprobs.len(), PPO_BOUNDS);
        Objective::Ppo { logprobs, advantages, clip_low, clip_high }
    }

    /// Clipped importance-sampling policy optimization, with the inputs of [`ppo`](Objective::ppo). The ratios are clipped to 4,
    /// and not from below; [`clip_low`](Objective::clip_low) and [`clip_high`](Objective::clip_high) change that.
    ///
    /// ```
    /// use tinkex::local::model::Objective;
    ///
    /// // The token is ten times as probable as when it was sampled, but its weight is at most 4.
    /// let objective = Objective::cispo(vec![-10.0_f32.ln() - 1.0], vec![1.0]);
    /// assert_eq!(objective.gradient(&[-1.0_f64]), [-4.0]);
    /// ```
    #[must_use]
    pub fn cispo(logprobs: Vec<f32>, advantages: Vec<f32>) -> Self {
        let (clip_low, clip_high) = bounds(logprobs.len(), CISPO_BOUNDS);
        Objective::Cispo { logprobs, advantages, clip_low, clip_high }
    }

    /// Direct reward optimization, with the inputs of [`ppo`](Objective::ppo). The strength of the penalty is 0.05;
    /// [`beta`](Objective::beta) changes that.
    ///
    /// ```
    /// use tinkex::local::model::Objective;
    ///
    /// let objective = Objective::dro(vec![-1.0], vec![1.0]).beta(0.5);
    /// // −(−3 · 1 − ½ · 0.5 · 2²), and −1 + 0.5 · −2
    /// assert_eq!((objective.loss(&[-3.0_f64]), objective.gradient(&[-3.0_f64])), (4.0, vec![-2.0]));
    /// ```
    #[must_use]
    pub fn dro(logprobs: Vec<f32>, advantages: Vec<f32>) -> Self {
        Objective::Dro { logprobs, advantages, beta: 0.05 }
    }

    /// Group sequence policy optimization, with the inputs of [`ppo`](Objective::ppo) and the targets that the ratio of the
    /// sequence is taken over. The ratio is clipped to 0.9997 and 1.0004; [`clip_low`](Objective::clip_low) and
    /// [`clip_high`](Objective::clip_high) change that.
    ///
    /// ```
    /// use tinkex::local::model::Objective;
    ///
    /// // The log-ratios of the marked targets are −1 and 1: the ratio of the sequence is 1.
    /// let objective = Objective::gspo(vec![0.0, -1.0, -2.0], vec![0.0, 1.0, -1.0], vec![false, true, true]);
    /// assert_eq!(objective.gradient(&[-9.0_f64, -2.0, -1.0]), [0.0, -1.0, 1.0]);
    /// ```
    #[must_use]
    pub fn gspo(logprobs: Vec<f32>, advantages: Vec<f32>, ratio_mask: Vec<bool>) -> Self {
        let (clip_low, clip_high) = bounds(logprobs.len(), GSPO_BOUNDS);
        Objective::Gspo { logprobs, advantages, ratio_mask, clip_low, clip_high }
    }

    /// A policy gradient with truncated weights, with the inputs of [`ppo`](Objective::ppo) and the targets that were sampled. The
    /// strength of the penalty is 0.01; [`kl_coeff`](Objective::kl_coeff) changes that.
    ///
    /// ```
    /// use tinkex::local::model::Objective;
    ///
    /// let objective = Objective::stable_reinforce(vec![0.0, -1.0], vec![0.0, 2.0], vec![false, true]);
    /// assert_eq!(objective.gradient(&[-9.0_f64, -1.0]), [0.0, -2.0]);
    /// ```
    #[must_use]
    pub fn stable_reinforce(logprobs: Vec<f32>, advantages: Vec<f32>, sampled: Vec<bool>) -> Self {
        Objective::StableReinforce { logprobs, advantages, sampled, kl_coeff: 0.01 }
    }

    /// Sets the lower bound of each clipped ratio of [`Ppo`](Objective::Ppo), [`Cispo`](Objective::Cispo) or
    /// [`Gspo`](Objective::Gspo). The other objectives have no bounds and do not change.
    #[must_use]
    pub fn clip_low(mut self, bounds: Vec<f32>) -> Self {
        if let Objective::Ppo { clip_low, .. } | Objective::Cispo { clip_low, .. } | Objective::Gspo { clip_low, .. } =
            &mut self
        {
            *clip_low = bounds;
        }
        self
    }

    /// Sets the upper bound of each clipped ratio of [`Ppo`](Objective::Ppo), [`Cispo`](Objective::Cispo) or
    /// [`Gspo`](Objective::Gspo). The other objectives have no bounds and do not change.
    #[must_use]
    pub fn clip_high(mut self, bounds: Vec<f32>) -> Self {
        if let Objective::Ppo { clip_high, .. }
        | Objective::Cispo { clip_high, .. }
        | Objective::Gspo { clip_high, .. } = &mut self
        {
            *clip_high = bounds;
        }
        self
    }

    /// Sets the strength of the penalty of [`Dro`](Objective::Dro). The other objectives do not change.
    #[must_use]
    pub fn beta(mut self, strength: f32) -> Self {
        if let Objective::Dro { beta, .. } = &mut self {
            *beta = strength;
        }
        self
    }

    /// Sets the strength of the penalty of [`StableReinforce`](Objective::StableReinforce). The other objectives do not change.
    #[must_use]
    pub fn kl_coeff(mut self, strength: f32) -> Self {
        if let Objective::StableReinforce { kl_coeff, .. } = &mut self {
            *kl_coeff = strength;
        }
        self
    }
}

fn bounds(targets: usize, (low, high): (f32, f32)) -> (Vec<f32>, Vec<f32>) {
    (vec![low; targets], vec![high; targets])
}
