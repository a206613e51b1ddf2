//! One answer, as it grows token by token.

use super::stop_text::StopText;
use super::text_format::{ReadyPrompt, TextFormat};
use super::token_text::TokenText;
use crate::chat::{ReplyDelta, ReplyEnd, ReplyParser, ToolCall};
use crate::local::model::{FinishReason, Sample, SampledToken};
use crate::tokenizer::TextDecoder;

/// One of the answers to a request.
#[derive(Debug)]
pub(super) struct Choice {
    reader: Option<Reader>,
    content: StopText,
    reasoning: StopText,
    /// Bytes of content and reasoning that the reader has given.
    read: (usize, usize),
    reports_tokens: bool,
    /// Tokens whose text is held back, each with whether some of its text was not.
    waiting: Vec<(TokenText, bool)>,
    delta: Delta,
    is_reasoning_taken: bool,
    /// Tokens that were sampled.
    sampled: usize,
    end: Option<End>,
}

#[derive(Debug)]
enum Reader {
    Chat(Box<ReplyParser>),
    Text(TextDecoder),
}

/// What is new in an answer since the last time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) reasoning: String,
    pub(super) content: String,
    pub(super) tool_calls: Vec<ToolCall>,
    pub(super) tokens: Vec<TokenText>,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// `stop`, `length` or `tool_calls`.
    pub(super) finish_reason: &'static str,
    /// What does not follow the format of the model's replies, and the whole text as it was sampled.
    pub(super) malformed: Option<(String, String)>,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self == &Delta::default()
    }
}

impl Choice {
    /// An answer to this prompt. It ends at the first of `stops`.
    pub(super) fn new(format: &TextFormat, prompt: &ReadyPrompt, stops: &[String], reports_tokens: bool) -> Self {
        let reader = match &prompt.prompt {
            Some(prompt) => Reader::Chat(Box::new(format.renderer.reply_parser(prompt))),
            None => Reader::Text(format.tokenizer().decoder()),
        };
        Choice {
            reader: Some(reader),
            content: StopText::new(stops),
            reasoning: StopText::new(stops),
            read: (0, 0),
            reports_tokens,
            waiting: Vec::new(),
            delta: Delta::default(),
            is_reasoning_taken: false,
            sampled: 0,
            end: None,
        }
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Takes what is new.
    pub(super) fn take(&mut self) -> Delta {
        self.is_reasoning_taken |= !self.delta.reasoning.is_empty();
        std::mem::take(&mut self.delta)
    }

    /// Adds a token, and ends with the last one.
    pub(super) fn push(&mut self, format: &TextFormat, token: SampledToken<'_>) {
        self.sampled += 1;
        if self.end.is_some() {
            return;
        }
        let deltas = match &mut self.reader {
            Some(Reader::Chat(parser)) if format.is_read(&token) => parser.push(&[token.token]),
            // A token that cannot be decoded has no text.
            Some(Reader::Text(decoder)) if format.is_read(&token) => {
                vec![ReplyDelta::Content(decoder.push(&[token.token]).unwrap_or_default())]
            }
            _ => Vec::new(),
        };
        let mut has_text = false;
        for delta in deltas {
            has_text |= match delta {
                ReplyDelta::Content(text) => self.add_content(&text),
                ReplyDelta::Reasoning(text) => self.add_reasoning(&text),
            };
        }
        if self.reports_tokens && !format.is_end(&token) {
            let text = TokenText::new(format.tokenizer(), token.token, token.logprob, token.topk_logprobs);
            self.waiting.push((text, has_text));
        }
        if self.content.is_stopped() || self.reasoning.is_stopped() {
            self.stop();
        } else {
            if !self.content.is_holding() && !self.reasoning.is_holding() {
                self.release_tokens(|_| true);
            }
            if let Some(reason) = token.finish_reason {
                self.finish(reason);
            }
        }
    }

    /// Adds the tokens of a finished sample that were not reported one by one, and ends.
    pub(super) fn push_rest(&mut self, format: &TextFormat, sample: &Sample) {
        for index in self.sampled..sample.tokens.len() {
            let logprob = sample.logprobs.get(index).copied().unwrap_or(f32::NAN);
            let mut token = SampledToken::new(0, sample.tokens[index], logprob);
            token.topk_logprobs = sample.topk_logprobs.get(index).map(Vec::as_slice).unwrap_or_default();
            token.finish_reason = (index + 1 == sample.tokens.len()).then_some(sample.finish_reason);
            self.push(format, token);
        }
        self.finish(sample.finish_reason);
    }

    /// Ends an answer to which no tokens will be added.
    pub(super) fn finish(&mut self, reason: FinishReason) {
        if self.end.is_some() {
            return;
        }
        let mut malformed = None;
        let mut tool_calls = Vec::new();
        match self.reader.take() {
            Some(Reader::Chat(parser)) => {
                let reply = parser.finish();
                let reasoning = reply.message.reasoning_content.clone().unwrap_or_default();
                if reasoning.is_empty() && !self.is_reasoning_taken {
                    // What seemed to be reasoning was the content.
                    self.delta.reasoning.clear();
                    self.reasoning.finish();
                }
                self.add_reasoning(reasoning.get(self.read.1..).unwrap_or_default());
                self.add_content(reply.message.text().get(self.read.0..).unwrap_or_default());
                tool_calls = reply.message.tool_calls;
                if let ReplyEnd::Malformed(problem) = reply.end {
                    malformed = Some((problem, reply.raw));
                }
            }
            Some(Reader::Text(decoder)) => {
                self.add_content(&decoder.finish().unwrap_or_default());
            }
            None => {}
        }
        if self.content.is_stopped() || self.reasoning.is_stopped() {
            return self.stop();
        }
        self.delta.reasoning.push_str(&self.reasoning.finish());
        self.delta.content.push_str(&self.content.finish());
        self.release_tokens(|_| true);
        let finish_reason = match reason {
            _ if !tool_calls.is_empty() => "tool_calls",
            FinishReason::Length => "length",
            FinishReason::Stop => "stop",
        };
        self.delta.tool_calls = tool_calls;
        self.end = Some(End { finish_reason, malformed });
    }

    /// A text of the request ended it.
    fn stop(&mut self) {
        self.release_tokens(|has_text| has_text);
        self.end = Some(End { finish_reason: "stop", malformed: None });
    }

    fn release_tokens(&mut self, is_shown: impl Fn(bool) -> bool) {
        let shown = self.waiting.drain(..).filter(|(_, has_text)| is_shown(*has_text)).map(|(token, _)| token);
        self.delta.tokens.extend(shown);
    }

    /// Adds to the content; whether some of it is given out.
    fn add_content(&mut self, text: &str) -> bool {
        self.read.0 += text.len();
        let given = self.content.push(text);
        self.delta.content.push_str(&given);
        !given.is_empty()
    }

    fn add_reasoning(&mut self, text: &str) -> bool {
        self.read.1 += text.len();
        let given = self.reasoning.push(text);
        self.delta.reasoning.push_str(&given);
        !given.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Request;
    use super::*;
    use crate::chat::{ChatTemplate, Renderer};
    use crate::tokenizer::Tokenizer;

    const CHAT: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": {"name": "add"}}]}"#;
    const TEXT: &str = r#"{"model": "m", "prompt": "Hi"}"#;

    fn format() -> TextFormat {
        format_of("chatml")
    }

    fn format_of(template: &str) -> TextFormat {
        TextFormat::new(Renderer::new(ChatTemplate::builtin(template).unwrap(), Tokenizer::bytes()).unwrap(), &[])
    }

    fn choice(format: &TextFormat, body: &str, stops: &[&str]) -> Choice {
        let request = if body == CHAT { Request::chat(body.as_bytes()) } else { Request::completion(body.as_bytes()) };
        let prompt = format.prompts(&request.unwrap()).unwrap().remove(0);
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        Choice::new(format, &prompt, &stops, true)
    }

    /// What each of these pieces of a text adds, and what its end does.
    fn grown(body: &str, stops: &[&str], pieces: &[&str], reason: FinishReason) -> (Vec<Delta>, End) {
        let format = format();
        let mut choice = choice(&format, body, stops);
        let mut deltas = Vec::new();
        for piece in pieces {
            for byte in piece.bytes() {
                choice.push(&format, SampledToken::new(0, byte.into(), -0.5));
            }
            deltas.push(choice.take());
        }
        choice.finish(reason);
        deltas.push(choice.take());
        (deltas, choice.end().unwrap().clone())
    }

    fn contents(deltas: &[Delta]) -> Vec<&str> {
        deltas.iter().map(|delta| delta.content.as_str()).collect()
    }

    #[test]
    fn reasoning_content_and_calls_are_apart() {
        let pieces = [
            "<think>\nHm.\n</think>\n\nI ",
            "add.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}",
            "\n</tool_call><|im_end|>",
        ];
        let (deltas, end) = grown(CHAT, &[], &pieces, FinishReason::Stop);
        assert_eq!(deltas[0].reasoning, "Hm.");
        assert_eq!(contents(&deltas), ["I ", "add.", "", ""]);
        assert_eq!((deltas[3].tool_calls[0].name.as_str(), end.finish_reason), ("add", "tool_calls"));
    }

    #[test]
    fn text_that_may_be_a_stop_is_held() {
        for body in [CHAT, TEXT] {
            let (deltas, end) = grown(body, &["END"], &["one E", "N", "T EN", "D two"], FinishReason::Length);
            assert_eq!(contents(&deltas), ["one ", "", "ENT ", "", ""], "{body}");
            assert_eq!(end.finish_reason, "stop");
            // Those of the stop are not reported, nor what follows.
            let tokens: usize = deltas.iter().map(|delta| delta.tokens.len()).sum();
            assert_eq!(tokens, "one ENT ".len());
            let (deltas, end) = grown(body, &["END"], &["one E"], FinishReason::Length);
            assert_eq!((contents(&deltas), end.finish_reason), (vec!["one ", "E"], "length"));
        }
    }

    #[test]
    fn text_is_content_or_reasoning_but_not_both() {
        let format = format_of("deepseek_r1");
        let body = r#"{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}"#;
        let prompt = format.prompts(&Request::chat(body.as_bytes()).unwrap()).unwrap().remove(0);
        for (text, reason, given) in [
            ("abc E", FinishReason::Length, ("abc E", "")),
            // Only the end shows that it was no reasoning.
            ("abc E<｜end▁of▁sentence｜>", FinishReason::Stop, ("", "abc E")),
        ] {
            let mut choice = Choice::new(&format, &prompt, &["END".to_owned()], false);
            text.bytes().for_each(|byte| choice.push(&format, SampledToken::new(0, byte.into(), -0.5)));
            choice.finish(reason);
            let delta = choice.take();
            assert_eq!((delta.reasoning.as_str(), delta.content.as_str()), given, "{text}");
        }
    }

    #[test]
    fn what_ends_a_text_is_not_reported() {
        let format = format();
        let mut choice = choice(&format, TEXT, &[]);
        let mut last = SampledToken::new(0, 256, -0.25);
        last.finish_reason = Some(FinishReason::Stop);
        choice.push(&format, SampledToken::new(0, 97, -0.5));
        choice.push(&format, last);
        let delta = choice.take();
        assert_eq!((delta.content.as_str(), delta.tokens.len()), ("a", 1));
        assert_eq!(choice.end().unwrap().finish_reason, "stop");
    }

    #[test]
    fn an_end_only_the_model_knows_is_silent() {
        let renderer = Renderer::new(ChatTemplate::builtin("chatml").unwrap(), Tokenizer::bytes()).unwrap();
        let format = TextFormat::new(renderer, &[b'!'.into()]);
        for body in [CHAT, TEXT] {
            let mut choice = choice(&format, body, &[]);
            choice.push(&format, SampledToken::new(0, b'a'.into(), -0.5));
            choice.push(&format, SampledToken::new(0, b'!'.into(), -0.5));
            choice.finish(FinishReason::Stop);
            let delta = choice.take();
            assert_eq!((delta.content.as_str(), delta.tokens.len()), ("a", 1), "{body}");
        }
    }

    #[test]
    fn a_model_may_report_only_whole_samples() {
        let format = format();
        let sample = Sample::new(b"abc".map(u32::from).to_vec(), vec![-0.5; 3], FinishReason::Length);
        for reported in 0..=3 {
            let mut choice = choice(&format, TEXT, &[]);
            sample
                .tokens
                .iter()
                .take(reported)
                .for_each(|token| choice.push(&format, SampledToken::new(0, *token, -0.5)));
            choice.push_rest(&format, &sample);
            let delta = choice.take();
            assert_eq!((delta.content.as_str(), delta.tokens.len()), ("abc", 3), "{reported}");
        }
    }

    #[test]
    fn a_broken_call_is_not_lost() {
        let (deltas, end) = grown(CHAT, &[], &["<tool_call>{\"name\"<|im_end|>"], FinishReason::Stop);
        assert!(deltas.iter().all(|delta| delta.tool_calls.is_empty()));
        let (problem, raw) = end.malformed.unwrap();
        assert!(!problem.is_empty() && raw.contains("{\"name\""), "{problem} {raw}");
    }

    quickcheck::quickcheck! {
        fn pieces_make_the_whole_answer(text: String, takes: Vec<bool>) -> bool {
            let format = format();
            let mut choice = choice(&format, TEXT, &["ab"]);
            let mut content = String::new();
            for (byte, takes) in text.bytes().zip(takes.into_iter().chain(std::iter::repeat(false))) {
                choice.push(&format, SampledToken::new(0, byte.into(), -0.5));
                if takes {
                    content.push_str(&choice.take().content);
                }
            }
            choice.finish(FinishReason::Length);
            content.push_str(&choice.take().content);
            content == text.split("ab").next().unwrap_or_default()
        }
    }
}
