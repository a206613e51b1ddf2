//! The Adam optimiser, over named tensors and independent of any model.
//!
//! ```
//! use ndarray::array;
//! use tinkex::local::adam::{Adam, AdamStep};
//! use tinkex::local::model::Tensors;
//!
//! let mut weights = Tensors::from([("a".to_owned(), array![[1.0, -1.0]])]);
//! let gradient = Tensors::from([("a".to_owned(), array![[0.5, -2.0]])]);
//! Adam::default().step(&mut weights, &gradient, &AdamStep { learning_rate: 0.1, ..AdamStep::default() });
//! // The first step goes as far as the learning rate, whatever the size of the gradient.
//! assert!((&weights["a"] - &array![[0.9, -0.9]]).iter().all(|off| off.abs() < 1e-6));
//! ```

use ndarray::{Array2, Zip};

use super::model::Tensors;

/// The parameters of one step; Tinker's `AdamParams`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// How far a step goes at most, roughly.
    pub learning_rate: f32,
    /// Decay of the mean of the gradients.
    pub beta1: f32,
    /// Decay of the mean of their squares.
    pub beta2: f32,
    /// Added to the root of the latter, against division by zero.
    pub eps: f32,
    /// How much of itself every weight loses, times the learning rate: decoupled from the gradient (Loshchilov & Hutter
    /// 2019, "Decoupled weight decay regularization"). Zero for none.
    pub weight_decay: f32,
    /// The longest gradient, as the norm over all tensors together; a longer one is shortened to it. Zero for no limit.
    pub grad_clip_norm: f32,
}

impl Default for AdamStep {
    /// Tinker's: learning rate 1e-4, betas 0.9 and 0.95, eps 1e-12, neither decay nor clipping.
    fn default() -> Self {
        AdamStep { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
    }
}

/// Running moments of a gradient (Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adam {
    /// Steps taken so far.
    pub step: u64,
    /// Decaying mean of the gradient, by tensor.
    pub m: Tensors,
    /// Decaying mean of its square, by tensor.
    pub v: Tensors,
}

impl Adam {
    /// Moves every tensor against its gradient.
    ///
    /// A tensor without a gradient of its own shape counts as one whose gradient is zero: its moments decay and it
    /// goes on by what is left of them.
    pub fn step(&mut self, tensors: &mut Tensors, gradient: &Tensors, params: &AdamStep) {
        self.step += 1;
        let AdamStep { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm } = *params;
        let clip = shortening(gradient, grad_clip_norm);
        // Both means start at zero and are too small by these factors (section 3 of the paper). In double precision,
        // because beta2 to the n-th rounds to 1 in single precision sooner.
        let unbias1 = (1.0 / (1.0 - f64::from(beta1).powf(self.step as f64))) as f32;
        let unbias2 = (1.0 / (1.0 - f64::from(beta2).powf(self.step as f64))) as f32;
        for (name, tensor) in tensors {
            let zero = Array2::zeros(tensor.raw_dim());
            let gradient = gradient.get(name).filter(|gradient| gradient.dim() == tensor.dim()).unwrap_or(&zero);
            let m = moment(&mut self.m, name, tensor);
            let v = moment(&mut self.v, name, tensor);
            Zip::from(tensor).and(m).and(v).and(gradient).for_each(|parameter, m, v, &gradient| {
                let gradient = clip * gradient;
                *parameter -= learning_rate * weight_decay * *parameter;
                *m = beta1 * *m + (1.0 - beta1) * gradient;
                *v = beta2 * *v + (1.0 - beta2) * gradient * gradient;
                *parameter -= learning_rate * (*m * unbias1) / ((*v * unbias2).sqrt() + eps);
            });
        }
    }
}

/// What a gradient is to be multiplied by so that it is not longer than `most`, as PyTorch's `clip_grad_norm_` does.
fn shortening(gradient: &Tensors, most: f32) -> f32 {
    if most <= 0.0 {
        return 1.0;
    }
    let squares: f64 = gradient.values().flatten().map(|&slope| f64::from(slope).powi(2)).sum();
    (f64::from(most) / (squares.sqrt() + 1e-6)).min(1.0) as f32
}

/// The moment kept for a tensor, zero at first.
fn moment<'a>(moments: &'a mut Tensors, name: &str, like: &Array2<f32>) -> &'a mut Array2<f32> {
    let moment = moments.entry(name.to_owned()).or_default();
    if moment.dim() != like.dim() {
        *moment = Array2::zeros(like.raw_dim());
    }
    moment
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn one(value: f32) -> Tensors {
        Tensors::from([("w".to_owned(), array![[value]])])
    }

    #[test]
    fn two_steps_give_the_numbers_worked_out_by_hand() {
        let params = AdamStep { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, ..AdamStep::default() };
        let (mut adam, mut weights) = (Adam::default(), one(1.0));

        // m = 0.1 · 2 = 0.2, v = 0.01 · 4 = 0.04; unbiased 2 and 4; 1 − 0.1 · 2 / √4 = 0.9
        adam.step(&mut weights, &one(2.0), &params);
        assert!((weights["w"][[0, 0]] - 0.9).abs() < 1e-6);

        // m = 0.18 − 0.1 = 0.08, v = 0.0396 + 0.01 = 0.0496; unbiased 0.08 / 0.19 and 0.0496 / 0.0199;
        // 0.9 − 0.1 · 0.421053 / √2.492462 = 0.873330
        adam.step(&mut weights, &one(-1.0), &params);
        assert!((weights["w"][[0, 0]] - 0.873_330).abs() < 1e-6, "{}", weights["w"][[0, 0]]);
        assert_eq!(adam.step, 2);
    }

    #[test]
    fn a_first_step_is_as_long_as_the_learning_rate_whatever_the_gradients_scale() {
        let params = AdamStep { learning_rate: 0.01, ..AdamStep::default() };
        for gradient in [1e-6, 1.0, -1e6] {
            let mut weights = one(0.0);
            Adam::default().step(&mut weights, &one(gradient), &params);
            assert!((weights["w"][[0, 0]] + 0.01 * gradient.signum()).abs() < 1e-7, "{gradient}");
        }
    }

    #[test]
    fn a_tensor_without_gradient_stays_where_it_is() {
        let params = AdamStep { learning_rate: 0.1, ..AdamStep::default() };
        let mut weights = one(3.0);
        Adam::default().step(&mut weights, &Tensors::new(), &params);
        assert_eq!(weights, one(3.0));
    }

    #[test]
    fn weight_decay_is_apart_from_the_gradient() {
        let params = AdamStep { learning_rate: 0.1, weight_decay: 0.5, ..AdamStep::default() };
        let mut weights = one(2.0);
        Adam::default().step(&mut weights, &Tensors::new(), &params);
        assert!((weights["w"][[0, 0]] - 1.9).abs() < 1e-6);
    }

    #[test]
    fn a_long_gradient_is_shortened_over_all_tensors_together_and_a_short_one_is_not() {
        let gradient = || Tensors::from([("a".to_owned(), array![[3.0]]), ("b".to_owned(), array![[0.0, 4.0]])]);
        for (most, scale) in [(0.0, 1.0), (10.0, 1.0), (1.0, 0.2)] {
            let (mut adam, mut weights) = (Adam::default(), gradient());
            adam.step(&mut weights, &gradient(), &AdamStep { grad_clip_norm: most, ..AdamStep::default() });
            assert!((adam.m["a"][[0, 0]] - 0.1 * 3.0 * scale).abs() < 1e-6, "{most}");
            assert!((adam.m["b"][[0, 1]] - 0.1 * 4.0 * scale).abs() < 1e-6, "{most}");
        }
    }
}
