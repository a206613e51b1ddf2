//! Data for the tests of custom losses, and finite differences.
#![allow(clippy::unwrap_used, reason = "a failing test panics")]

use ndarray::{Array1, array};

use crate::error::Result;
use crate::training::CustomLoss;
use crate::types::{Datum, ModelInput};

pub(super) fn data() -> Vec<Datum> {
    let datum = |tokens: u32| Datum::new(ModelInput::from_tokens((0..tokens).collect::<Vec<_>>()));
    vec![
        datum(3).input("weights", [0.0_f32, 1.0, 0.5]).unwrap(),
        datum(2),
        datum(1),
        datum(3).input("weights", [2.0_f32, 1.0, 1.0]).unwrap(),
    ]
}

pub(super) fn logprobs() -> Vec<Array1<f32>> {
    vec![array![-0.3, -1.7, -2.2], array![-0.9, -0.1], array![-3.0], array![-1.1, -0.6, -2.4]]
}

pub(super) fn others() -> Vec<Array1<f32>> {
    vec![array![-0.5, -1.2, -2.0], array![-0.4, -0.7], array![-2.5], array![-1.4, -0.2, -2.9]]
}

/// Compares the gradients with central differences of the loss.
pub(super) fn assert_gradients_match(
    data: &[Datum],
    at: &[Array1<f32>],
    loss: impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss>,
) {
    let gradients = loss(data, at).unwrap().gradients;
    assert_eq!(gradients.len(), at.len());
    for (index, gradient) in gradients.iter().enumerate() {
        assert_eq!(gradient.len(), at[index].len());
        for (token, gradient) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut moved = at.to_vec();
                moved[index][token] += by;
                (loss(data, &moved).unwrap().loss, f64::from(moved[index][token]))
            };
            let ((above, right), (below, left)) = (moved(1e-3), moved(-1e-3));
            let difference = (above - below) / (right - left);
            let gradient = f64::from(*gradient);
            let near = (difference - gradient).abs() < 1e-5 * gradient.abs().max(1.0);
            assert!(near, "{index} {token}: {gradient} {difference}");
        }
    }
}
