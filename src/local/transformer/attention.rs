//! Causal attention with several heads.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, NdFloat, linalg::general_mat_mul};

use super::{
    ops::{softmax, softmax_backward},
    random::real,
};

/// One sequence among the rows of a batch.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Its tokens' rows among the queries.
    pub(super) queries: Range<usize>,
    /// Its tokens' rows among the keys and values. There are more of these than queries when earlier tokens come from
    /// a cache; the last query belongs to the last key.
    pub(super) keys: Range<usize>,
}

/// Queries, keys and values, a row per token with the heads side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a, T> {
    pub(super) queries: ArrayView2<'a, T>,
    pub(super) keys: ArrayView2<'a, T>,
    pub(super) values: ArrayView2<'a, T>,
    pub(super) heads: usize,
}

/// What the backward pass needs: for each segment and head, how much each query attends to each key.
pub(super) type Shares<T> = Vec<Array2<T>>;

impl<T: NdFloat> Inputs<'_, T> {
    /// The mixtures of values that the queries attend to.
    pub(super) fn attend(&self, segments: &[Segment]) -> (Array2<T>, Shares<T>) {
        let mut mixed = Array2::zeros(self.queries.raw_dim());
        let mut all = Vec::with_capacity(segments.len() * self.heads);
        for (segment, head) in self.pairs(segments) {
            let queries = block(self.queries, &segment.queries, &head);
            let keys = block(self.keys, &segment.keys, &head);
            let values = block(self.values, &segment.keys, &head);

            let mut shares = queries.dot(&keys.t());
            shares *= self.scale();
            let past = keys.nrows() - queries.nrows();
            for (at, scores) in shares.axis_iter_mut(Axis(0)).enumerate() {
                let (visible, mut later) = scores.split_at(Axis(0), past + at + 1);
                softmax(visible);
                later.fill(T::zero());
            }
            general_mat_mul(T::one(), &shares, &values, T::zero(), &mut block_mut(&mut mixed, &segment.queries, &head));
            all.push(shares);
        }
        (mixed, all)
    }

    /// The derivatives with respect to queries, keys and values.
    pub(super) fn backward(&self, dmixed: &Array2<T>, segments: &[Segment], all: &Shares<T>) -> [Array2<T>; 3] {
        let mut dqueries = Array2::zeros(self.queries.raw_dim());
        let mut dkeys = Array2::zeros(self.keys.raw_dim());
        let mut dvalues = Array2::zeros(self.values.raw_dim());
        for ((segment, head), shares) in self.pairs(segments).zip(all) {
            let queries = block(self.queries, &segment.queries, &head);
            let keys = block(self.keys, &segment.keys, &head);
            let values = block(self.values, &segment.keys, &head);
            let dmixed = block(dmixed.view(), &segment.queries, &head);

            let mut dscores = dmixed.dot(&values.t());
            // A share that the mask set to zero has a zero derivative here too, as it is multiplied by the share.
            for (dscores, shares) in dscores.rows_mut().into_iter().zip(shares.rows()) {
                softmax_backward(dscores, shares);
            }
            dscores *= self.scale();
            let (zero, one) = (T::zero(), T::one());
            general_mat_mul(one, &dscores, &keys, zero, &mut block_mut(&mut dqueries, &segment.queries, &head));
            general_mat_mul(one, &dscores.t(), &queries, zero, &mut block_mut(&mut dkeys, &segment.keys, &head));
            general_mat_mul(one, &shares.t(), &dmixed, zero, &mut block_mut(&mut dvalues, &segment.keys, &head));
        }
        [dqueries, dkeys, dvalues]
    }

    /// Every segment with the columns of every head.
    fn pairs<'s>(&self, segments: &'s [Segment]) -> impl Iterator<Item = (&'s Segment, Range<usize>)> + use<'s, T> {
        let (heads, width) = (self.heads, self.head_width());
        segments.iter().flat_map(move |segment| (0..heads).map(move |head| (segment, head * width..(head + 1) * width)))
    }

    fn head_width(&self) -> usize {
        self.queries.ncols() / self.heads
    }

    /// Keeps the scores' deviation near one, whatever the width (Vaswani et al. 2017).
    fn scale(&self) -> T {
        real((self.head_width() as f64).sqrt().recip())
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
