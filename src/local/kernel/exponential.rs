//! The exponential function of `f32` without branches, so that a loop over it becomes vector instructions.

/// A number to which one adds another to round it: the last bit of its fraction counts ones.
const ROUND: f32 = 12_582_912.0;

/// eˣ, off by less than two units in the last place.
///
/// x = n·ln 2 + r with a whole number n, so eˣ = 2ⁿ·eʳ with |r| ≤ ½·ln 2, for which eight terms of the series are exact enough.
#[inline(always)]
pub(super) fn exponential(x: f32) -> f32 {
    /// ln 2 in two parts; the product of the first and n is exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);

    let n = x * std::f32::consts::LOG2_E + ROUND - ROUND;
    let r = x - n * LN_2.0 - n * LN_2.1;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r * r + r + 1.0;

    // 2ⁿ in two factors: n is -150 where the result is the least number, and 128 where it is almost infinite.
    let half = n * 0.5 + ROUND;
    let other = n - (half - ROUND) + ROUND;
    let result = series * power_of_two(half) * power_of_two(other);
    if x > 89.0 {
        f32::INFINITY
    } else if x < -104.0 {
        0.0
    } else {
        result
    }
}

/// 2 to the power of a number that was added to [`ROUND`], whose last bits it is.
#[inline(always)]
fn power_of_two(rounded: f32) -> f32 {
    f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance in units in the last place of the exact result.
    fn error(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let unit = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
        (f64::from(exponential(x)) - exact).abs() / unit
    }

    #[test]
    fn error_is_below_two_units() {
        // About a million numbers, from the least result to the largest.
        let worst = (0..1 << 20).map(|step| -103.9 + step as f32 * (192.6 / f64::from(1 << 20)) as f32).map(error);
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn ends_of_the_range_are_exact() {
        assert_eq!([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY].map(exponential), [1.0, 1.0, f32::INFINITY, 0.0]);
        assert_eq!([f32::MAX, 89.5, -105.0, f32::MIN].map(exponential), [f32::INFINITY, f32::INFINITY, 0.0, 0.0]);
        assert!(exponential(f32::NAN).is_nan());
        assert!([88.72, 88.7].map(exponential).into_iter().all(f32::is_finite));
        assert_eq!(exponential(88.73), f32::INFINITY);
    }
}
