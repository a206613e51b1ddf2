//! Losses as functions of the target tokens' log-probabilities.
//!
//! A further loss is a variant of [`Loss`] with its inputs, and one function of the kind below; no model changes for
//! it.

use ndarray::NdFloat;

use super::model::Loss;

impl Loss {
    /// The loss of one example, given its targets' log-probabilities.
    pub fn value<T: NdFloat>(&self, logprobs: &[T]) -> f64 {
        match self {
            Loss::CrossEntropy { weights } => cross_entropy(weights, logprobs),
        }
    }

    /// The loss of each token; they add up to [`value`](Loss::value).
    pub fn elementwise(&self, logprobs: &[f32]) -> Vec<f32> {
        match self {
            Loss::CrossEntropy { weights } => weights.iter().zip(logprobs).map(|(w, logprob)| -w * logprob).collect(),
        }
    }

    /// The derivative of the loss with respect to each target's log-probability.
    ///
    /// Shorter than `logprobs` when the loss has inputs for fewer tokens; the others don't count.
    pub fn slopes<T: NdFloat>(&self, logprobs: &[T]) -> Vec<T> {
        match self {
            Loss::CrossEntropy { weights } => cross_entropy_slopes(weights, logprobs.len()),
        }
    }
}

fn cross_entropy<T: NdFloat>(weights: &[f32], logprobs: &[T]) -> f64 {
    weights
        .iter()
        .zip(logprobs)
        .map(|(&weight, logprob)| -f64::from(weight) * logprob.to_f64().unwrap_or(f64::NAN))
        .sum()
}

fn cross_entropy_slopes<T: NdFloat>(weights: &[f32], tokens: usize) -> Vec<T> {
    weights.iter().take(tokens).map(|&weight| -T::from(weight).unwrap_or_else(T::zero)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_is_a_weighted_sum_and_not_a_mean() {
        let loss = Loss::CrossEntropy { weights: vec![0.0, 1.0, 2.0] };
        assert_eq!(loss.value(&[-9.0_f32, -1.0, -0.5]), 2.0);
        assert_eq!(loss.elementwise(&[-9.0, -1.0, -0.5]), [0.0, 1.0, 1.0]);
        assert_eq!(loss.slopes(&[-9.0_f32, -1.0, -0.5]), [0.0, -1.0, -2.0]);
    }
}
