//! The axes: round ticks, and a logarithmic scale where the first steps would flatten the rest.

/// About this many intervals between ticks.
const INTERVALS: f64 = 5.0;
/// A loss that falls to less than one part in so many is drawn on a logarithmic scale.
const LOGARITHMIC_FROM: f64 = 5.0;

/// An axis from its first tick to its last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    ticks: Vec<f64>,
    is_logarithmic: bool,
}

impl Scale {
    /// From 0 to the last step, or a bit further.
    pub(super) fn steps(steps: impl Iterator<Item = f64>) -> Scale {
        let last = steps.fold(1.0, f64::max);
        Scale { ticks: linear(0.0, last, 1.0), is_logarithmic: false }
    }

    /// From the lowest loss to the highest.
    pub(super) fn losses(losses: &[f64]) -> Scale {
        let low = losses.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let high = losses.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let is_logarithmic = low > 1e-12 && high / low >= LOGARITHMIC_FROM;
        let ticks = match is_logarithmic {
            true => logarithmic(low, high),
            false if high > low => linear(low, high, 0.0),
            false => linear(low.min(0.0), if high > 0.0 { high } else { low.min(0.0) + 1.0 }, 0.0),
        };
        Scale { ticks, is_logarithmic }
    }

    pub(super) fn is_logarithmic(&self) -> bool {
        self.is_logarithmic
    }

    /// 0 at the beginning of the axis, 1 at its end.
    pub(super) fn position(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        match (self.ticks.first(), self.ticks.last()) {
            (Some(first), Some(last)) if last > first => {
                (place(value) - place(*first)) / (place(*last) - place(*first))
            }
            _ => 0.0,
        }
    }

    /// Ticks and their labels.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let gap = self.ticks.windows(2).map(|pair| pair[1] - pair[0]).reduce(f64::min).unwrap_or(1.0);
        let decimals = move |value: f64| {
            let unit = if self.is_logarithmic { value } else { gap };
            // A little more, since a difference may be a little less than it is meant to be.
            (-(unit * 1.001).log10().floor()).clamp(0.0, 12.0) as usize
        };
        self.ticks.iter().map(move |&tick| (tick, format!("{tick:.0$}", decimals(tick))))
    }
}

/// Multiples of 1, 2 or 5 times a power of ten that enclose the range. `min_gap` is the smallest distance between them.
fn linear(low: f64, high: f64, min_gap: f64) -> Vec<f64> {
    let rough = ((high - low) / INTERVALS).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let gap = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|gap| *gap >= rough * 0.999);
    let gap = gap.unwrap_or(rough).max(min_gap);
    let (first, last) = ((low / gap + 1e-9).floor(), (high / gap - 1e-9).ceil());
    let count = (last - first).clamp(1.0, 2.0 * INTERVALS) as u32;
    (0..=count).map(|index| (first + f64::from(index)) * gap).collect()
}

/// 1, 2 and 5 times powers of ten that enclose the range, or only the powers if there are many.
fn logarithmic(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let digits: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        (first..=last).flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power))).collect();
    let begin = all.iter().rposition(|tick| *tick <= low * 1.0001).unwrap_or(0);
    let end = all.iter().position(|tick| *tick >= high * 0.9999).unwrap_or(all.len() - 1);
    all.get(begin..=end).map(<[f64]>::to_vec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        for (losses, expected) in [
            (vec![5.01, 0.9], vec!["0.5", "1", "2", "5", "10"]),
            (vec![5.5, 1.2], vec!["1", "2", "3", "4", "5", "6"]),
            (vec![1.3, 1.1], vec!["1.10", "1.15", "1.20", "1.25", "1.30"]),
            (vec![5.0, 0.0012], vec!["0.001", "0.01", "0.1", "1", "10"]),
            (vec![2.0], vec!["0.0", "0.5", "1.0", "1.5", "2.0"]),
            (vec![0.0], vec!["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (vec![], vec!["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ] {
            assert_eq!(labels(&Scale::losses(&losses)), expected, "{losses:?}");
        }
    }

    #[test]
    fn steps_are_whole_numbers() {
        let steps = |last: f64| labels(&Scale::steps([last].into_iter()));
        assert_eq!(steps(1.0), ["0", "1"]);
        assert_eq!(steps(3.0), ["0", "1", "2", "3"]);
        assert_eq!(steps(200.0), ["0", "50", "100", "150", "200"]);
        assert_eq!(steps(1234.0), ["0", "500", "1000", "1500"]);
    }

    quickcheck! {
        fn all_values_are_on_the_axis(values: Vec<u16>, divisor: u16) -> bool {
            let losses: Vec<f64> = values.iter().map(|value| f64::from(*value) / (f64::from(divisor) + 1.0)).collect();
            let scale = Scale::losses(&losses);
            losses.iter().all(|loss| (-1e-6..=1.000_001).contains(&scale.position(*loss)))
                && (2..=14).contains(&scale.ticks().count())
        }
    }
}
