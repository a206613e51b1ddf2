//! The Adam optimizer, over named tensors and independent of any model.
//!
//! ```
//! use tinkex::local::adam::{Adam, AdamOptions};
//! use tinkex::local::model::Tensors;
//! use tinkex::ndarray::array;
//!
//! let mut weights = Tensors::from([("a".to_owned(), array![[1.0, -1.0]])]);
//! let gradient = Tensors::from([("a".to_owned(), array![[0.5, -2.0]])]);
//! Adam::default().step(&mut weights, &gradient, &AdamOptions::new().learning_rate(0.1));
//! // The first step moves every weight by the learning rate, whatever the size of its gradient.
//! assert!((&weights["a"] - &array![[0.9, -0.9]]).iter().all(|difference| difference.abs() < 1e-6));
//! ```

use ndarray::{Array2, Zip};

use super::model::Tensors;

/// The hyperparameters of one step; Tinker's [`AdamParams`](crate::types::AdamParams).
///
/// The defaults are Tinker's: learning rate 1e-4, betas 0.9 and 0.95, eps 1e-12, no weight decay and no gradient clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamOptions {
    /// Step size; roughly the maximum change of a weight in one step.
    pub learning_rate: f32,
    /// Decay rate of the first moment, the running mean of the gradient.
    pub beta1: f32,
    /// Decay rate of the second moment, the running mean of the squared gradient.
    pub beta2: f32,
    /// Added to the denominator to avoid division by zero.
    pub eps: f32,
    /// Each step shrinks every weight by this fraction times the learning rate, decoupled from the gradient (Loshchilov &
    /// Hutter 2019, "Decoupled weight decay regularization"). Zero disables it.
    pub weight_decay: f32,
    /// Maximum norm of the gradient over all tensors together; a larger gradient is scaled down to it. Zero disables
    /// clipping.
    pub grad_clip_norm: f32,
}

impl Default for AdamOptions {
    fn default() -> Self {
        AdamOptions { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
    }
}

impl AdamOptions {
    /// The defaults: learning rate 1e-4, betas 0.9 and 0.95, eps 1e-12, no weight decay, no gradient clipping.
    #[must_use]
    pub fn new() -> Self {
        AdamOptions::default()
    }

    /// Sets the learning rate. Defaults to 1e-4.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f32) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Sets the decay rate of the first moment. Defaults to 0.9.
    #[must_use]
    pub fn beta1(mut self, beta1: f32) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Sets the decay rate of the second moment. Defaults to 0.95.
    #[must_use]
    pub fn beta2(mut self, beta2: f32) -> Self {
        self.beta2 = beta2;
        self
    }

    /// Sets the term added to the denominator. Defaults to 1e-12.
    #[must_use]
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the weight decay. Defaults to 0, none.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f32) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the maximum norm of the gradient. Defaults to 0, no clipping.
    #[must_use]
    pub fn grad_clip_norm(mut self, grad_clip_norm: f32) -> Self {
        self.grad_clip_norm = grad_clip_norm;
        self
    }
}

/// The state of the optimizer: running moments of the gradient (Kingma & Ba 2015, "Adam: a method for stochastic
/// optimization", algorithm 1).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Adam {
    /// Number of steps taken.
    pub step: u64,
    /// First moment by tensor: running mean of the gradient.
    pub m: Tensors,
    /// Second moment by tensor: running mean of the squared gradient.
    pub v: Tensors,
}

impl Adam {
    /// Updates every tensor by one step.
    ///
    /// A tensor without a gradient of the same shape is treated as having a zero gradient: its moments decay, and it still
    /// moves by what remains of the first.
    pub fn step(&mut self, tensors: &mut Tensors, gradient: &Tensors, options: &AdamOptions) {
        self.step += 1;
        let AdamOptions { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm } = *options;
        let clip = clip_coefficient(gradient, grad_clip_norm);
        // Both moments start at zero and are biased toward it (section 3 of the paper). In double precision: for a
        // beta close to 1, 1 − betaⁿ cancels to few digits or to zero in single precision.
        let bias_correction1 = (1.0 / (1.0 - f64::from(beta1).powf(self.step as f64))) as f32;
        let bias_correction2 = (1.0 / (1.0 - f64::from(beta2).powf(self.step as f64))) as f32;
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
                *parameter -= learning_rate * (*m * bias_correction1) / ((*v * bias_correction2).sqrt() + eps);
            });
        }
    }
}

/// The factor that scales a gradient down to `max_norm`; 1 if it is not larger. As PyTorch's `clip_grad_norm_`.
fn clip_coefficient(gradient: &Tensors, max_norm: f32) -> f32 {
    if max_norm <= 0.0 {
        return 1.0;
    }
    let norm = gradient.values().flatten().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    (f64::from(max_norm) / (norm + 1e-6)).min(1.0) as f32
}

/// The moment of a tensor, initially zero.
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
    fn two_steps_match_values_computed_by_hand() {
        let options = AdamOptions { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, ..AdamOptions::default() };
        let (mut adam, mut weights) = (Adam::default(), one(1.0));

        // m = 0.1 · 2 = 0.2, v = 0.01 · 4 = 0.04; corrected 2 and 4; 1 − 0.1 · 2 / √4 = 0.9
        adam.step(&mut weights, &one(2.0), &options);
        assert!((weights["w"][[0, 0]] - 0.9).abs() < 1e-6);

        // m = 0.18 − 0.1 = 0.08, v = 0.0396 + 0.01 = 0.0496; corrected 0.08 / 0.19 and 0.0496 / 0.0199;
        // 0.9 − 0.1 · 0.421053 / √2.492462 = 0.873330
        adam.step(&mut weights, &one(-1.0), &options);
        assert!((weights["w"][[0, 0]] - 0.873_330).abs() < 1e-6, "{}", weights["w"][[0, 0]]);
        assert_eq!(adam.step, 2);
    }

    #[test]
    fn first_step_is_independent_of_gradient_scale() {
        let options = AdamOptions { learning_rate: 0.01, ..AdamOptions::default() };
        for gradient in [1e-6, 1.0, -1e6] {
            let mut weights = one(0.0);
            Adam::default().step(&mut weights, &one(gradient), &options);
            assert!((weights["w"][[0, 0]] + 0.01 * gradient.signum()).abs() < 1e-7, "{gradient}");
        }
    }

    #[test]
    fn tensor_without_gradient_is_unchanged() {
        let options = AdamOptions { learning_rate: 0.1, ..AdamOptions::default() };
        let mut weights = one(3.0);
        Adam::default().step(&mut weights, &Tensors::new(), &options);
        assert_eq!(weights, one(3.0));
    }

    #[test]
    fn weight_decay_is_decoupled() {
        let options = AdamOptions { learning_rate: 0.1, weight_decay: 0.5, ..AdamOptions::default() };
        let mut weights = one(2.0);
        Adam::default().step(&mut weights, &Tensors::new(), &options);
        assert!((weights["w"][[0, 0]] - 1.9).abs() < 1e-6);
    }

    #[test]
    fn gradient_is_clipped_by_its_global_norm() {
        let gradient = || Tensors::from([("a".to_owned(), array![[3.0]]), ("b".to_owned(), array![[0.0, 4.0]])]);
        for (max_norm, scale) in [(0.0, 1.0), (10.0, 1.0), (1.0, 0.2)] {
            let (mut adam, mut weights) = (Adam::default(), gradient());
            adam.step(&mut weights, &gradient(), &AdamOptions { grad_clip_norm: max_norm, ..AdamOptions::default() });
            assert!((adam.m["a"][[0, 0]] - 0.1 * 3.0 * scale).abs() < 1e-6, "{max_norm}");
            assert!((adam.m["b"][[0, 1]] - 0.1 * 4.0 * scale).abs() < 1e-6, "{max_norm}");
        }
    }
}
