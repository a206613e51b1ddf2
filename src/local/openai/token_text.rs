//! Tokens and their log-probabilities in a response.

use serde_json::{Value, json};

use crate::tokenizer::Tokenizer;
use crate::types::TokenLogprob;

/// A token of an answer, with the most probable ones in its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenText {
    bytes: Vec<u8>,
    logprob: f32,
    top: Vec<(Vec<u8>, f32)>,
}

impl TokenText {
    pub(super) fn new(tokenizer: &Tokenizer, token: u32, logprob: f32, top: &[TokenLogprob]) -> Self {
        let top = top.iter().map(|top| (tokenizer.bytes_of_token(top.token), top.logprob));
        TokenText { bytes: tokenizer.bytes_of_token(token), logprob, top: top.collect() }
    }

    fn text(&self) -> String {
        text(&self.bytes)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The `logprobs` of a chat's choice.
pub(super) fn of_chat(tokens: &[TokenText]) -> Value {
    let entry =
        |bytes: &[u8], logprob: f32| json!({ "token": text(bytes), "logprob": number(logprob), "bytes": bytes });
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut one = entry(&token.bytes, token.logprob);
            one["top_logprobs"] = token.top.iter().map(|(bytes, logprob)| entry(bytes, *logprob)).collect();
            one
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// Characters of the tokens' texts.
pub(super) fn characters(tokens: &[TokenText]) -> usize {
    tokens.iter().map(|token| token.text().chars().count()).sum()
}

/// The `logprobs` of a completion's choice. `offset` is the number of characters before the first of the tokens.
pub(super) fn of_completion(tokens: &[TokenText], mut offset: usize) -> Value {
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let start = offset;
            offset += token.text().chars().count();
            start
        })
        .collect();
    let top = |token: &TokenText| -> Value {
        token.top.iter().map(|(bytes, logprob)| (text(bytes), number(*logprob))).collect()
    };
    json!({
        "tokens": tokens.iter().map(TokenText::text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| number(token.logprob)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// JSON has no infinity: OpenAI's own servers report very improbable tokens as −9999.
fn number(logprob: f32) -> Value {
    if logprob.is_finite() { json!(logprob) } else { json!(-9999.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<TokenText> {
        let tokenizer = Tokenizer::bytes();
        let top = [(0xC3, -0.5), (97, f32::NEG_INFINITY)].map(|(token, logprob)| TokenLogprob { token, logprob });
        vec![TokenText::new(&tokenizer, 0xC3, -0.5, &top), TokenText::new(&tokenizer, 0xA9, -0.25, &[])]
    }

    #[test]
    fn chats_list_tokens_with_their_bytes() {
        let logprobs = of_chat(&tokens());
        assert_eq!(
            logprobs["content"][0].to_string(),
            "{\"token\":\"\u{FFFD}\",\"logprob\":-0.5,\"bytes\":[195],\"top_logprobs\":[\
             {\"token\":\"\u{FFFD}\",\"logprob\":-0.5,\"bytes\":[195]},{\"token\":\"a\",\"logprob\":-9999.0,\"bytes\":[97]}]}"
        );
        assert_eq!(logprobs["content"][1]["bytes"], json!([0xA9]));
    }

    #[test]
    fn completions_list_tokens_in_columns() {
        let logprobs = of_completion(&tokens(), 7);
        assert_eq!(logprobs["text_offset"], json!([7, 8]));
        assert_eq!(logprobs["token_logprobs"], json!([-0.5, -0.25]));
        assert_eq!(logprobs["top_logprobs"][0], json!({ "\u{FFFD}": -0.5, "a": -9999.0 }));
    }
}
