//! SplitMix64 numbers that never change between releases.
//!
//! A checkpoint holds only an adapter, which is valid only with exactly the base weights that it was trained with. Those are
//! generated from a seed, so the generator must never change; one from a crate may.

use ndarray::{Array2, NdFloat};

/// SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The generator number `index` of a seed, with numbers independent of the other generators of the seed.
    pub(super) fn stream(seed: u64, index: usize) -> SplitMix64 {
        let start = SplitMix64::new(seed).next().wrapping_add(index as u64);
        SplitMix64::new(SplitMix64::new(start).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1), with the full 53 bits of precision.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A matrix of independent uniform numbers with mean zero and this standard deviation.
    pub(super) fn matrix<T: NdFloat>(&mut self, (rows, columns): (usize, usize), std_dev: f64) -> Array2<T> {
        let bound = std_dev * 3_f64.sqrt();
        Array2::from_shape_simple_fn((rows, columns), || real(bound * (2.0 * self.uniform() - 1.0)))
    }
}

/// Converts a constant to the precision `T`.
pub(super) fn real<T: NdFloat>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_numbers_match_the_reference_implementation() {
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn matrix_has_the_requested_standard_deviation() {
        let matrix = SplitMix64::new(7).matrix::<f64>((100, 100), 0.5);
        assert!(matrix.sum().abs() < 200.0 && (matrix.mapv(|x| x * x).sum() / 1e4 - 0.25).abs() < 0.01);
    }
}
