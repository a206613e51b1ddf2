//! The projections that an adapter can change: their places in the network, their names and their shapes.

use super::config::ModelConfig;
use crate::local::model::AdapterOptions;

/// A projection of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

/// In the order of the random numbers of a new adapter, which must not change.
const LAYER: [Module; 7] =
    [Module::Query, Module::Key, Module::Value, Module::Output, Module::Gate, Module::Up, Module::Down];

/// The part of the network that a projection belongs to; an adapter may leave each part out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Attention,
    Mlp,
    Unembedding,
}

/// The index of a projection among all of the network's: layer by layer, then the unembedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(usize);

impl Place {
    pub(super) fn in_layer(layer: usize, module: Module) -> Place {
        Place(layer * LAYER.len() + module as usize)
    }

    pub(super) fn unembedding(config: &ModelConfig) -> Place {
        Place(config.num_layers * LAYER.len())
    }

    pub(super) fn index(self) -> usize {
        self.0
    }

    /// The index after the last projection of a layer.
    pub(super) fn end_of_layer(layer: usize) -> usize {
        (layer + 1) * LAYER.len()
    }
}

/// A projection that an adapter can change.
#[derive(Debug)]
pub(super) struct Adaptable {
    /// The names of the factors `A` and `B` in PEFT's checkpoints.
    pub(super) names: [String; 2],
    group: Group,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

impl Adaptable {
    fn new(path: &str, group: Group, (outputs, inputs): (usize, usize)) -> Adaptable {
        let names = ["lora_A", "lora_B"].map(|factor| format!("base_model.model.{path}.{factor}.weight"));
        Adaptable { names, group, outputs, inputs }
    }

    /// Whether an adapter of these options changes it.
    pub(super) fn is_changed_by(&self, options: &AdapterOptions) -> bool {
        match self.group {
            Group::Attention => options.train_attn,
            Group::Mlp => options.train_mlp,
            Group::Unembedding => options.train_unembed,
        }
    }
}

/// The projections of a model that an adapter can change, in the order of their places.
pub(super) fn adaptable_modules(config: &ModelConfig) -> Vec<Adaptable> {
    let ModelConfig { vocab_size, hidden_size, intermediate_size, .. } = *config;
    let (queries, keys) = (config.query_size(), config.key_size());
    let in_layer = |layer: usize, module: Module| {
        let (name, group, shape) = match module {
            Module::Query => ("self_attn.q_proj", Group::Attention, (queries, hidden_size)),
            Module::Key => ("self_attn.k_proj", Group::Attention, (keys, hidden_size)),
            Module::Value => ("self_attn.v_proj", Group::Attention, (keys, hidden_size)),
            Module::Output => ("self_attn.o_proj", Group::Attention, (hidden_size, queries)),
            Module::Gate => ("mlp.gate_proj", Group::Mlp, (intermediate_size, hidden_size)),
            Module::Up => ("mlp.up_proj", Group::Mlp, (intermediate_size, hidden_size)),
            Module::Down => ("mlp.down_proj", Group::Mlp, (hidden_size, intermediate_size)),
        };
        Adaptable::new(&format!("model.layers.{layer}.{name}"), group, shape)
    };
    let layers = (0..config.num_layers).flat_map(|layer| LAYER.map(|module| in_layer(layer, module)));
    layers.chain([Adaptable::new("lm_head", Group::Unembedding, (vocab_size, hidden_size))]).collect()
}
