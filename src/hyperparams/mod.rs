//! Learning rates, their schedules, and the number of parameters that an adapter has.
//!
//! | to | use |
//! |---|---|
//! | get a learning rate to begin with | [`learning_rate()`]; [`Family`] for other sizes of a family |
//! | take over a learning rate of full fine-tuning | [`LORA_RATE_FACTOR`] |
//! | set the learning rate of each step | [`Schedule`] |
//! | count the parameters of an adapter | [`ModelShape::lora_parameters`] |
//!
//! ```
//! use tinkex::hyperparams::{ModelShape, Schedule, learning_rate};
//! use tinkex::types::{AdamParams, LoraConfig};
//!
//! let model = "meta-llama/Llama-3.1-8B";
//! let schedule = Schedule::linear(learning_rate(model)?.rate, 780).warmup(20);
//! let adam = AdamParams::new().learning_rate(schedule.rate(20));
//! assert_eq!((adam.learning_rate * 1e6).round(), 286.0);
//!
//! let parameters = ModelShape::of(model)?.lora_parameters(&LoraConfig::new().rank(32))?;
//! assert_eq!(parameters.total(), 88_121_344);
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! # Which rank
//!
//! The learning rate does not depend on the rank. For reinforcement learning, small ranks are as good as large ones. For supervised
//! learning, an adapter should have at least as many parameters as there are trained tokens
//! ([Tinker's LoRA primer](https://tinker-docs.thinkingmachines.ai/tinker/lora-primer/)).
//!
//! # Sources
//!
//! The figures are those of Tinker's cookbook,
//! [`hyperparam_utils`](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/hyperparam_utils.py), as of
//! autumn 2026; what is from elsewhere says so. Models are known by their names on Tinker; an ending such as `:peft:262144`, which
//! chooses the length of the context, makes no difference.

mod config_json;
mod learning_rate;
mod model_shape;
mod published;
mod schedule;

pub use learning_rate::{Family, LORA_RATE_FACTOR, LearningRate, RateBasis, learning_rate};
pub use model_shape::{LoraParameters, ModelShape};
pub use schedule::{Decay, Schedule};

/// The name of a model without the ending that chooses the length of its context.
fn without_context(model: &str) -> &str {
    model.split_once(':').map_or(model, |(name, _)| name)
}
