//! From the network's output to the log-probabilities of targets, and back.
//!
//! A row of logits is as wide as the vocabulary, so that those of all rows would be larger than everything else: they exist for
//! [`LOGITS_ROWS`] rows at a time. The backward pass needs them only for rows with a gradient; it computes them again, unless they are
//! still there.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};

use super::lora::{AdaptedRows, Lora};
use super::ops::{log_softmax, rows_in_parallel};
use super::projection::{Backward, Linear, Projected};
use crate::local::kernel::Real;

/// Rows whose logits are held at once.
pub(super) const LOGITS_ROWS: usize = 512;

/// A target token of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prediction {
    pub(super) row: usize,
    pub(super) target: usize,
}

/// The predictions of a micro-batch.
#[derive(Debug)]
pub(super) struct Predictions<'a, T> {
    head: Linear<'a, T>,
    lora: &'a Lora<'a, T>,
    /// The network's output: a row per token.
    output: Array2<T>,
    /// In the order of their rows.
    predictions: Vec<Prediction>,
    /// The log-probabilities of all rows, if there are few.
    kept: Option<Projected<T>>,
}

impl<'a, T: Real> Predictions<'a, T> {
    pub(super) fn new(
        head: Linear<'a, T>,
        lora: &'a Lora<'a, T>,
        output: Array2<T>,
        predictions: Vec<Prediction>,
    ) -> Self {
        Predictions { head, lora, output, predictions, kept: None }
    }

    /// The log-probability of each target.
    pub(super) fn logprobs(&mut self) -> Vec<T> {
        let mut targets = Vec::with_capacity(self.predictions.len());
        let mut predictions = self.predictions.iter().peekable();
        let is_kept = self.output.nrows() <= LOGITS_ROWS;
        for (block, rows) in self.output.axis_chunks_iter(Axis(0), LOGITS_ROWS).enumerate() {
            let logprobs = all_logprobs(self.head, self.lora, rows);
            let first = block * LOGITS_ROWS;
            while let Some(prediction) = predictions.next_if(|prediction| prediction.row < first + LOGITS_ROWS) {
                targets.push(logprobs.output[[prediction.row - first, prediction.target]]);
            }
            // Otherwise it ends here, before the next block.
            self.kept = is_kept.then_some(logprobs);
        }
        targets
    }

    /// Adds the gradient with respect to the head's adapter, and returns the one with respect to the network's output, from the
    /// one with respect to the log-probability of each target.
    pub(super) fn backward(self, dlogprobs: &[T], pass: &mut Backward<'_, '_, T>) -> Array2<T> {
        let mut doutput = Array2::zeros(self.output.raw_dim());
        let mut by_row: BTreeMap<usize, Vec<(usize, T)>> = BTreeMap::new();
        for (prediction, &dlogprob) in
            self.predictions.iter().zip(dlogprobs).filter(|(_, dlogprob)| !dlogprob.is_zero())
        {
            by_row.entry(prediction.row).or_default().push((prediction.target, dlogprob));
        }
        let rows: Vec<usize> = by_row.keys().copied().collect();
        let targets: Vec<Vec<(usize, T)>> = by_row.into_values().collect();
        let mut kept = self.kept;
        for (rows, targets) in rows.chunks(LOGITS_ROWS).zip(targets.chunks(LOGITS_ROWS)) {
            let output = self.output.select(Axis(0), rows);
            let Projected { output: logprobs, reduced } = match kept.take() {
                Some(Projected { output, reduced }) => Projected {
                    output: only_rows(output, rows),
                    reduced: reduced.into_iter().map(|all| only_rows(all, rows)).collect(),
                },
                None => all_logprobs(self.head, self.lora, output.view()),
            };
            let dlogits = logprobs_to_dlogits(logprobs, targets);
            let dblock = self.head.backward(dlogits.view(), output.view(), &reduced, pass);
            for (&row, drow) in rows.iter().zip(dblock.rows()) {
                doutput.row_mut(row).assign(&drow);
            }
        }
        doutput
    }
}

/// The log-probability of every token after each row.
fn all_logprobs<T: Real>(head: Linear<'_, T>, lora: &Lora<'_, T>, output: ArrayView2<'_, T>) -> Projected<T> {
    let mut projected = head.forward(output, &[AdaptedRows { rows: 0..output.nrows(), lora }]);
    rows_in_parallel([&mut projected.output], |_, [mut rows]: [ArrayViewMut2<'_, T>; 1]| {
        rows.rows_mut().into_iter().for_each(log_softmax);
    });
    projected
}

/// Replaces log-probabilities by the gradient of the loss with respect to the logits. The gradient of a target's
/// log-probability is one at the target, minus the probabilities.
fn logprobs_to_dlogits<T: Real>(mut logprobs: Array2<T>, targets: &[Vec<(usize, T)>]) -> Array2<T> {
    rows_in_parallel([&mut logprobs], |first, [mut rows]: [ArrayViewMut2<'_, T>; 1]| {
        for (mut row, targets) in rows.rows_mut().into_iter().zip(&targets[first..]) {
            let sum = targets.iter().fold(T::zero(), |sum, &(_, dlogprob)| sum + dlogprob);
            row.mapv_inplace(|logprob| -sum * logprob.exponential());
            targets.iter().for_each(|&(target, dlogprob)| row[target] += dlogprob);
        }
    });
    logprobs
}

/// These rows of a matrix, in ascending order, without a copy of all.
fn only_rows<T: Real>(mut matrix: Array2<T>, rows: &[usize]) -> Array2<T> {
    for (to, &from) in rows.iter().enumerate().filter(|(to, from)| to < from) {
        let (mut before, after) = matrix.view_mut().split_at(Axis(0), from);
        before.row_mut(to).assign(&after.row(0));
    }
    matrix.slice_axis_inplace(Axis(0), Slice::from(..rows.len()));
    matrix
}
