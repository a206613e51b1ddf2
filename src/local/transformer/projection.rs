//! A linear map with its adapters: `y = x · Wᵀ + bias + scale · (x · Aᵀ) · Bᵀ`.

use ndarray::{Array1, Array2, ArrayView2};

use super::lora::{AdaptedRows, Factors, Lora, LoraGradient};
use super::modules::Place;
use super::ops::product;
use super::views::{rows, rows_mut};
use crate::local::kernel::{Real, Weight, add_product, linear, linear_backward};

/// A linear map at a place in the network, which adapters may change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear<'a, T> {
    pub(super) weight: &'a Weight<T>,
    pub(super) bias: Option<&'a Array1<T>>,
    pub(super) place: Place,
}

/// The result of a [`Linear`].
#[derive(Debug)]
pub(super) struct Projected<T> {
    pub(super) output: Array2<T>,
    /// `x · Aᵀ` of each adapter's rows, if it changes this map. The backward pass, which has one adapter, needs it.
    pub(super) reduced: Vec<Array2<T>>,
}

/// What the backward pass is about: the gradient with respect to this adapter.
#[derive(Debug)]
pub(super) struct Backward<'a, 'g, T> {
    pub(super) lora: &'a Lora<'a, T>,
    pub(super) gradient: &'a mut LoraGradient<'g, T>,
}

impl<T: Real> Linear<'_, T> {
    /// Rows × inputs to rows × outputs.
    pub(super) fn forward(&self, x: ArrayView2<'_, T>, adapters: &[AdaptedRows<'_, T>]) -> Projected<T> {
        let mut output = linear(x, self.weight);
        if let Some(bias) = self.bias {
            output += bias;
        }
        let mut reduced = Vec::new();
        for AdaptedRows { rows: range, lora } in adapters {
            if let Some(Factors { a, b, scale }) = lora.at(self.place) {
                let low = product(rows(x, range.clone()), a.t());
                add_product(scale, low.view(), b.t(), rows_mut(output.view_mut(), range.clone()));
                reduced.push(low);
            }
        }
        Projected { output, reduced }
    }

    /// Adds the gradient with respect to the adapter, and returns the one with respect to `x`. `reduced` is that of
    /// [`forward`](Self::forward) with one adapter for all rows.
    pub(super) fn backward(
        &self,
        dy: ArrayView2<'_, T>,
        x: ArrayView2<'_, T>,
        reduced: &[Array2<T>],
        pass: &mut Backward<'_, '_, T>,
    ) -> Array2<T> {
        let mut dx = linear_backward(dy, self.weight);
        let (factors, gradient) = (pass.lora.at(self.place), pass.gradient.at(self.place));
        if let (Some(Factors { a, b, scale }), Some([da, db]), [low]) = (factors, gradient, reduced) {
            let dlow = product(dy, b.view());
            add_product(scale, dlow.view(), a.view(), dx.view_mut());
            add_product(scale, dlow.t(), x, da.view_mut());
            add_product(scale, dy.t(), low.view(), db.view_mut());
        }
        dx
    }
}
