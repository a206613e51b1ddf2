//! Random numbers that stay the same for ever.
//!
//! A checkpoint holds an adapter only, so it means something only on top of exactly the base weights that it was
//! trained on. Those come from a seed, and hence from the generator below rather than from a crate's, which may
//! change its own between releases.

use ndarray::{Array2, NdFloat};

/// SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The `index`-th of the generators that belong to a seed, independent of the others for all purposes here.
    pub(super) fn stream(seed: u64, index: usize) -> Random {
        let start = Random::new(seed).next().wrapping_add(index as u64);
        Random::new(Random::new(start).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1), with all the bits that a double has.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A matrix of independent numbers, uniform with mean zero and the given standard deviation.
    pub(super) fn matrix<T: NdFloat>(&mut self, (rows, columns): (usize, usize), deviation: f64) -> Array2<T> {
        let bound = deviation * 3_f64.sqrt();
        Array2::from_shape_simple_fn((rows, columns), || real(bound * (2.0 * self.unit() - 1.0)))
    }
}

/// A constant in the precision at hand.
pub(super) fn real<T: NdFloat>(value: f64) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_the_reference_implementation() {
        let mut random = Random::new(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn a_matrix_has_the_deviation_asked_for() {
        let matrix = Random::new(7).matrix::<f64>((100, 100), 0.5);
        assert!(matrix.sum().abs() < 200.0 && (matrix.mapv(|x| x * x).sum() / 1e4 - 0.25).abs() < 0.01);
    }
}
