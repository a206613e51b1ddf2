//! The squared error of log-probabilities.

use ndarray::Array1;

use super::checks::{check, weights};
use crate::error::Result;
use crate::training::CustomLoss;
use crate::types::Datum;

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

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::losses::testing::{assert_gradients_match, data, logprobs, others};

    #[test]
    fn gradients_match_finite_differences() {
        assert_gradients_match(&data(), &logprobs(), squared_error(&others()));
    }

    #[test]
    fn a_token_without_weight_does_not_count() {
        let (mut at, mut targets) = (logprobs(), others());
        (at[0][0], targets[0][0]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        let computed = squared_error(&targets)(&data(), &at).unwrap();
        assert!(computed.loss.is_finite() && computed.gradients[0][0] == 0.0, "{computed:?}");
    }

    #[test]
    fn mismatched_shapes_are_errors() {
        let mut short = others();
        short[1] = array![-1.0];
        assert!(squared_error(&short)(&data(), &logprobs()).is_err());
        let mut data = data();
        data[1] = data[1].clone().input("weights", [1.0_f32]).unwrap();
        assert!(squared_error(&others())(&data, &logprobs()).is_err());
    }
}
