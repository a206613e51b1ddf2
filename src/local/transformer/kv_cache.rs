//! The keys and values of one sequence.

use ndarray::{Array2, ArrayView2, Axis};

use super::attention::Attend;
use super::config::ModelConfig;
use super::ops::softmax;
use super::splitmix::real;
use super::views::{block, block_mut};
use crate::local::kernel::Real;

/// The keys and values of a layer, one row per token.
#[derive(Clone, Debug)]
pub(super) struct KvCache<T> {
    keys: Array2<T>,
    values: Array2<T>,
}

impl<T: Real> KvCache<T> {
    pub(super) fn empty(key_size: usize) -> KvCache<T> {
        KvCache { keys: Array2::zeros((0, key_size)), values: Array2::zeros((0, key_size)) }
    }

    /// Number of cached tokens.
    pub(super) fn len(&self) -> usize {
        self.keys.nrows()
    }

    /// How many numbers it holds.
    pub(super) fn size(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Appends the tokens of another cache of the same layer.
    pub(super) fn extend(&mut self, other: &KvCache<T>) {
        self.append(other.keys.view(), other.values.view());
    }

    /// A copy of the tokens from this one on.
    pub(super) fn copy_from(&self, start: usize) -> KvCache<T> {
        let rows = |all: &Array2<T>| all.view().split_at(Axis(0), start.min(all.nrows())).1.to_owned();
        KvCache { keys: rows(&self.keys), values: rows(&self.values) }
    }

    fn append(&mut self, keys: ArrayView2<'_, T>, values: ArrayView2<'_, T>) {
        for (cached, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
            cached.append(Axis(0), new).expect("all keys and values of a layer have its size");
        }
    }
}

/// Attention of the next tokens of a sequence.
#[derive(Debug)]
pub(super) struct CachedAttention<'a, T> {
    pub(super) config: &'a ModelConfig,
    /// One for each layer.
    pub(super) caches: &'a mut [KvCache<T>],
}

impl<T: Real> Attend<T> for CachedAttention<'_, T> {
    fn attend(
        &mut self,
        layer: usize,
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        values: ArrayView2<'_, T>,
    ) -> Array2<T> {
        let ModelConfig { num_heads, num_kv_heads, head_size, .. } = *self.config;
        let cache = &mut self.caches[layer];
        let before = cache.len();
        cache.append(keys, values);
        let mut output = Array2::zeros(queries.raw_dim());
        for head in 0..num_heads {
            let kv_head = head / (num_heads / num_kv_heads);
            let columns = head * head_size..(head + 1) * head_size;
            let kv_columns = kv_head * head_size..(kv_head + 1) * head_size;
            let new = 0..queries.nrows();
            let keys = block(cache.keys.view(), 0..cache.len(), kv_columns.clone());
            let mut weights = block(queries, new.clone(), columns.clone()).dot(&keys.t());
            weights *= real::<T>((head_size as f64).sqrt().recip());
            for (query, scores) in weights.rows_mut().into_iter().enumerate() {
                let (visible, mut masked) = scores.split_at(Axis(0), before + query + 1);
                softmax(visible);
                masked.fill(T::zero());
            }
            let values = block(cache.values.view(), 0..cache.len(), kv_columns);
            block_mut(output.view_mut(), new, columns).assign(&weights.dot(&values));
        }
        output
    }
}
