//! The loss of one target, as each objective defines it. The definitions are in the table of `Objective`.

/// The loss of one target, and its derivative with respect to the target's log-probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TokenLoss {
    pub(super) loss: f64,
    pub(super) dlogprob: f64,
}

/// −weight · logprob, with the weight as a constant.
pub(super) fn cross_entropy(new: f64, weight: f64) -> TokenLoss {
    TokenLoss { loss: -weight * new, dlogprob: -weight }
}

/// −ratio · advantage, where the ratio is that of the token's probability now to its probability when it was sampled.
pub(super) fn importance_sampling(log_ratio: f64, advantage: f64) -> TokenLoss {
    let loss = -log_ratio.exp() * advantage;
    // The ratio is its own derivative.
    TokenLoss { loss, dlogprob: loss }
}

/// Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7: moving the ratio beyond its bounds gains
/// nothing, but what it loses counts in full.
///
/// With the mean log-ratio of a sequence in place of the token's, it is Zheng et al. 2025, "Group sequence policy optimization",
/// equation 13: the token's ratio has the value of the sequence's and, since it is its own derivative, that gradient.
pub(super) fn ppo(log_ratio: f64, advantage: f64, clip_low: f64, clip_high: f64) -> TokenLoss {
    let unclipped = importance_sampling(log_ratio, advantage);
    let clipped_loss = -clip(log_ratio, clip_low, clip_high) * advantage;
    if clipped_loss > unclipped.loss { TokenLoss { loss: clipped_loss, dlogprob: 0.0 } } else { unclipped }
}

/// MiniMax 2025, "MiniMax-M1", equation 4: every token has a gradient, whose weight is bounded.
pub(super) fn cispo(new: f64, old: f64, advantage: f64, clip_low: f64, clip_high: f64) -> TokenLoss {
    cross_entropy(new, clip(new - old, clip_low, clip_high) * advantage)
}

/// Richemond et al. 2024, "Offline regularised reinforcement learning for large language models alignment", as Tinker has it: one
/// term for each token.
pub(super) fn dro(new: f64, old: f64, advantage: f64, beta: f64) -> TokenLoss {
    with_penalty(cross_entropy(new, advantage), new - old, beta)
}

/// A policy gradient with weights of at most one, and a penalty on the distance from the sampling policy.
pub(super) fn stable_reinforce(new: f64, old: f64, advantage: f64, kl_coeff: f64) -> TokenLoss {
    let log_ratio = new - old;
    with_penalty(cross_entropy(new, clip(log_ratio, 0.0, 1.0) * advantage), log_ratio, kl_coeff)
}

/// Adds ½ · strength · log_ratio², whose expectation under the sampling policy is close to the KL divergence for small ratios.
fn with_penalty(token: TokenLoss, log_ratio: f64, strength: f64) -> TokenLoss {
    TokenLoss {
        loss: token.loss + 0.5 * strength * log_ratio * log_ratio,
        dlogprob: token.dlogprob + strength * log_ratio,
    }
}

/// The ratio, within its bounds.
fn clip(log_ratio: f64, low: f64, high: f64) -> f64 {
    log_ratio.exp().max(low).min(high)
}
