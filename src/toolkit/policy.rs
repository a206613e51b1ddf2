//! Datums for reinforcement learning.

use crate::error::{Error, Result};
use crate::types::{Datum, ModelInput, SampledSequence};

/// The datum of a sampled sequence, for the losses of reinforcement learning, such as
/// [`LossFn::ImportanceSampling`](crate::types::LossFn::ImportanceSampling): each sampled token has the advantage, and the
/// log-probability with which it was sampled; the tokens of the prompt have 0 for both.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty prompt or one with images, for a sequence without tokens or without
/// the log-probability of each, and for numbers that are not finite.
///
/// ```
/// use tinkex::toolkit::policy_datum;
/// use tinkex::types::{LossFn, ModelInput, SampleResponse};
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12, 13], "logprobs": [-0.5, -1.5]}]}"#;
/// let sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let datum = policy_datum(&ModelInput::from_tokens([10, 11]), &sampled.sequences[0], 0.75)?;
/// assert_eq!(datum.model_input.to_tokens()?, [10, 11, 12]);
/// assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64(), Some(&[11, 12, 13][..]));
/// assert_eq!(datum.loss_fn_inputs["logprobs"].as_f32(), Some(&[0.0, -0.5, -1.5][..]));
/// assert_eq!(datum.loss_fn_inputs["advantages"].as_f32(), Some(&[0.0, 0.75, 0.75][..]));
/// datum.validate_for(&LossFn::Ppo)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn policy_datum(prompt: &ModelInput, sequence: &SampledSequence, advantage: f32) -> Result<Datum> {
    token_policy_datum(prompt, sequence, &vec![advantage; sequence.tokens.len()])
}

/// [`policy_datum`] with an advantage for each sampled token, such as the difference between a teacher's log-probability of it and
/// the student's.
///
/// # Errors
///
/// As [`policy_datum`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for another number of advantages than of tokens.
///
/// ```
/// use tinkex::toolkit::token_policy_datum;
/// use tinkex::types::{ModelInput, SampleResponse};
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12, 13], "logprobs": [-0.5, -1.5]}]}"#;
/// let sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let datum = token_policy_datum(&ModelInput::from_tokens([10, 11]), &sampled.sequences[0], &[0.25, -0.5])?;
/// assert_eq!(datum.loss_fn_inputs["advantages"].as_f32(), Some(&[0.0, 0.25, -0.5][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn token_policy_datum(prompt: &ModelInput, sequence: &SampledSequence, advantages: &[f32]) -> Result<Datum> {
    let refuse = |message: String, hint: &'static str| Err(Error::invalid_input(message).with_hint(hint));
    let mut tokens = prompt.to_tokens()?;
    let context = tokens.len();
    let sampled = sequence.tokens.len();
    if context == 0 {
        return refuse("the prompt is empty".to_owned(), "pass the prompt that the sequence was sampled for");
    }
    let Some((_, earlier)) = sequence.tokens.split_last() else {
        return refuse("the sequence has no tokens".to_owned(), "leave it out: there is nothing to learn from it");
    };
    let known = sequence.logprobs.as_deref().unwrap_or_default();
    if known.len() != sampled {
        let message = format!("the sequence has {} log-probabilities for {sampled} tokens", known.len());
        return refuse(message, "pass a sequence as the service sampled it");
    }
    if advantages.len() != sampled {
        let message = format!("there are {} advantages for {sampled} sampled tokens", advantages.len());
        return refuse(message, "give each sampled token an advantage");
    }
    let targets = [&tokens[1..], &sequence.tokens].concat();
    tokens.extend_from_slice(earlier);
    let with_zeros = |values: &[f32]| [&vec![0.0; context - 1], values].concat();
    Datum::new(tokens)
        .input("target_tokens", targets)?
        .input("logprobs", with_zeros(known))?
        .input("advantages", with_zeros(advantages))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sequence(tokens: &[u32], logprobs: Option<&[f32]>) -> SampledSequence {
        serde_json::from_value(json!({"stop_reason": "stop", "tokens": tokens, "logprobs": logprobs})).unwrap()
    }

    #[test]
    fn one_token_after_one_token() {
        let datum = policy_datum(&ModelInput::from_tokens([1]), &sequence(&[2], Some(&[-0.25])), -1.0).unwrap();
        assert_eq!(datum.model_input.to_tokens().unwrap(), [1]);
        assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64().unwrap(), [2]);
        assert_eq!(datum.loss_fn_inputs["logprobs"].as_f32().unwrap(), [-0.25]);
        assert_eq!(datum.loss_fn_inputs["advantages"].as_f32().unwrap(), [-1.0]);
    }

    #[test]
    fn incomplete_sequences_are_refused() {
        let prompt = ModelInput::from_tokens([1, 2]);
        for (prompt, sequence, advantage, why) in [
            (&ModelInput::new(), sequence(&[2], Some(&[-0.5])), 1.0, "the prompt is empty"),
            (&prompt, sequence(&[], Some(&[])), 1.0, "no tokens"),
            (&prompt, sequence(&[2], None), 1.0, "0 log-probabilities for 1 tokens"),
            (&prompt, sequence(&[2, 3], Some(&[-0.5])), 1.0, "1 log-probabilities for 2 tokens"),
            (&prompt, sequence(&[2], Some(&[f32::NAN])), 1.0, "logprobs"),
            (&prompt, sequence(&[2], Some(&[-0.5])), f32::INFINITY, "advantages"),
        ] {
            let error = policy_datum(prompt, &sequence, advantage).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = token_policy_datum(&prompt, &sequence(&[2], Some(&[-0.5])), &[1.0, 2.0]).unwrap_err().to_string();
        assert!(error.contains("2 advantages for 1 sampled tokens"), "{error}");
    }
}
