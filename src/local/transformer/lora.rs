//! Low-rank adaptation (Hu et al. 2021, "LoRA"): a projection `W` becomes `W + (alpha / rank) · B · A`.
//!
//! The sum is formed once per call and the network runs on it, forward and backward, without knowing of adapters:
//! with derivative `dW`, that of `A` is `(alpha / rank) · Bᵀ · dW` and that of `B` is `(alpha / rank) · dW · Aᵀ`. At
//! this model's size that is also quicker than two thin products per projection and token.

use ndarray::{Array2, NdFloat, linalg::general_mat_mul};

use super::{
    network::{Part, Place, Projections},
    random::{Random, real},
};
use crate::local::model::{Adapter, AdapterOptions, Tensors};

/// Tinker's own (Schulman et al. 2025, "LoRA without regret"): held fixed while the change is divided by the rank, it
/// makes the best learning rate nearly independent of the rank.
pub(in crate::local) const ALPHA: f64 = 32.0;

impl AdapterOptions {
    fn adapts(&self, part: Part) -> bool {
        match part {
            Part::Attention => self.train_attn,
            Part::Mlp => self.train_mlp,
            Part::Unembed => self.train_unembed,
        }
    }
}

fn scale<T: NdFloat>(options: &AdapterOptions) -> T {
    real(ALPHA / options.rank.max(1) as f64)
}

/// The names of `A` and `B` for a projection.
fn names(place: &Place) -> [String; 2] {
    ["lora_A", "lora_B"].map(|factor| format!("base_model.model.{}.{factor}.weight", place.name))
}

/// An adapter with random `A`, as PEFT draws it (uniform, at most one over the root of the inputs), and `B` zero.
pub(super) fn fresh<T: NdFloat>(base: &Projections<T>, options: &AdapterOptions) -> Adapter<T> {
    let mut random = Random::new(options.seed);
    let mut tensors = Tensors::new();
    for (place, weight) in base.placed() {
        if options.adapts(place.part) {
            let (outputs, inputs) = weight.dim();
            let [a, b] = names(&place);
            tensors.insert(a, random.matrix((options.rank, inputs), (3.0 * inputs as f64).sqrt().recip()));
            tensors.insert(b, Array2::zeros((outputs, options.rank)));
        }
    }
    Adapter { options: options.clone(), tensors }
}

/// The base projections with the adapter's changes. Tensors of other names or sizes than the model's own change
/// nothing.
pub(super) fn merge<T: NdFloat>(base: &Projections<T>, adapter: &Adapter<T>) -> Projections<T> {
    let mut merged = base.clone();
    for (place, weight) in merged.placed_mut() {
        if let Some([a, b]) = factors(adapter, &place, weight) {
            general_mat_mul(scale(&adapter.options), b, a, T::one(), weight);
        }
    }
    merged
}

/// Adds the derivatives with respect to the adapter to `gradient`, given those with respect to the merged projections.
pub(super) fn add_gradient<T: NdFloat>(slopes: &Projections<T>, adapter: &Adapter<T>, gradient: &mut Tensors<T>) {
    for (place, slope) in slopes.placed() {
        if let Some([a, b]) = factors(adapter, &place, slope) {
            let [a_name, b_name] = names(&place);
            let sum = gradient.entry(a_name).or_insert_with(|| Array2::zeros(a.raw_dim()));
            general_mat_mul(scale(&adapter.options), &b.t(), slope, T::one(), sum);
            let sum = gradient.entry(b_name).or_insert_with(|| Array2::zeros(b.raw_dim()));
            general_mat_mul(scale(&adapter.options), slope, &a.t(), T::one(), sum);
        }
    }
}

/// `A` and `B` for a projection, if they fit it.
fn factors<'a, T>(adapter: &'a Adapter<T>, place: &Place, weight: &Array2<T>) -> Option<[&'a Array2<T>; 2]> {
    let [a, b] = names(place).map(|name| adapter.tensors.get(&name));
    let (a, b) = (a?, b?);
    ((b.nrows(), a.ncols()) == weight.dim() && b.ncols() == a.nrows()).then_some([a, b])
}
