//! The divergence from another model, as a part of the advantages.

use super::policy_example::{PolicyExample, aligned, none_sampled};
use crate::error::{Error, Result};

/// Adds a penalty for the divergence from a reference model to the advantages, and returns the mean divergence.
///
/// With *d* = the log-probability with which a target was sampled − that under the reference, in nats, and *d̄* its mean over all
/// sampled targets of the batch, which is the returned estimate of KL(policy ‖ reference) per token: the advantage of each sampled
/// target gains `coefficient` · (*d̄* − *d*). These add up to 0 over the batch.
///
/// `discount` γ lets a token answer for what comes after it: with γ > 0, it gains the sum of all these at and after it in its example,
/// each times γ to the power of the distance in tokens. 0 is none. What was not sampled has no advantage in any case.
///
/// `reference` has one list for each example, with one log-probability for each target, as
/// [`compute_logprobs`](super::compute_logprobs) returns them.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput), and nothing is changed: for another number of lists than of examples or of
/// log-probabilities than of targets, for one of a sampled target that is not finite, for a `coefficient` that is not finite or a
/// `discount` that is not in 0 … 1, and if no target was sampled.
///
/// ```
/// use tinkex::rl::{Turn, kl_penalty};
/// use tinkex::types::SampleResponse;
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12, 13], "logprobs": [-1.0, -2.0]}]}"#;
/// let mut sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let mut examples = Turn::new([10, 11], sampled.sequences.remove(0)).scored(1.0).examples(1.0)?;
/// // The reference would rather not have sampled the first token.
/// let divergence = kl_penalty(&mut examples, [[-9.0, -3.0, -2.0]], 0.5, 0.0)?;
/// assert_eq!(divergence, 1.0);
/// assert_eq!(examples[0].advantages, [0.0, 0.5, 1.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kl_penalty<L: AsRef<[f32]>>(
    examples: &mut [PolicyExample],
    reference: impl IntoIterator<Item = L>,
    coefficient: f64,
    discount: f64,
) -> Result<f64> {
    add_reverse_kl(examples, reference, "reference", coefficient, discount, Centre::Mean)
}

/// What the divergence of a token is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Centre {
    /// Nothing: any divergence is a cost.
    Zero,
    /// The mean of the batch.
    Mean,
}

/// Adds `coefficient` · (centre − *d*) to the advantages, discounted, and returns the mean of *d*. See [`kl_penalty`].
pub(crate) fn add_reverse_kl<L: AsRef<[f32]>>(
    examples: &mut [PolicyExample],
    other: impl IntoIterator<Item = L>,
    whose: &str,
    coefficient: f64,
    discount: f64,
    centre: Centre,
) -> Result<f64> {
    let other = aligned(examples, other, whose)?;
    if !coefficient.is_finite() || !(0.0..=1.0).contains(&discount) {
        let message = format!("the coefficient is {coefficient} and the discount {discount}");
        return Err(Error::invalid_input(message).with_hint("the coefficient is finite, the discount in 0 … 1"));
    }
    let mut differences = Vec::with_capacity(examples.len());
    for (index, (example, other)) in examples.iter().zip(&other).enumerate() {
        let targets = example.logprobs.iter().zip(other.as_ref()).zip(&example.mask);
        let each = targets.enumerate().map(|(target, ((old, other), sampled))| match sampled {
            true if (old - other).is_finite() => Ok(Some(f64::from(*old) - f64::from(*other))),
            true => Err(Error::invalid_input(format!(
                "the {whose}'s log-probability of target {target} of example {index} is {other}"
            ))
            .with_hint("leave the example out, or use a model that can produce the token")),
            false => Ok(None),
        });
        differences.push(each.collect::<Result<Vec<Option<f64>>>>()?);
    }
    let sampled = differences.iter().flatten().flatten();
    let tokens = sampled.clone().count();
    if tokens == 0 {
        return Err(none_sampled("divergence"));
    }
    let mean = sampled.sum::<f64>() / tokens as f64;
    let from = if centre == Centre::Mean { mean } else { 0.0 };
    for (example, differences) in examples.iter_mut().zip(differences) {
        let mut later = 0.0;
        for (advantage, difference) in example.advantages.iter_mut().zip(differences).rev() {
            later *= discount;
            if let Some(difference) = difference {
                later += coefficient * (from - difference);
                *advantage = (f64::from(*advantage) + later) as f32;
            }
        }
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn example(sampled: &[Option<f32>]) -> PolicyExample {
        PolicyExample {
            target_tokens: vec![1; sampled.len()],
            mask: sampled.iter().map(Option::is_some).collect(),
            logprobs: sampled.iter().map(|logprob| logprob.unwrap_or(0.0)).collect(),
            advantages: sampled.iter().map(|logprob| if logprob.is_some() { 1.0 } else { 0.0 }).collect(),
            ..PolicyExample::default()
        }
    }

    #[test]
    fn penalties_by_hand() {
        // d is 2, −1 and 2; its mean is 1.
        let examples = || vec![example(&[None, Some(-1.0), None, Some(-2.0)]), example(&[Some(-1.0)])];
        let reference = [vec![f32::NAN, -3.0, 7.0, -1.0], vec![-3.0]];
        for (centre, discount, expected) in [
            (Centre::Mean, 0.0, [vec![0.0, 0.5, 0.0, 2.0], vec![0.5]]),
            (Centre::Zero, 0.0, [vec![0.0, 0.0, 0.0, 1.5], vec![0.0]]),
            // The later token is two tokens away.
            (Centre::Mean, 0.5, [vec![0.0, 0.75, 0.0, 2.0], vec![0.5]]),
            (Centre::Zero, 1.0, [vec![0.0, 0.5, 0.0, 1.5], vec![0.0]]),
        ] {
            let mut examples = examples();
            let mean = add_reverse_kl(&mut examples, &reference, "teacher", 0.5, discount, centre).unwrap();
            let found: Vec<_> = examples.into_iter().map(|example| example.advantages).collect();
            assert_eq!((mean, found), (1.0, expected.to_vec()), "{centre:?} {discount}");
        }
    }

    #[test]
    fn unusable_references_change_nothing() {
        let before = vec![example(&[None, Some(-1.0)]), example(&[Some(-1.0)])];
        let fitting = [vec![0.0, -1.0], vec![-1.0]];
        let infinite = [vec![0.0, -1.0], vec![f32::NEG_INFINITY]];
        for (reference, coefficient, discount, why) in [
            (&fitting[..1], 1.0, 0.0, "1 lists of the reference's log-probabilities for 2 examples"),
            (&infinite[..], 1.0, 0.0, "the reference's log-probability of target 0 of example 1 is -inf"),
            (&fitting[..], f64::NAN, 0.0, "the coefficient is NaN"),
            (&fitting[..], 1.0, 1.5, "the discount 1.5"),
        ] {
            let mut examples = before.clone();
            let error = kl_penalty(&mut examples, reference, coefficient, discount).unwrap_err().to_string();
            assert!(error.contains(why) && examples == before, "{error}");
        }
        let error = kl_penalty(&mut [example(&[None])], [[-1.0]], 1.0, 0.0).unwrap_err().to_string();
        assert!(error.contains("none of the examples has a sampled target"), "{error}");
    }

    quickcheck! {
        fn penalties_add_up_to_zero(targets: Vec<(Option<u8>, u8)>, coefficient: u8) -> bool {
            let sampled: Vec<_> = targets.iter().map(|(old, _)| old.map(|old| -f32::from(old) / 16.0)).collect();
            let reference: Vec<f32> = targets.iter().map(|(_, other)| -f32::from(*other) / 16.0).collect();
            let mut examples = [example(&sampled)];
            match kl_penalty(&mut examples, [reference], f64::from(coefficient) / 8.0, 0.0) {
                Ok(_) => {
                    let count = examples[0].sampled_len() as f64;
                    let total: f64 = examples[0].advantages.iter().copied().map(f64::from).sum();
                    let unsampled = examples[0].advantages.iter().zip(&examples[0].mask).filter(|(_, sampled)| !**sampled);
                    (total - count).abs() < 1e-3 * count.max(1.0) && unsampled.into_iter().all(|(advantage, _)| *advantage == 0.0)
                }
                Err(_) => sampled.iter().all(Option::is_none),
            }
        }
    }
}
