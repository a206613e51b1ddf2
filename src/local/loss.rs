//! Losses as functions of the target tokens' log-probabilities.
//!
//! A further loss is a variant of [`Loss`] with its inputs, and one function of the kind below; no model changes for
//! it. Definitions and names are Tinker's: sums over tokens, never means.

use ndarray::NdFloat;

use super::model::Loss;

/// The loss of one token, and its derivative with respect to the token's log-probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Point {
    value: f64,
    slope: f64,
}

impl Loss {
    /// The loss of one example, given its targets' log-probabilities.
    pub fn value<T: NdFloat>(&self, logprobs: &[T]) -> f64 {
        self.points(logprobs).map(|point| point.value).sum()
    }

    /// The loss of each token; they add up to [`value`](Loss::value).
    pub fn elementwise(&self, logprobs: &[f32]) -> Vec<f32> {
        self.points(logprobs).map(|point| point.value as f32).collect()
    }

    /// The derivative of the loss with respect to each target's log-probability.
    ///
    /// Zero where the loss has no inputs for a token: those don't count.
    pub fn slopes<T: NdFloat>(&self, logprobs: &[T]) -> Vec<T> {
        self.points(logprobs).map(|point| T::from(point.slope).unwrap_or_else(T::nan)).collect()
    }

    fn points<T: NdFloat>(&self, logprobs: &[T]) -> impl Iterator<Item = Point> {
        let point = |(at, logprob): (usize, &T)| self.point(at, logprob.to_f64()?);
        logprobs.iter().enumerate().map(move |token| point(token).unwrap_or_default())
    }

    /// At the token with this index; none where an input is missing.
    fn point(&self, at: usize, logprob: f64) -> Option<Point> {
        let number = |inputs: &[f32]| inputs.get(at).copied().map(f64::from);
        Some(match self {
            Loss::CrossEntropy { weights } => cross_entropy(logprob, number(weights)?),
            Loss::ImportanceSampling { logprobs, advantages } => {
                importance_sampling(logprob - number(logprobs)?, number(advantages)?)
            }
            Loss::Ppo { logprobs, advantages, clip } => {
                let &(low, high) = clip.get(at)?;
                ppo(logprob - number(logprobs)?, number(advantages)?, low.into(), high.into())
            }
        })
    }
}

fn cross_entropy(logprob: f64, weight: f64) -> Point {
    Point { value: -weight * logprob, slope: -weight }
}

/// −ratio · advantage, where the ratio is that of the probabilities now and when the token was sampled.
fn importance_sampling(log_ratio: f64, advantage: f64) -> Point {
    let value = -log_ratio.exp() * advantage;
    // The ratio is its own derivative.
    Point { value, slope: value }
}

/// Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7: nothing is gained by moving the ratio
/// beyond its bounds, but what is lost counts in full.
fn ppo(log_ratio: f64, advantage: f64, low: f64, high: f64) -> Point {
    let free = importance_sampling(log_ratio, advantage);
    let clipped = -log_ratio.exp().max(low).min(high) * advantage;
    if clipped > free.value { Point { value: clipped, slope: 0.0 } } else { free }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses over four tokens: advantages of either sign, ratios inside, below and above the bounds.
    fn losses() -> [Loss; 3] {
        let (logprobs, advantages) = (vec![-1.0, -0.5, -2.0, -1.5], vec![1.0, -2.0, 0.5, -0.25]);
        [
            Loss::CrossEntropy { weights: vec![0.0, 1.0, 2.0, -0.5] },
            Loss::ImportanceSampling { logprobs: logprobs.clone(), advantages: advantages.clone() },
            Loss::Ppo { logprobs, advantages, clip: vec![(0.8, 1.2); 4] },
        ]
    }

    #[test]
    fn cross_entropy_is_a_weighted_sum_and_not_a_mean() {
        let loss = Loss::CrossEntropy { weights: vec![0.0, 1.0, 2.0] };
        assert_eq!(loss.value(&[-9.0_f32, -1.0, -0.5]), 2.0);
        assert_eq!(loss.elementwise(&[-9.0, -1.0, -0.5]), [0.0, 1.0, 1.0]);
        assert_eq!(loss.slopes(&[-9.0_f32, -1.0, -0.5]), [0.0, -1.0, -2.0]);
    }

    #[test]
    fn importance_sampling_weighs_advantages_by_the_ratio_of_probabilities() {
        let (half, third) = (0.5_f32.ln(), (1.0_f32 / 3.0).ln());
        let loss = Loss::ImportanceSampling { logprobs: vec![half, third], advantages: vec![1.0, -2.0] };
        // Ratios 1/2 and 3/2: −(1/2 · 1 + 3/2 · −2)
        assert!((loss.value(&[0.25_f32.ln(), half]) - 2.5).abs() < 1e-6);
    }

    #[test]
    fn ppo_clips_gains_and_not_losses() {
        let at = |ratio: f64, advantage: f32| {
            let loss = Loss::Ppo { logprobs: vec![-1.0], advantages: vec![advantage], clip: vec![(0.8, 1.2)] };
            let logprobs = [ratio.ln() - 1.0];
            let round = |value: f64| (value * 1e6).round() / 1e6;
            (round(loss.value(&logprobs)), round(loss.slopes(&logprobs)[0]))
        };
        assert_eq!(at(1.1, 1.0), (-1.1, -1.1));
        assert_eq!(at(1.5, 1.0), (-1.2, 0.0));
        assert_eq!(at(0.5, 1.0), (-0.5, -0.5));
        assert_eq!(at(0.5, -1.0), (0.8, 0.0));
        assert_eq!(at(1.5, -1.0), (1.5, 1.5));
    }

    #[test]
    fn each_slope_is_that_of_finite_differences() {
        let logprobs = [-1.1_f64, -1.2, -1.0, -0.3];
        for loss in losses() {
            let slopes = loss.slopes(&logprobs);
            for (at, slope) in slopes.into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut logprobs = logprobs;
                    logprobs[at] += by;
                    loss.value(&logprobs)
                };
                let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((slope - difference).abs() < 1e-8, "{loss:?} at {at}: {slope} {difference}");
            }
        }
    }

    #[test]
    fn tokens_without_inputs_do_not_count() {
        for loss in losses() {
            let long = [-1.0_f32; 6];
            assert_eq!(loss.value(&long), loss.value(&long[..4]));
            assert_eq!(loss.slopes(&long)[4..], [0.0, 0.0]);
        }
    }
}
