//! The bodies of responses.

use serde_json::{Map, Value, json};

use super::choice::{Delta, End};
use super::token_text::{self, TokenText};
use crate::chat::ToolCall;

/// What all parts of a response have in common.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Begins with `chatcmpl-` or `cmpl-`.
    pub(super) id: String,
    /// In seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) is_chat: bool,
    pub(super) reports_tokens: bool,
}

/// What a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    pub(super) cached: usize,
    pub(super) sampled: usize,
}

impl Usage {
    fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.sampled,
            "total_tokens": self.prompt + self.sampled,
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }
}

impl Header {
    fn body(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices })
    }

    /// A whole response.
    pub(super) fn whole(&self, answers: Vec<(Delta, End)>, usage: Usage) -> Value {
        let choices = answers.into_iter().enumerate().map(|(index, (delta, end))| self.answer(index, delta, end));
        let mut body = self.body(if self.is_chat { "chat.completion" } else { "text_completion" }, choices.collect());
        body["usage"] = usage.to_json();
        body
    }

    fn answer(&self, index: usize, delta: Delta, end: End) -> Value {
        let logprobs = self.logprobs(&delta.tokens, 0);
        let mut choice = json!({ "index": index });
        if self.is_chat {
            let is_call = !delta.tool_calls.is_empty();
            let content = (!is_call || !delta.content.is_empty()).then_some(delta.content);
            let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
            if !delta.reasoning.is_empty() {
                message["reasoning_content"] = delta.reasoning.into();
            }
            if is_call {
                message["tool_calls"] = self.calls(index, &delta.tool_calls, false);
            }
            choice["message"] = message;
        } else {
            choice["text"] = delta.content.into();
        }
        choice["logprobs"] = logprobs;
        self.end_choice(choice, &end)
    }

    /// An event of a stream with what is new in an answer. `sent` is what the client has of it already.
    pub(super) fn event(&self, index: usize, sent: &Sent, delta: &Delta) -> Value {
        let mut choice = json!({ "index": index });
        if self.is_chat {
            let mut new = Map::new();
            if sent.is_first {
                new.insert("role".to_owned(), "assistant".into());
            }
            if !delta.reasoning.is_empty() {
                new.insert("reasoning_content".to_owned(), delta.reasoning.clone().into());
            }
            if !delta.content.is_empty() || (sent.is_first && delta.reasoning.is_empty()) {
                new.insert("content".to_owned(), delta.content.clone().into());
            }
            if !delta.tool_calls.is_empty() {
                new.insert("tool_calls".to_owned(), self.calls(index, &delta.tool_calls, true));
            }
            choice["delta"] = new.into();
        } else {
            choice["text"] = delta.content.clone().into();
        }
        choice["logprobs"] = self.logprobs(&delta.tokens, sent.characters);
        choice["finish_reason"] = Value::Null;
        self.streamed(vec![choice])
    }

    /// The event that ends an answer.
    pub(super) fn last_event(&self, index: usize, end: &End) -> Value {
        let (what, nothing) = if self.is_chat { ("delta", json!({})) } else { ("text", json!("")) };
        let choice = json!({ "index": index, what: nothing, "logprobs": null });
        self.streamed(vec![self.end_choice(choice, end)])
    }

    /// The event with the usage, after all answers.
    pub(super) fn usage_event(&self, usage: Usage) -> Value {
        let mut body = self.streamed(Vec::new());
        body["usage"] = usage.to_json();
        body
    }

    fn streamed(&self, choices: Vec<Value>) -> Value {
        self.body(if self.is_chat { "chat.completion.chunk" } else { "text_completion" }, choices)
    }

    fn end_choice(&self, mut choice: Value, end: &End) -> Value {
        choice["finish_reason"] = end.finish_reason.into();
        if let Some((problem, raw)) = &end.malformed {
            choice["malformed"] = json!({ "problem": problem, "text": raw });
        }
        choice
    }

    fn logprobs(&self, tokens: &[TokenText], offset: usize) -> Value {
        match (self.reports_tokens, self.is_chat) {
            (false, _) => Value::Null,
            (true, true) => token_text::of_chat(tokens),
            (true, false) => token_text::of_completion(tokens, offset),
        }
    }

    /// Calls of tools. In a stream each has its number.
    fn calls(&self, choice: usize, calls: &[ToolCall], is_streamed: bool) -> Value {
        let call = |(index, call): (usize, &ToolCall)| {
            let own = || format!("call_{}_{choice}_{index}", self.id.rsplit('-').next().unwrap_or_default());
            let arguments = match &call.arguments {
                Value::String(text) => text.clone(),
                arguments => arguments.to_string(),
            };
            let mut json = json!({
                "id": call.id.clone().unwrap_or_else(own),
                "type": "function",
                "function": { "name": call.name, "arguments": arguments },
            });
            if is_streamed {
                json["index"] = index.into();
            }
            json
        };
        calls.iter().enumerate().map(call).collect()
    }
}

/// What a client has of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Nothing yet.
    pub(super) is_first: bool,
    /// Characters of its tokens.
    pub(super) characters: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(is_chat: bool) -> Header {
        Header { id: "chatcmpl-1f".to_owned(), created: 7, model: "m".to_owned(), is_chat, reports_tokens: false }
    }

    fn end(finish_reason: &'static str) -> End {
        End { finish_reason, malformed: None }
    }

    #[test]
    fn a_whole_chat_is_a_message() {
        let delta = Delta { content: "Hello".to_owned(), reasoning: "Hm".to_owned(), ..Delta::default() };
        let usage = Usage { prompt: 5, cached: 4, sampled: 2 };
        assert_eq!(
            header(true).whole(vec![(delta, end("stop"))], usage).to_string(),
            r#"{"id":"chatcmpl-1f","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null,"reasoning_content":"Hm"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}"#
        );
    }

    #[test]
    fn calls_have_ids_and_their_arguments_as_text() {
        let tool_calls = vec![ToolCall::new("f", json!({ "a": 1 })), ToolCall::new("g", json!({})).id("own")];
        let delta = || Delta { tool_calls: tool_calls.clone(), ..Delta::default() };
        let whole = header(true).whole(vec![(delta(), end("tool_calls"))], Usage::default());
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["content"], Value::Null);
        assert_eq!(
            message["tool_calls"][0],
            json!({ "id": "call_1f_0_0", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } })
        );
        assert_eq!(message["tool_calls"][1]["id"], "own");
        let event = header(true).event(0, &Sent { is_first: false, characters: 0 }, &delta());
        assert_eq!(event["choices"][0]["delta"]["tool_calls"][1]["index"], 1);
    }

    #[test]
    fn events_have_what_is_new() {
        let delta = Delta { content: "Hel".to_owned(), ..Delta::default() };
        let first = Sent { is_first: true, characters: 0 };
        let event = header(true).event(0, &first, &delta);
        assert_eq!(
            (&event["object"], &event["choices"][0]["finish_reason"]),
            (&json!("chat.completion.chunk"), &Value::Null)
        );
        assert_eq!(event["choices"][0]["delta"], json!({ "role": "assistant", "content": "Hel" }));
        let event = header(true).event(0, &Sent { is_first: false, characters: 3 }, &delta);
        assert_eq!(event["choices"][0]["delta"], json!({ "content": "Hel" }));
        let event = header(false).event(1, &first, &delta);
        assert_eq!((&event["choices"][0]["text"], &event["choices"][0]["index"]), (&json!("Hel"), &json!(1)));
        let last = header(true).last_event(0, &end("length"));
        assert_eq!(last["choices"][0], json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "length" }));
        let usage = header(true).usage_event(Usage { prompt: 1, cached: 0, sampled: 2 });
        assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(3)));
    }

    #[test]
    fn a_malformed_reply_is_shown_as_it_is() {
        let malformed = Some(("a tool call is not closed".to_owned(), "<tool_call>".to_owned()));
        let last = header(true).last_event(0, &End { finish_reason: "stop", malformed });
        assert_eq!(last["choices"][0]["malformed"]["text"], "<tool_call>");
    }
}
