//! How a batch is split into requests.

use std::ops::Range;

/// The maximum number of datums in one request: the Python client's `MAX_CHUNK_LEN`.
pub(crate) const MAX_DATUMS: usize = 128;

/// The maximum number of numbers in one request, unless a single datum has more: the Python client's
/// `MAX_CHUNK_NUMBER_COUNT`.
pub(crate) const MAX_NUMBERS: usize = 500_000;

/// Splits a batch into consecutive chunks, given the size of each datum: the length of its input plus those of its loss
/// inputs. A datum over the limit gets a chunk of its own; an empty batch has no chunks.
pub(crate) fn split(sizes: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let mut numbers = 0_usize;
    for (index, size) in sizes.enumerate() {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < MAX_DATUMS && numbers.saturating_add(size) <= MAX_NUMBERS => {
                chunk.end += 1;
                numbers += size;
            }
            _ => {
                chunks.push(index..index + 1);
                numbers = size;
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::Value;

    use super::super::testing::{golden, list};
    use super::*;

    /// The sizes of a case: a list, or one size and its number of repetitions.
    fn sizes(estimates: &Value) -> Vec<usize> {
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        match estimates.get("repeat") {
            Some(size) => vec![number(size); number(&estimates["times"])],
            None => list(estimates).iter().map(number).collect(),
        }
    }

    #[test]
    fn fixture_batches_split_as_in_python() {
        let fixture = golden("pure_chunking");
        assert_eq!(fixture["limits"]["MAX_CHUNK_LEN"], MAX_DATUMS);
        assert_eq!(fixture["limits"]["MAX_CHUNK_NUMBER_COUNT"], MAX_NUMBERS);
        for case in list(&fixture["cases"]) {
            let sizes = sizes(&case["estimates"]);
            let chunks: Vec<Value> = split(sizes.iter().copied())
                .into_iter()
                .map(|chunk| Value::from(vec![chunk.len(), sizes[chunk].iter().sum()]))
                .collect();
            assert_eq!(Value::from(chunks), case["chunks [len, estimate]"]["out"], "{}", case["name"]);
        }
    }

    #[test]
    fn huge_sizes_do_not_overflow() {
        assert_eq!(split([1, usize::MAX, usize::MAX].into_iter()), [0..1, 1..2, 2..3]);
    }

    quickcheck! {
        fn chunks_cover_the_batch_within_the_limits(sizes: Vec<u32>, small: bool) -> bool {
            let range = if small { 20_000 } else { 600_000 };
            // Long enough to reach the limit on datums too.
            let sizes: Vec<usize> = sizes.iter().cycle().take(sizes.len() * 5).map(|size| *size as usize % range).collect();
            let chunks = split(sizes.iter().copied());
            let joined: Vec<usize> = chunks.iter().cloned().flatten().collect();
            joined == (0..sizes.len()).collect::<Vec<_>>()
                && chunks.iter().all(|chunk| {
                    let numbers: usize = sizes[chunk.clone()].iter().sum();
                    (1..=MAX_DATUMS).contains(&chunk.len()) && (chunk.len() == 1 || numbers <= MAX_NUMBERS)
                })
        }

        fn no_chunk_has_room_for_the_next_datum(sizes: Vec<u32>) -> bool {
            let sizes: Vec<usize> = sizes.iter().map(|size| *size as usize % 300_000).collect();
            split(sizes.iter().copied()).windows(2).all(|pair| {
                let numbers: usize = sizes[pair[0].start..=pair[1].start].iter().sum();
                pair[0].len() == MAX_DATUMS || numbers > MAX_NUMBERS
            })
        }
    }
}
