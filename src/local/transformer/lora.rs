//! Low-rank adaptation (Hu et al. 2021, "LoRA"): a projection `W` becomes `W + (alpha / rank) · B · A`.
//!
//! The sum is never computed: a row `x` becomes `x · Wᵀ + (alpha / rank) · (x · Aᵀ) · Bᵀ`, so that the frozen weights exist once
//! for all adapters, and have no gradient.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::Array2;

use super::modules::{Adaptable, Place};
use super::splitmix::{SplitMix64, real};
use crate::local::kernel::Real;
use crate::local::model::{Adapter, AdapterOptions, Tensors};

/// Tinker's value (Schulman et al. 2025, "LoRA without regret"). With a fixed alpha, the division by the rank makes the best
/// learning rate nearly independent of the rank.
pub(in crate::local) const ALPHA: f64 = 32.0;

/// A new adapter: `A` random as in PEFT (uniform, bounded by 1/√inputs), and `B` zero.
pub(super) fn init<T: Real>(modules: &[Adaptable], options: &AdapterOptions) -> Adapter<T> {
    let mut random = SplitMix64::new(options.seed);
    let mut tensors = Tensors::new();
    for module in modules.iter().filter(|module| module.is_changed_by(options)) {
        let [a, b] = module.names.clone();
        let std_dev = (3.0 * module.inputs as f64).sqrt().recip();
        tensors.insert(a, random.matrix((options.rank, module.inputs), std_dev));
        tensors.insert(b, Array2::zeros((module.outputs, options.rank)));
    }
    Adapter { options: options.clone(), tensors }
}

/// An adapter, with its tensors in their places in a model.
#[derive(Debug)]
pub(super) struct Lora<'a, T> {
    factors: Vec<Option<Factors<'a, T>>>,
}

/// The factors of one projection's change: `scale` · B · A.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors<'a, T> {
    /// Rank × inputs.
    pub(super) a: &'a Array2<T>,
    /// Outputs × rank.
    pub(super) b: &'a Array2<T>,
    pub(super) scale: T,
}

/// Rows of a batch that an adapter applies to.
#[derive(Clone, Debug)]
pub(super) struct AdaptedRows<'a, T> {
    pub(super) rows: Range<usize>,
    pub(super) lora: &'a Lora<'a, T>,
}

impl<'a, T: Real> Lora<'a, T> {
    /// The adapter's tensors, as far as they fit the model.
    pub(super) fn new(modules: &[Adaptable], adapter: &'a Adapter<T>) -> Lora<'a, T> {
        let scale = real(ALPHA / adapter.options.rank.max(1) as f64);
        let factors = modules.iter().map(|module| {
            let [a, b] = module.names.each_ref().map(|name| adapter.tensors.get(name));
            let (a, b) = (a?, b?);
            let fits = (b.nrows(), a.ncols()) == (module.outputs, module.inputs) && b.ncols() == a.nrows();
            fits.then_some(Factors { a, b, scale })
        });
        Lora { factors: factors.collect() }
    }

    pub(super) fn at(&self, place: Place) -> Option<Factors<'a, T>> {
        self.factors.get(place.index()).copied().flatten()
    }

    /// Whether it changes anything in this layer or a lower one.
    pub(super) fn reaches(&self, layer: usize) -> bool {
        self.factors.iter().take(Place::end_of_layer(layer)).any(Option::is_some)
    }
}

/// The gradient with respect to an adapter, in the places of its tensors.
#[derive(Debug)]
pub(super) struct LoraGradient<'a, T> {
    factors: Vec<Option<[&'a mut Array2<T>; 2]>>,
}

impl<'a, T: Real> LoraGradient<'a, T> {
    /// The entries of the tensors that `lora` has; those that are missing are created, with zeros.
    pub(super) fn new(modules: &[Adaptable], lora: &Lora<'_, T>, gradient: &'a mut Tensors<T>) -> LoraGradient<'a, T> {
        for (module, factors) in modules.iter().zip(&lora.factors) {
            let Some(Factors { a, b, .. }) = factors else { continue };
            for (name, tensor) in module.names.iter().zip([a, b]) {
                let entry = gradient.entry(name.clone()).or_insert_with(|| Array2::zeros(tensor.raw_dim()));
                if entry.dim() != tensor.dim() {
                    *entry = Array2::zeros(tensor.raw_dim());
                }
            }
        }
        let mut entries: BTreeMap<&str, &mut Array2<T>> =
            gradient.iter_mut().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let factors = modules.iter().zip(&lora.factors).map(|(module, factors)| {
            let _ = factors.as_ref()?;
            let [a, b] = module.names.each_ref().map(|name| entries.remove(name.as_str()));
            Some([a?, b?])
        });
        LoraGradient { factors: factors.collect() }
    }

    pub(super) fn at(&mut self, place: Place) -> Option<&mut [&'a mut Array2<T>; 2]> {
        self.factors.get_mut(place.index())?.as_mut()
    }
}
