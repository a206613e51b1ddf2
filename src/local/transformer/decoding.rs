//! Decoding: sampling the next token, and when to stop.

use ndarray::{Array2, ArrayView1};

use super::kv_cache::KvCache;
use super::ops::log_softmax;
use super::sampling_weights::SamplingWeights;
use super::splitmix::SplitMix64;
use super::{END_OF_TEXT, Transformer};
use crate::local::model::{FinishReason, GenerationOptions, Sample, SampledToken, SamplingContext};
use crate::types::TokenLogprob;

/// How the samples of one request are generated.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    pub(super) model: &'a Transformer,
    pub(super) context: &'a SamplingContext,
    pub(super) weights: SamplingWeights,
    pub(super) options: &'a GenerationOptions,
    pub(super) max_tokens: usize,
}

impl Decoder<'_> {
    /// Generates until a stop condition holds, there are enough tokens, or the sample is cancelled.
    ///
    /// The caches hold the prompt, and the logits (1 × vocabulary) are those of the token after it.
    pub(super) fn generate(
        &mut self,
        mut caches: Vec<KvCache<f32>>,
        mut logits: Array2<f32>,
        mut random: SplitMix64,
    ) -> Sample {
        let options = self.options;
        let mut sample = Sample::new(Vec::new(), Vec::new(), FinishReason::Length);
        while sample.tokens.len() < self.max_tokens && !self.context.is_cancelled() {
            if let Some(&last) = sample.tokens.last() {
                self.weights = SamplingWeights::latest(self.context);
                let output = self.model.extend(&self.weights, &mut caches, &[last]);
                logits = self.model.logits(&self.weights, output.view());
            }
            let mut logprobs = logits.row_mut(0);
            log_softmax(logprobs.view_mut());
            let token = draw(&candidates(logprobs.view(), options), &mut random);
            sample.tokens.push(token);
            sample.logprobs.push(logprobs[token as usize]);
            if options.topk_logprobs > 0 {
                sample.topk_logprobs.push(top_k(logprobs.view(), options.topk_logprobs));
            }
            self.context.sampled(SampledToken::new(0, token, logprobs[token as usize]));

            let ends_with = |stop: &Vec<u32>| !stop.is_empty() && sample.tokens.ends_with(stop);
            let is_end = token == END_OF_TEXT && options.stop_at_end_of_text;
            if is_end || options.stop_sequences.iter().any(ends_with) {
                sample.finish_reason = FinishReason::Stop;
                break;
            }
        }
        sample
    }
}

/// The tokens to sample among, each with its weight, from a distribution given by its log-probabilities.
///
/// Temperature applies first, then top-k, then top-p among the tokens that top-k leaves, as in vLLM and in Hugging Face's
/// transformers.
pub(super) fn candidates(logprobs: ArrayView1<'_, f32>, options: &GenerationOptions) -> Vec<(u32, f64)> {
    let ranked = top_k(logprobs, options.top_k.unwrap_or(usize::MAX).max(1));
    let Some(&TokenLogprob { token: best, logprob: best_logprob }) = ranked.first() else { return Vec::new() };
    if options.temperature.is_nan() || options.temperature <= 0.0 {
        return vec![(best, 1.0)];
    }

    // Relative to the most probable token, so that a low temperature does not underflow all weights to zero.
    let weight = |logprob: f32| (f64::from(logprob - best_logprob) / f64::from(options.temperature)).exp();
    let mut candidates: Vec<_> = ranked.iter().map(|top| (top.token, weight(top.logprob))).collect();

    let nucleus_weight = f64::from(options.top_p) * total_weight(&candidates);
    let mut cumulative = 0.0;
    let nucleus = candidates.iter().take_while(|(_, weight)| {
        let is_incomplete = cumulative < nucleus_weight;
        cumulative += weight;
        is_incomplete
    });
    candidates.truncate(nucleus.count().max(1));
    candidates
}

/// One of the candidates.
pub(super) fn draw(candidates: &[(u32, f64)], random: &mut SplitMix64) -> u32 {
    let mut remaining = random.uniform() * total_weight(candidates);
    let drawn = candidates.iter().find(|(_, weight)| {
        remaining -= weight;
        remaining < 0.0
    });
    // Rounding errors can leave a remainder after the last candidate.
    drawn.or(candidates.last()).map_or(0, |&(token, _)| token)
}

fn total_weight(candidates: &[(u32, f64)]) -> f64 {
    candidates.iter().map(|(_, weight)| weight).sum()
}

/// The `count` most probable tokens, most probable first; ties in the order of ids.
pub(super) fn top_k(logprobs: ArrayView1<'_, f32>, count: usize) -> Vec<TokenLogprob> {
    let mut ranked: Vec<_> = (0..).zip(logprobs).map(|(token, &logprob)| TokenLogprob { token, logprob }).collect();
    ranked.sort_by(|left, right| right.logprob.total_cmp(&left.logprob));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    /// How often each of four tokens is sampled in a thousand draws.
    fn draws(options: &GenerationOptions) -> [usize; 4] {
        let logprobs: Array1<f32> = array![0.1_f32, 0.5, 0.3, 0.1].mapv(f32::ln);
        let mut random = SplitMix64::new(1);
        let mut counts = [0; 4];
        for _ in 0..1000 {
            counts[draw(&candidates(logprobs.view(), options), &mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_one_samples_the_distribution_itself() {
        let counts = draws(&GenerationOptions::default());
        for (count, expected) in counts.into_iter().zip([100, 500, 300, 100]) {
            assert!(count.abs_diff(expected) < 50, "{counts:?}");
        }
    }

    #[test]
    fn narrowest_limits_take_the_most_probable_token() {
        let default = GenerationOptions::default;
        for options in [
            GenerationOptions { temperature: 0.0, ..default() },
            GenerationOptions { temperature: 1e-6, ..default() },
            GenerationOptions { top_k: Some(1), ..default() },
            GenerationOptions { top_p: 1e-6, ..default() },
            GenerationOptions { top_p: 0.0, ..default() },
        ] {
            assert_eq!(draws(&options), [0, 1000, 0, 0], "{options:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let two = draws(&GenerationOptions { top_k: Some(2), ..GenerationOptions::default() });
        assert!(two[1] > two[2] && two[2] > 0 && two[0] + two[3] == 0, "{two:?}");
        // 0.5 falls short of 0.6, so the next token belongs to the nucleus too.
        let nucleus = draws(&GenerationOptions { top_p: 0.6, ..GenerationOptions::default() });
        assert!(nucleus[1] > nucleus[2] && nucleus[2] > 0 && nucleus[0] + nucleus[3] == 0, "{nucleus:?}");
    }

    #[test]
    fn high_temperature_evens_the_odds() {
        let counts = draws(&GenerationOptions { temperature: 1e6, ..GenerationOptions::default() });
        assert!(counts.iter().all(|count| count.abs_diff(250) < 60), "{counts:?}");
    }

    #[test]
    fn nan_logprobs_still_give_a_token() {
        let logprobs = array![f32::NAN, f32::NAN];
        for temperature in [0.0, 1.0, f32::NAN] {
            let options = GenerationOptions { temperature, ..GenerationOptions::default() };
            assert!(draw(&candidates(logprobs.view(), &options), &mut SplitMix64::new(1)) < 2);
        }
    }
}
