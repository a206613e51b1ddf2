//! The results of passes and optimizer steps.

use std::collections::{BTreeMap, btree_map};

use serde::{Deserialize, Serialize};

use super::TensorData;

/// The result of a forward pass or of a forward and backward pass over a batch.
///
/// ```
/// use tinkex::types::ForwardBackwardOutput;
///
/// let output: ForwardBackwardOutput = serde_json::from_str(
///     r#"{
///         "loss_fn_output_type": "ArrayRecord",
///         "loss_fn_outputs": [{"logprobs": {"data": [-0.5, -1.5], "dtype": "float32", "shape": [2]}}],
///         "metrics": {"loss:sum": 2.0}
///     }"#,
/// )?;
/// assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.5, -1.5][..]));
/// assert_eq!(output.metrics["loss:sum"], 2.0);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForwardBackwardOutput {
    /// The name of the outputs' type on the server.
    #[serde(default)]
    pub loss_fn_output_type: String,
    /// One output for each datum, in the order of the batch: any other number is an error of the call. Empty if the service has no
    /// outputs for datums, which the log says once: its responses have metrics, but no output with a value. Once it had some for this
    /// client, that is an error, too, unless the loss was created on the server.
    pub loss_fn_outputs: Vec<LossFnOutput>,
    /// Metrics of the whole batch. The end of a name says how the metrics of several chunks are combined: `loss:sum`,
    /// `mfu:mean`, `step_max:max`. NaN where the server sent null.
    #[serde(default, deserialize_with = "super::nan::metrics")]
    pub metrics: BTreeMap<String, f64>,
}

/// The output of a loss function for one datum: tensors by name.
///
/// ```
/// use tinkex::types::{LossFnOutput, TensorData};
///
/// let output: LossFnOutput = [("logprobs", TensorData::from(vec![-0.5_f32, -1.5]))].into_iter().collect();
/// assert_eq!(output.logprobs(), Some(&[-0.5, -1.5][..]));
/// assert_eq!(output.get("logprobs").map(TensorData::len), Some(2));
/// for (name, tensor) in &output {
///     assert_eq!((name.as_str(), tensor.len()), ("logprobs", 2));
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossFnOutput(BTreeMap<String, TensorData>);

impl LossFnOutput {
    /// An output without tensors.
    #[must_use]
    pub fn new() -> Self {
        LossFnOutput::default()
    }

    /// The log-probability of each target token in nats, one for each of the datum's targets. None if there is no tensor of that
    /// name, or if it is one of integers, which only a loss that was created on the server may have.
    #[must_use]
    pub fn logprobs(&self) -> Option<&[f32]> {
        self.get("logprobs").and_then(TensorData::as_f32)
    }

    /// The log-probabilities, as [`logprobs`](LossFnOutput::logprobs) returns them, without a copy.
    #[must_use]
    pub fn into_logprobs(mut self) -> Option<Vec<f32>> {
        self.0.remove("logprobs").and_then(TensorData::into_vec)
    }

    /// The tensor with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorData> {
        self.0.get(name)
    }

    /// The names and tensors, in the order of the names.
    pub fn iter(&self) -> btree_map::Iter<'_, String, TensorData> {
        self.0.iter()
    }

    /// The number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no tensors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>> FromIterator<(N, TensorData)> for LossFnOutput {
    fn from_iter<I: IntoIterator<Item = (N, TensorData)>>(tensors: I) -> Self {
        // Most have one tensor: a map that is collected, not extended, would sort a list first.
        let mut output = BTreeMap::new();
        output.extend(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)));
        LossFnOutput(output)
    }
}

impl<'a> IntoIterator for &'a LossFnOutput {
    type Item = (&'a String, &'a TensorData);
    type IntoIter = btree_map::Iter<'a, String, TensorData>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for LossFnOutput {
    type Item = (String, TensorData);
    type IntoIter = btree_map::IntoIter<String, TensorData>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The result of an optimizer step.
///
/// ```
/// use tinkex::types::OptimStepResponse;
///
/// let response: OptimStepResponse = serde_json::from_str(r#"{"metrics":{"grad_norm":0.5}}"#)?;
/// assert_eq!(response.metrics.map(|metrics| metrics["grad_norm"]), Some(0.5));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OptimStepResponse {
    /// Metrics of the step, by name; NaN where the server sent null. None if it sends none: servers whose steps have no metrics,
    /// such as SkyRL before it had them, respond with `{}`, so that is a result.
    #[serde(default, deserialize_with = "super::nan::optional_metrics")]
    pub metrics: Option<BTreeMap<String, f64>>,
}
