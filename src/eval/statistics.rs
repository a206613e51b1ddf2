//! What counts of passed samples say. Pure functions.

use std::fmt;

/// What a count of outcomes is divided by if it is larger: 2^96, and its exponent.
const SCALE: f64 = (1_u128 << SCALE_BITS) as f64;
const SCALE_BITS: i64 = 96;

/// An unbiased estimate of the probability that at least one of `k` samples passes, from `samples` of which so many `passed`:
/// 1 − C(samples − passed, k) / C(samples, k), of Chen et al., [Evaluating Large Language Models Trained on
/// Code](https://arxiv.org/abs/2107.03374), 2021. `None` if `k` is 0 or more than `samples`, or more passed than there are.
///
/// ```
/// use tinkex::eval::pass_at_k;
///
/// assert_eq!(pass_at_k(4, 1, 1), Some(0.25));
/// assert_eq!(pass_at_k(4, 1, 2), Some(0.5));
/// assert_eq!(pass_at_k(4, 1, 5), None);
/// ```
#[must_use]
pub fn pass_at_k(samples: u32, passed: u32, k: u32) -> Option<f64> {
    let failed = samples.checked_sub(passed)?;
    if k == 0 || k > samples {
        return None;
    }
    if failed < k {
        return Some(1.0);
    }
    // The quotient of the binomials as a product, which neither overflows nor cancels.
    let all_fail: f64 = (failed + 1..=samples).map(|count| 1.0 - f64::from(k) / f64::from(count)).product();
    Some(1.0 - all_fail)
}

/// The p-value of the exact two-sided sign test: how probable it is that wins and losses differ by this much or more if each is as
/// likely as the other. Ties are left out. 1 without any wins and losses.
///
/// ```
/// use tinkex::eval::sign_test;
///
/// assert_eq!(sign_test(0, 5), 0.0625);
/// assert_eq!(sign_test(3, 3), 1.0);
/// assert!(sign_test(60, 40) > 0.05 && sign_test(61, 39) < 0.05);
/// ```
#[must_use]
pub fn sign_test(wins: u32, losses: u32) -> f64 {
    let count = f64::from(wins) + f64::from(losses);
    // The number of outcomes with at most so many heads in `count` throws, each of the probability 2^-count. It is exact up to 2^53, and
    // scaled before it is too large for a float.
    let (mut term, mut outcomes, mut halvings) = (1.0, 1.0, i64::from(wins) + i64::from(losses));
    for heads in (1..=wins.min(losses)).map(f64::from) {
        term = term * (count - heads + 1.0) / heads;
        outcomes += term;
        if outcomes > SCALE {
            (term, outcomes, halvings) = (term / SCALE, outcomes / SCALE, halvings - SCALE_BITS);
        }
    }
    // In two steps: 2^-count alone may be too small for a float.
    let half = |exponent: i64| 0.5_f64.powi(i32::try_from(exponent).unwrap_or(i32::MAX));
    (2.0 * (half(halvings / 2) * outcomes * half(halvings - halvings / 2))).min(1.0)
}

/// A mean, with its standard error. Prints both, such as `0.750 ± 0.250`.
///
/// ```
/// use tinkex::eval::Estimate;
///
/// let estimate = Estimate::of([1.0, 1.0, 0.0, 1.0]).ok_or("there are no values")?;
/// assert_eq!((estimate.mean, estimate.standard_error, estimate.count), (0.75, Some(0.25), 4));
/// assert_eq!(estimate.to_string(), "0.750 ± 0.250");
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard error of the mean: the standard deviation of the sample (with n − 1), divided by √n. `None` for a single value.
    pub standard_error: Option<f64>,
    /// The number of values, n.
    pub count: usize,
}

impl Estimate {
    /// The estimate from these values, `None` without any.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_error = (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        (!values.is_empty()).then_some(Estimate { mean, standard_error, count: values.len() })
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.mean)?;
        self.standard_error.map_or(Ok(()), |error| write!(f, " ± {error:.3}"))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn binomial(n: u32, k: u32) -> f64 {
        (1..=k).map(|i| f64::from(n - k + i) / f64::from(i)).product()
    }

    #[test]
    fn estimates_of_pass_at_k() {
        for (samples, passed, k, expected) in [
            (1, 0, 1, Some(0.0)),
            (1, 1, 1, Some(1.0)),
            (10, 3, 1, Some(0.3)),
            (10, 3, 5, Some(11.0 / 12.0)),
            (10, 3, 8, Some(1.0)),
            (10, 0, 10, Some(0.0)),
            (10, 3, 0, None),
            (10, 3, 11, None),
            (0, 0, 1, None),
            (2, 3, 1, None),
        ] {
            let estimate = pass_at_k(samples, passed, k);
            let is_near = match (estimate, expected) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a == b,
            };
            assert!(is_near, "{samples} {passed} {k}: {estimate:?}");
        }
        let many = pass_at_k(1_000_000, 1, 1).unwrap();
        assert!((many - 1e-6).abs() < 1e-15, "{many}");
    }

    #[test]
    fn p_values_of_the_sign_test() {
        for (wins, losses, expected) in [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (1, 1, 1.0),
            (2, 1, 1.0),
            (5, 0, 0.0625),
            (8, 2, 0.109_375),
            (9, 1, 0.021_484_375),
            (60, 40, 0.056_887_933_640_980_8),
        ] {
            for p in [sign_test(wins, losses), sign_test(losses, wins)] {
                assert!((p - expected).abs() < 1e-12, "{wins} {losses}: {p}");
            }
        }
        // 2^-5000 is no float, and the sum is.
        let many = sign_test(2600, 2400);
        assert!((0.004..0.006).contains(&many), "{many}");
        assert_eq!(sign_test(5000, 0), 0.0);
    }

    #[test]
    fn an_estimate_has_mean_with_error() {
        assert_eq!(Estimate::of([]), None);
        let one = Estimate::of([0.5]).unwrap();
        assert_eq!((one.mean, one.standard_error, one.to_string()), (0.5, None, "0.500".to_owned()));
        let three = Estimate::of([1.0, 2.0, 3.0]).unwrap();
        assert!((three.standard_error.unwrap() - (1.0_f64 / 3.0).sqrt()).abs() < 1e-12, "{three}");
    }

    quickcheck! {
        fn pass_at_k_is_the_quotient_of_binomials(samples: u8, passed: u8, k: u8) -> bool {
            let (samples, passed, k) = (u32::from(samples % 40), u32::from(passed % 40), u32::from(k % 40));
            let Some(estimate) = pass_at_k(samples, passed, k) else { return k == 0 || k > samples || passed > samples };
            let failed = samples - passed;
            let all_fail = if failed < k { 0.0 } else { binomial(failed, k) / binomial(samples, k) };
            (estimate - (1.0 - all_fail)).abs() < 1e-9
        }

        fn more_samples_or_passes_are_no_worse(samples: u8, passed: u8, k: u8) -> bool {
            let (samples, passed, k) = (u32::from(samples), u32::from(passed), u32::from(k));
            let at = |passed, k| pass_at_k(samples, passed, k).unwrap_or(f64::INFINITY);
            at(passed, k.max(1)) <= at(passed, k.max(1) + 1) + 1e-12 && at(passed, k) <= at(passed + 1, k) + 1e-12
        }

        fn the_sign_test_is_a_probability(wins: u16, losses: u16) -> bool {
            let p = sign_test(wins.into(), losses.into());
            (0.0..=1.0).contains(&p) && p == sign_test(losses.into(), wins.into())
        }
    }
}
