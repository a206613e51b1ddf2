//! How the metrics of a batch's chunks are combined into those of the batch.
//!
//! The name of a metric ends in a colon and its reduction. A metric that cannot be reduced is dropped, and the caller warns of
//! it, since a wrong number is worse than none.

mod hashes;

use std::collections::BTreeMap;

use hashes::{hash_unordered, hash2};

/// The number in the key of the second value of a `unique` metric: `k`, `k_2`, `k_3`. (Python client: 1.)
const FIRST_UNIQUE_SUFFIX: usize = 2;

/// The metrics of a batch.
#[derive(Debug, Default)]
pub(crate) struct Reduced {
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) dropped: Vec<Dropped>,
}

/// A metric that could not be reduced.
#[derive(Debug, PartialEq)]
pub(crate) struct Dropped {
    pub(crate) name: String,
    pub(crate) reason: &'static str,
}

/// Reduces the metrics of a batch's chunks, each with its number of datums, which is its weight. The names are
/// those of the first chunk; a metric that is missing in another chunk is dropped.
pub(crate) fn reduce(parts: &[(&BTreeMap<String, f64>, usize)]) -> Reduced {
    let mut reduced = Reduced::default();
    let Some((first, _)) = parts.first() else { return reduced };
    for name in first.keys() {
        let found: Option<Vec<Value>> =
            parts.iter().map(|(metrics, outputs)| Some((*metrics.get(name)?, *outputs as f64))).collect();
        let Some(values) = found else {
            reduced.drop_metric(name, "a chunk of the batch does not have it");
            continue;
        };
        match (Reduction::of(name), &values[..]) {
            (Some(reduction), values) => reduction.apply(name, values, &mut reduced),
            // A single chunk needs no reduction.
            (None, [(value, _)]) => {
                reduced.metrics.insert(name.clone(), *value);
            }
            (None, _) => reduced.drop_metric(name, "its name does not end in a reduction that this version knows"),
        }
    }
    reduced
}

impl Reduced {
    fn drop_metric(&mut self, name: &str, reason: &'static str) {
        self.dropped.push(Dropped { name: name.to_owned(), reason });
    }
}

/// A chunk's value of a metric, and the chunk's weight.
type Value = (f64, f64);

/// How the values of a metric are combined.
enum Reduction {
    /// The weighted mean.
    Mean,
    Sum,
    Min,
    Max,
    /// The maximum minus the weighted mean: the cost of the slowest chunk.
    Slack,
    /// A hash that does not depend on the order of the values, of servers of 2025.
    HashUnordered,
    /// The same, of servers of 2026: a sum modulo 2⁶⁴.
    Hash2,
    /// All values, under numbered names.
    Unique,
}

impl Reduction {
    fn of(name: &str) -> Option<Self> {
        let (_, reduction) = name.rsplit_once(':')?;
        Some(match reduction {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            "min" => Reduction::Min,
            "max" => Reduction::Max,
            "slack" => Reduction::Slack,
            "hash_unordered" => Reduction::HashUnordered,
            "hash2" => Reduction::Hash2,
            "unique" => Reduction::Unique,
            _ => return None,
        })
    }

    fn apply(&self, name: &str, values: &[Value], reduced: &mut Reduced) {
        let numbers = values.iter().map(|(value, _)| *value);
        let number = match self {
            Reduction::Mean => mean(values),
            Reduction::Sum => numbers.sum(),
            Reduction::Min => extreme(numbers, |a, b| a < b),
            Reduction::Max => extreme(numbers, |a, b| a > b),
            Reduction::Slack => extreme(numbers, |a, b| a > b) - mean(values),
            Reduction::HashUnordered | Reduction::Hash2 => {
                let hash = match self {
                    Reduction::Hash2 => hash2(numbers).map(|hash| hash as f64),
                    _ => hash_unordered(numbers).map(|hash| hash as f64),
                };
                match hash {
                    Some(hash) => hash,
                    None => return reduced.drop_metric(name, "a value is not finite, so it has no hash"),
                }
            }
            Reduction::Unique => {
                let numbered = (FIRST_UNIQUE_SUFFIX..).map(|suffix| format!("{name}_{suffix}"));
                return reduced.metrics.extend(std::iter::once(name.to_owned()).chain(numbered).zip(numbers));
            }
        };
        reduced.metrics.insert(name.to_owned(), number);
    }
}

/// The weighted mean, or the plain mean if all weights are zero.
fn mean(values: &[Value]) -> f64 {
    let weights: f64 = values.iter().map(|(_, weight)| weight).sum();
    if weights > 0.0 {
        values.iter().map(|(value, weight)| value * weight).sum::<f64>() / weights
    } else {
        values.iter().map(|(value, _)| value).sum::<f64>() / values.len() as f64
    }
}

/// The minimum or maximum by `ahead`, or NaN if a value is NaN, as in numpy.
fn extreme(values: impl Iterator<Item = f64>, ahead: impl Fn(f64, f64) -> bool) -> f64 {
    let best = values.reduce(|best, value| if value.is_nan() || ahead(value, best) { value } else { best });
    best.unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::{float, golden, golden_2026, list};
    use super::*;

    fn metrics(json: &serde_json::Value) -> BTreeMap<String, f64> {
        json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), float(value))).collect()
    }

    fn reduce_all(parts: &[(BTreeMap<String, f64>, usize)]) -> BTreeMap<String, f64> {
        reduce(&parts.iter().map(|(metrics, outputs)| (metrics, *outputs)).collect::<Vec<_>>()).metrics
    }

    fn one(name: &str, values: &[(f64, usize)]) -> BTreeMap<String, f64> {
        let parts: Vec<_> =
            values.iter().map(|(value, outputs)| (BTreeMap::from([(name.to_owned(), *value)]), *outputs)).collect();
        reduce_all(&parts)
    }

    #[test]
    fn the_first_of_equal_numbers_is_kept() {
        for name in ["a:min", "a:max", "a:slack"] {
            assert!(one(name, &[(-0.0, 1), (0.0, 1)])[name].is_sign_negative(), "{name}");
            assert!(one(name, &[(0.0, 1), (-0.0, 1)])[name].is_sign_positive(), "{name}");
        }
    }

    /// Equal up to rounding when decimal digits are parsed, and cancellation at this scale.
    fn same(left: &BTreeMap<String, f64>, right: &BTreeMap<String, f64>, scale: f64) -> bool {
        left.len() == right.len()
            && left.iter().zip(right).all(|((name, a), (other, b))| {
                name == other && (a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-14 * scale)
            })
    }

    /// The intended numbers for the cases of the fixture that differ on purpose.
    fn intended(name: &str) -> Option<&'static [(&'static str, f64)]> {
        Some(match name {
            // Without any weight, the Python client divides by zero; here it is the plain mean.
            "a:mean single n=0" => &[("a:mean", 1.5)],
            "a:mean all zero weights" => &[("a:mean", 1.375)],
            "a:slack single n=0" => &[("a:slack", 0.0)],
            "a:slack all zero weights" => &[("a:slack", 5.625)],
            // Without a finite value, it raises an error; here the metric is dropped.
            "a:hash_unordered nan" | "a:hash_unordered inf" | "a:hash_unordered -inf,inf" => &[],
            "a:hash2 nan" | "a:hash2 inf" | "a:hash2 -inf,inf" => &[],
            // Without a colon, it raises an error too.
            "key 'nocolon'" => &[],
            "key 'nocolon' after a good one" => &[("g:sum", 3.0)],
            // With two colons, it raises an error; here the last one counts.
            "key 'a:b:mean'" => &[("a:b:mean", 1.5)],
            "key 'a:b:mean' after a good one" => &[("g:sum", 3.0), ("a:b:mean", 1.5)],
            // It drops a reduction that it does not know; here the metric of a single chunk is kept.
            "a:count single" | "a:count single n=0" => &[("a:count", 1.5)],
            "a:std single" | "a:std single n=0" => &[("a:std", 1.5)],
            "a:MEAN single" | "a:MEAN single n=0" => &[("a:MEAN", 1.5)],
            "a: single" | "a: single n=0" => &[("a:", 1.5)],
            "a: mean single" | "a: mean single n=0" => &[("a: mean", 1.5)],
            _ => return None,
        })
    }

    /// The names of `unique` metrics count from 2 here, and from 1 in the Python client.
    fn renumbered(metrics: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
        let rename = |name: String| match name.rsplit_once(":unique_") {
            Some((stem, number)) => format!("{stem}:unique_{}", number.parse::<usize>().unwrap() + 1),
            None => name,
        };
        metrics.into_iter().map(|(name, value)| (rename(name), value)).collect()
    }

    /// Each version of the Python client knows one of the hashes and drops the other; here both are reduced.
    const HASHES: [(&str, &str); 2] = [("0.4.1", "hash2"), ("0.38.0", "hash_unordered")];

    #[test]
    fn fixture_cases_reduce_as_intended() {
        let fixtures = [golden("pure_metrics_reduction"), golden_2026("pure_metrics_reduction")];
        for (own, (version, unknown)) in HASHES.iter().enumerate() {
            let (cases, mut differences) = (list(&fixtures[own]["cases"]), 0);
            assert_eq!(cases.len(), 278);
            for (index, case) in cases.iter().enumerate() {
                let name = case["name"].as_str().unwrap();
                let parts: Vec<_> = list(&case["input"])
                    .iter()
                    .map(|part| (metrics(&part["metrics"]), part["n_outputs"].as_u64().unwrap() as usize))
                    .collect();
                let scale = parts
                    .iter()
                    .flat_map(|(metrics, _)| metrics.values())
                    .fold(0.0, |scale: f64, value| scale.max(value.abs()));
                let expected = match intended(name) {
                    Some(wanted) => {
                        differences += 1;
                        wanted.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
                    }
                    None if name.contains(unknown) => {
                        let other = &list(&fixtures[1 - own]["cases"])[index];
                        assert_eq!(other["name"], name);
                        metrics(&other["metrics_reduction"]["out"])
                    }
                    None => renumbered(metrics(&case["metrics_reduction"]["out"])),
                };
                let reduced = reduce_all(&parts);
                assert!(same(&reduced, &expected, scale), "{version} {case}\n{reduced:?}");
            }
            assert_eq!(differences, 24, "{version}");
        }
    }

    #[test]
    fn mean_is_weighted_by_outputs() {
        assert_eq!(one("loss:mean", &[(1.0, 1), (3.0, 3)])["loss:mean"], 2.5);
    }

    #[test]
    fn unique_values_are_numbered_from_two() {
        let unique = one("clock_cycle:unique", &[(10.0, 1), (11.0, 1), (12.0, 1)]);
        let expected = [("clock_cycle:unique", 10.0), ("clock_cycle:unique_2", 11.0), ("clock_cycle:unique_3", 12.0)];
        assert_eq!(unique.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nan_is_never_ignored() {
        for name in ["a:min", "a:max", "a:sum", "a:mean", "a:slack"] {
            for values in [[(f64::NAN, 1), (2.0, 1)], [(2.0, 1), (f64::NAN, 1)]] {
                assert!(one(name, &values)[name].is_nan(), "{name} {values:?}");
            }
        }
    }

    #[test]
    fn one_chunk_keeps_metrics_without_a_reduction() {
        assert_eq!(one("loss", &[(1.5, 1)])["loss"], 1.5);
        assert!(one("loss", &[(1.5, 1), (1.5, 1)]).is_empty());
        assert!(reduce(&[]).metrics.is_empty());
    }

    #[test]
    fn dropped_metrics_are_returned_with_the_reason() {
        let first = metrics(&serde_json::json!({"a": 1.0, "b:sum": 1.0, "c:hash_unordered": 1.0, "d:sum": 1.0}));
        let second =
            BTreeMap::from([("a", 1.0), ("c:hash_unordered", f64::NAN), ("d:sum", 2.0), ("only_here:sum", 1.0)]);
        let second = second.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let reduced = reduce(&[(&first, 1), (&second, 1)]);
        assert_eq!(reduced.metrics, BTreeMap::from([("d:sum".to_owned(), 3.0)]));
        let dropped: Vec<_> = reduced.dropped.iter().map(|dropped| (&*dropped.name, dropped.reason)).collect();
        let expected = [
            ("a", "its name does not end in a reduction that this version knows"),
            ("b:sum", "a chunk of the batch does not have it"),
            ("c:hash_unordered", "a value is not finite, so it has no hash"),
        ];
        assert_eq!(dropped, expected);
    }

    quickcheck! {
        fn no_metrics_make_it_panic(parts: Vec<(Vec<(u8, f64)>, u8)>) -> bool {
            let names = ["a:mean", "a:slack", "a:hash_unordered", "a:unique", "a:min", "a", ":", "a:unique_2"];
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(metrics, outputs)| {
                    let named = metrics.into_iter().map(|(name, value)| (names[usize::from(name % 8)].to_owned(), value));
                    (named.chain([("steps:sum".to_owned(), 1.0)]).collect(), usize::from(outputs))
                })
                .collect();
            let steps = parts.len() as f64;
            reduce_all(&parts).get("steps:sum").is_none_or(|sum| *sum == steps)
        }
    }
}
