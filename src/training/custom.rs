//! Losses that the program computes itself, from the log-probabilities of the target tokens.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::Array1;

use super::TrainingClient;
use super::requests::Pass;
use crate::error::{Error, ErrorKind, Result};
use crate::pending::{Manner, Pending};
use crate::threads::panic_text;
use crate::types::{Batch, Datum, ForwardBackwardOutput, LossFn, TensorData};

const OPERATION: &str = "forward_backward_custom";

/// What a loss function of the program gives for a batch.
///
/// # Examples
///
/// The negative log-likelihood:
///
/// ```
/// use ndarray::{Array1, array};
/// use tinkex::CustomLoss;
///
/// let logprobs = [array![-0.5_f32, -1.0], array![-2.0_f32]];
/// let loss = -logprobs.iter().map(|logprobs| f64::from(logprobs.sum())).sum::<f64>();
/// let gradients = logprobs.iter().map(|logprobs| Array1::from_elem(logprobs.len(), -1.0)).collect();
/// let custom = CustomLoss::new(loss, gradients).metric("nll", loss);
/// assert_eq!(custom.loss, 3.5);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CustomLoss {
    /// The loss of the whole batch. It is checked to be finite, and not sent: the gradients say all that the model learns from.
    pub loss: f64,
    /// The derivative of the loss by each log-probability, one array for each datum, of the same length as its
    /// log-probabilities.
    pub gradients: Vec<Array1<f32>>,
    /// Numbers to add to those of the result; they win over the service's of the same name.
    pub metrics: BTreeMap<String, f64>,
}

impl CustomLoss {
    /// A loss with its gradients, without metrics.
    #[must_use]
    pub fn new(loss: f64, gradients: Vec<Array1<f32>>) -> Self {
        CustomLoss { loss, gradients, metrics: BTreeMap::new() }
    }

    /// Adds a metric.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }
}

impl TrainingClient {
    /// Adds the gradient of a loss that the program computes, from the log-probabilities of the target tokens. Blocks.
    ///
    /// A first pass asks for the log-probabilities of each datum's `target_tokens`. The function gets the data and one array
    /// of log-probabilities for each datum, and returns the loss, its derivative by each log-probability, and metrics. A
    /// second pass sends that back through the model. The function runs on the calling thread, so it need neither be `Send`
    /// nor `'static`. [`losses`](crate::losses) has some to start from.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a datum without `target_tokens`, before any request, and for gradients of
    /// another number, another length or with NaN or infinity, before the second pass; the function's own error, or
    /// [`Panicked`](ErrorKind::Panicked) when it panics, before the second pass as well; else whatever ended one of the
    /// passes. The first pass leaves the model as it was.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use tinkex::CustomLoss;
    ///
    /// let output = trainer.forward_backward_custom(&batch, |_data, logprobs| {
    ///     // The sum of the squares, and its derivative.
    ///     let loss = logprobs.iter().flatten().map(|logprob| f64::from(logprob * logprob)).sum();
    ///     let gradients = logprobs.iter().map(|logprobs| logprobs * 2.0).collect();
    ///     Ok(CustomLoss::new(loss, gradients).metric("squares", loss))
    /// })?;
    /// println!("{}", output.metrics["squares"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward_backward_custom(
        &self,
        batch: impl Into<Batch>,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss>,
    ) -> Result<ForwardBackwardOutput> {
        self.custom(&batch.into(), loss, self.blocking())?.wait()
    }

    /// The same as [`forward_backward_custom`](TrainingClient::forward_backward_custom), but returns when the second pass is
    /// queued: what is submitted next comes after it. Blocks for the first pass and the function.
    ///
    /// # Errors
    ///
    /// As [`forward_backward_custom`](TrainingClient::forward_backward_custom) until then, and
    /// [`QueueFull`](ErrorKind::QueueFull) or [`Closed`](ErrorKind::Closed); what ends the second pass comes from the
    /// [`Pending`].
    pub fn submit_forward_backward_custom(
        &self,
        batch: impl Into<Batch>,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss>,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        self.custom(&batch.into(), loss, self.submitting())
    }

    fn custom(
        &self,
        batch: &Batch,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss>,
        manner: Manner,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        let named = |error: Error| error.with_operation(OPERATION);
        for (index, datum) in batch.iter().enumerate() {
            targets(index, datum).map_err(named)?;
        }
        let cross_entropy = LossFn::CrossEntropy.into();
        // Without gradients, the model stays as it was, whatever comes of it.
        let unchanged = |error: Error| error.with_effect(false);
        let first = self.pass_as(OPERATION, Pass::Forward, batch, cross_entropy, manner, |_| ())?;
        let output = first.wait().map_err(unchanged)?;
        let logprobs = logprobs(batch, output).map_err(named)?;
        let custom = catch_unwind(AssertUnwindSafe(|| loss(batch, &logprobs)));
        let custom = custom.unwrap_or_else(|panic| {
            let message = format!("the loss function panicked: {}", panic_text(&*panic));
            Err(Error::new(ErrorKind::Panicked, message))
        });
        let CustomLoss { loss, gradients, metrics } = custom.map_err(named)?;
        if !loss.is_finite() {
            return Err(named(Error::invalid_input(format!("the loss is {loss}"))));
        }
        let weighted = weighted(batch, &logprobs, gradients).map_err(named)?;
        let cross_entropy = LossFn::CrossEntropy.into();
        self.pass_as(OPERATION, Pass::ForwardBackward, &weighted, cross_entropy, manner, move |output| {
            output.metrics.extend(metrics);
        })
    }
}

fn targets(index: usize, datum: &Datum) -> Result<&TensorData> {
    datum.loss_fn_inputs.get("target_tokens").ok_or_else(|| {
        Error::invalid_input(format!("datum {index} has no target_tokens, whose log-probabilities the loss is made of"))
    })
}

/// The log-probabilities of each datum's targets.
fn logprobs(batch: &Batch, output: ForwardBackwardOutput) -> Result<Vec<Array1<f32>>> {
    let (outputs, datums) = (output.loss_fn_outputs, batch.len());
    if outputs.len() != datums {
        let message = format!("the answer has {} outputs for {datums} datums", outputs.len());
        return Err(Error::new(ErrorKind::Decode, message));
    }
    let each = outputs.into_iter().zip(batch.iter()).enumerate();
    each.map(|(index, (mut output, datum))| {
        let targets = targets(index, datum)?.len();
        let logprobs = output.0.remove("logprobs").and_then(TensorData::into_vec::<f32>);
        match logprobs {
            Some(logprobs) if logprobs.len() == targets => Ok(logprobs.into()),
            Some(logprobs) => {
                let message =
                    format!("the answer has {} logprobs for {targets} targets of datum {index}", logprobs.len());
                Err(Error::new(ErrorKind::Decode, message))
            }
            None => Err(Error::new(ErrorKind::Decode, format!("the answer has no logprobs for datum {index}"))),
        }
    })
    .collect()
}

/// The batch of the second pass. The gradient of cross-entropy by a log-probability is minus its weight.
fn weighted(batch: &Batch, logprobs: &[Array1<f32>], gradients: Vec<Array1<f32>>) -> Result<Batch> {
    if gradients.len() != batch.len() {
        let message = format!("the loss function gave {} gradients for {} datums", gradients.len(), batch.len());
        return Err(Error::invalid_input(message));
    }
    let each = batch.iter().zip(logprobs).zip(gradients).enumerate();
    each.map(|(index, ((datum, logprobs), gradient))| {
        if gradient.len() != logprobs.len() {
            let (given, wanted) = (gradient.len(), logprobs.len());
            let message = format!("the gradient of datum {index} has {given} numbers for {wanted} log-probabilities");
            return Err(Error::invalid_input(message));
        }
        if let Some(place) = gradient.iter().position(|number| !number.is_finite()) {
            let message = format!("the gradient of datum {index} is {} at {place}", gradient[place]);
            return Err(Error::invalid_input(message));
        }
        Datum::new(datum.model_input.clone())
            .input("target_tokens", targets(index, datum)?)?
            .input("weights", -gradient)
    })
    .collect()
}
