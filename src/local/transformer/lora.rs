//! Low-rank adaptation (Hu et al. 2021, "LoRA"): a projection `W` becomes `W + (alpha / rank) · B · A`.
//!
//! The sum is computed once per call, and the network runs on it, forward and backward, without knowing about adapters: from
//! the gradient `dW`, that of `A` is `(alpha / rank) · Bᵀ · dW` and that of `B` is `(alpha / rank) · dW · Aᵀ`. For models of
//! this size that is also faster than two thin products per projection and token.

use ndarray::{Array2, NdFloat, linalg::general_mat_mul};

use super::network::{ModuleGroup, ModuleId, Projections};
use super::splitmix::{SplitMix64, real};
use crate::local::model::{Adapter, AdapterOptions, Tensors};

/// Tinker's value (Schulman et al. 2025, "LoRA without regret"). With a fixed alpha, the division by the rank makes the best
/// learning rate nearly independent of the rank.
pub(in crate::local) const ALPHA: f64 = 32.0;

impl AdapterOptions {
    fn adapts(&self, group: ModuleGroup) -> bool {
        match group {
            ModuleGroup::Attention => self.train_attn,
            ModuleGroup::Mlp => self.train_mlp,
            ModuleGroup::Unembedding => self.train_unembed,
        }
    }
}

fn scaling<T: NdFloat>(options: &AdapterOptions) -> T {
    real(ALPHA / options.rank.max(1) as f64)
}

/// The names of the factors `A` and `B` of a projection.
fn factor_names(module: &ModuleId) -> [String; 2] {
    ["lora_A", "lora_B"].map(|factor| format!("base_model.model.{}.{factor}.weight", module.name))
}

/// A new adapter: `A` random as in PEFT (uniform, bounded by 1/√inputs), and `B` zero.
pub(super) fn init<T: NdFloat>(base: &Projections<T>, options: &AdapterOptions) -> Adapter<T> {
    let mut random = SplitMix64::new(options.seed);
    let mut tensors = Tensors::new();
    for (module, weight) in base.modules() {
        if options.adapts(module.group) {
            let (outputs, inputs) = weight.dim();
            let [a, b] = factor_names(&module);
            tensors.insert(a, random.matrix((options.rank, inputs), (3.0 * inputs as f64).sqrt().recip()));
            tensors.insert(b, Array2::zeros((outputs, options.rank)));
        }
    }
    Adapter { options: options.clone(), tensors }
}

/// The base projections with the adapter's changes added. Tensors whose name or shape does not match the model are ignored.
pub(super) fn merge<T: NdFloat>(base: &Projections<T>, adapter: &Adapter<T>) -> Projections<T> {
    let mut merged = base.clone();
    for (module, weight) in merged.modules_mut() {
        if let Some([a, b]) = factors(adapter, &module, weight) {
            general_mat_mul(scaling(&adapter.options), b, a, T::one(), weight);
        }
    }
    merged
}

/// Adds the gradient with respect to the adapter to `gradient`, given the one with respect to the merged projections.
pub(super) fn accumulate_gradient<T: NdFloat>(
    dprojections: &Projections<T>,
    adapter: &Adapter<T>,
    gradient: &mut Tensors<T>,
) {
    for (module, dweight) in dprojections.modules() {
        if let Some([a, b]) = factors(adapter, &module, dweight) {
            let [a_name, b_name] = factor_names(&module);
            let sum = gradient.entry(a_name).or_insert_with(|| Array2::zeros(a.raw_dim()));
            general_mat_mul(scaling(&adapter.options), &b.t(), dweight, T::one(), sum);
            let sum = gradient.entry(b_name).or_insert_with(|| Array2::zeros(b.raw_dim()));
            general_mat_mul(scaling(&adapter.options), dweight, &a.t(), T::one(), sum);
        }
    }
}

/// The factors `A` and `B` of a projection, if the adapter has them with matching shapes.
fn factors<'a, T>(adapter: &'a Adapter<T>, module: &ModuleId, weight: &Array2<T>) -> Option<[&'a Array2<T>; 2]> {
    let [a, b] = factor_names(module).map(|name| adapter.tensors.get(&name));
    let (a, b) = (a?, b?);
    ((b.nrows(), a.ncols()) == weight.dim() && b.ncols() == a.nrows()).then_some([a, b])
}
