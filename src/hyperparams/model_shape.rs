//! The parameters of an adapter.

use super::{config_json, published, without_context};
use crate::error::{Error, Result};
use crate::types::LoraConfig;

/// What the number of an adapter's parameters depends on: the hidden size, and how many parameters each rank adds to attention, the
/// MLPs and the unembedding.
///
/// An adapter of rank *r* of a matrix with *m* inputs and *n* outputs is two matrices, of *m* × *r* and *r* × *n* parameters: each rank adds
/// *m* + *n*. Of the experts of a mixture, the side of the hidden size is shared by all experts of a layer. Tinker counts so; an adapter
/// of rank 32 of Qwen3.5-9B-Base that it saved has 94 584 832 numbers, as many as this.
///
/// ```
/// use tinkex::hyperparams::ModelShape;
/// use tinkex::types::LoraConfig;
///
/// let shape = ModelShape::of("Qwen/Qwen3.5-9B-Base")?;
/// assert_eq!(shape.lora_parameters(&LoraConfig::new().rank(32))?.total(), 94_584_832);
/// # Ok::<(), tinkex::Error>(())
/// ```
///
/// The shape of other models is read from their `config.json`, or counted matrix by matrix:
///
/// ```
/// use tinkex::hyperparams::ModelShape;
///
/// let json = r#"{
///     "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
///     "intermediate_size": 96, "vocab_size": 100
/// }"#;
/// let counted = ModelShape::new(64, 100)
///     .attention(2 * 2, 64, 64) // queries and outputs of two layers
///     .attention(2 * 2, 64, 32) // keys and values
///     .mlp(2 * 2, 64, 96)
///     .mlp(2, 96, 64);
/// assert_eq!(ModelShape::from_config_json(json)?, counted);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelShape {
    /// The hidden size: the number of features between layers.
    pub hidden_size: u64,
    /// The parameters of each rank in attention, including linear attention and state-space layers.
    pub attention: u64,
    /// The parameters of each rank in the MLPs, including experts.
    pub mlp: u64,
    /// The parameters of each rank in the unembedding, also where the model shares it with the embedding.
    pub unembedding: u64,
}

impl ModelShape {
    /// The shape of a model that Tinker serves or served, by its name there. It is in a table of autumn 2026.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model that is not in the table.
    ///
    /// ```
    /// use tinkex::hyperparams::ModelShape;
    ///
    /// assert_eq!(ModelShape::of("openai/gpt-oss-120b:peft:131072")?.hidden_size, 2880);
    /// let error = ModelShape::of("acme/Nova-7B").unwrap_err();
    /// assert!(error.hint().unwrap_or_default().contains("config.json"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn of(model: &str) -> Result<Self> {
        published::shape(without_context(model)).ok_or_else(|| {
            Error::invalid_input(format!("the shape of the model {model:?} is not known")).with_hint(
                "pass its config.json to ModelShape::from_config_json, or count its matrices with ModelShape::new",
            )
        })
    }

    /// The shape that a `config.json` of Hugging Face describes: of Llama, Mistral, Mixtral, Qwen 2 to 3.8, DeepSeek V3, Kimi K2 or
    /// gpt-oss.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for other kinds of models, and for a text that is not JSON or lacks a number.
    pub fn from_config_json(json: &str) -> Result<Self> {
        config_json::read(json)
    }

    /// A model of no layers, to add some to.
    #[must_use]
    pub fn new(hidden_size: u64, vocabulary_size: u64) -> Self {
        let unembedding = hidden_size.saturating_add(vocabulary_size);
        ModelShape { hidden_size, attention: 0, mlp: 0, unembedding }
    }

    /// Adds `count` matrices of attention with these numbers of inputs and outputs.
    #[must_use]
    pub fn attention(mut self, count: u64, inputs: u64, outputs: u64) -> Self {
        self.attention = self.attention.saturating_add(count.saturating_mul(inputs.saturating_add(outputs)));
        self
    }

    /// Adds `count` matrices of MLPs with these numbers of inputs and outputs.
    #[must_use]
    pub fn mlp(mut self, count: u64, inputs: u64, outputs: u64) -> Self {
        self.mlp = self.mlp.saturating_add(count.saturating_mul(inputs.saturating_add(outputs)));
        self
    }

    /// Adds layers of experts: three matrices for each expert, between the hidden size and the intermediate size.
    ///
    /// ```
    /// use tinkex::hyperparams::ModelShape;
    ///
    /// // In each of two layers, three matrices: 64 shared features, and 16 of each of 8 experts.
    /// assert_eq!(ModelShape::new(64, 100).experts(2, 8, 16).mlp, 2 * 3 * (64 + 8 * 16));
    /// ```
    #[must_use]
    pub fn experts(self, layers: u64, experts: u64, intermediate_size: u64) -> Self {
        self.mlp(layers.saturating_mul(3), self.hidden_size, experts.saturating_mul(intermediate_size))
    }

    /// The number of parameters of an adapter of this configuration.
    ///
    /// # Errors
    ///
    /// Those of [`LoraConfig::validate`].
    ///
    /// ```
    /// use tinkex::hyperparams::ModelShape;
    /// use tinkex::types::LoraConfig;
    ///
    /// let shape = ModelShape::new(64, 100).attention(8, 64, 64).mlp(6, 64, 96);
    /// let parameters = shape.lora_parameters(&LoraConfig::new().rank(8).train_unembed(false))?;
    /// assert_eq!((parameters.attention, parameters.mlp, parameters.unembedding), (8192, 7680, 0));
    /// assert_eq!(parameters.total(), 15_872);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn lora_parameters(&self, config: &LoraConfig) -> Result<LoraParameters> {
        config.validate()?;
        let count = |is_trained, of_rank: u64| if is_trained { of_rank.saturating_mul(config.rank.into()) } else { 0 };
        Ok(LoraParameters {
            attention: count(config.train_attn, self.attention),
            mlp: count(config.train_mlp, self.mlp),
            unembedding: count(config.train_unembed, self.unembedding),
        })
    }
}

/// The number of parameters of an adapter. [`ModelShape::lora_parameters`] counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoraParameters {
    /// In attention.
    pub attention: u64,
    /// In the MLPs.
    pub mlp: u64,
    /// In the unembedding.
    pub unembedding: u64,
}

impl LoraParameters {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.attention.saturating_add(self.mlp).saturating_add(self.unembedding)
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// The example of Tinker's LoRA primer, with the figures of the cookbook.
    #[test]
    fn switches_leave_parts_out() {
        let shape = ModelShape::of("meta-llama/Llama-3.1-8B").unwrap();
        let rank = LoraConfig::new().rank(32);
        for (config, total) in [
            (rank.clone(), 88_121_344),
            (rank.clone().train_unembed(false), 83_886_080),
            (rank.clone().train_mlp(false), 31_498_240),
            (rank.clone().train_attn(false), 60_858_368),
            (rank.clone().train_attn(false).train_mlp(false), 4_235_264),
        ] {
            assert_eq!(shape.lora_parameters(&config).unwrap().total(), total, "{config:?}");
        }
        for refused in [LoraConfig::new().rank(0), rank.train_attn(false).train_mlp(false).train_unembed(false)] {
            assert!(shape.lora_parameters(&refused).is_err(), "{refused:?}");
        }
    }

    quickcheck! {
        fn parameters_grow_with_the_rank(sizes: (u16, u16, u16), layers: u8, rank: u8) -> bool {
            let (hidden, inner, vocabulary) = (u64::from(sizes.0), u64::from(sizes.1), u64::from(sizes.2));
            let shape = ModelShape::new(hidden, vocabulary).attention(layers.into(), hidden, hidden).mlp(layers.into(), hidden, inner);
            let total = |rank: u32| shape.lora_parameters(&LoraConfig::new().rank(rank)).map(|parameters| parameters.total());
            let rank = u32::from(rank) + 1;
            let one = hidden + vocabulary + u64::from(layers) * (3 * hidden + inner);
            total(rank).is_ok_and(|total| total == one * u64::from(rank))
        }

        fn huge_sizes_do_not_overflow(count: u64, size: u64, rank: u32) -> bool {
            let shape = ModelShape::new(size, size).attention(count, size, size).mlp(count, size, size).experts(count, size, size);
            shape.lora_parameters(&LoraConfig::new().rank(rank.max(1))).is_ok_and(|parameters| parameters.total() >= parameters.mlp)
        }
    }
}
