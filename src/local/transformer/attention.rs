//! Causal attention with grouped queries: each head of keys and values serves several consecutive heads of queries.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::config::ModelConfig;
use super::ops::{product, softmax, softmax_backward};
use super::splitmix::real;
use super::views::{block, block_mut, rows, rows_mut};
use crate::local::kernel::{Real, add_product};

/// Queries whose scores are held at once. It bounds the memory, and saves most of the scores that the mask would drop.
const QUERIES: usize = 64;

/// Where a layer's attention finds the keys and values of the tokens before.
pub(super) trait Attend<T> {
    /// The attention output of new tokens of a layer: rows × heads of queries. Queries and keys are rotated. A row per token,
    /// with the heads side by side.
    fn attend(
        &mut self,
        layer: usize,
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        values: ArrayView2<'_, T>,
    ) -> Array2<T>;
}

/// Whole sequences below each other: each token sees itself and those before it in its sequence.
#[derive(Debug)]
pub(super) struct PackedSequences<'a> {
    config: &'a ModelConfig,
    /// The rows of each sequence.
    rows: Vec<Range<usize>>,
}

impl<T: Real> Attend<T> for PackedSequences<'_> {
    fn attend(
        &mut self,
        _: usize,
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        values: ArrayView2<'_, T>,
    ) -> Array2<T> {
        let mut output = Array2::zeros(queries.raw_dim());
        for (part, result) in self.each_part(|part| part.attend(queries, keys, values)) {
            block_mut(output.view_mut(), part.rows.clone(), part.query_columns()).assign(&result);
        }
        output
    }
}

impl<'a> PackedSequences<'a> {
    /// Sequences of these lengths.
    pub(super) fn new(config: &'a ModelConfig, lengths: impl Iterator<Item = usize>) -> Self {
        let mut end = 0;
        let rows = lengths.map(|length| {
            end += length;
            end - length..end
        });
        PackedSequences { config, rows: rows.collect() }
    }

    /// The gradients with respect to queries, keys and values.
    pub(super) fn backward<T: Real>(
        &self,
        doutput: ArrayView2<'_, T>,
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        values: ArrayView2<'_, T>,
    ) -> [Array2<T>; 3] {
        let [mut dqueries, mut dkeys, mut dvalues] = [queries, keys, values].map(|like| Array2::zeros(like.raw_dim()));
        for (part, [dq, dk, dv]) in self.each_part(|part| part.backward(doutput, queries, keys, values)) {
            block_mut(dqueries.view_mut(), part.rows.clone(), part.query_columns()).assign(&dq);
            block_mut(dkeys.view_mut(), part.rows.clone(), part.key_columns()).assign(&dk);
            block_mut(dvalues.view_mut(), part.rows.clone(), part.key_columns()).assign(&dv);
        }
        [dqueries, dkeys, dvalues]
    }

    /// The results of all parts, which run on several threads.
    fn each_part<R: Send>(&self, work: impl Fn(&Part) -> R + Send + Sync) -> Vec<(Part, R)> {
        let ModelConfig { num_heads, num_kv_heads, head_size, .. } = *self.config;
        let group = num_heads / num_kv_heads;
        let parts = self.rows.iter().flat_map(|rows| {
            (0..num_kv_heads).map(move |kv_head| Part { rows: rows.clone(), kv_head, group, head_size })
        });
        let parts: Vec<Part> = parts.collect();
        let results: Vec<R> = parts.par_iter().map(work).collect();
        parts.into_iter().zip(results).collect()
    }
}

/// A head of keys and values of a sequence, with the heads of queries that it serves.
#[derive(Clone, Debug)]
struct Part {
    rows: Range<usize>,
    kv_head: usize,
    group: usize,
    head_size: usize,
}

impl Part {
    fn key_columns(&self) -> Range<usize> {
        self.kv_head * self.head_size..(self.kv_head + 1) * self.head_size
    }

    fn query_columns(&self) -> Range<usize> {
        let columns = self.key_columns();
        columns.start * self.group..columns.end * self.group
    }

    /// Blocks of consecutive queries of the sequence, counted from its first.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let length = self.rows.len();
        (0..length).step_by(QUERIES).map(move |start| start..length.min(start + QUERIES))
    }

    fn attend<T: Real>(
        &self,
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        values: ArrayView2<'_, T>,
    ) -> Array2<T> {
        let mut output = Array2::zeros((self.rows.len(), self.group * self.head_size));
        let (keys, values) = (self.of_keys(keys), self.of_keys(values));
        for new in self.blocks() {
            let weights = self.weights(&new, self.stacked(queries, &new).view(), keys);
            let attended = product(weights.view(), rows(values, 0..new.end));
            self.unstack(&attended, &mut output, new);
        }
        output
    }

    fn backward<T: Real>(
        &self,
        doutput: ArrayView2<'_, T>,
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        values: ArrayView2<'_, T>,
    ) -> [Array2<T>; 3] {
        let mut dqueries = Array2::zeros((self.rows.len(), self.group * self.head_size));
        let (keys, values) = (self.of_keys(keys), self.of_keys(values));
        let (mut dkeys, mut dvalues) = (Array2::zeros(keys.raw_dim()), Array2::zeros(values.raw_dim()));
        for new in self.blocks() {
            let (queries, doutput) = (self.stacked(queries, &new), self.stacked(doutput, &new));
            let weights = self.weights(&new, queries.view(), keys);
            let visible = 0..new.end;
            let mut dscores = product(doutput.view(), rows(values, visible.clone()).t());
            // No mask here: the softmax's gradient is a multiple of the weight, which is zero for masked keys.
            for (index, dscores) in dscores.rows_mut().into_iter().enumerate() {
                softmax_backward(dscores, &weights, index);
            }
            dscores *= self.scale::<T>();
            let (dvalues, dkeys) = (dvalues.view_mut(), dkeys.view_mut());
            add_product(T::one(), weights.t(), doutput.view(), rows_mut(dvalues, visible.clone()));
            add_product(T::one(), dscores.t(), queries.view(), rows_mut(dkeys, visible.clone()));
            let dblock = product(dscores.view(), rows(keys, visible));
            self.unstack(&dblock, &mut dqueries, new);
        }
        [dqueries, dkeys, dvalues]
    }

    /// The weight of each key that the block sees, for each of its queries: (group · queries) × keys.
    fn weights<T: Real>(&self, new: &Range<usize>, queries: ArrayView2<'_, T>, keys: ArrayView2<'_, T>) -> Array2<T> {
        let mut weights = product(queries, rows(keys, 0..new.end).t());
        weights *= self.scale::<T>();
        for (index, row) in weights.rows_mut().into_iter().enumerate() {
            let (visible, mut masked) = row.split_at(Axis(0), new.start + index % new.len() + 1);
            softmax(visible);
            masked.fill(T::zero());
        }
        weights
    }

    /// The rows of a block of the sequence, the heads of queries one below the other.
    fn stacked<T: Real>(&self, matrix: ArrayView2<'_, T>, queries: &Range<usize>) -> Array2<T> {
        let first = self.rows.start;
        let part = block(matrix, first + queries.start..first + queries.end, self.query_columns());
        let heads: Vec<_> = part.axis_chunks_iter(Axis(1), self.head_size).collect();
        concatenate(Axis(0), &heads).expect("all heads have the same size")
    }

    fn unstack<T: Real>(&self, stacked: &Array2<T>, matrix: &mut Array2<T>, queries: Range<usize>) {
        let heads = stacked.axis_chunks_iter(Axis(0), queries.len());
        let mut part = rows_mut(matrix.view_mut(), queries);
        for (head, mut columns) in heads.zip(part.axis_chunks_iter_mut(Axis(1), self.head_size)) {
            columns.assign(&head);
        }
    }

    fn of_keys<'a, T: Real>(&self, matrix: ArrayView2<'a, T>) -> ArrayView2<'a, T> {
        block(matrix, self.rows.clone(), self.key_columns())
    }

    /// Keeps the standard deviation of the scores near one, whatever the head size (Vaswani et al. 2017).
    fn scale<T: Real>(&self) -> T {
        real((self.head_size as f64).sqrt().recip())
    }
}
