//! Keys and values that outlive a call of the network.
//!
//! They lie in blocks of [`BLOCK`] tokens. The blocks of a prompt are shared by all that continue it; each sample has blocks of its
//! own for its tokens.

use std::sync::Arc;

use ndarray::ArrayView1;

use super::super::config::ModelConfig;

/// Tokens of a block. With fewer, the products of a prompt's blocks are slower; with more, less of similar prompts is shared.
pub(super) const BLOCK: usize = 32;

/// The sizes of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KvShape {
    pub(super) layers: usize,
    /// Heads of keys and values.
    pub(super) heads: usize,
    pub(super) head_size: usize,
}

impl KvShape {
    pub(super) fn new(config: &ModelConfig) -> Self {
        KvShape { layers: config.num_layers, heads: config.num_kv_heads, head_size: config.head_size }
    }

    /// The numbers of one head's keys, or values, in a block.
    fn head(self) -> usize {
        self.head_size * BLOCK
    }

    /// The memory that a block takes.
    pub(super) fn block_bytes(self) -> usize {
        2 * self.layers * self.heads * self.head() * size_of::<f32>()
    }

    /// The memory that the blocks of this number of tokens take.
    pub(super) fn bytes(self, tokens: usize) -> usize {
        tokens.div_ceil(BLOCK).saturating_mul(self.block_bytes())
    }
}

/// Keys and values of up to [`BLOCK`] consecutive tokens, in all layers.
#[derive(Clone, Debug)]
pub(super) struct KvBlock {
    shape: KvShape,
    /// For each layer and head, its keys (head size × tokens), then its values (tokens × head size): so both products with them
    /// run along rows.
    numbers: Vec<f32>,
    tokens: usize,
}

impl KvBlock {
    pub(super) fn new(shape: KvShape) -> Self {
        KvBlock { shape, numbers: vec![0.0; shape.block_bytes() / size_of::<f32>()], tokens: 0 }
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.shape.block_bytes()
    }

    /// How many tokens it has.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// The keys of a head, [`BLOCK`] numbers for each of its features, and its values, one row for each token.
    pub(super) fn head(&self, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let size = self.shape.head();
        let start = 2 * size * (layer * self.shape.heads + head);
        self.numbers[start..start + 2 * size].split_at(size)
    }

    /// Sets the keys and values (the heads side by side) of a token in one layer.
    fn set(&mut self, layer: usize, token: usize, keys: ArrayView1<'_, f32>, values: ArrayView1<'_, f32>) {
        let (size, width) = (self.shape.head(), self.shape.head_size);
        let start = 2 * size * layer * self.shape.heads;
        let heads = self.numbers[start..].chunks_exact_mut(2 * size);
        for (head, numbers) in heads.take(self.shape.heads).enumerate() {
            let (to_keys, to_values) = numbers.split_at_mut(size);
            for feature in 0..width {
                to_keys[feature * BLOCK + token] = keys[head * width + feature];
                to_values[token * width + feature] = values[head * width + feature];
            }
        }
    }
}

/// The keys and values of one sequence.
#[derive(Clone, Debug)]
pub(super) struct SequenceKv {
    shape: KvShape,
    /// The blocks of its prompt, each with [`BLOCK`] tokens but the last one, which may have fewer.
    prompt: Vec<Arc<KvBlock>>,
    own: Vec<KvBlock>,
}

impl SequenceKv {
    /// Those of a sequence that continues these blocks.
    pub(super) fn after(shape: KvShape, prompt: Vec<Arc<KvBlock>>) -> Self {
        SequenceKv { shape, prompt, own: Vec::new() }
    }

    /// How many tokens it has.
    pub(super) fn len(&self) -> usize {
        self.blocks().map(KvBlock::tokens).sum()
    }

    pub(super) fn shape(&self) -> KvShape {
        self.shape
    }

    /// All blocks, in the order of their tokens.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &KvBlock> {
        self.prompt.iter().map(Arc::as_ref).chain(&self.own)
    }

    /// Makes place for tokens from this position on, whose keys and values follow layer by layer. What a step that failed has left
    /// there is dropped.
    pub(super) fn make_place(&mut self, position: usize, tokens: usize) {
        let shared: usize = self.prompt.iter().map(|block| block.tokens).sum();
        let length = position.saturating_sub(shared) + tokens;
        self.own.resize_with(length.div_ceil(BLOCK), || KvBlock::new(self.shape));
        for (block, start) in self.own.iter_mut().zip((0..length).step_by(BLOCK)) {
            block.tokens = BLOCK.min(length - start);
        }
    }

    /// Sets the keys and values of one of its own tokens, counted from its first own one.
    pub(super) fn set(&mut self, layer: usize, token: usize, keys: ArrayView1<'_, f32>, values: ArrayView1<'_, f32>) {
        self.own[token / BLOCK].set(layer, token % BLOCK, keys, values);
    }

    /// The number of its own tokens.
    pub(super) fn own_tokens(&self) -> usize {
        self.own.iter().map(KvBlock::tokens).sum()
    }

    /// The memory that its own blocks take.
    pub(super) fn own_bytes(&self) -> usize {
        self.own.iter().map(KvBlock::bytes).sum()
    }

    /// Takes its own blocks.
    pub(super) fn into_own(self) -> Vec<KvBlock> {
        self.own
    }
}
