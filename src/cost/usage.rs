//! Counters of tokens.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

use serde::{Deserialize, Serialize};

use crate::types::{Datum, ModelInput, SampleResponse};

/// Tokens, by what is charged for them. Counters of the same model can be added; those of other models have another price.
///
/// ```
/// use tinkex::cost::Usage;
///
/// let usage = Usage::new().prefill(1000).sampled(64) + Usage::new().cached(1000).sampled(36);
/// assert_eq!((usage.prefill, usage.cached, usage.sampled, usage.trained), (1000, 1000, 100, 0));
/// assert_eq!((usage * 2).total(), 4200);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of prompts that the service computed.
    pub prefill: u64,
    /// Tokens of prompts that the service had in its cache.
    pub cached: u64,
    /// Sampled tokens.
    pub sampled: u64,
    /// Tokens of passes, whatever their weights: of [`forward`](crate::TrainingClient::forward) as of
    /// [`forward_backward`](crate::TrainingClient::forward_backward).
    pub trained: u64,
}

impl Usage {
    /// No tokens.
    #[must_use]
    pub fn new() -> Self {
        Usage::default()
    }

    /// The usage of one pass over these examples. A
    /// [custom loss](crate::TrainingClient::forward_backward_custom) takes two passes: `Usage::of_batch(&batch) * 2`.
    ///
    /// ```
    /// use tinkex::cost::Usage;
    /// use tinkex::types::{Batch, Datum};
    ///
    /// let batch = Batch::from(vec![Datum::new([10, 11, 12]), Datum::new([20, 21])]);
    /// assert_eq!(Usage::of_batch(&batch), Usage::new().trained(5));
    /// ```
    #[must_use]
    pub fn of_batch(batch: &[Datum]) -> Self {
        Usage::new().trained(batch.iter().map(|datum| datum.model_input.len() as u64).fold(0, u64::saturating_add))
    }

    /// The usage of a sample. The prompt is computed once, except for what the service says that it had in its cache; further sequences
    /// find it there.
    ///
    /// ```
    /// use tinkex::cost::Usage;
    /// use tinkex::types::{ModelInput, SampleResponse};
    ///
    /// let prompt = ModelInput::from_tokens([1; 100]);
    /// let response: SampleResponse = serde_json::from_str(
    ///     r#"{
    ///         "sequences": [{"stop_reason": "stop", "tokens": [7, 8, 9]}, {"stop_reason": "stop", "tokens": [7]}],
    ///         "prompt_cache_hit_tokens": 64
    ///     }"#,
    /// )?;
    /// assert_eq!(Usage::of_sample(&prompt, &response), Usage::new().prefill(36).cached(64 + 100).sampled(4));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn of_sample(prompt: &ModelInput, response: &SampleResponse) -> Self {
        let sampled = response.sequences.iter().map(|sequence| sequence.tokens.len() as u64);
        let hits = response.prompt_cache_hit_tokens.into();
        of_prompt(prompt.len() as u64, response.sequences.len() as u64, hits)
            .sampled(sampled.fold(0, u64::saturating_add))
    }

    /// The most that a sample can use: nothing of the prompt is in the cache before, and each sequence has `max_tokens`.
    ///
    /// ```
    /// use tinkex::cost::Usage;
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_tokens([1; 100]);
    /// assert_eq!(Usage::of_sample_at_most(&prompt, 4, 64), Usage::new().prefill(100).cached(300).sampled(256));
    /// ```
    #[must_use]
    pub fn of_sample_at_most(prompt: &ModelInput, num_samples: u32, max_tokens: u32) -> Self {
        let samples = u64::from(num_samples);
        of_prompt(prompt.len() as u64, samples, 0).sampled(samples.saturating_mul(max_tokens.into()))
    }

    /// Sets the tokens of prompts that were computed.
    #[must_use]
    pub fn prefill(mut self, tokens: u64) -> Self {
        self.prefill = tokens;
        self
    }

    /// Sets the tokens of prompts that were in the cache.
    #[must_use]
    pub fn cached(mut self, tokens: u64) -> Self {
        self.cached = tokens;
        self
    }

    /// Sets the sampled tokens.
    #[must_use]
    pub fn sampled(mut self, tokens: u64) -> Self {
        self.sampled = tokens;
        self
    }

    /// Sets the tokens of passes.
    #[must_use]
    pub fn trained(mut self, tokens: u64) -> Self {
        self.trained = tokens;
        self
    }

    /// All tokens.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.prefill, self.cached, self.sampled, self.trained].into_iter().fold(0, u64::saturating_add)
    }
}

/// The usage of a prompt that so many sequences are sampled for.
fn of_prompt(tokens: u64, sequences: u64, hits: u64) -> Usage {
    let hits = hits.min(tokens);
    let again = sequences.saturating_sub(1).saturating_mul(tokens);
    Usage::new().prefill(tokens - hits).cached(hits.saturating_add(again))
}

impl Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            prefill: self.prefill.saturating_add(other.prefill),
            cached: self.cached.saturating_add(other.cached),
            sampled: self.sampled.saturating_add(other.sampled),
            trained: self.trained.saturating_add(other.trained),
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        *self = *self + other;
    }
}

impl Mul<u64> for Usage {
    type Output = Usage;

    fn mul(self, times: u64) -> Usage {
        Usage {
            prefill: self.prefill.saturating_mul(times),
            cached: self.cached.saturating_mul(times),
            sampled: self.sampled.saturating_mul(times),
            trained: self.trained.saturating_mul(times),
        }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Usage>>(usages: I) -> Usage {
        usages.fold(Usage::new(), Add::add)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use quickcheck::quickcheck;
    use serde_json::json;

    use super::*;

    /// Any counters of up to 2⁴⁸ tokens.
    pub(in crate::cost) fn usage(counts: (u64, u64, u64, u64)) -> Usage {
        let [prefill, cached, sampled, trained] = [counts.0, counts.1, counts.2, counts.3].map(|count| count >> 16);
        Usage { prefill, cached, sampled, trained }
    }

    fn response(lengths: &[u8], hits: u32) -> SampleResponse {
        let sequence = |length: &u8| json!({"stop_reason": "length", "tokens": vec![1; usize::from(*length)]});
        let sequences: Vec<_> = lengths.iter().map(sequence).collect();
        serde_json::from_value(json!({"sequences": sequences, "prompt_cache_hit_tokens": hits})).unwrap()
    }

    #[test]
    fn a_cache_has_no_more_than_the_prompt() {
        let prompt = ModelInput::from_tokens([1, 2, 3]);
        assert_eq!(Usage::of_sample(&prompt, &response(&[2], 9)), Usage::new().cached(3).sampled(2));
        assert_eq!(Usage::of_sample(&prompt, &response(&[], 0)), Usage::new().prefill(3));
    }

    quickcheck! {
        fn all_prompts_are_counted(tokens: u8, lengths: Vec<u8>, hits: u8) -> bool {
            let prompt = ModelInput::from_tokens(vec![1; tokens.into()]);
            let used = Usage::of_sample(&prompt, &response(&lengths, hits.into()));
            let most = Usage::of_sample_at_most(&prompt, lengths.len() as u32, 255);
            used.prefill + used.cached == u64::from(tokens) * lengths.len().max(1) as u64
                && used.prefill <= most.prefill && used.total() <= most.total() && used.trained == 0
        }

        fn times_is_repeated_addition(counts: (u64, u64, u64, u64), times: u8) -> bool {
            let one = usage(counts);
            one * times.into() == (0..times).map(|_| one).sum()
        }

        fn counters_do_not_overflow(count: u64, times: u64) -> bool {
            let one = Usage { prefill: count, cached: count, sampled: count, trained: count };
            (one + one).total() >= one.total() && (times == 0 || (one * times).total() >= one.total())
        }
    }
}
