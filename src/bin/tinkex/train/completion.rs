//! A prompt and its completion, as tokens with weights.

use tinkex::toolkit::WeightedTokens;
use tinkex::{Result, Tokenizer};

/// Tokenizes an example, or as much of it as shows that it has more than `at_most` tokens. The completion is learned, with the
/// tokenizer's end-of-sequence token after it, or a line break if it has none. Between prompt and completion is a line break,
/// unless there is white space already. The texts are moved, since they may be large.
pub(super) fn tokenize(
    tokenizer: &Tokenizer,
    mut prompt: String,
    completion: &str,
    at_most: Option<usize>,
) -> Result<WeightedTokens> {
    let is_separated =
        prompt.is_empty() || prompt.ends_with(char::is_whitespace) || completion.starts_with(char::is_whitespace);
    if !is_separated {
        prompt.push('\n');
    }
    let mut all = WeightedTokens::new().context(encode(tokenizer, &prompt, true, at_most)?);
    drop(prompt);
    if at_most.is_some_and(|at_most| all.len() > at_most) {
        return Ok(all);
    }
    let room = at_most.map(|at_most| at_most.saturating_sub(all.len()));
    all = all.trained(encode(tokenizer, completion, false, room)?);
    Ok(match tokenizer.eos_token() {
        Some(end) => all.trained([end]),
        None => all.trained(tokenizer.encode_continuation("\n")?),
    })
}

/// The tokens of a text, or one more than `at_most` if it has more.
fn encode(tokenizer: &Tokenizer, text: &str, is_first: bool, at_most: Option<usize>) -> Result<Vec<u32>> {
    match (at_most.map(|at_most| at_most.saturating_add(1)), is_first) {
        (None, true) => tokenizer.encode(text),
        (None, false) => tokenizer.encode_continuation(text),
        (Some(enough), true) => tokenizer.encode_beginning(text, enough),
        (Some(enough), false) => tokenizer.encode_continuation_beginning(text, enough),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prompt: &str, completion: &str, at_most: Option<usize>) -> WeightedTokens {
        tokenize(&Tokenizer::bytes(), prompt.to_owned(), completion, at_most).unwrap()
    }

    #[test]
    fn prompt_and_completion_are_separated_by_white_space() {
        for (prompt, text, context) in
            [("a", "b", "a\n"), ("a ", "b", "a "), ("a", " b", "a"), ("", "b", ""), ("a\n\n", "\nb", "a\n\n")]
        {
            let all = tokens(prompt, text, None);
            assert_eq!(all.tokens()[..context.len()], *Tokenizer::bytes().encode(context).unwrap());
            assert_eq!(all.len(), context.len() + text.len() + 1);
        }
    }

    #[test]
    fn weights_cover_trained_tokens_and_their_end() {
        let text = tokens("ab", "c", None);
        assert_eq!((text.len(), text.trained_len()), (5, 2));
        let datum = text.datum().unwrap();
        assert_eq!(datum.model_input.to_tokens().unwrap(), [97, 98, 10, 99]);
        assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64().unwrap(), [98, 10, 99, 256]);
        assert_eq!(datum.loss_fn_inputs["weights"].as_f32().unwrap(), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_text_is_tokenized_up_to_its_limit() {
        let long = "é".repeat(1 << 20);
        let all = tokens("ab", &long, None);
        assert_eq!(all.len(), 3 + 2 * (1 << 20) + 1);
        let mut cut = tokens("ab", &long, Some(1000));
        assert!((1001..100_000).contains(&cut.len()), "{}", cut.len());
        cut.truncate(1000);
        assert_eq!((cut.tokens(), cut.weights()), (&all.tokens()[..1000], &all.weights()[..1000]));
        assert_eq!(tokens("ab", &long, Some(all.len())), all);
        assert!(tokens(&long, "b", Some(1000)).trained_len() == 0);
    }
}
