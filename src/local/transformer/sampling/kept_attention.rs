//! Causal attention of new tokens over the keys and values that their sequences have kept.
//!
//! Each number is summed in an order that depends on its own sequence alone: over the features of a head, or over the tokens in
//! turn. So neither the other sequences of a step nor the threads change a bit.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::attention::Attend;
use super::super::views::{block, block_mut};
use super::kv::{BLOCK, SequenceKv};
use crate::local::kernel::softmax;

/// Less work than this, in products of a query with a key, is not worth the start of a task.
const MIN_PRODUCTS: usize = 1024;

/// How many features of the values are summed at once.
const FEATURES: usize = 32;

/// The sequences of a step, with the rows that belong to each.
#[derive(Debug)]
pub(super) struct KeptAttention<'a> {
    /// Rows in order; each sequence has made place for its rows, which are its last tokens.
    pub(super) sequences: Vec<(Range<usize>, &'a mut SequenceKv)>,
    /// Heads of queries.
    pub(super) num_heads: usize,
}

impl Attend<f32> for KeptAttention<'_> {
    fn attend(
        &mut self,
        layer: usize,
        queries: ArrayView2<'_, f32>,
        keys: ArrayView2<'_, f32>,
        values: ArrayView2<'_, f32>,
    ) -> Array2<f32> {
        for (rows, kv) in &mut self.sequences {
            let first = kv.own_tokens() - rows.len();
            for row in rows.clone() {
                kv.set(layer, first + row - rows.start, keys.row(row), values.row(row));
            }
        }
        let tasks = self.sequences.iter().flat_map(|(rows, kv)| {
            (0..kv.shape().heads).map(move |head| HeadTask { rows: rows.clone(), kv, layer, head })
        });
        let tasks: Vec<_> = tasks.collect();
        let group = tasks.first().map_or(1, |task| self.num_heads / task.kv.shape().heads);
        let products: usize = tasks.iter().map(|task| task.rows.len() * task.kv.len() * group).sum();
        let results: Vec<_> = if products < MIN_PRODUCTS {
            tasks.iter().map(|task| task.run(queries, group)).collect()
        } else {
            tasks.par_iter().map(|task| task.run(queries, group)).collect()
        };
        let mut output = Array2::zeros(queries.raw_dim());
        for (task, result) in tasks.iter().zip(results) {
            block_mut(output.view_mut(), task.rows.clone(), task.columns(group)).assign(&result);
        }
        output
    }
}

/// The queries of one sequence that attend to one head of its keys and values.
#[derive(Debug)]
struct HeadTask<'a> {
    rows: Range<usize>,
    kv: &'a SequenceKv,
    layer: usize,
    head: usize,
}

impl HeadTask<'_> {
    /// The columns of the queries' heads, of which there are as many as a group has.
    fn columns(&self, group: usize) -> Range<usize> {
        let width = group * self.kv.shape().head_size;
        self.head * width..(self.head + 1) * width
    }

    /// The outputs: rows × the group's heads side by side.
    fn run(&self, queries: ArrayView2<'_, f32>, group: usize) -> Array2<f32> {
        let length = self.kv.len();
        let head_size = self.kv.shape().head_size;
        let queries = block(queries, self.rows.clone(), self.columns(group));
        let blocks: Vec<_> =
            self.kv.blocks().map(|block| (block.head(self.layer, self.head), block.tokens())).collect();
        let mut output = Array2::zeros(queries.raw_dim());
        let mut scores = vec![0.0; length + BLOCK];
        for (row, (queries, mut outputs)) in queries.rows().into_iter().zip(output.rows_mut()).enumerate() {
            let visible = length - self.rows.len() + row + 1;
            for (query, output) in queries.exact_chunks(head_size).into_iter().zip(outputs.exact_chunks_mut(head_size))
            {
                if let (Some(query), Some(output)) = (query.to_slice(), output.into_slice()) {
                    Arch::new().dispatch(Attention { query, blocks: &blocks, visible, scores: &mut scores, output });
                }
            }
        }
        output
    }
}

/// The keys and values of one head in a block, and how many tokens it has.
type HeadBlock<'a> = ((&'a [f32], &'a [f32]), usize);

/// Adds the output of one head of one query. A closure would not do: the compiler may leave one of this length outside the function
/// that has the wide vectors.
struct Attention<'a, 'block> {
    query: &'a [f32],
    blocks: &'a [HeadBlock<'block>],
    /// How many tokens the query sees.
    visible: usize,
    scores: &'a mut [f32],
    output: &'a mut [f32],
}

impl WithSimd for Attention<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Attention { query, blocks, visible, scores, output } = self;
        // Keeps the standard deviation of the scores near one, whatever the head size (Vaswani et al. 2017).
        let scale = (query.len() as f32).sqrt().recip();
        let mut start = 0;
        for &((keys, _), tokens) in blocks {
            if start >= visible {
                break;
            }
            let products = products(query, keys);
            for (score, product) in scores[start..start + BLOCK].iter_mut().zip(products) {
                *score = product * scale;
            }
            start += tokens;
        }
        softmax(&mut scores[..visible]);
        let mut start = 0;
        for &((_, values), tokens) in blocks {
            if start >= visible {
                break;
            }
            add_weighted(&scores[start..visible.min(start + tokens)], values, output);
            start += tokens;
        }
    }
}

/// The products of a query with all keys of a block.
#[inline(always)]
fn products(query: &[f32], keys: &[f32]) -> [f32; BLOCK] {
    let mut products = [0.0; BLOCK];
    for (&feature, keys) in query.iter().zip(keys.chunks_exact(BLOCK)) {
        for (product, &key) in products.iter_mut().zip(keys) {
            *product += feature * key;
        }
    }
    products
}

/// Adds the first values of a block, as many as there are weights.
#[inline(always)]
fn add_weighted(weights: &[f32], values: &[f32], output: &mut [f32]) {
    let head_size = output.len();
    let rows = || weights.iter().zip(values.chunks_exact(head_size));
    let mut outputs = output.chunks_exact_mut(FEATURES);
    let mut first = 0;
    for output in &mut outputs {
        // In registers, until all tokens are added.
        let mut sums = [0.0; FEATURES];
        sums.copy_from_slice(output);
        for (&weight, values) in rows() {
            for (sum, &value) in sums.iter_mut().zip(&values[first..first + FEATURES]) {
                *sum += weight * value;
            }
        }
        output.copy_from_slice(&sums);
        first += FEATURES;
    }
    let rest = outputs.into_remainder();
    for (&weight, values) in rows() {
        for (output, &value) in rest.iter_mut().zip(&values[first..]) {
            *output += weight * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_added_token_by_token() {
        let number = |at: usize| ((at * 7919 + 13) % 251) as f32 / 97.0 - 1.0;
        for head_size in [2, 16, 20, 32, 40, 64, 96] {
            for tokens in [0, 1, 5, BLOCK] {
                let weights: Vec<f32> = (0..tokens).map(|at| number(at + 3)).collect();
                let values: Vec<f32> = (0..BLOCK * head_size).map(number).collect();
                let before: Vec<f32> = (0..head_size).map(|at| number(at + 5)).collect();
                let mut expected = before.clone();
                for (token, weight) in weights.iter().enumerate() {
                    for (feature, sum) in expected.iter_mut().enumerate() {
                        *sum += weight * values[token * head_size + feature];
                    }
                }
                let mut output = before;
                add_weighted(&weights, &values, &mut output);
                assert_eq!(output, expected, "{head_size} {tokens}");
            }
        }
    }
}
