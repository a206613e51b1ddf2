//! Causal multi-head attention over packed sequences.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, NdFloat, linalg::general_mat_mul};

use super::ops::{softmax, softmax_backward};
use super::splitmix::real;

/// One of the sequences that are packed into the rows of a batch.
#[derive(Clone, Debug)]
pub(super) struct PackedSequence {
    /// The rows of its tokens among the queries.
    pub(super) query_rows: Range<usize>,
    /// The rows of its tokens among the keys and values. With a KV cache there are more of these than queries; the last
    /// query belongs to the last key.
    pub(super) key_rows: Range<usize>,
}

/// Queries, keys and values: a row per token, with the heads side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionInputs<'a, T> {
    pub(super) queries: ArrayView2<'a, T>,
    pub(super) keys: ArrayView2<'a, T>,
    pub(super) values: ArrayView2<'a, T>,
    pub(super) num_heads: usize,
}

/// For each sequence and head, the weight of each key (column) for each query (row).
pub(super) type AttentionWeights<T> = Vec<Array2<T>>;

impl<T: NdFloat> AttentionInputs<'_, T> {
    /// The attention output of each query, and the weights for the backward pass.
    pub(super) fn attend(&self, sequences: &[PackedSequence]) -> (Array2<T>, AttentionWeights<T>) {
        let mut output = Array2::zeros(self.queries.raw_dim());
        let mut all_weights = Vec::with_capacity(sequences.len() * self.num_heads);
        for (sequence, head) in self.sequences_and_heads(sequences) {
            let queries = block(self.queries, &sequence.query_rows, &head);
            let keys = block(self.keys, &sequence.key_rows, &head);
            let values = block(self.values, &sequence.key_rows, &head);

            let mut weights = queries.dot(&keys.t());
            weights *= self.scale();
            let cached = keys.nrows() - queries.nrows();
            for (query, scores) in weights.axis_iter_mut(Axis(0)).enumerate() {
                let (visible, mut masked) = scores.split_at(Axis(0), cached + query + 1);
                softmax(visible);
                masked.fill(T::zero());
            }
            let mut output = block_mut(&mut output, &sequence.query_rows, &head);
            general_mat_mul(T::one(), &weights, &values, T::zero(), &mut output);
            all_weights.push(weights);
        }
        (output, all_weights)
    }

    /// The gradients with respect to queries, keys and values.
    pub(super) fn backward(
        &self,
        doutput: &Array2<T>,
        sequences: &[PackedSequence],
        all_weights: &AttentionWeights<T>,
    ) -> [Array2<T>; 3] {
        let mut dqueries = Array2::zeros(self.queries.raw_dim());
        let mut dkeys = Array2::zeros(self.keys.raw_dim());
        let mut dvalues = Array2::zeros(self.values.raw_dim());
        for ((sequence, head), weights) in self.sequences_and_heads(sequences).zip(all_weights) {
            let queries = block(self.queries, &sequence.query_rows, &head);
            let keys = block(self.keys, &sequence.key_rows, &head);
            let values = block(self.values, &sequence.key_rows, &head);
            let doutput = block(doutput.view(), &sequence.query_rows, &head);

            let mut dscores = doutput.dot(&values.t());
            // No mask here: the softmax's gradient is a multiple of the weight, which is zero for masked keys.
            for (dscores, weights) in dscores.rows_mut().into_iter().zip(weights.rows()) {
                softmax_backward(dscores, weights);
            }
            dscores *= self.scale();
            let (zero, one) = (T::zero(), T::one());
            general_mat_mul(one, &dscores, &keys, zero, &mut block_mut(&mut dqueries, &sequence.query_rows, &head));
            general_mat_mul(one, &dscores.t(), &queries, zero, &mut block_mut(&mut dkeys, &sequence.key_rows, &head));
            general_mat_mul(one, &weights.t(), &doutput, zero, &mut block_mut(&mut dvalues, &sequence.key_rows, &head));
        }
        [dqueries, dkeys, dvalues]
    }

    /// Every sequence with the columns of every head.
    fn sequences_and_heads<'s>(
        &self,
        sequences: &'s [PackedSequence],
    ) -> impl Iterator<Item = (&'s PackedSequence, Range<usize>)> + use<'s, T> {
        let (num_heads, head_size) = (self.num_heads, self.head_size());
        let columns = move |head| head * head_size..(head + 1) * head_size;
        sequences.iter().flat_map(move |sequence| (0..num_heads).map(move |head| (sequence, columns(head))))
    }

    fn head_size(&self) -> usize {
        self.queries.ncols() / self.num_heads
    }

    /// Keeps the standard deviation of the scores near one, whatever the head size (Vaswani et al. 2017).
    fn scale(&self) -> T {
        real((self.head_size() as f64).sqrt().recip())
    }
}

fn block<'a, T>(matrix: ArrayView2<'a, T>, rows: &Range<usize>, columns: &Range<usize>) -> ArrayView2<'a, T> {
    let (_, matrix) = matrix.split_at(Axis(0), rows.start);
    let (matrix, _) = matrix.split_at(Axis(0), rows.len());
    let (_, matrix) = matrix.split_at(Axis(1), columns.start);
    matrix.split_at(Axis(1), columns.len()).0
}

fn block_mut<'a, T>(matrix: &'a mut Array2<T>, rows: &Range<usize>, columns: &Range<usize>) -> ArrayViewMut2<'a, T> {
    let (_, matrix) = matrix.view_mut().split_at(Axis(0), rows.start);
    let (matrix, _) = matrix.split_at(Axis(0), rows.len());
    let (_, matrix) = matrix.split_at(Axis(1), columns.start);
    matrix.split_at(Axis(1), columns.len()).0
}
