//! The frozen weights of a transformer.

use ndarray::Array1;

use crate::local::kernel::Weight;

/// Everything that no adapter changes, and the base of what it does.
#[derive(Debug)]
pub(in crate::local) struct Parameters<T> {
    /// Vocabulary × hidden size.
    pub(in crate::local) embedding: Weight<T>,
    pub(in crate::local) layers: Vec<LayerParameters<T>>,
    pub(in crate::local) final_norm: Array1<T>,
    /// Vocabulary × hidden size. `None` if the embedding serves as the unembedding, too.
    pub(in crate::local) unembedding: Option<Weight<T>>,
}

/// The weights of a layer.
#[derive(Debug)]
pub(in crate::local) struct LayerParameters<T> {
    pub(in crate::local) attention_norm: Array1<T>,
    pub(in crate::local) query: Projection<T>,
    pub(in crate::local) key: Projection<T>,
    pub(in crate::local) value: Projection<T>,
    pub(in crate::local) output: Projection<T>,
    /// Gains of the norms of each head of the queries and keys, before they are rotated: one number for each feature of a head.
    pub(in crate::local) query_norm: Option<Array1<T>>,
    pub(in crate::local) key_norm: Option<Array1<T>>,
    pub(in crate::local) mlp_norm: Array1<T>,
    pub(in crate::local) gate: Projection<T>,
    pub(in crate::local) up: Projection<T>,
    pub(in crate::local) down: Projection<T>,
}

/// A linear map, which an adapter can change.
#[derive(Debug)]
pub(in crate::local) struct Projection<T> {
    pub(in crate::local) weight: Weight<T>,
    pub(in crate::local) bias: Option<Array1<T>>,
}
