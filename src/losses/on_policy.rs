//! On-policy distillation.

use crate::error::Result;
use crate::rl::{Centre, PolicyExample, add_reverse_kl};

/// On-policy distillation: a student learns from what a teacher thinks of the student's own samples. Adds the negative reverse KL
/// divergence to the advantages, and returns its mean.
///
/// With *d* = the log-probability with which a target was sampled − that under the teacher, in nats: the advantage of each sampled
/// target gains −`coefficient` · *d*, and the mean of *d* over all sampled targets estimates KL(student ‖ teacher) per token. Examples
/// with an advantage of 0 are then pure distillation; others combine it with a reward. With
/// [`LossFn::ImportanceSampling`](crate::types::LossFn::ImportanceSampling), the expected gradient of a step is that of the divergence.
/// A common `coefficient` is 1. `discount` is that of [`kl_penalty`](crate::rl::kl_penalty): 0, the cookbook's default, lets each token
/// answer for itself alone.
///
/// `teacher` has one list for each example, with one log-probability for each target, as
/// [`compute_logprobs`](crate::rl::compute_logprobs) returns them. A teacher with another prompt, such as one that has seen the solution
/// (self-distillation), has any numbers for what was not sampled.
///
/// # Errors
///
/// As [`kl_penalty`](crate::rl::kl_penalty); nothing is changed then.
///
/// ```
/// use tinkex::losses::on_policy_distillation;
/// use tinkex::rl::Turn;
/// use tinkex::types::SampleResponse;
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12, 13], "logprobs": [-1.0, -2.0]}]}"#;
/// let mut sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let mut examples = Turn::new([10, 11], sampled.sequences.remove(0)).scored(0.0).examples(0.0)?;
/// let divergence = on_policy_distillation(&mut examples, [[-9.0, -3.0, -1.5]], 1.0, 0.0)?;
/// assert_eq!(divergence, 0.75);
/// assert_eq!(examples[0].advantages, [0.0, -2.0, 0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn on_policy_distillation<L: AsRef<[f32]>>(
    examples: &mut [PolicyExample],
    teacher: impl IntoIterator<Item = L>,
    coefficient: f64,
    discount: f64,
) -> Result<f64> {
    add_reverse_kl(examples, teacher, "teacher", coefficient, discount, Centre::Zero)
}

#[cfg(test)]
mod tests {
    use std::iter::zip;

    use super::*;
    use crate::rl::Turn;
    use crate::types::SampledSequence;

    fn log_softmax(logits: [f64; 4]) -> [f64; 4] {
        let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        logits.map(|logit| logit - total)
    }

    fn reverse_kl(student: [f64; 4], teacher: [f64; 4]) -> f64 {
        zip(log_softmax(student), teacher).map(|(new, teacher)| new.exp() * (new - teacher)).sum()
    }

    /// The importance-sampling loss is −exp(new − old) · advantage. Its expectation over all tokens that can be sampled moves the
    /// student's logits as the divergence does.
    #[test]
    fn the_expected_gradient_matches_finite_differences() {
        let (logits, teacher) = ([0.3, -1.2, 0.8, 0.1], log_softmax([1.0, 0.2, -0.5, 0.4]));
        let old = log_softmax(logits);
        let mut gradient = [0.0; 4];
        for token in 0..4 {
            let json = serde_json::json!({"stop_reason": "stop", "tokens": [token], "logprobs": [old[token]]});
            let sequence: SampledSequence = serde_json::from_value(json).unwrap();
            let mut examples = Turn::new([9], sequence).scored(0.0).examples(0.0).unwrap();
            on_policy_distillation(&mut examples, [[teacher[token] as f32]], 1.0, 0.0).unwrap();
            let by_logprob = -f64::from(examples[0].advantages[0]);
            for (logit, gradient) in gradient.iter_mut().enumerate() {
                let by_logit = f64::from(u8::from(logit == token)) - old[logit].exp();
                *gradient += old[token].exp() * by_logprob * by_logit;
            }
        }
        for (logit, gradient) in gradient.into_iter().enumerate() {
            let moved = |by: f64| {
                let mut moved = logits;
                moved[logit] += by;
                reverse_kl(moved, teacher)
            };
            let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!((difference - gradient).abs() < 1e-6, "{logit}: {gradient} {difference}");
        }
    }
}
