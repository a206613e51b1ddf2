//! From the rewards of a group to advantages.

use super::policy_example::PolicyExample;
use super::trajectory::Trajectory;
use crate::error::{Error, Result};

/// Added to the standard deviation before the division by it, as in Tinker's cookbook.
const EPSILON: f64 = 1e-8;

/// What the centred rewards of a group of G are multiplied by.
///
/// ```
/// use tinkex::rl::{AdvantageScale, advantages};
///
/// let rewards = [1.0, 0.0, 0.0, 1.0];
/// assert_eq!(advantages(&rewards, AdvantageScale::Unscaled)?, Some(vec![0.5, -0.5, -0.5, 0.5]));
/// let scaled = advantages(&rewards, AdvantageScale::StandardDeviation)?.unwrap_or_default();
/// assert!((scaled[0] - 1.0).abs() < 1e-6);
/// let left_out = advantages(&rewards, AdvantageScale::LeaveOneOut)?.unwrap_or_default();
/// assert!((left_out[0] - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdvantageScale {
    /// 1: reward minus the mean of the group (the cookbook's default; "Dr. GRPO", Liu et al. 2025).
    #[default]
    Unscaled,
    /// 1 / (σ + 10⁻⁸), with σ the population's standard deviation (GRPO, Shao et al. 2024).
    StandardDeviation,
    /// G / (G − 1): reward minus the mean of the others (RLOO, Ahmadian et al. 2024).
    LeaveOneOut,
}

/// The advantage of each sample of a group: (reward − mean of the group) · scale. They add up to 0, up to rounding.
///
/// `None` if all rewards are the same, also if there is only one or none: such a group has no signal, and is left out.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a reward that is not finite, and for rewards so large that an advantage is not.
///
/// ```
/// use tinkex::rl::{AdvantageScale, advantages};
///
/// assert_eq!(advantages(&[3.0, 1.0, 2.0], AdvantageScale::Unscaled)?, Some(vec![1.0, -1.0, 0.0]));
/// assert_eq!(advantages(&[1.0, 1.0, 1.0], AdvantageScale::Unscaled)?, None);
/// assert!(advantages(&[1.0, f64::NAN], AdvantageScale::Unscaled).is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn advantages(rewards: &[f64], scale: AdvantageScale) -> Result<Option<Vec<f64>>> {
    if let Some(index) = rewards.iter().position(|reward| !reward.is_finite()) {
        return Err(Error::invalid_input(format!("the reward at {index} is {}", rewards[index]))
            .with_hint("give finite rewards; leave a sample that cannot be scored out of its group"));
    }
    if rewards.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(None);
    }
    let count = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / count;
    let centred = rewards.iter().map(|reward| reward - mean);
    let factor = match scale {
        AdvantageScale::Unscaled => 1.0,
        AdvantageScale::StandardDeviation => {
            let variance = centred.clone().map(|advantage| advantage.powi(2)).sum::<f64>() / count;
            1.0 / (variance.sqrt() + EPSILON)
        }
        AdvantageScale::LeaveOneOut => count / (count - 1.0),
    };
    let advantages: Vec<f64> = centred.map(|advantage| advantage * factor).collect();
    // A standard deviation that overflows makes every advantage 0.
    match factor > 0.0 && advantages.iter().all(|advantage| advantage.is_finite()) {
        true => Ok(Some(advantages)),
        false => Err(Error::invalid_input("the rewards of a group are too large for their mean or standard deviation")
            .with_hint("divide the rewards by a constant")),
    }
}

/// The training examples of groups of trajectories: the [`advantages`] of each group, put on the sampled tokens of its trajectories
/// by [`Trajectory::examples`]. Groups without signal are left out, so there may be none at all.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput), as [`advantages`] and [`Trajectory::examples`]; the error names the group.
///
/// ```
/// use tinkex::rl::{AdvantageScale, Trajectory, Turn, policy_examples};
/// use tinkex::types::SampleResponse;
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12], "logprobs": [-0.5]},
///                                 {"stop_reason": "stop", "tokens": [13], "logprobs": [-1.5]}]}"#;
/// let sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let trajectories = sampled.sequences.into_iter().zip([1.0, 0.0]);
/// let group: Vec<_> = trajectories.map(|(sequence, reward)| Turn::new([10, 11], sequence).scored(reward)).collect();
/// let examples = policy_examples(&[group], AdvantageScale::Unscaled)?;
/// assert_eq!(examples[0].advantages, [0.0, 0.5]);
/// assert_eq!(examples[1].advantages, [0.0, -0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn policy_examples(groups: &[Vec<Trajectory>], scale: AdvantageScale) -> Result<Vec<PolicyExample>> {
    let mut examples = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let named = |error: Error| error.with_detail(format_args!("group {index}"));
        let rewards: Vec<f64> = group.iter().map(|trajectory| trajectory.reward).collect();
        for (trajectory, advantage) in group.iter().zip(advantages(&rewards, scale).map_err(named)?.unwrap_or_default())
        {
            examples.extend(trajectory.examples(advantage).map_err(named)?);
        }
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const SCALES: [AdvantageScale; 3] =
        [AdvantageScale::Unscaled, AdvantageScale::StandardDeviation, AdvantageScale::LeaveOneOut];

    #[test]
    fn advantages_by_hand() {
        // Mean 2, variance (4 + 1 + 1 + 4 + 0) / 5 = 2.
        let rewards = [0.0, 1.0, 3.0, 4.0, 2.0];
        let root = 2.0_f64.sqrt() + 1e-8;
        for (scale, factor) in SCALES.into_iter().zip([1.0, 1.0 / root, 1.25]) {
            let expected = [-2.0, -1.0, 1.0, 2.0, 0.0].map(|centred| centred * factor);
            assert_eq!(advantages(&rewards, scale).unwrap().unwrap(), expected, "{scale:?}");
        }
    }

    #[test]
    fn equal_rewards_have_no_signal() {
        for rewards in [&[][..], &[5.0], &[0.1; 3], &[0.0, -0.0]] {
            for scale in SCALES {
                assert_eq!(advantages(rewards, scale).unwrap(), None, "{rewards:?}");
            }
        }
    }

    #[test]
    fn unusable_rewards_are_refused() {
        let error = |rewards: &[f64], scale| advantages(rewards, scale).unwrap_err().to_string();
        assert!(error(&[0.0, f64::INFINITY], AdvantageScale::Unscaled).contains("the reward at 1 is inf"));
        assert!(error(&[f64::MAX, f64::MAX, 0.0], AdvantageScale::Unscaled).contains("too large"));
        assert!(error(&[1e200, -1e200], AdvantageScale::StandardDeviation).contains("too large"));
    }

    quickcheck! {
        fn advantages_add_up_to_zero(rewards: Vec<i32>) -> bool {
            let rewards: Vec<f64> = rewards.into_iter().map(|reward| f64::from(reward) / 7.0).collect();
            SCALES.into_iter().all(|scale| match advantages(&rewards, scale).unwrap() {
                Some(advantages) => {
                    let largest = advantages.iter().fold(0.0_f64, |largest, advantage| largest.max(advantage.abs()));
                    let total: f64 = advantages.iter().sum();
                    advantages.len() == rewards.len() && largest > 0.0 && total.abs() < 1e-12 * largest * rewards.len() as f64
                }
                None => rewards.iter().all(|reward| *reward == rewards[0]),
            })
        }

        fn scaled_advantages_have_unit_variance(rewards: Vec<i16>) -> bool {
            let rewards: Vec<f64> = rewards.into_iter().map(f64::from).collect();
            match advantages(&rewards, AdvantageScale::StandardDeviation).unwrap() {
                Some(advantages) => {
                    let variance = advantages.iter().map(|advantage| advantage.powi(2)).sum::<f64>() / rewards.len() as f64;
                    (variance - 1.0).abs() < 1e-6
                }
                None => true,
            }
        }
    }
}
