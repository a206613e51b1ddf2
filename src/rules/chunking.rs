//! How a batch is split into requests.

/// The limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkLimits {
    /// The maximum number of datums.
    pub(crate) datums: usize,
    /// The maximum size of all datums together, unless there is only one.
    pub(crate) size: usize,
}

impl ChunkLimits {
    /// The limits of a request in JSON, where the size of a datum is its count of numbers: the Python client's `MAX_CHUNK_LEN`
    /// and `MAX_CHUNK_NUMBER_COUNT` of 2025.
    pub(crate) const JSON: ChunkLimits = ChunkLimits { datums: 128, size: 500_000 };

    /// How many datums of these sizes go into the next request: one at least, if there is any.
    pub(crate) fn first_chunk(self, sizes: impl Iterator<Item = usize>) -> usize {
        let mut total = 0_usize;
        let fits = |&(index, size): &(usize, usize)| {
            total = total.saturating_add(size);
            index == 0 || (index < self.datums && total <= self.size)
        };
        sizes.enumerate().take_while(fits).count()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::Value;

    use super::super::testing::{golden, golden_2026, list};
    use super::*;

    /// The lengths of all requests of a batch.
    fn split(limits: ChunkLimits, sizes: &[usize]) -> Vec<usize> {
        let (mut rest, mut lengths) = (sizes, Vec::new());
        while !rest.is_empty() {
            lengths.push(limits.first_chunk(rest.iter().copied()));
            rest = &rest[lengths[lengths.len() - 1]..];
        }
        lengths
    }

    fn number(value: &Value) -> usize {
        usize::try_from(value.as_u64().unwrap()).unwrap()
    }

    /// The sizes of a case: a list, or one size and its number of repetitions.
    fn sizes(estimates: &Value) -> Vec<usize> {
        match estimates.get("repeat") {
            Some(size) => vec![number(size); number(&estimates["times"])],
            None => list(estimates).iter().map(number).collect(),
        }
    }

    fn compare(fixture: &Value, limits: ChunkLimits) {
        for case in list(&fixture["cases"]) {
            let sizes = sizes(&case["estimates"]);
            let mut rest = &sizes[..];
            let chunks = split(limits, &sizes).into_iter().map(|length| {
                let (chunk, after) = rest.split_at(length);
                rest = after;
                Value::from(vec![length, chunk.iter().sum()])
            });
            assert_eq!(Value::from_iter(chunks), case["chunks [len, estimate]"]["out"], "{}", case["name"]);
        }
    }

    #[test]
    fn batches_in_json_split_as_in_python() {
        let fixture = golden("pure_chunking");
        assert_eq!(fixture["limits"]["MAX_CHUNK_LEN"], ChunkLimits::JSON.datums);
        assert_eq!(fixture["limits"]["MAX_CHUNK_NUMBER_COUNT"], ChunkLimits::JSON.size);
        compare(&fixture, ChunkLimits::JSON);
    }

    #[test]
    fn batches_in_protobuf_split_as_in_python() {
        let fixture = golden_2026("pure_chunking");
        let limit = |name: &str| number(&fixture["limits"][name]);
        let (datums, size) = (limit("fwdbwd_max_chunk_len"), limit("fwdbwd_max_chunk_bytes_count"));
        compare(&fixture, ChunkLimits { datums, size });
    }

    #[test]
    fn huge_sizes_do_not_overflow() {
        assert_eq!(split(ChunkLimits::JSON, &[1, usize::MAX, usize::MAX]), [1, 1, 1]);
        assert_eq!(split(ChunkLimits { datums: 0, size: 0 }, &[1, 0]), [1, 1]);
    }

    quickcheck! {
        fn chunks_are_full_and_within_the_limits(sizes: Vec<u32>, small: bool) -> bool {
            let limits = ChunkLimits { datums: 5, size: 500_000 };
            let range = if small { 20_000 } else { 600_000 };
            let sizes: Vec<usize> = sizes.iter().map(|size| *size as usize % range).collect();
            let mut rest = &sizes[..];
            let within = split(limits, &sizes).into_iter().all(|length| {
                let (chunk, after) = rest.split_at(length);
                rest = after;
                let total: usize = chunk.iter().sum();
                let is_full = after.first().is_none_or(|next| length == limits.datums || total + next > limits.size);
                is_full && (1..=limits.datums).contains(&length) && (length == 1 || total <= limits.size)
            });
            within && rest.is_empty()
        }
    }
}
