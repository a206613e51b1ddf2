//! Losses that the program computes from the log-probabilities of the target tokens.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::Array1;

use super::TrainingClient;
use super::passes::Pass;
use crate::error::{Error, ErrorKind, Result};
use crate::pending::{CallMode, Pending};
use crate::threads::panic_text;
use crate::types::{Batch, Datum, ForwardBackwardOutput, LossFn, TensorData};

const OPERATION: &str = "forward_backward_custom";

/// The metric of the loss that was asked for.
const LOSS: &str = "loss:sum";

/// The metric of the loss that the second pass computes in its place.
const SURROGATE_LOSS: &str = "surrogate_loss:sum";

/// The result of a custom loss function for a batch.
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
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CustomLoss {
    /// The loss of the whole batch. It must be finite. It is not sent: the model learns from the gradients alone. It is the metric
    /// `loss:sum` of the result.
    pub loss: f64,
    /// The derivatives of the loss with respect to each log-probability: one array for each datum, of the same length as its
    /// log-probabilities.
    pub gradients: Vec<Array1<f32>>,
    /// Metrics to add to those of the result. They replace metrics of the same name. Defaults to none.
    pub metrics: BTreeMap<String, f64>,
}

impl CustomLoss {
    /// A loss with its gradients, without metrics.
    #[must_use]
    pub fn new(loss: f64, gradients: Vec<Array1<f32>>) -> Self {
        CustomLoss { loss, gradients, metrics: BTreeMap::new() }
    }

    /// Adds a metric to [`metrics`](CustomLoss::metrics).
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }
}

impl TrainingClient {
    /// Accumulates the gradient of a loss that the program computes from the log-probabilities of the target tokens. Blocks.
    ///
    /// A first pass gets the log-probabilities of each datum's `target_tokens`. The function receives the data and one array of
    /// log-probabilities for each datum, and returns the loss, its derivative with respect to each log-probability, and
    /// metrics. A second pass backpropagates these derivatives through the model. The function runs on the calling thread, so
    /// it need neither be `Send` nor `'static`. [`losses`](crate::losses) has some to start from.
    ///
    /// `target_tokens` may have K candidates for each position, in the shape `[N, K]`. The log-probabilities of a datum are then
    /// N · K numbers, position by position, and so is the gradient. Other loss inputs are for the function; `weights` are sent with
    /// the first pass, ones if there are none.
    ///
    /// Both passes together are one call in the order of calls: what other threads submit meanwhile comes after the second pass.
    /// Calls of this client that the function itself makes come between the passes, and the function may wait for them. It must
    /// not wait for calls of this client that other threads make meanwhile: those wait for it.
    ///
    /// In the metrics of the result, `loss:sum` is the custom loss and `surrogate_loss:sum` the service's own `loss:sum`, which is
    /// that of the second pass and says nothing. The metrics of the function come on top.
    ///
    /// The function may return any error: `?` works in a closure whose error type is `Box<dyn Error + Send + Sync>` or the
    /// program's own. A function that cannot fail still has to name one, such as `Ok::<_, std::convert::Infallible>(…)`.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](ErrorKind::InvalidInput) for a datum without `target_tokens`, with sparse ones or with loss inputs of other
    ///   lengths, before any request,
    ///   and, before the second pass, for a loss that is not finite or gradients of the wrong number or length or with NaN or infinity.
    /// - [`Callback`](ErrorKind::Callback) if the function returns an error, which becomes the
    ///   [`source`](std::error::Error::source), and [`Panicked`](ErrorKind::Panicked) if it panics; no second pass is made.
    /// - Any error that ends one of the passes. The first pass does not change the model.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use std::num::ParseFloatError;
    ///
    /// use tinkex::{CustomLoss, ErrorKind};
    ///
    /// let result = trainer.forward_backward_custom(&batch, |_data, logprobs| {
    ///     let scale: f32 = std::env::var("LOSS_SCALE").unwrap_or_default().parse()?;
    ///     // The scaled sum of squares, and its derivative.
    ///     let loss = logprobs.iter().flatten().map(|logprob| f64::from(scale * logprob * logprob)).sum();
    ///     let gradients = logprobs.iter().map(|logprobs| logprobs * (2.0 * scale)).collect();
    ///     Ok::<_, ParseFloatError>(CustomLoss::new(loss, gradients).metric("squares", loss))
    /// });
    /// match result {
    ///     Ok(output) => println!("{}", output.metrics["squares"]),
    ///     Err(error) if error.kind() == ErrorKind::Callback => {
    ///         let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<ParseFloatError>());
    ///         println!("set LOSS_SCALE to a number: {cause:?}");
    ///     }
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward_backward_custom<E>(
        &self,
        batch: impl Into<Batch>,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss, E>,
    ) -> Result<ForwardBackwardOutput>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.custom(&batch.into(), loss, self.blocking())?.wait()
    }

    /// Submits [`forward_backward_custom`](TrainingClient::forward_backward_custom). Blocks for the first pass and the function,
    /// and returns once the second pass is queued.
    ///
    /// # Errors
    ///
    /// As [`forward_backward_custom`](TrainingClient::forward_backward_custom) up to then, and
    /// [`QueueFull`](ErrorKind::QueueFull) or [`Closed`](ErrorKind::Closed). The [`Pending`] returns the errors of the second
    /// pass.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use std::convert::Infallible;
    /// use tinkex::CustomLoss;
    ///
    /// let pending = trainer.submit_forward_backward_custom(&batch, |_, logprobs| {
    ///     // The mean negative log-probability, over all tokens.
    ///     let tokens = logprobs.iter().map(|row| row.len()).sum::<usize>().max(1) as f32;
    ///     let loss = -logprobs.iter().map(|row| row.sum()).sum::<f32>() / tokens;
    ///     let gradients = logprobs.iter().map(|row| row.mapv(|_| -1.0 / tokens)).collect();
    ///     Ok::<_, Infallible>(CustomLoss::new(loss.into(), gradients))
    /// })?;
    /// println!("{:?}", pending.wait()?.metrics.get("loss:sum"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_forward_backward_custom<E>(
        &self,
        batch: impl Into<Batch>,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss, E>,
    ) -> Result<Pending<ForwardBackwardOutput>>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.custom(&batch.into(), loss, self.submitting())
    }

    fn custom<E>(
        &self,
        batch: &Batch,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss, E>,
        mode: CallMode,
    ) -> Result<Pending<ForwardBackwardOutput>>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let named = |error: Error| error.with_operation(OPERATION);
        for (index, datum) in batch.iter().enumerate() {
            targets(index, datum).map_err(named)?;
        }
        batch.validate().map_err(named)?;
        let bytes = batch.iter().map(Datum::heap_bytes).sum();
        let place = self.core.queue.take_place(bytes, mode.on_full()).map_err(named)?;
        place.fill(|| self.both_passes(batch, loss, mode))
    }

    fn both_passes<E>(
        &self,
        batch: &Batch,
        loss: impl FnOnce(&[Datum], &[Array1<f32>]) -> Result<CustomLoss, E>,
        mode: CallMode,
    ) -> Result<Pending<ForwardBackwardOutput>>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let named = |error: Error| error.with_operation(OPERATION);
        let cross_entropy = LossFn::CrossEntropy.into();
        // A pass without gradients does not change the model, even if its outcome is unknown.
        let unchanged = |error: Error| error.with_effect(false);
        let first =
            self.queue_pass(OPERATION, Pass::Forward, &with_weights(batch).map_err(named)?, cross_entropy, mode)?;
        let output = first.requiring_logprobs().pending().wait().map_err(unchanged)?;
        let outputs = output.loss_fn_outputs.into_iter();
        let logprobs: Vec<Array1<f32>> =
            outputs.map(|output| output.into_logprobs().unwrap_or_default().into()).collect();
        let custom = match catch_unwind(AssertUnwindSafe(|| loss(batch, &logprobs))) {
            Ok(custom) => custom.map_err(|error| Error::callback("the loss function", error.into())),
            Err(panic) => {
                let message = format!("the loss function panicked: {}", panic_text(&*panic));
                Err(Error::new(ErrorKind::Panicked, message))
            }
        };
        let CustomLoss { loss, gradients, metrics } = custom.map_err(named)?;
        if !loss.is_finite() {
            return Err(named(Error::invalid_input(format!("the loss is {loss}"))));
        }
        let weighted = weighted(batch, &logprobs, gradients).map_err(named)?;
        let cross_entropy = LossFn::CrossEntropy.into();
        let second = self.queue_pass(OPERATION, Pass::ForwardBackward, &weighted, cross_entropy, mode)?;
        Ok(second.pending_then(move |mut output| {
            let surrogate = output.metrics.insert(LOSS.to_owned(), loss);
            output.metrics.extend(surrogate.map(|surrogate| (SURROGATE_LOSS.to_owned(), surrogate)));
            output.metrics.extend(metrics);
            Ok(output)
        }))
    }
}

/// The batch of the first pass, which is cross-entropy: a datum without weights gets ones. They do not change log-probabilities.
fn with_weights(batch: &Batch) -> Result<Batch> {
    if batch.iter().all(|datum| datum.loss_fn_inputs.contains_key("weights")) {
        return Ok(batch.clone());
    }
    let each = batch.iter().enumerate();
    each.map(|(index, datum)| match datum.loss_fn_inputs.contains_key("weights") {
        true => Ok(datum.clone()),
        false => datum.clone().input("weights", shaped_like(targets(index, datum)?, |len| vec![1.0; len])?),
    })
    .collect()
}

/// Float32 numbers in the shape of these targets.
fn shaped_like(targets: &TensorData, values: impl FnOnce(usize) -> Vec<f32>) -> Result<TensorData> {
    let values = TensorData::new(values(targets.len()))?;
    match targets.shape() {
        Some(shape) => values.with_shape(shape),
        None => Ok(values),
    }
}

fn targets(index: usize, datum: &Datum) -> Result<&TensorData> {
    match datum.loss_fn_inputs.get("target_tokens") {
        Some(targets) if targets.is_sparse() => {
            Err(Error::invalid_input(format!("the target_tokens of datum {index} are sparse"))
                .with_hint("give dense ones: the loss function gets the log-probability of each"))
        }
        Some(targets) => Ok(targets),
        None => Err(Error::invalid_input(format!(
            "datum {index} has no target_tokens; the loss function gets their log-probabilities"
        ))),
    }
}

/// The batch of the second pass. The derivative of cross-entropy with respect to a log-probability is minus its weight.
fn weighted(batch: &Batch, logprobs: &[Array1<f32>], gradients: Vec<Array1<f32>>) -> Result<Batch> {
    if gradients.len() != batch.len() {
        let message = format!("the loss function returned {} gradients for {} datums", gradients.len(), batch.len());
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
        let targets = targets(index, datum)?;
        let weights = shaped_like(targets, |_| (-gradient).to_vec())?;
        let spans = (datum.model_input_spans.clone(), datum.loss_fn_input_spans.clone());
        let weighted = Datum::new(datum.model_input.clone()).with_provenance(spans.0, spans.1);
        weighted.input("target_tokens", targets)?.input("weights", weights)
    })
    .collect()
}
