//! The loss per token.

use std::iter::zip;
use std::ops::AddAssign;

use crate::error::{Error, ErrorKind, Result};
use crate::types::{Datum, ForwardBackwardOutput, TensorData};

/// The metric of the summed loss.
const LOSS: &str = "loss:sum";

/// The mean loss of the targets in nats: the sum over all targets of weight times negative log-probability, divided by the sum of
/// the weights. A mean of NaN says that the model's log-probabilities are NaN: it has diverged.
///
/// It is computed from the log-probabilities of the output; if the service did not send one for each target, from its metric
/// `loss:sum`.
///
/// # Errors
///
/// [`InvalidInput`](ErrorKind::InvalidInput) for a datum without dense float32 `weights`, and weights that add up to 0;
/// [`Decode`](ErrorKind::Decode) for an output with neither.
///
/// ```
/// use tinkex::toolkit::{WeightedTokens, nats_per_token};
/// use tinkex::types::ForwardBackwardOutput;
///
/// let batch = [WeightedTokens::new().context([10, 11]).trained([12, 13]).datum()?];
/// let output: ForwardBackwardOutput = serde_json::from_str(
///     r#"{"loss_fn_outputs": [{"logprobs": {"data": [-9.0, -0.5, -1.0], "dtype": "float32"}}]}"#,
/// )?;
/// assert_eq!(nats_per_token(&batch, &output)?, 0.75);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn nats_per_token(batch: &[Datum], output: &ForwardBackwardOutput) -> Result<f64> {
    let loss = TokenLoss::of(batch, output)?;
    match loss.weight == 0.0 {
        true => Err(Error::invalid_input("the weights of the batch add up to 0, so its loss has no mean")),
        false => Ok(loss.per_token()),
    }
}

/// The summed loss of targets, and their summed weights: for a mean over several batches, such as an evaluation in parts.
/// [`nats_per_token`] is that of a single one.
///
/// ```
/// use tinkex::toolkit::{TokenLoss, WeightedTokens};
/// use tinkex::types::ForwardBackwardOutput;
///
/// let batch = [WeightedTokens::new().context([10]).trained([11]).datum()?];
/// let mut total = TokenLoss::default();
/// for logprob in [-0.5, -1.5] {
///     let output = format!(r#"{{"loss_fn_outputs": [{{"logprobs": {{"data": [{logprob}], "dtype": "float32"}}}}]}}"#);
///     total += TokenLoss::of(&batch, &serde_json::from_str::<ForwardBackwardOutput>(&output)?)?;
/// }
/// assert_eq!((total.nats, total.weight, total.per_token()), (2.0, 2.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TokenLoss {
    /// The sum of weight times negative log-probability, in nats.
    pub nats: f64,
    /// The sum of the weights.
    pub weight: f64,
}

impl TokenLoss {
    /// The loss of a batch, given the output of a pass over it.
    ///
    /// # Errors
    ///
    /// As [`nats_per_token`], except that the weights may add up to 0.
    pub fn of(batch: &[Datum], output: &ForwardBackwardOutput) -> Result<Self> {
        let weights =
            batch.iter().enumerate().map(|(index, datum)| weights(index, datum)).collect::<Result<Vec<_>>>()?;
        let weight = weights.iter().copied().flatten().map(|weight| f64::from(*weight)).sum();
        let outputs = &output.loss_fn_outputs;
        let logprobs: Vec<&[f32]> = outputs.iter().map(|output| output.logprobs().unwrap_or_default()).collect();
        let lengths = |lists: &[&[f32]]| lists.iter().map(|list| list.len()).collect::<Vec<_>>();
        let nats = match lengths(&weights) == lengths(&logprobs) {
            true => {
                let pairs = zip(weights, logprobs).flat_map(|(weights, logprobs)| zip(weights, logprobs));
                // What has no weight does not count, also if it is infinite or NaN.
                let counted = pairs.filter(|(weight, _)| **weight != 0.0);
                -counted.map(|(weight, logprob)| f64::from(*weight) * f64::from(*logprob)).sum::<f64>()
            }
            false => *output.metrics.get(LOSS).ok_or_else(|| {
                let message = "the output has neither a log-probability for each target nor the metric loss:sum";
                Error::new(ErrorKind::Decode, message).with_hint("pass the batch that the output is of")
            })?,
        };
        Ok(TokenLoss { nats, weight })
    }

    /// The mean in nats per token; NaN without any weight.
    #[must_use]
    pub fn per_token(self) -> f64 {
        self.nats / self.weight
    }
}

impl AddAssign for TokenLoss {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.weight += other.weight;
    }
}

fn weights(index: usize, datum: &Datum) -> Result<&[f32]> {
    let weights = datum.loss_fn_inputs.get("weights").filter(|weights| !weights.is_sparse());
    weights.and_then(TensorData::as_f32).ok_or_else(|| {
        Error::invalid_input(format!("datum {index} has no dense weights of float32"))
            .with_hint("this is the mean for datums of cross-entropy, as WeightedTokens makes them")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::toolkit::WeightedTokens;

    fn output(logprobs: &[&[Value]], metrics: Value) -> ForwardBackwardOutput {
        let output = |data: &&[Value]| json!({"logprobs": {"data": data, "dtype": "float32"}});
        let outputs: Vec<Value> = logprobs.iter().map(output).collect();
        serde_json::from_value(json!({"loss_fn_outputs": outputs, "metrics": metrics})).unwrap()
    }

    fn batch() -> Vec<Datum> {
        let first = WeightedTokens::new().context([1, 2]).trained([3]);
        let second = WeightedTokens::new().context([1]).weighted([2], 3.0);
        vec![first.datum().unwrap(), second.datum().unwrap()]
    }

    #[test]
    fn weights_count_once_for_each_target() {
        let both = output(&[&[json!(-7.0), json!(-2.0)], &[json!(-1.0)]], json!({}));
        assert_eq!(nats_per_token(&batch(), &both).unwrap(), (2.0 + 3.0) / 4.0);
        let sums = output(&[], json!({"loss:sum": 6.0}));
        assert_eq!(nats_per_token(&batch(), &sums).unwrap(), 1.5);
    }

    #[test]
    fn only_weighted_targets_can_be_nan() {
        let read = output(&[&[Value::Null, json!(-2.0)], &[json!(-1.0)]], json!({}));
        assert_eq!(nats_per_token(&batch(), &read).unwrap(), 1.25);
        let learned = output(&[&[json!(-7.0), Value::Null], &[json!(-1.0)]], json!({}));
        assert!(nats_per_token(&batch(), &learned).unwrap().is_nan());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fitting = output(&[&[json!(-7.0), json!(-2.0)], &[json!(-1.0)]], json!({}));
        let silent = WeightedTokens::new().context([1, 2]).datum().unwrap();
        let bare = Datum::new([1]).input("target_tokens", [2]).unwrap();
        let one = output(&[&[json!(-1.0)]], json!({}));
        for (batch, output, why) in [
            (&batch()[..1], &fitting, "neither a log-probability for each target nor"),
            (&batch()[..], &one, "neither a log-probability for each target nor"),
            (&[silent], &one, "add up to 0"),
            (&[bare], &one, "datum 0 has no dense weights"),
            (&batch()[1..], &output(&[&[]], json!({})), "neither a log-probability for each target nor"),
        ] {
            let error = nats_per_token(batch, output).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
