//! The tokens of a distribution in the order of their probabilities, sorted only as far as anyone looks.

use ndarray::ArrayView1;

use crate::types::TokenLogprob;

/// How many tokens are sorted at first; each further time, eight times as many as so far.
const FIRST: usize = 64;

/// Tokens, most probable first; ties in the order of ids.
///
/// A vocabulary has up to hundreds of thousands of tokens, and a sample usually looks at a few: each time that it looks further,
/// the next tokens are picked out and sorted.
#[derive(Debug)]
pub(super) struct Ranking<'a> {
    logprobs: ArrayView1<'a, f32>,
    /// The key of each token, once any but the first is asked for.
    keys: Vec<u64>,
    sorted: usize,
}

impl<'a> Ranking<'a> {
    pub(super) fn new(logprobs: ArrayView1<'a, f32>) -> Self {
        Ranking { logprobs, keys: Vec::new(), sorted: 0 }
    }

    /// The first token, without sorting any.
    pub(super) fn first(&self) -> Option<TokenLogprob> {
        keys(self.logprobs).min().map(|key| self.entry(key))
    }

    /// The token at a place.
    pub(super) fn get(&mut self, place: usize) -> Option<TokenLogprob> {
        while place >= self.sorted && self.sorted < self.logprobs.len() {
            self.sort_more();
        }
        self.keys.get(place).map(|&key| self.entry(key))
    }

    fn entry(&self, key: u64) -> TokenLogprob {
        let token = key as u32;
        TokenLogprob { token, logprob: self.logprobs[token as usize] }
    }

    /// The first tokens.
    pub(super) fn top(&mut self, count: usize) -> Vec<TokenLogprob> {
        (0..count).map_while(|place| self.get(place)).collect()
    }

    fn sort_more(&mut self) {
        if self.keys.is_empty() {
            self.keys = keys(self.logprobs).collect();
        }
        let unsorted = &mut self.keys[self.sorted..];
        let count = (7 * self.sorted).max(FIRST).min(unsorted.len());
        if count < unsorted.len() {
            unsorted.select_nth_unstable(count);
        }
        unsorted[..count].sort_unstable();
        self.sorted += count;
    }
}

/// A number for each token, smaller for a more probable one. Its lower half is the token.
fn keys(logprobs: ArrayView1<'_, f32>) -> impl Iterator<Item = u64> {
    (0_u32..).zip(logprobs).map(|(token, logprob)| {
        // The bits of a positive number grow with it, those of a negative one with its magnitude.
        let bits = logprob.to_bits();
        let descending = if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits };
        (u64::from(descending) << 32) | u64::from(token)
    })
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn ranking_is_the_sorted_list(logprobs: Vec<f32>, repeats: u8) -> bool {
            let logprobs: Array1<f32> = logprobs.repeat(usize::from(repeats)).into();
            let mut expected: Vec<u32> = (0..).take(logprobs.len()).collect();
            expected.sort_by(|&left, &right| logprobs[right as usize].total_cmp(&logprobs[left as usize]));
            let mut ranking = Ranking::new(logprobs.view());
            let tokens: Vec<u32> = ranking.top(usize::MAX).iter().map(|top| top.token).collect();
            let first = ranking.first().map(|first| first.token);
            tokens == expected && first == expected.first().copied() && ranking.get(tokens.len()).is_none()
        }
    }

    #[test]
    fn few_tokens_are_sorted_for_the_first() {
        let logprobs: Array1<f32> = (0..49_152).map(|token| -((token * 7919 % 49_152) as f32)).collect();
        let mut ranking = Ranking::new(logprobs.view());
        assert_eq!(ranking.get(0), Some(TokenLogprob { token: 0, logprob: 0.0 }));
        assert_eq!((ranking.sorted, ranking.top(65).len(), ranking.sorted), (64, 65, 512));
    }
}
