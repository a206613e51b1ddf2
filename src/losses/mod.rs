//! Losses beside those of the service: preferences between pairs, and distillation of another model.
//!
//! | loss | use | model |
//! |---|---|---|
//! | direct preference optimization | `dpo` | custom loss, with reference log-probabilities |
//! | Bradley-Terry | `bradley_terry` | custom loss, without a reference |
//! | on-policy distillation | [`on_policy_distillation`] | advantages for [`LossFn::ImportanceSampling`](crate::types::LossFn::ImportanceSampling) |
//! | off-policy distillation, with K targets for each position | [`soft_targets()`] | datums for [`LossFn::CrossEntropy`](crate::types::LossFn::CrossEntropy) |
//! | the same with log-probabilities of the teacher | `forward_kl`, `reverse_kl` | custom loss |
//! | squared error of log-probabilities | `squared_error` | custom loss |
//!
//! # Custom losses
//!
//! With the feature `ndarray`, which is on by default: for `forward_backward_custom` of a
//! [`TrainingClient`](crate::TrainingClient), and examples for custom losses of your own.
//!
//! Each function returns a function of the datums and their log-probabilities. A datum's loss input `weights`, if present,
//! contains the weight of each token; otherwise each token has weight 1. A token of weight 0 does not count, also if its
//! log-probability is infinite or NaN.
//!
//! ```no_run
//! # fn f(trainer: tinkex::TrainingClient, pairs: tinkex::types::Batch) -> tinkex::Result<()> {
//! use tinkex::losses;
//! use tinkex::types::{AdamParams, LossFn};
//!
//! // The reference: the log-probabilities before training.
//! let before = trainer.forward(&pairs, LossFn::CrossEntropy)?;
//! let reference: Vec<_> =
//!     before.loss_fn_outputs.iter().filter_map(|output| output.logprobs()).map(|logprobs| logprobs.to_vec().into()).collect();
//! for _ in 0..10 {
//!     let output = trainer.forward_backward_custom(&pairs, losses::dpo(&reference, 0.1))?;
//!     trainer.optim_step(AdamParams::default())?;
//!     println!("{} {}", output.metrics["dpo_loss"], output.metrics["accuracy"]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Writing a loss of your own
//!
//! A loss is a function of the log-probabilities *x* of the target tokens. It returns its value, and its derivative with respect to
//! each of them, which the client sends back to the model. Take DPO of one pair, where *w* are the weights and *r* the
//! log-probabilities of the reference:
//!
//! 1. Write the loss as steps, from the log-probabilities on:
//!    ratio = Σ *w* (*x* − *r*) for each completion, margin = ratio(chosen) − ratio(rejected), loss = −log σ(*β* margin).
//! 2. Take the derivative of each step:
//!    d ratio/d*x* = *w*; d margin/d ratio = 1 for the chosen completion, −1 for the rejected one;
//!    d loss/d margin = −*β* σ(−*β* margin).
//! 3. Multiply them along the way: d loss/d*x* = −*β* σ(−*β* margin) · (1 or −1) · *w*.
//!
//! ```
//! use tinkex::ndarray::{Array1, array};
//! use tinkex::types::Datum;
//! use tinkex::CustomLoss;
//!
//! /// DPO of one pair, with a weight of 1 for each token.
//! fn preference(reference: &[Array1<f32>], logprobs: &[Array1<f32>]) -> CustomLoss {
//!     let beta = 0.1;
//!     let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
//!     let ratio = |index: usize| (&logprobs[index] - &reference[index]).sum();
//!     let margin = ratio(0) - ratio(1);
//!     let loss = -f64::from(sigmoid(beta * margin).ln());
//!     let slope = -beta * sigmoid(-beta * margin);
//!     let gradients = vec![logprobs[0].mapv(|_| slope), logprobs[1].mapv(|_| -slope)];
//!     CustomLoss::new(loss, gradients).metric("margin", f64::from(margin))
//! }
//!
//! let reference = [array![-1.0_f32, -2.0], array![-1.5_f32]];
//! let logprobs = [array![-0.5_f32, -1.0], array![-2.0_f32]];
//! let computed = preference(&reference, &logprobs);
//!
//! // Check a gradient by hand before you train with it: move one log-probability a little, and look at the loss.
//! let loss_at = |moved: f32| preference(&reference, &[array![-0.5 + moved, -1.0], array![-2.0_f32]]).loss;
//! let slope = (loss_at(0.1) - loss_at(-0.1)) / 0.2;
//! assert!((slope - f64::from(computed.gradients[0][0])).abs() < 1e-4);
//!
//! // `losses::dpo` is the same, with weights, several pairs and no overflow.
//! let data = vec![Datum::new([1, 2]), Datum::new([1])];
//! let ready_made = tinkex::losses::dpo(&reference, 0.1)(&data, &logprobs)?;
//! assert!((ready_made.loss - computed.loss).abs() < 1e-6);
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! Train with it through `forward_backward_custom`:
//! `|_data, logprobs| Ok::<_, Infallible>(preference(&reference, logprobs))`.

#[cfg(feature = "ndarray")]
mod checks;
#[cfg(feature = "ndarray")]
mod divergence;
mod on_policy;
#[cfg(feature = "ndarray")]
mod pairwise;
mod soft_targets;
#[cfg(feature = "ndarray")]
mod squared_error;
#[cfg(all(test, feature = "ndarray"))]
mod testing;

#[cfg(feature = "ndarray")]
pub use divergence::{forward_kl, reverse_kl};
pub use on_policy::on_policy_distillation;
#[cfg(feature = "ndarray")]
pub use pairwise::{bradley_terry, dpo};
pub use soft_targets::soft_targets;
#[cfg(feature = "ndarray")]
pub use squared_error::squared_error;
