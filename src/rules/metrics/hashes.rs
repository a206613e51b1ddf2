//! Hashes of a metric's values that do not depend on their order.

/// CPython's `hash(tuple(sorted(int(x) for x in values)))`, so that both clients report the same number; no crate
/// computes it. `None` if a value is not finite.
pub(super) fn hash_unordered(values: impl Iterator<Item = f64>) -> Option<i64> {
    let mut values: Vec<f64> = values.map(|value| value.is_finite().then_some(value.trunc())).collect::<Option<_>>()?;
    values.sort_unstable_by(f64::total_cmp);
    Some(tuple_hash(values.into_iter().map(int_hash)))
}

/// The sum of the integer parts modulo 2⁶⁴. `None` if a value is not finite.
pub(super) fn hash2(mut values: impl Iterator<Item = f64>) -> Option<u64> {
    values.try_fold(0_u64, |sum, value| value.is_finite().then(|| sum.wrapping_add(modulo_2_64(value.trunc()))))
}

/// A whole float modulo 2⁶⁴, of any size and sign.
fn modulo_2_64(whole: f64) -> u64 {
    const MODULUS: f64 = 18_446_744_073_709_551_616.0;
    // The remainder of two floats is exact.
    let size = (whole.abs() % MODULUS) as u64;
    if whole < 0.0 { size.wrapping_neg() } else { size }
}

/// CPython's hash of a tuple, from the hashes of its items (`tuplehash`, after xxHash).
fn tuple_hash(items: impl ExactSizeIterator<Item = i64>) -> i64 {
    const PRIME_1: u64 = 11_400_714_785_074_694_791;
    const PRIME_2: u64 = 14_029_467_366_897_019_727;
    const PRIME_5: u64 = 2_870_177_450_012_600_261;
    let length = items.len() as u64;
    let mixed = items.fold(PRIME_5, |hash, item| {
        hash.wrapping_add((item as u64).wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
    });
    match mixed.wrapping_add(length ^ PRIME_5 ^ 3_527_539) {
        // −1 means an error in C.
        u64::MAX => 1_546_275_796,
        hash => hash as i64,
    }
}

/// CPython's hash of an integer, given as a whole float: its remainder modulo 2⁶¹ − 1, with its sign.
fn int_hash(whole: f64) -> i64 {
    const MODULUS: u128 = 0x1fff_ffff_ffff_ffff;
    let bits = whole.abs().to_bits();
    // A float is mantissa × 2^exponent, and 2⁶¹ ≡ 1 for this modulus.
    let exponent = i32::try_from(bits >> 52).unwrap_or(0) - 1075;
    let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let size = match u32::try_from(exponent) {
        Ok(exponent) => mantissa << (exponent % 61),
        // The fraction bits are zero, since the float is whole. Zero has an exponent far below that.
        Err(_) => mantissa.checked_shr(exponent.unsigned_abs()).unwrap_or(0),
    };
    let size = i64::try_from(size % MODULUS).unwrap_or(0);
    match if whole < 0.0 { -size } else { size } {
        -1 => -2,
        hash => hash,
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::Value;

    use super::super::super::testing::{float, golden, golden_2026, list};
    use super::*;

    fn numbers(case: &Value) -> impl Iterator<Item = f64> {
        list(&case["in"]).iter().map(float)
    }

    #[test]
    fn hashes_match_cpython() {
        for case in list(&golden("pure_metrics_reduction")["order_insensitive_hash"]) {
            let hash = hash_unordered(numbers(case));
            assert_eq!(hash, case["out"].as_i64(), "{case}");
        }
    }

    #[test]
    fn sums_wrap_as_in_python() {
        let fixture = golden_2026("pure_metrics_reduction");
        let cases = list(&fixture["hash2"]);
        assert_eq!(cases.len(), 11);
        for case in cases {
            assert_eq!(hash2(numbers(case)), case["out"].as_u64(), "{case}");
        }
    }

    #[test]
    fn no_tuple_has_the_hash_of_an_error() {
        assert_eq!(tuple_hash([-8_496_733_470_247_235_670].into_iter()), 1_546_275_796);
    }

    quickcheck! {
        fn hash_does_not_depend_on_order(values: Vec<f64>) -> bool {
            let backwards = hash_unordered(values.iter().rev().copied());
            hash_unordered(values.into_iter()) == backwards
        }

        fn hash_of_a_small_integer_is_itself(value: i32) -> bool {
            int_hash(value.into()) == if value == -1 { -2 } else { value.into() }
        }

        fn the_sum_does_not_depend_on_order(values: Vec<f64>) -> bool {
            let backwards = hash2(values.iter().rev().copied());
            hash2(values.into_iter()) == backwards
        }

        fn small_integers_are_added(values: Vec<i32>) -> bool {
            let sum = values.iter().fold(0_i64, |sum, value| sum + i64::from(*value));
            hash2(values.into_iter().map(f64::from)) == Some(sum as u64)
        }
    }
}
