//! Drawing the next token.

use ndarray::ArrayView1;

use super::super::splitmix::SplitMix64;
use super::ranking::Ranking;
use crate::local::model::GenerationOptions;
use crate::types::TokenLogprob;

/// The distribution that tokens are drawn from, made of the model's own by temperature, top-k and top-p.
///
/// Temperature applies first, then top-k, then top-p among the tokens that top-k leaves, as in vLLM and in Hugging Face's
/// transformers.
#[derive(Debug)]
pub(super) struct Distribution<'a> {
    ranking: Ranking<'a>,
    /// The most probable token.
    first: TokenLogprob,
    temperature: f64,
    /// How many of the most probable tokens take part.
    count: usize,
    /// The sum of their weights.
    total: f64,
}

impl<'a> Distribution<'a> {
    pub(super) fn new(logprobs: ArrayView1<'a, f32>, options: &GenerationOptions) -> Self {
        let ranking = Ranking::new(logprobs);
        let first = ranking.first().unwrap_or(TokenLogprob { token: 0, logprob: 0.0 });
        let temperature = f64::from(options.temperature);
        let mut distribution = Distribution { ranking, first, temperature, count: 1, total: 1.0 };
        if !options.temperature.is_nan() && options.temperature > 0.0 {
            distribution.count = options.top_k.unwrap_or(usize::MAX).clamp(1, logprobs.len().max(1));
            distribution.total = distribution.total(logprobs);
            distribution.keep_nucleus(options.top_p);
        }
        distribution
    }

    /// Draws a token: the first one, in the order of probabilities, with which the weights exceed a part of their sum.
    pub(super) fn draw(&mut self, random: &mut SplitMix64) -> u32 {
        let mut remaining = random.uniform() * self.total;
        let mut drawn = self.first.token;
        if self.count == 1 {
            return drawn;
        }
        for place in 0..self.count {
            let Some(top) = self.ranking.get(place) else { break };
            drawn = top.token;
            remaining -= self.weight(top.logprob);
            if remaining < 0.0 {
                break;
            }
        }
        // Rounding errors can leave a remainder after the last token.
        drawn
    }

    /// The most probable tokens of the model's own distribution.
    pub(super) fn top(&mut self, count: usize) -> Vec<TokenLogprob> {
        self.ranking.top(count)
    }

    /// Relative to the most probable token, so that a low temperature does not underflow all weights to zero.
    fn weight(&self, logprob: f32) -> f64 {
        (f64::from(logprob - self.first.logprob) / self.temperature).exp()
    }

    fn total(&mut self, logprobs: ArrayView1<'_, f32>) -> f64 {
        if self.count == logprobs.len() {
            return logprobs.iter().map(|&logprob| self.weight(logprob)).sum();
        }
        self.ranking.top(self.count).iter().map(|top| self.weight(top.logprob)).sum()
    }

    /// Leaves the smallest set of most probable tokens whose weights add up to this part of the sum.
    fn keep_nucleus(&mut self, top_p: f32) {
        if top_p >= 1.0 {
            return;
        }
        let needed = f64::from(top_p) * self.total;
        let (mut count, mut total) = (0, 0.0);
        while count < self.count && (count == 0 || total < needed) {
            let Some(top) = self.ranking.get(count) else { break };
            total += self.weight(top.logprob);
            count += 1;
        }
        (self.count, self.total) = (count.max(1), total);
    }
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
            counts[Distribution::new(logprobs.view(), options).draw(&mut random) as usize] += 1;
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
        // Among the two that top-k leaves, the first has 0.625 of the weight.
        let both = draws(&GenerationOptions { top_k: Some(2), top_p: 0.6, ..GenerationOptions::default() });
        assert_eq!(both, [0, 1000, 0, 0]);
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
            assert!(Distribution::new(logprobs.view(), &options).draw(&mut SplitMix64::new(1)) < 2);
        }
    }
}
