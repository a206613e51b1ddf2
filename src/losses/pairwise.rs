//! Preferences between pairs of completions.

use ndarray::Array1;

use super::checks::{check, weights};
use crate::error::{Error, Result};
use crate::training::CustomLoss;
use crate::types::Datum;

/// Direct preference optimization (Rafailov et al. 2023, equation 7). The datums are pairs: the chosen completion, then
/// the rejected one.
///
/// The loss is the mean over the pairs of −log σ(β·margin). The margin is the log-ratio of the chosen completion minus that of
/// the rejected one; a log-ratio is the completion's log-probability minus the reference model's, in nats. `reference` contains the
/// reference model's log-probabilities, one array for each datum. A common `beta` is 0.1. The metrics are those of Tinker's
/// cookbook: `dpo_loss`, `accuracy`, `margin`, `chosen_reward` and `rejected_reward`, all means over the pairs.
///
/// # Errors
///
/// `dpo` itself does not fail. The returned function fails with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an
/// odd number of datums or none, for a reference or weights whose shape differs from that of the log-probabilities, and for
/// weights that are not `float32`.
///
/// # Examples
///
/// ```
/// use tinkex::ndarray::array;
/// use tinkex::losses;
/// use tinkex::types::{Datum, ModelInput};
///
/// let data = vec![Datum::new(ModelInput::from_tokens([1, 2])); 2];
/// let reference = [array![-1.0_f32, -1.0], array![-1.0, -1.0]];
/// // Before training, the loss is log 2. A higher log-probability of the first completion lowers it.
/// let loss = losses::dpo(&reference, 0.1)(&data, &reference)?;
/// assert!((loss.loss - 2.0_f64.ln()).abs() < 1e-12);
/// assert!(loss.gradients[0][0] < 0.0 && loss.gradients[1][0] > 0.0);
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn dpo(reference: &[Array1<f32>], beta: f64) -> impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss> + '_ {
    move |data, logprobs| {
        check(data, logprobs, reference, "reference")?;
        preference("DPO", "dpo_loss", data, logprobs, Some(reference), beta)
    }
}

/// The Bradley-Terry loss of pairs, with a completion's own log-probability as its score: DPO without a reference model. The datums
/// are pairs: the chosen completion, then the rejected one.
///
/// The loss is the mean over the pairs of −log σ(β · (score of the chosen − score of the rejected completion)), where a score is the
/// weighted sum of a completion's log-probabilities in nats. Nothing keeps the model near where it was, so few steps are enough. To
/// compare completions of different lengths by their means, give them the weights 1/length. The metrics are those of [`dpo`], with
/// `bradley_terry_loss`; a reward is β times the score.
///
/// # Errors
///
/// `bradley_terry` itself does not fail. The returned function fails with
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an odd number of datums or none, and for weights that are not one
/// float32 number for each log-probability.
///
/// # Examples
///
/// ```
/// use tinkex::losses;
/// use tinkex::ndarray::array;
/// use tinkex::types::Datum;
///
/// let data = vec![Datum::new([1, 2]), Datum::new([1])];
/// let loss = losses::bradley_terry(0.5)(&data, &[array![-1.0, -1.0], array![-2.0]])?;
/// assert!((loss.loss - 2.0_f64.ln()).abs() < 1e-12);
/// assert_eq!(loss.gradients, [array![-0.25, -0.25], array![0.25]]);
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn bradley_terry(beta: f64) -> impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss> {
    move |data, logprobs| {
        check(data, logprobs, logprobs, "log-probabilities")?;
        preference("Bradley-Terry", "bradley_terry_loss", data, logprobs, None, beta)
    }
}

/// The mean over the pairs of −log σ(β·margin), where the margin is the difference of the completions' log-ratios to the reference,
/// or of their log-probabilities.
fn preference(
    name: &str,
    metric: &str,
    data: &[Datum],
    logprobs: &[Array1<f32>],
    reference: Option<&[Array1<f32>]>,
    beta: f64,
) -> Result<CustomLoss> {
    if data.is_empty() || data.len() % 2 == 1 {
        let message = format!("{name} needs pairs of datums, and the batch has {}", data.len());
        return Err(
            Error::invalid_input(message).with_hint("put each rejected completion directly after the chosen one")
        );
    }
    let pairs = (data.len() / 2) as f64;
    let tokens = data.iter().zip(logprobs);
    let weights = tokens.map(|(datum, logprobs)| weights(datum, logprobs.len())).collect::<Result<Vec<_>>>()?;
    let score = |index: usize| {
        let score = |of: &Array1<f32>| weighted_sum(of, reference.map(|reference| &reference[index]), &weights[index]);
        score(&logprobs[index])
    };
    let mut gradients = Vec::with_capacity(data.len());
    let (mut loss, mut accuracy, mut chosen, mut rejected) = (0.0, 0.0, 0.0, 0.0);
    for first in (0..data.len()).step_by(2) {
        let (chosen_score, rejected_score) = (score(first), score(first + 1));
        let (pair_loss, dmargin) = preference_loss(chosen_score - rejected_score, beta);
        loss += pair_loss / pairs;
        accuracy += f64::from(u8::from(chosen_score > rejected_score)) / pairs;
        chosen += beta * chosen_score / pairs;
        rejected += beta * rejected_score / pairs;
        let gradient = dmargin / pairs;
        gradients.push(weights[first].mapv(|weight| (gradient * f64::from(weight)) as f32));
        gradients.push(weights[first + 1].mapv(|weight| (-gradient * f64::from(weight)) as f32));
    }
    let custom = CustomLoss::new(loss, gradients).metric(metric, loss).metric("accuracy", accuracy);
    Ok(custom.metric("margin", chosen - rejected).metric("chosen_reward", chosen).metric("rejected_reward", rejected))
}

/// Σ weight · (logprob − reference), in nats. Without a reference, that is 0.
fn weighted_sum(logprobs: &Array1<f32>, reference: Option<&Array1<f32>>, weights: &Array1<f32>) -> f64 {
    let reference = |index: usize| reference.map_or(0.0, |reference| f64::from(reference[index]));
    let counted = logprobs.iter().zip(weights).enumerate().filter(|(_, (_, weight))| **weight != 0.0);
    counted.map(|(index, (logprob, weight))| f64::from(*weight) * (f64::from(*logprob) - reference(index))).sum()
}

/// −log σ(β·margin), and its derivative with respect to the margin.
fn preference_loss(margin: f64, beta: f64) -> (f64, f64) {
    (softplus(-beta * margin), -beta * sigmoid(-beta * margin))
}

/// log(1 + eˣ), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    (-softplus(-x)).exp()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::losses::testing::{assert_gradients_match, data, logprobs, others};
    use crate::types::ModelInput;

    fn pair() -> Vec<Datum> {
        vec![Datum::new(ModelInput::from_tokens([1])); 2]
    }

    #[test]
    fn gradients_match_finite_differences() {
        for beta in [0.1, 5.0] {
            assert_gradients_match(&data(), &logprobs(), dpo(&others(), beta));
            assert_gradients_match(&data(), &logprobs(), bradley_terry(beta));
        }
    }

    #[test]
    fn pairs_report_their_metrics() {
        let reference = [array![-1.0_f32], array![-1.0]];
        let at = [array![-0.5_f32], array![-3.0]];
        for (custom, loss, chosen, rejected) in [
            (dpo(&reference, 0.5)(&pair(), &at).unwrap(), "dpo_loss", 0.25, -1.0),
            (bradley_terry(0.5)(&pair(), &at).unwrap(), "bradley_terry_loss", -0.25, -1.5),
        ] {
            let expected =
                [("accuracy", 1.0), ("chosen_reward", chosen), ("margin", 1.25), ("rejected_reward", rejected)];
            for (name, value) in expected {
                assert!((custom.metrics[name] - value).abs() < 1e-12, "{name}");
            }
            assert!((custom.metrics[loss] - (1.0 + (-1.25_f64).exp()).ln()).abs() < 1e-12);
        }
    }

    #[test]
    fn pairs_are_finite_for_extreme_logprobs() {
        let reference = [array![-1.0_f32], array![-1.0]];
        for (good, bad) in [(-1e4, -1.0), (-1.0, -1e4)] {
            let at = [array![good], array![bad]];
            for custom in [dpo(&reference, 1.0)(&pair(), &at).unwrap(), bradley_terry(1.0)(&pair(), &at).unwrap()] {
                assert!(
                    custom.loss.is_finite() && custom.gradients.iter().flatten().all(|gradient| gradient.is_finite())
                );
            }
        }
    }

    #[test]
    fn a_token_without_weight_does_not_count() {
        let (mut at, mut reference) = (logprobs(), others());
        (at[0][0], reference[0][0]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        assert_eq!(dpo(&reference, 0.1)(&data(), &at).unwrap(), dpo(&others(), 0.1)(&data(), &logprobs()).unwrap());
        assert_eq!(bradley_terry(0.1)(&data(), &at).unwrap(), bradley_terry(0.1)(&data(), &logprobs()).unwrap());
    }

    #[test]
    fn batches_without_pairs_are_errors() {
        let mut short = others();
        short[1] = array![-1.0];
        assert!(dpo(&short, 0.1)(&data(), &logprobs()).is_err());
        assert!(dpo(&others()[..3], 0.1)(&data()[..3], &logprobs()[..3]).is_err(), "three datums are not pairs");
        assert!(dpo(&[], 0.1)(&[], &[]).is_err());
        let error = bradley_terry(0.1)(&data()[..3], &logprobs()[..3]).unwrap_err().to_string();
        assert!(error.contains("Bradley-Terry needs pairs of datums, and the batch has 3"), "{error}");
    }
}
