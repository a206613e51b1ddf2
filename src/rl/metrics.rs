//! How far the learner is from the sampler.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::policy_example::{PolicyExample, aligned, none_sampled};
use crate::error::Result;

/// How far the policy that learns is from the one that sampled, over all sampled tokens of a batch.
///
/// For a token, *old* is the log-probability with which it was sampled, *new* that under the learner, *d* = old − new, and the
/// importance ratio is *r* = exp(new − old). The sampled tokens are draws from the sampler, so means over them estimate
/// expectations under it. All are NaN if a log-probability of the learner is: it has diverged.
///
/// ```
/// use tinkex::rl::{PolicyMetrics, Turn};
/// use tinkex::types::SampleResponse;
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12, 13], "logprobs": [-1.0, -2.0]}]}"#;
/// let mut sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let examples = Turn::new([10, 11], sampled.sequences.remove(0)).scored(1.0).examples(1.0)?;
/// // The learner finds the first token less probable, and the second one as probable as it was.
/// let metrics = PolicyMetrics::of(&examples, [[-9.0, -1.5, -2.0]], 0.8..=1.2)?;
/// assert_eq!((metrics.tokens, metrics.kl_sample_train_v1, metrics.kl_sample_train_v2), (2, 0.25, 0.0625));
/// assert_eq!((metrics.entropy, metrics.ratio_max), (1.5, 1.0));
/// println!("{}", serde_json::to_string(&metrics)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PolicyMetrics {
    /// The number of sampled tokens.
    pub tokens: usize,
    /// KL(sampler ‖ learner) in nats per token, estimated as the mean of *d* (k1; unbiased, may be negative).
    pub kl_sample_train_v1: f64,
    /// The same, estimated as the mean of *d*²/2 (k2; biased, never negative, with less variance).
    pub kl_sample_train_v2: f64,
    /// The entropy of the sampler in nats per token, estimated as the mean of −*old*.
    pub entropy: f64,
    /// The share of tokens for which PPO's clip takes the gradient away: *r* is above the range and the advantage is positive, or
    /// below it and the advantage is negative.
    pub clip_fraction: f64,
    /// The mean of *r*, which is 1 in expectation.
    pub ratio_mean: f64,
    /// The smallest *r*.
    pub ratio_min: f64,
    /// The largest *r*.
    pub ratio_max: f64,
}

impl PolicyMetrics {
    /// The metrics of these examples, given the learner's log-probability of each target: one list for each example, such as the
    /// [`logprobs`](crate::types::LossFnOutput::logprobs) of a pass, or those that [`compute_logprobs`](super::compute_logprobs) gets
    /// after the step. `clip` is the range of the ratio that PPO does not clip, such as `0.8..=1.2`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for another number of lists than of examples, of log-probabilities than of
    /// targets, and if no target was sampled.
    pub fn of<L: AsRef<[f32]>>(
        examples: &[PolicyExample],
        learner: impl IntoIterator<Item = L>,
        clip: RangeInclusive<f64>,
    ) -> Result<Self> {
        let learner = aligned(examples, learner, "learner")?;
        let targets = examples.iter().zip(&learner).flat_map(|(example, learner)| {
            let numbers = example.logprobs.iter().zip(learner.as_ref()).zip(&example.advantages).zip(&example.mask);
            numbers.filter(|(_, sampled)| **sampled).map(|(((old, new), advantage), _)| (*old, *new, *advantage))
        });
        let (mut sums, mut tokens) = ([0.0; 5], 0_usize);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for (old, new, advantage) in targets {
            let (old, difference) = (f64::from(old), f64::from(old) - f64::from(new));
            let ratio = (-difference).exp();
            let clipped = (ratio > *clip.end() && advantage > 0.0) || (ratio < *clip.start() && advantage < 0.0);
            let terms = [difference, difference.powi(2) / 2.0, -old, f64::from(u8::from(clipped)), ratio];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            (least, most, tokens) = (least.min(ratio), most.max(ratio), tokens + 1);
        }
        if tokens == 0 {
            return Err(none_sampled("mean"));
        }
        let [v1, v2, entropy, clip_fraction, ratio] = sums.map(|sum| sum / tokens as f64);
        let or_nan = |value: f64| if ratio.is_nan() { f64::NAN } else { value };
        Ok(PolicyMetrics {
            tokens,
            kl_sample_train_v1: v1,
            kl_sample_train_v2: v2,
            entropy: or_nan(entropy),
            clip_fraction: or_nan(clip_fraction),
            ratio_mean: ratio,
            ratio_min: or_nan(least),
            ratio_max: or_nan(most),
        })
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// One example: for each target, whether it was sampled, old, and the advantage.
    fn example(targets: &[(bool, f32, f32)]) -> PolicyExample {
        PolicyExample {
            target_tokens: vec![1; targets.len()],
            mask: targets.iter().map(|target| target.0).collect(),
            logprobs: targets.iter().map(|target| target.1).collect(),
            advantages: targets.iter().map(|target| target.2).collect(),
            ..PolicyExample::default()
        }
    }

    #[test]
    fn metrics_by_hand() {
        let (half, double) = (0.5_f32.ln(), 2.0_f32.ln());
        let examples = [
            example(&[(false, 0.0, 0.0), (true, -1.0, 1.0), (true, -2.0, -1.0)]),
            example(&[(true, -3.0, 1.0), (true, -2.0, -1.0)]),
        ];
        // The ratios are 2, 2, ½ and ½; a positive advantage clips those above, a negative one those below.
        let learner = [vec![5.0, -1.0 + double, -2.0 + double], vec![-3.0 + half, -2.0 + half]];
        let metrics = PolicyMetrics::of(&examples, &learner, 0.8..=1.2).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert_eq!(metrics.tokens, 4);
        near(metrics.kl_sample_train_v1, 0.0);
        near(metrics.kl_sample_train_v2, 2.0_f64.ln().powi(2) / 2.0);
        near(metrics.entropy, 2.0);
        near(metrics.clip_fraction, 0.5);
        near(metrics.ratio_mean, 1.25);
        near(metrics.ratio_min, 0.5);
        near(metrics.ratio_max, 2.0);
        let unclipped = PolicyMetrics::of(&examples, &learner, 0.4..=2.1).unwrap();
        near(unclipped.clip_fraction, 0.0);
    }

    #[test]
    fn a_diverged_learner_gives_nan() {
        let examples = [example(&[(true, -1.0, 1.0), (true, -1.0, 1.0)])];
        let metrics = PolicyMetrics::of(&examples, [[f32::NAN, -1.0]], 0.8..=1.2).unwrap();
        let values = [metrics.kl_sample_train_v1, metrics.entropy, metrics.clip_fraction, metrics.ratio_min];
        assert!(values.iter().all(|value| value.is_nan()) && metrics.ratio_max.is_nan(), "{metrics:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let examples = [example(&[(false, 0.0, 0.0), (true, -1.0, 1.0)])];
        let none = [example(&[(false, 0.0, 0.0), (false, 0.0, 0.0)])];
        let short = [PolicyExample { mask: vec![true], ..examples[0].clone() }];
        for (examples, learner, why) in [
            (&examples, vec![], "0 lists of the learner's log-probabilities for 1 examples"),
            (&examples, vec![[-1.0].to_vec()], "the learner has 1 log-probabilities for the 2 targets of example 0"),
            (&none, vec![[-1.0; 2].to_vec()], "none of the examples has a sampled target"),
            (&short, vec![[-1.0; 2].to_vec()], "the mask of a policy example have 1 items for 2 targets"),
        ] {
            let error = PolicyMetrics::of(examples, learner, 0.8..=1.2).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    quickcheck! {
        fn a_learner_equal_to_the_sampler_is_near(old: Vec<u8>) -> bool {
            let targets: Vec<_> = old.iter().map(|old| (true, -f32::from(*old), 1.0)).collect();
            let examples = [example(&targets)];
            match PolicyMetrics::of(&examples, [&examples[0].logprobs], 0.8..=1.2) {
                Ok(metrics) => [metrics.kl_sample_train_v1, metrics.kl_sample_train_v2, metrics.clip_fraction] == [0.0; 3]
                    && [metrics.ratio_mean, metrics.ratio_min, metrics.ratio_max] == [1.0; 3],
                Err(_) => old.is_empty(),
            }
        }

        fn ratios_stay_between_their_bounds(logprobs: Vec<(u8, u8)>) -> bool {
            let targets: Vec<_> = logprobs.iter().map(|(old, _)| (true, -f32::from(*old) / 32.0, 1.0)).collect();
            let learner: Vec<f32> = logprobs.iter().map(|(_, new)| -f32::from(*new) / 32.0).collect();
            match PolicyMetrics::of(&[example(&targets)], [learner], 0.8..=1.2) {
                Ok(metrics) => metrics.ratio_min <= metrics.ratio_mean * (1.0 + 1e-12)
                    && metrics.ratio_mean <= metrics.ratio_max * (1.0 + 1e-12)
                    && metrics.kl_sample_train_v2 >= 0.0
                    && (0.0..=1.0).contains(&metrics.clip_fraction),
                Err(_) => logprobs.is_empty(),
            }
        }
    }
}
