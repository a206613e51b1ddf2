//! Functions of the rows of activations, each with its backward function, on slices of equal lengths.
//!
//! They are loops that the compiler turns into vector instructions, inlined where [`Arch`] has chosen which.

use pulp::Arch;

use super::real::Real;

/// How many parts a sum has: several vectors, so that additions do not wait for each other.
const LANES: usize = 32;

/// Logits to probabilities, in place. Subtracts the maximum first, so that nothing overflows.
pub(crate) fn softmax<T: Real>(row: &mut [T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let largest = largest(row);
            for x in &mut *row {
                *x = (*x - largest).exponential();
            }
            let scale = sum(row, |x| x).recip();
            for x in row {
                *x *= scale;
            }
        },
    );
}

/// The gradient of [`softmax`] with respect to the logits, in place of the one with respect to the probabilities.
pub(crate) fn softmax_backward<T: Real>(dy: &mut [T], probabilities: &[T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mean = dot(dy, probabilities);
            for (dy, &probability) in dy.iter_mut().zip(probabilities) {
                *dy = (*dy - mean) * probability;
            }
        },
    );
}

/// Logits to log-probabilities, in place.
pub(crate) fn log_softmax<T: Real>(row: &mut [T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let largest = largest(row);
            let norm = largest
                + sum(
                    row,
                    #[inline(always)]
                    |x| (x - largest).exponential(),
                )
                .ln();
            for x in row {
                *x -= norm;
            }
        },
    );
}

/// SwiGLU (Shazeer 2020, "GLU variants improve Transformer"): `gate · sigmoid(gate) · up`.
pub(crate) fn silu_gate<T: Real>(gate: &[T], up: &[T], out: &mut [T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * sigmoid(gate) * up;
            }
        },
    );
}

/// The gradients of [`silu_gate`] with respect to its inputs, in place of these.
pub(crate) fn silu_gate_backward<T: Real>(dy: &[T], gate: &mut [T], up: &mut [T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((&dy, gate), up) in dy.iter().zip(gate).zip(up) {
                let sigmoid = sigmoid(*gate);
                let silu = *gate * sigmoid;
                let slope = sigmoid + silu * (T::one() - sigmoid);
                *gate = dy * *up * slope;
                *up = dy * silu;
            }
        },
    );
}

/// Scales a row to a mean square of one, then its numbers by their gains (Zhang & Sennrich 2019, "Root mean square layer
/// normalization").
pub(crate) fn rms_norm<T: Real>(x: &[T], gains: &[T], epsilon: T, out: &mut [T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let scale = inverse_rms(x, epsilon);
            for ((out, &x), &gain) in out.iter_mut().zip(x).zip(gains) {
                *out = x * scale * gain;
            }
        },
    );
}

/// The gradient of [`rms_norm`] with respect to `x`, in place of the one with respect to its output.
pub(crate) fn rms_norm_backward<T: Real>(x: &[T], gains: &[T], epsilon: T, dy: &mut [T]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let scale = inverse_rms(x, epsilon);
            for (dy, &gain) in dy.iter_mut().zip(gains) {
                *dy *= gain;
            }
            let projection = dot(dy, x) * scale * scale * inverse_length(x);
            for (dy, &x) in dy.iter_mut().zip(x) {
                *dy = scale * (*dy - projection * x);
            }
        },
    );
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    (T::one() + (-x).exponential()).recip()
}

#[inline(always)]
fn inverse_rms<T: Real>(x: &[T], epsilon: T) -> T {
    (dot(x, x) * inverse_length(x) + epsilon).sqrt().recip()
}

#[inline(always)]
fn inverse_length<T: Real>(row: &[T]) -> T {
    T::from(row.len()).map_or(T::one(), T::recip)
}

#[inline(always)]
fn larger<T: Real>(largest: T, x: T) -> T {
    if x > largest { x } else { largest }
}

/// The largest number; NaN only if it is the first.
#[inline(always)]
fn largest<T: Real>(row: &[T]) -> T {
    let Some(&first) = row.first() else { return T::zero() };
    let mut parts = [first; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part = larger(*part, x);
        }
    }
    let mut all = first;
    for &x in parts.iter().chain(rest) {
        all = larger(all, x);
    }
    all
}

/// The sum of a function of each number.
#[inline(always)]
fn sum<T: Real>(row: &[T], term: impl Fn(T) -> T) -> T {
    let mut parts = [T::zero(); LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part += term(x);
        }
    }
    for (part, &x) in parts.iter_mut().zip(rest) {
        *part += term(x);
    }
    total(&parts)
}

#[inline(always)]
fn dot<T: Real>(left: &[T], right: &[T]) -> T {
    let mut parts = [T::zero(); LANES];
    let (lefts, rights) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = lefts.remainder().iter().zip(rights.remainder());
    for (left, right) in lefts.zip(rights) {
        for ((part, &left), &right) in parts.iter_mut().zip(left).zip(right) {
            *part += left * right;
        }
    }
    for (part, (&left, &right)) in parts.iter_mut().zip(rest) {
        *part += left * right;
    }
    total(&parts)
}

#[inline(always)]
fn total<T: Real>(parts: &[T; LANES]) -> T {
    let mut total = T::zero();
    for &part in parts {
        total += part;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPSILON: f64 = 1e-5;

    /// Numbers between -4 and 4.
    fn numbers(length: usize, seed: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..length).map(|_| random.f64() * 8.0 - 4.0).collect()
    }

    /// What a function makes of a copy.
    fn changed<T: Clone>(row: &[T], change: impl FnOnce(&mut [T])) -> Vec<T> {
        let mut row = row.to_vec();
        change(&mut row);
        row
    }

    fn single(row: &[f64]) -> Vec<f32> {
        row.iter().map(|&x| x as f32).collect()
    }

    fn assert_close(row: &[f64], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
        let expected: Vec<f64> = expected.into_iter().collect();
        assert_eq!(row.len(), expected.len());
        for (x, expected) in row.iter().zip(expected) {
            assert!((x - expected).abs() <= tolerance * (1.0 + expected.abs()), "{x} is not {expected}");
        }
    }

    fn norm(x: &[f64], gains: &[f64]) -> Vec<f64> {
        changed(x, |out| rms_norm(x, gains, EPSILON, out))
    }

    fn gated(gate: &[f64], up: &[f64]) -> Vec<f64> {
        changed(gate, |out| silu_gate(gate, up, out))
    }

    /// The gradient of Σ dy·f(x) by finite differences.
    fn gradient(x: &[f64], dy: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let loss = |at: usize, step: f64| -> f64 {
            let y = f(&changed(x, |x| x[at] += step));
            y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
        };
        (0..x.len()).map(|at| (loss(at, 1e-5) - loss(at, -1e-5)) / 2e-5).collect()
    }

    #[test]
    fn functions_are_their_formulas() {
        for length in [1, 2, 31, 32, 33, 100] {
            let (x, other) = (numbers(length, 1), numbers(length, 2));
            let sum: f64 = x.iter().map(|x| x.exp()).sum();
            assert_close(&changed(&x, softmax), x.iter().map(|x| x.exp() / sum), 1e-12);
            assert_close(&changed(&x, log_softmax), x.iter().map(|x| x - sum.ln()), 1e-12);
            let silu = |x: f64| x / (1.0 + (-x).exp());
            assert_close(&gated(&x, &other), x.iter().zip(&other).map(|(&x, y)| silu(x) * y), 1e-12);
            let square: f64 = x.iter().map(|x| x * x).sum::<f64>() / length as f64;
            let normed = x.iter().zip(&other).map(|(x, gain)| x / (square + EPSILON).sqrt() * gain);
            assert_close(&norm(&x, &other), normed, 1e-12);
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        let (x, other, dy) = (numbers(37, 1), numbers(37, 2), numbers(37, 3));
        let probabilities = changed(&x, softmax);
        let dx = changed(&dy, |dy| softmax_backward(dy, &probabilities));
        assert_close(&dx, gradient(&x, &dy, |x| changed(x, softmax)), 1e-8);

        let (mut gate, mut up) = (x.clone(), other.clone());
        silu_gate_backward(&dy, &mut gate, &mut up);
        assert_close(&gate, gradient(&x, &dy, |x| gated(x, &other)), 1e-8);
        assert_close(&up, gradient(&other, &dy, |up| gated(&x, up)), 1e-8);

        let dx = changed(&dy, |dy| rms_norm_backward(&x, &other, EPSILON, dy));
        assert_close(&dx, gradient(&x, &dy, |x| norm(x, &other)), 1e-8);
    }

    #[test]
    fn single_precision_follows_double_precision() {
        for length in [1, 31, 64, 100] {
            let (x, other, dy) = (numbers(length, 1), numbers(length, 2), numbers(length, 3));
            let (x32, other32, dy32) = (single(&x), single(&other), single(&dy));
            let check = |row: &[f32], expected: &[f64]| {
                let row: Vec<f64> = row.iter().map(|&x| x.into()).collect();
                assert_close(&row, expected.iter().copied(), 1e-5);
            };
            check(&changed(&x32, softmax), &changed(&x, softmax));
            check(&changed(&x32, log_softmax), &changed(&x, log_softmax));
            check(&changed(&dy32, |dy| softmax_backward(dy, &x32)), &changed(&dy, |dy| softmax_backward(dy, &x)));
            check(&changed(&x32, |out| silu_gate(&x32, &other32, out)), &gated(&x, &other));
            check(&changed(&x32, |out| rms_norm(&x32, &other32, EPSILON as f32, out)), &norm(&x, &other));
        }
    }

    #[test]
    fn extreme_numbers_stay_finite() {
        let row = [-1e30_f32, -200.0, 0.0, 1e30];
        assert_eq!(changed(&row, softmax), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(changed(&row, log_softmax), [-2e30, -1e30, -1e30, 0.0]);
        assert_eq!(changed(&row, |out| silu_gate(&row, &[1.0; 4], out)), [0.0, 0.0, 0.0, 1e30]);
        assert!(changed(&[1.0, f32::NAN], softmax).iter().all(|x| x.is_nan()));
    }
}
