//! The frozen weights of a transformer.

use ndarray::Array1;

use super::config::ModelConfig;
use super::splitmix::SplitMix64;
use crate::local::kernel::{Real, Weight};

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

impl<T: Real> Parameters<T> {
    /// Random projections that preserve the scale of a row: the standard deviation is 1/√inputs. Without gains and biases, and
    /// with an unembedding of its own.
    pub(super) fn random(config: &ModelConfig, seed: u64) -> Parameters<T> {
        let ModelConfig { vocab_size, hidden_size, intermediate_size, .. } = *config;
        let (queries, keys) = (config.query_size(), config.key_size());
        let mut random = SplitMix64::new(seed);
        // The scale hardly matters, since every layer normalizes its input. One is about the scale of what the layers
        // add, so that the token is still recognizable after the last layer.
        let embedding = Weight::Full(random.matrix((vocab_size, hidden_size), 1.0));
        let mut matrix = |outputs: usize, inputs: usize| {
            Weight::Full(random.matrix((outputs, inputs), (inputs as f64).sqrt().recip()))
        };
        let mut projection = |outputs, inputs| Projection { weight: matrix(outputs, inputs), bias: None };
        let layers = (0..config.num_layers).map(|_| LayerParameters {
            attention_norm: Array1::ones(hidden_size),
            query: projection(queries, hidden_size),
            key: projection(keys, hidden_size),
            value: projection(keys, hidden_size),
            output: projection(hidden_size, queries),
            query_norm: None,
            key_norm: None,
            mlp_norm: Array1::ones(hidden_size),
            gate: projection(intermediate_size, hidden_size),
            up: projection(intermediate_size, hidden_size),
            down: projection(hidden_size, intermediate_size),
        });
        let layers = layers.collect();
        let unembedding = Some(matrix(vocab_size, hidden_size));
        Parameters { embedding, layers, final_norm: Array1::ones(hidden_size), unembedding }
    }
}
