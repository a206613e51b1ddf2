//! An adapter: the weights that training changes.

use super::Tensors;

/// The options of a new adapter; Tinker's [`LoraConfig`](crate::types::LoraConfig).
///
/// Defaults to rank 32, seed 0 and all modules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterOptions {
    /// Rows of `A` and columns of `B`, at least 1.
    pub rank: usize,
    /// Seed of the random numbers in `A`.
    pub seed: u64,
    /// Adapt the query, key, value and output projections of the attention layers.
    pub train_attn: bool,
    /// Adapt the gate, up and down projections of the MLPs.
    pub train_mlp: bool,
    /// Adapt the unembedding, the projection to the vocabulary.
    pub train_unembed: bool,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        AdapterOptions { rank: 32, seed: 0, train_attn: true, train_mlp: true, train_unembed: true }
    }
}

impl AdapterOptions {
    /// The defaults: rank 32, seed 0 and all modules.
    #[must_use]
    pub fn new() -> Self {
        AdapterOptions::default()
    }

    /// Sets the rank. Defaults to 32.
    #[must_use]
    pub fn rank(mut self, rank: usize) -> Self {
        self.rank = rank;
        self
    }

    /// Sets the seed. Defaults to 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether to adapt the attention layers. Defaults to `true`.
    #[must_use]
    pub fn train_attn(mut self, train: bool) -> Self {
        self.train_attn = train;
        self
    }

    /// Whether to adapt the MLPs. Defaults to `true`.
    #[must_use]
    pub fn train_mlp(mut self, train: bool) -> Self {
        self.train_mlp = train;
        self
    }

    /// Whether to adapt the unembedding. Defaults to `true`.
    #[must_use]
    pub fn train_unembed(mut self, train: bool) -> Self {
        self.train_unembed = train;
        self
    }
}

/// Low-rank changes to the weights of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adapter<T = f32> {
    /// The options that it was created with.
    pub options: AdapterOptions,
    /// `A` (rank × inputs) and `B` (outputs × rank) for each adapted projection, named as PEFT names them.
    pub tensors: Tensors<T>,
}

impl<T> Adapter<T> {
    /// An adapter with these tensors.
    pub fn new(options: AdapterOptions, tensors: Tensors<T>) -> Self {
        Adapter { options, tensors }
    }

    /// Checks that it has the same tensors as another adapter: the same names, with the same shapes.
    ///
    /// ```
    /// use tinkex::local::model::{AdapterOptions, Model};
    /// use tinkex::local::transformer::Transformer;
    ///
    /// let [tiny, small] = [Transformer::bytes_tiny(), Transformer::bytes_small()];
    /// let adapter = tiny.new_adapter(&AdapterOptions::new().rank(2));
    /// assert_eq!(adapter.check_shapes(&tiny.new_adapter(&AdapterOptions::new().rank(2).seed(1))), Ok(()));
    /// assert!(adapter.check_shapes(&small.new_adapter(&AdapterOptions::new().rank(2))).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// The first tensor that differs, in words.
    pub fn check_shapes(&self, other: &Adapter<T>) -> Result<(), String> {
        let Some(name) = other.tensors.keys().find(|name| !self.tensors.contains_key(*name)) else {
            return self.tensors.iter().try_for_each(|(name, tensor)| match other.tensors.get(name) {
                None => Err(format!("{name} is a tensor that the model does not have")),
                Some(expected) if expected.dim() != tensor.dim() => {
                    let ((rows, columns), (need, wide)) = (tensor.dim(), expected.dim());
                    Err(format!("{name} has the shape {rows} × {columns}, not {need} × {wide}"))
                }
                Some(_) => Ok(()),
            });
        };
        Err(format!("the tensor {name} is missing"))
    }
}
