//! Rotary positions (Su et al. 2021, "RoFormer"): within each head, the features i and i + half are rotated by an angle
//! proportional to the position, so that the product of a query and a key depends on their distance.

#[cfg(any(test, feature = "pretrained"))]
use std::f64::consts::TAU;

use ndarray::{Array2, ArrayViewMut2, Axis, Zip};

use super::config::ModelConfig;
use super::ops::rows_in_parallel;
use super::splitmix::real;
use crate::local::kernel::Real;

/// The angles of a model.
#[derive(Debug)]
pub(super) struct Rotary {
    /// The angle per position of each pair of features of a head.
    frequencies: Vec<f64>,
}

impl Rotary {
    pub(super) fn new(config: &ModelConfig) -> Rotary {
        let mut frequencies = frequencies(config.head_size, config.rope_theta);
        if let Some(divisors) = &config.rope_divisors {
            frequencies.iter_mut().zip(divisors).for_each(|(frequency, divisor)| *frequency /= divisor);
        }
        Rotary { frequencies }
    }

    /// The rotations of rows whose tokens are at these positions.
    pub(super) fn at<T: Real>(&self, positions: &[usize]) -> Rotation<T> {
        let cos_sin = Array2::from_shape_fn((positions.len(), self.frequencies.len()), |(row, pair)| {
            let angle = positions[row] as f64 * self.frequencies[pair];
            (real(angle.cos()), real(angle.sin()))
        });
        Rotation { cos_sin }
    }
}

fn frequencies(head_size: usize, theta: f64) -> Vec<f64> {
    let half = head_size / 2;
    (0..half).map(|pair| theta.powf(-(pair as f64) / half as f64)).collect()
}

/// The divisors of the frequencies that stretch the context of Llama 3.1 and later: slow frequencies are divided by `factor`,
/// fast ones stay, those between change from one to the other. Fast is what turns more than `high_freq_factor` times within
/// `original_context` tokens, slow what turns less than `low_freq_factor` times.
#[cfg(any(test, feature = "pretrained"))]
pub(in crate::local) fn llama3_divisors(
    head_size: usize,
    theta: f64,
    factor: f64,
    [low_freq_factor, high_freq_factor]: [f64; 2],
    original_context: f64,
) -> Vec<f64> {
    let divisor = |frequency: f64| {
        let turns = original_context * frequency / TAU;
        let fast = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
        ((1.0 - fast) / factor + fast).recip()
    };
    frequencies(head_size, theta).into_iter().map(divisor).collect()
}

/// The rotations of the rows of a batch.
#[derive(Debug)]
pub(super) struct Rotation<T> {
    /// Cosine and sine for each row and pair of features of a head.
    cos_sin: Array2<(T, T)>,
}

impl<T: Real> Rotation<T> {
    /// Rotates each head of each row.
    pub(super) fn rotate(&self, rows: &mut Array2<T>) {
        self.rotate_by(rows, T::one());
    }

    /// The backward function: a gradient is multiplied by the transpose of the rotation, which is its inverse.
    pub(super) fn rotate_backward(&self, rows: &mut Array2<T>) {
        self.rotate_by(rows, -T::one());
    }

    fn rotate_by(&self, rows: &mut Array2<T>, sign: T) {
        let half = self.cos_sin.ncols();
        rows_in_parallel([rows], |first, [mut rows]: [ArrayViewMut2<'_, T>; 1]| {
            for (index, mut row) in rows.rows_mut().into_iter().enumerate() {
                let cos_sin = self.cos_sin.row(first + index);
                for head in row.exact_chunks_mut(2 * half) {
                    let (first, second) = head.split_at(Axis(0), half);
                    Zip::from(first).and(second).and(cos_sin).for_each(|first, second, &(cos, sin)| {
                        let sin = sign * sin;
                        (*first, *second) = (*first * cos - *second * sin, *first * sin + *second * cos);
                    });
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_divides_slow_frequencies_only() {
        let divisors = llama3_divisors(64, 500_000.0, 8.0, [1.0, 4.0], 8192.0);
        assert_eq!((divisors.len(), divisors[0], divisors[31]), (32, 1.0, 8.0));
        assert!(divisors.is_sorted() && divisors.iter().any(|&divisor| divisor > 1.0 && divisor < 8.0));
    }
}
