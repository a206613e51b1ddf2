//! Ready-made losses for [`forward_backward_custom`](crate::TrainingClient::forward_backward_custom), which also serve as
//! examples for custom ones.
//!
//! Each function returns a function of the datums and their log-probabilities. A datum's loss input `weights`, if present,
//! contains the weight of each token; otherwise each token has weight 1. A token of weight 0 does not count, also if its
//! log-probability is infinite or NaN.
//!
//! ```no_run
//! # fn f(trainer: tinkex::TrainingClient, pairs: tinkex::types::Batch) -> tinkex::Result<()> {
//! use tinkex::losses;
//! use tinkex::types::{AdamParams, LossFn};
//!
//! // The reference: the log-probabilities before training.
//! let before = trainer.forward(&pairs, LossFn::CrossEntropy)?;
//! let reference: Vec<_> =
//!     before.loss_fn_outputs.iter().filter_map(|output| output.logprobs()).map(|logprobs| logprobs.to_vec().into()).collect();
//! for _ in 0..10 {
//!     let output = trainer.forward_backward_custom(&pairs, losses::dpo(&reference, 0.1))?;
//!     trainer.optim_step(AdamParams::default())?;
//!     println!("{} {}", output.metrics["dpo_loss"], output.metrics["accuracy"]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Writing a loss of your own
//!
//! A loss is a function of the log-probabilities *x* of the target tokens. It returns its value, and its derivative with respect to
//! each of them, which the client sends back to the model. Take DPO of one pair, where *w* are the weights and *r* the
//! log-probabilities of the reference:
//!
//! 1. Write the loss as steps, from the log-probabilities on:
//!    ratio = Σ *w* (*x* − *r*) for each completion, margin = ratio(chosen) − ratio(rejected), loss = −log σ(*β* margin).
//! 2. Take the derivative of each step:
//!    d ratio/d*x* = *w*; d margin/d ratio = 1 for the chosen completion, −1 for the rejected one;
//!    d loss/d margin = −*β* σ(−*β* margin).
//! 3. Multiply them along the way: d loss/d*x* = −*β* σ(−*β* margin) · (1 or −1) · *w*.
//!
//! ```
//! use tinkex::ndarray::{Array1, array};
//! use tinkex::types::Datum;
//! use tinkex::CustomLoss;
//!
//! /// DPO of one pair, with a weight of 1 for each token.
//! fn preference(reference: &[Array1<f32>], logprobs: &[Array1<f32>]) -> CustomLoss {
//!     let beta = 0.1;
//!     let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
//!     let ratio = |index: usize| (&logprobs[index] - &reference[index]).sum();
//!     let margin = ratio(0) - ratio(1);
//!     let loss = -f64::from(sigmoid(beta * margin).ln());
//!     let slope = -beta * sigmoid(-beta * margin);
//!     let gradients = vec![logprobs[0].mapv(|_| slope), logprobs[1].mapv(|_| -slope)];
//!     CustomLoss::new(loss, gradients).metric("margin", f64::from(margin))
//! }
//!
//! let reference = [array![-1.0_f32, -2.0], array![-1.5_f32]];
//! let logprobs = [array![-0.5_f32, -1.0], array![-2.0_f32]];
//! let computed = preference(&reference, &logprobs);
//!
//! // Check a gradient by hand before you train with it: move one log-probability a little, and look at the loss.
//! let loss_at = |moved: f32| preference(&reference, &[array![-0.5 + moved, -1.0], array![-2.0_f32]]).loss;
//! let slope = (loss_at(0.1) - loss_at(-0.1)) / 0.2;
//! assert!((slope - f64::from(computed.gradients[0][0])).abs() < 1e-4);
//!
//! // `losses::dpo` is the same, with weights, several pairs and no overflow.
//! let data = vec![Datum::new([1, 2]), Datum::new([1])];
//! let ready_made = tinkex::losses::dpo(&reference, 0.1)(&data, &logprobs)?;
//! assert!((ready_made.loss - computed.loss).abs() < 1e-6);
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! Train with it through [`forward_backward_custom`](crate::TrainingClient::forward_backward_custom):
//! `|_data, logprobs| Ok::<_, Infallible>(preference(&reference, logprobs))`.

use ndarray::Array1;

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
        if data.is_empty() || data.len() % 2 == 1 {
            let message = format!("DPO needs pairs of datums, and the batch has {}", data.len());
            return Err(
                Error::invalid_input(message).with_hint("put each rejected completion directly after the chosen one")
            );
        }
        let pairs = (data.len() / 2) as f64;
        let tokens = data.iter().zip(logprobs);
        let weights = tokens.map(|(datum, logprobs)| weights(datum, logprobs.len())).collect::<Result<Vec<_>>>()?;
        let log_ratio = |index: usize| log_ratio(&logprobs[index], &reference[index], &weights[index]);
        let mut gradients = Vec::with_capacity(data.len());
        let (mut loss, mut accuracy, mut chosen, mut rejected) = (0.0, 0.0, 0.0, 0.0);
        for first in (0..data.len()).step_by(2) {
            let (chosen_ratio, rejected_ratio) = (log_ratio(first), log_ratio(first + 1));
            let (pair_loss, dmargin) = preference_loss(chosen_ratio - rejected_ratio, beta);
            loss += pair_loss / pairs;
            accuracy += f64::from(u8::from(chosen_ratio > rejected_ratio)) / pairs;
            chosen += beta * chosen_ratio / pairs;
            rejected += beta * rejected_ratio / pairs;
            let gradient = dmargin / pairs;
            gradients.push(weights[first].mapv(|weight| (gradient * f64::from(weight)) as f32));
            gradients.push(weights[first + 1].mapv(|weight| (-gradient * f64::from(weight)) as f32));
        }
        let custom = CustomLoss::new(loss, gradients).metric("dpo_loss", loss).metric("accuracy", accuracy);
        Ok(custom
            .metric("margin", chosen - rejected)
            .metric("chosen_reward", chosen)
            .metric("rejected_reward", rejected))
    }
}

/// Σ weight · (logprob − reference): how much more probable a completion is than under the reference model, in nats.
fn log_ratio(logprobs: &Array1<f32>, reference: &Array1<f32>, weights: &Array1<f32>) -> f64 {
    let pairs = logprobs.iter().zip(reference);
    let differences = pairs.map(|(logprob, reference)| f64::from(*logprob) - f64::from(*reference));
    let weighted = differences.zip(weights).filter(|(_, weight)| **weight != 0.0);
    weighted.map(|(difference, weight)| f64::from(*weight) * difference).sum()
}

/// −log σ(β·margin), and its derivative with respect to the margin.
fn preference_loss(margin: f64, beta: f64) -> (f64, f64) {
    (softplus(-beta * margin), -beta * sigmoid(-beta * margin))
}

/// The squared error between the log-probabilities and given targets, summed over the tokens of all datums: an example of a
/// loss with a simple gradient, and a way to distill another model's log-probabilities.
///
/// `targets` contains one array for each datum. The metric is `squared_error`.
///
/// # Errors
///
/// `squared_error` itself does not fail. The returned function fails with
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for targets or weights whose shape differs from that of the
/// log-probabilities, and for weights that are not `float32`.
///
/// # Examples
///
/// ```
/// use tinkex::ndarray::array;
/// use tinkex::losses;
/// use tinkex::types::{Datum, ModelInput};
///
/// let data = [Datum::new(ModelInput::from_tokens([1, 2]))];
/// let loss = losses::squared_error(&[array![0.0, -1.0]])(&data, &[array![-0.5, -3.0]])?;
/// assert_eq!((loss.loss, &loss.gradients[0]), (0.25 + 4.0, &array![-1.0, -4.0]));
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn squared_error(targets: &[Array1<f32>]) -> impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss> + '_ {
    move |data, logprobs| {
        check(data, logprobs, targets, "targets")?;
        let mut loss = 0.0;
        let mut gradients = Vec::with_capacity(data.len());
        for ((datum, logprobs), targets) in data.iter().zip(logprobs).zip(targets) {
            let weights = weights(datum, logprobs.len())?;
            let errors = logprobs.iter().zip(targets).map(|(logprob, target)| f64::from(*logprob) - f64::from(*target));
            let counted = |(error, weight): (f64, &f32)| (if *weight == 0.0 { 0.0 } else { error }, f64::from(*weight));
            let weighted = errors.zip(&weights).map(counted);
            loss += weighted.clone().map(|(error, weight)| weight * error.powi(2)).sum::<f64>();
            gradients.push(weighted.map(|(error, weight)| (2.0 * weight * error) as f32).collect());
        }
        Ok(CustomLoss::new(loss, gradients).metric("squared_error", loss))
    }
}

/// Checks that each datum has one array of the same length as its log-probabilities.
fn check(data: &[Datum], logprobs: &[Array1<f32>], others: &[Array1<f32>], what: &str) -> Result<()> {
    let lengths = |arrays: &[Array1<f32>]| arrays.iter().map(Array1::len).collect::<Vec<_>>();
    if data.len() == logprobs.len() && lengths(logprobs) == lengths(others) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "the {what} must have one array for each datum, as long as its log-probabilities"
    )))
}

/// The weight of each token of a datum.
fn weights(datum: &Datum, tokens: usize) -> Result<Array1<f32>> {
    let Some(weights) = datum.loss_fn_inputs.get("weights") else { return Ok(Array1::ones(tokens)) };
    match weights.as_f32() {
        Some(weights) if weights.len() == tokens => Ok(weights.to_vec().into()),
        _ => Err(Error::invalid_input(format!("the weights of a datum are not {tokens} float32 numbers"))),
    }
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
    use crate::types::ModelInput;

    fn data() -> Vec<Datum> {
        let datum = |tokens: u32| Datum::new(ModelInput::from_tokens((0..tokens).collect::<Vec<_>>()));
        vec![
            datum(3).input("weights", [0.0_f32, 1.0, 0.5]).unwrap(),
            datum(2),
            datum(1),
            datum(3).input("weights", [2.0_f32, 1.0, 1.0]).unwrap(),
        ]
    }

    fn logprobs() -> Vec<Array1<f32>> {
        vec![array![-0.3, -1.7, -2.2], array![-0.9, -0.1], array![-3.0], array![-1.1, -0.6, -2.4]]
    }

    fn others() -> Vec<Array1<f32>> {
        vec![array![-0.5, -1.2, -2.0], array![-0.4, -0.7], array![-2.5], array![-1.4, -0.2, -2.9]]
    }

    /// Compares the gradients with central differences of the loss.
    fn assert_gradients_match(loss: impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss>) {
        let at = logprobs();
        let gradients = loss(&data(), &at).unwrap().gradients;
        for (index, gradient) in gradients.iter().enumerate() {
            assert_eq!(gradient.len(), at[index].len());
            for (token, gradient) in gradient.iter().enumerate() {
                let moved = |by: f32| {
                    let mut moved = at.clone();
                    moved[index][token] += by;
                    (loss(&data(), &moved).unwrap().loss, f64::from(moved[index][token]))
                };
                let ((above, right), (below, left)) = (moved(1e-3), moved(-1e-3));
                let difference = (above - below) / (right - left);
                let gradient = f64::from(*gradient);
                assert!(
                    (difference - gradient).abs() < 1e-5 * gradient.abs().max(1.0),
                    "{index} {token}: {gradient} {difference}"
                );
            }
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        assert_gradients_match(dpo(&others(), 0.1));
        assert_gradients_match(dpo(&others(), 5.0));
        assert_gradients_match(squared_error(&others()));
    }

    #[test]
    fn dpo_reports_its_metrics() {
        let reference = [array![-1.0_f32], array![-1.0]];
        let pair = vec![Datum::new(ModelInput::from_tokens([1])); 2];
        let custom = dpo(&reference, 0.5)(&pair, &[array![-0.5], array![-3.0]]).unwrap();
        let expected = [("accuracy", 1.0), ("chosen_reward", 0.25), ("margin", 1.25), ("rejected_reward", -1.0)];
        for (name, value) in expected {
            assert!((custom.metrics[name] - value).abs() < 1e-12, "{name}");
        }
        assert!((custom.metrics["dpo_loss"] - (1.0 + (-1.25_f64).exp()).ln()).abs() < 1e-12);
    }

    #[test]
    fn dpo_is_finite_for_extreme_logprobs() {
        let reference = [array![-1.0_f32], array![-1.0]];
        let pair = vec![Datum::new(ModelInput::from_tokens([1])); 2];
        for (good, bad) in [(-1e4, -1.0), (-1.0, -1e4)] {
            let custom = dpo(&reference, 1.0)(&pair, &[array![good], array![bad]]).unwrap();
            assert!(custom.loss.is_finite() && custom.gradients.iter().flatten().all(|gradient| gradient.is_finite()));
        }
    }

    #[test]
    fn a_token_without_weight_does_not_count() {
        let (mut at, mut reference) = (logprobs(), others());
        (at[0][0], reference[0][0]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for computed in [dpo(&reference, 0.1)(&data(), &at).unwrap(), squared_error(&reference)(&data(), &at).unwrap()]
        {
            assert!(computed.loss.is_finite() && computed.gradients[0][0] == 0.0, "{computed:?}");
        }
        assert_eq!(dpo(&reference, 0.1)(&data(), &at).unwrap(), dpo(&others(), 0.1)(&data(), &logprobs()).unwrap());
    }

    #[test]
    fn mismatched_shapes_are_errors() {
        let mut short = others();
        short[1] = array![-1.0];
        assert!(dpo(&short, 0.1)(&data(), &logprobs()).is_err());
        assert!(dpo(&others()[..3], 0.1)(&data()[..3], &logprobs()[..3]).is_err(), "three datums are not pairs");
        assert!(dpo(&[], 0.1)(&[], &[]).is_err());
        assert!(squared_error(&short)(&data(), &logprobs()).is_err());
        let mut data = data();
        data[1] = data[1].clone().input("weights", [1.0_f32]).unwrap();
        assert!(squared_error(&others())(&data, &logprobs()).is_err());
    }
}
