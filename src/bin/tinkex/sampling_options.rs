//! How text is sampled: the options that `sample`, `eval` and `chat` share.

use clap::Args;
use tinkex::Tokenizer;
use tinkex::types::{SamplingParams, Stop};

use crate::failure::Failure;
use crate::number::{self, at_least};

/// The default of `--max-tokens`, except for `chat`.
pub(crate) const MAX_TOKENS: u32 = 256;

#[derive(Args, Debug)]
pub(crate) struct SamplingOptions {
    /// Maximum number of tokens to generate per sample [default: 256; for `tinkex chat`, what the model's
    /// context has room for].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_u32))]
    max_tokens: Option<u32>,
    /// Sampling temperature: 0 always picks the most likely token, 1 samples from the model's distribution.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number::finite)]
    temperature: f64,
    /// Sample from the N most likely tokens; -1 for all tokens.
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = at_least(-1_i32))]
    top_k: i32,
    /// Nucleus sampling: sample from the most likely tokens whose probabilities add up to P.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number::finite)]
    top_p: f64,
    /// Random seed, for reproducible samples.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(0_u64))]
    seed: Option<u64>,
    /// Stop sequence: end a sample at this text, besides where the model ends it; can be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingOptions {
    /// The parameters, which are valid. The service chooses the number of tokens if neither the options nor `max_tokens` do.
    pub(crate) fn params(&self, max_tokens: Option<u32>) -> Result<SamplingParams, Failure> {
        let mut params = SamplingParams::default().temperature(self.temperature).top_k(self.top_k).top_p(self.top_p);
        params.max_tokens = self.max_tokens.or(max_tokens);
        params.seed = self.seed;
        if !self.stop.is_empty() {
            params = params.stop(self.stop.clone());
        }
        params.validate()?;
        Ok(params)
    }

    /// Where a reply ends: where its format says, and at the texts of the options.
    pub(crate) fn stop_of_reply(&self, format: Stop, tokenizer: &Tokenizer) -> Result<Stop, Failure> {
        if self.stop.is_empty() {
            return Ok(format);
        }
        // A service takes tokens or texts, and the options have texts.
        let mut texts = match format {
            Stop::Texts(texts) => texts,
            Stop::Tokens(tokens) => tokens
                .into_iter()
                .map(|token| tokenizer.decode_with_special_tokens(&[token]))
                .collect::<tinkex::Result<_>>()?,
            _ => Vec::new(),
        };
        texts.extend(self.stop.iter().cloned());
        Ok(texts.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sampling: SamplingOptions,
    }

    fn options(words: &[&str]) -> SamplingOptions {
        Line::parse_from([&["x"], words].concat()).sampling
    }

    #[test]
    fn texts_of_the_options_join_the_format() {
        let tokenizer = Tokenizer::bytes();
        let stop = |words: &[&str], format: Stop| options(words).stop_of_reply(format, &tokenizer).unwrap();
        assert_eq!(stop(&[], [256].into()), Stop::Tokens(vec![256]));
        assert_eq!(stop(&["--stop", "x"], [256].into()), Stop::from(["<|endoftext|>", "x"]));
        assert_eq!(stop(&["--stop", "x"], "User:".into()), Stop::from(["User:", "x"]));
    }

    #[test]
    fn the_command_chooses_the_default_length() {
        assert_eq!(options(&[]).params(Some(7)).unwrap().max_tokens, Some(7));
        assert_eq!(options(&["--max-tokens", "3"]).params(Some(7)).unwrap().max_tokens, Some(3));
        assert_eq!(options(&[]).params(None).unwrap(), SamplingParams::default());
        assert!(options(&["--top-p", "2"]).params(None).is_err());
    }
}
