//! Lanes: spans that overlap need different ones.

use std::time::Duration;

/// The lane of each span, from 0. Spans of one lane do not overlap. The spans are in the order of their starts; one without
/// an end lasts for ever.
pub(super) fn lanes(spans: impl Iterator<Item = (Duration, Option<Duration>)>) -> Vec<usize> {
    let mut ends: Vec<Duration> = Vec::new();
    let lane = |(start, end): (Duration, Option<Duration>)| {
        let lane = ends.iter().position(|lane_end| *lane_end <= start).unwrap_or(ends.len());
        let end = end.unwrap_or(Duration::MAX);
        match ends.get_mut(lane) {
            Some(lane_end) => *lane_end = end,
            None => ends.push(end),
        }
        lane
    };
    spans.map(lane).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_free_lane_is_used_again() {
        let spans = [(0, Some(2)), (1, Some(9)), (2, Some(3)), (2, None), (9, Some(9)), (10, Some(11))];
        let spans = spans.map(|(start, end)| (at(start), end.map(at)));
        assert_eq!(lanes(spans.into_iter()), [0, 1, 0, 2, 0, 0]);
    }

    quickcheck::quickcheck! {
        fn spans_of_a_lane_do_not_overlap(spans: Vec<(u8, Option<u8>)>) -> bool {
            let mut spans = spans;
            spans.sort_by_key(|(start, _)| *start);
            let spans: Vec<_> = spans
                .into_iter()
                .map(|(start, length)| (at(start.into()), length.map(|length| at(u64::from(start) + u64::from(length)))))
                .collect();
            let lanes = lanes(spans.iter().copied());
            let pairs = (0..spans.len()).flat_map(|later| (0..later).map(move |earlier| (earlier, later)));
            pairs
                .filter(|(earlier, later)| lanes[*earlier] == lanes[*later])
                .all(|(earlier, later)| spans[earlier].1.is_some_and(|end| end <= spans[later].0))
        }
    }
}
