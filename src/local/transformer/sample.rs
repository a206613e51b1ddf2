//! Continuing a text: choosing the next token, and when to stop.

use ndarray::{Array2, ArrayView1};

use super::{END_OF_TEXT, layer::Seen, network::Network, ops::log_softmax, random::Random};
use crate::local::model::{Sample, SampleOptions, StopReason};

/// A text that has been read and is to be continued.
#[derive(Debug)]
pub(super) struct Continuation<'a> {
    pub(super) network: Network<'a, f32>,
    pub(super) seen: Vec<Seen<f32>>,
    /// Of the next token; 1 × vocabulary.
    pub(super) scores: Array2<f32>,
    pub(super) random: Random,
}

impl Continuation<'_> {
    /// Goes on until something stops it or there are `most` tokens.
    pub(super) fn sample(mut self, options: &SampleOptions, most: usize) -> Sample {
        let mut sample = Sample { tokens: Vec::new(), logprobs: Vec::new(), stop_reason: StopReason::Length };
        while sample.tokens.len() < most {
            if let Some(&last) = sample.tokens.last() {
                self.scores = self.network.extend(&mut self.seen, &[last]);
            }
            let mut logprobs = self.scores.row_mut(0);
            log_softmax(logprobs.view_mut());
            let token = choose(logprobs.view(), options, &mut self.random);
            sample.tokens.push(token);
            sample.logprobs.push(logprobs[token as usize]);

            let stopped = options.stop.iter().any(|stop| !stop.is_empty() && sample.tokens.ends_with(stop));
            if stopped || token == END_OF_TEXT {
                sample.stop_reason = StopReason::Stop;
                break;
            }
        }
        sample
    }
}

/// A token drawn from a distribution given by its log-probabilities, in the way that the options ask for.
///
/// Temperature comes first, then top-k, then top-p among what top-k leaves, as in vLLM and in Hugging Face's
/// transformers.
pub(super) fn choose(logprobs: ArrayView1<'_, f32>, options: &SampleOptions, random: &mut Random) -> u32 {
    let ranked = most_probable(logprobs, options.top_k.unwrap_or(usize::MAX).max(1));
    let Some(&(best, highest)) = ranked.first() else { return 0 };
    if options.temperature.is_nan() || options.temperature <= 0.0 {
        return best;
    }

    // Relative to the most probable token, so that a low temperature does not make everything zero.
    let weight = |logprob: f32| (f64::from(logprob - highest) / f64::from(options.temperature)).exp();
    let mut candidates: Vec<_> = ranked.iter().map(|&(token, logprob)| (token, weight(logprob))).collect();

    let enough = f64::from(options.top_p) * total(&candidates);
    let mut before = 0.0;
    let needed = candidates.iter().take_while(|(_, weight)| {
        let missing = before < enough;
        before += weight;
        missing
    });
    candidates.truncate(needed.count().max(1));

    let mut left = random.unit() * total(&candidates);
    let drawn = candidates.iter().find(|(_, weight)| {
        left -= weight;
        left < 0.0
    });
    // Rounding can leave a crumb after the last candidate.
    drawn.or(candidates.last()).map_or(best, |&(token, _)| token)
}

fn total(candidates: &[(u32, f64)]) -> f64 {
    candidates.iter().map(|(_, weight)| weight).sum()
}

/// The `count` most probable tokens with their log-probabilities, most probable first; of equals, the lower id first.
pub(super) fn most_probable(logprobs: ArrayView1<'_, f32>, count: usize) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logprobs.iter().copied()).collect();
    ranked.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    /// How often each of four tokens comes up in a thousand draws.
    fn draws(options: &SampleOptions) -> [usize; 4] {
        let logprobs: Array1<f32> = array![0.1_f32, 0.5, 0.3, 0.1].mapv(f32::ln);
        let mut random = Random::new(1);
        let mut counts = [0; 4];
        for _ in 0..1000 {
            counts[choose(logprobs.view(), options, &mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_one_draws_from_the_distribution_itself() {
        let counts = draws(&SampleOptions::default());
        for (count, expected) in counts.into_iter().zip([100, 500, 300, 100]) {
            assert!(count.abs_diff(expected) < 50, "{counts:?}");
        }
    }

    #[test]
    fn each_limit_at_its_narrowest_takes_the_most_probable_token() {
        let default = SampleOptions::default;
        for options in [
            SampleOptions { temperature: 0.0, ..default() },
            SampleOptions { temperature: 1e-6, ..default() },
            SampleOptions { top_k: Some(1), ..default() },
            SampleOptions { top_p: 1e-6, ..default() },
            SampleOptions { top_p: 0.0, ..default() },
        ] {
            assert_eq!(draws(&options), [0, 1000, 0, 0], "{options:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_tail_and_nothing_else() {
        let two = draws(&SampleOptions { top_k: Some(2), ..SampleOptions::default() });
        assert!(two[1] > two[2] && two[2] > 0 && two[0] + two[3] == 0, "{two:?}");
        // 0.5 falls short of 0.6, so the next token belongs to the nucleus too.
        let nucleus = draws(&SampleOptions { top_p: 0.6, ..SampleOptions::default() });
        assert!(nucleus[1] > nucleus[2] && nucleus[2] > 0 && nucleus[0] + nucleus[3] == 0, "{nucleus:?}");
    }

    #[test]
    fn a_high_temperature_evens_the_odds() {
        let counts = draws(&SampleOptions { temperature: 1e6, ..SampleOptions::default() });
        assert!(counts.iter().all(|count| count.abs_diff(250) < 60), "{counts:?}");
    }

    #[test]
    fn numbers_that_are_not_numbers_still_give_a_token() {
        let logprobs = array![f32::NAN, f32::NAN];
        for temperature in [0.0, 1.0, f32::NAN] {
            let options = SampleOptions { temperature, ..SampleOptions::default() };
            assert!(choose(logprobs.view(), &options, &mut Random::new(1)) < 2);
        }
    }
}
