//! From a request to its response: the prompts are sampled one after the other, and what is sampled is sent as it comes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::choice::{Choice, Delta, End};
use super::error::ApiError;
use super::exchange::{AnsweringModel, Exchange, Generation};
use super::request::{Request, Subject};
use super::response::{Header, Sent, Usage};
use super::text_format::{ReadyPrompt, TextFormat};
use super::token_text;
use crate::local::model::{SampledToken, Samples};
use crate::types::Stop;

/// Answers a request that came at this time, in seconds since 1970. Blocks until the model has sampled all of it.
pub(in crate::local) fn answer(
    model: &dyn AnsweringModel,
    request: &Request,
    exchange: &Arc<dyn Exchange>,
    created: u64,
) {
    let format = Arc::clone(model.format());
    let prompts = match format.prompts(request) {
        Ok(prompts) => prompts,
        Err(error) => return exchange.respond(error.status, error.body()),
    };
    let answers = Arc::new(Mutex::new(Answers::new(&format, request, &prompts, exchange, created)));
    for (index, prompt) in prompts.into_iter().enumerate() {
        let first = index * request.n as usize;
        let generation = generation(&format, request, prompt);
        let prompt_tokens = generation.prompt.len();
        let shared = Arc::clone(&answers);
        let on_token = Arc::new(move |token: SampledToken<'_>| shared.lock().push(first + token.sequence, token));
        match model.sample(generation, &**exchange, on_token) {
            Ok(samples) => answers.lock().finish_prompt(first, prompt_tokens, &samples),
            Err(error) => return answers.lock().fail(&error),
        }
    }
    answers.lock().finish();
}

fn generation(format: &TextFormat, request: &Request, prompt: ReadyPrompt) -> Generation {
    let mut params = request.params.clone();
    let mut stop_texts = request.stop.clone();
    if let Subject::Chat { .. } = request.subject {
        match format.renderer.stop() {
            // An empty list would mean that nothing ends a sample.
            Stop::Tokens(tokens) if tokens.is_empty() => {}
            Stop::Texts(texts) => stop_texts.extend(texts),
            stop @ Stop::Tokens(_) => params.stop = Some(stop),
        }
    }
    let top_logprobs = request.logprobs.unwrap_or_default();
    Generation { prompt: prompt.tokens, count: request.n, params, stop_texts, top_logprobs }
}

/// The answers to a request, as they grow.
struct Answers {
    format: Arc<TextFormat>,
    header: Header,
    choices: Vec<(Choice, Sent)>,
    usage: Usage,
    is_streamed: bool,
    include_usage: bool,
    /// Whether the stream has begun.
    has_begun: bool,
    exchange: Arc<dyn Exchange>,
}

impl Answers {
    fn new(
        format: &Arc<TextFormat>,
        request: &Request,
        prompts: &[ReadyPrompt],
        exchange: &Arc<dyn Exchange>,
        created: u64,
    ) -> Self {
        let is_chat = matches!(request.subject, Subject::Chat { .. });
        let reports_tokens = request.logprobs.is_some();
        let choice = |prompt: &ReadyPrompt| {
            let sent = Sent { is_first: true, characters: 0 };
            (Choice::new(format, prompt, &request.stop, reports_tokens), sent)
        };
        let choices = prompts.iter().flat_map(|prompt| (0..request.n).map(move |_| choice(prompt)));
        let prefix = if is_chat { "chatcmpl" } else { "cmpl" };
        Answers {
            header: Header {
                id: format!("{prefix}-{:032x}", fastrand::u128(..)),
                created,
                model: request.model.clone(),
                is_chat,
                reports_tokens,
            },
            choices: choices.collect(),
            usage: Usage::default(),
            is_streamed: request.is_streamed,
            include_usage: request.include_usage,
            has_begun: false,
            format: Arc::clone(format),
            exchange: Arc::clone(exchange),
        }
    }

    fn push(&mut self, index: usize, token: SampledToken<'_>) {
        let Some((choice, _)) = self.choices.get_mut(index) else { return };
        let had_ended = choice.end().is_some();
        choice.push(&self.format, token);
        if self.is_streamed && !had_ended && (choice.end().is_some() || self.exchange.has_room()) {
            self.send(index);
        }
    }

    /// Sends what is new in an answer, and its end.
    fn send(&mut self, index: usize) {
        let Some((choice, sent)) = self.choices.get_mut(index) else { return };
        let delta = choice.take();
        let end = choice.end();
        let mut events = Vec::new();
        if !delta.is_empty() || (sent.is_first && end.is_some()) {
            events.push(self.header.event(index, sent, &delta));
            sent.is_first = false;
            sent.characters += token_text::characters(&delta.tokens);
        }
        events.extend(end.map(|end| self.header.last_event(index, end)));
        for event in events {
            self.has_begun = true;
            self.exchange.send_event(event_bytes(&event.to_string()));
        }
    }

    /// Adds what the model did not report token by token.
    fn finish_prompt(&mut self, first: usize, prompt_tokens: usize, samples: &Samples) {
        self.usage.prompt += prompt_tokens;
        self.usage.cached += samples.cached_tokens;
        for (index, sample) in (first..).zip(&samples.sequences) {
            self.usage.sampled += sample.tokens.len();
            let Some((choice, _)) = self.choices.get_mut(index) else { return };
            let had_ended = choice.end().is_some();
            choice.push_rest(&self.format, sample);
            if self.is_streamed && !had_ended {
                self.send(index);
            }
        }
    }

    fn finish(&mut self) {
        let answers: Option<Vec<(Delta, End)>> =
            self.choices.iter_mut().map(|(choice, _)| choice.end().cloned().map(|end| (choice.take(), end))).collect();
        let Some(answers) = answers else {
            return self.fail(&ApiError::new(500, "the model sampled less than it was asked for"));
        };
        if !self.is_streamed {
            return self.exchange.respond(200, self.header.whole(answers, self.usage).to_string().into_bytes());
        }
        if self.include_usage {
            self.exchange.send_event(event_bytes(&self.header.usage_event(self.usage).to_string()));
        }
        self.exchange.send_event(event_bytes("[DONE]"));
        self.exchange.end();
    }

    /// A stream that has begun ends with the error, and without `[DONE]`.
    fn fail(&mut self, error: &ApiError) {
        if self.has_begun {
            self.exchange.send_event(event_bytes(&error.to_json().to_string()));
            self.exchange.end();
        } else {
            self.exchange.respond(error.status, error.body());
        }
    }
}

/// A server-sent event with this data.
fn event_bytes(data: &str) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::exchange::OnToken;
    use super::*;
    use crate::chat::{ChatTemplate, Renderer};
    use crate::local::model::{FinishReason, Sample};
    use crate::tokenizer::Tokenizer;

    /// What was sent, and whether the client takes more.
    #[derive(Default)]
    struct Recorded {
        sent: Mutex<Vec<String>>,
        has_no_room: bool,
    }

    impl Exchange for Recorded {
        fn respond(&self, status: u16, body: Vec<u8>) {
            self.sent.lock().push(format!("{status} {}", String::from_utf8(body).unwrap()));
        }

        fn send_event(&self, event: Vec<u8>) {
            self.sent.lock().push(String::from_utf8(event).unwrap());
        }

        fn end(&self) {
            self.sent.lock().push("end".to_owned());
        }

        fn has_room(&self) -> bool {
            !self.has_no_room
        }

        fn when_unwanted(&self, _: Box<dyn FnOnce() + Send>) {}
    }

    /// Answers each prompt with the next of these texts, token by token or at once.
    struct Scripted {
        format: Arc<TextFormat>,
        replies: Mutex<Vec<Result<&'static str, ApiError>>>,
        reports: bool,
        generations: Mutex<Vec<Generation>>,
    }

    impl Scripted {
        fn new(replies: &[Result<&'static str, ApiError>], reports: bool) -> Self {
            let template = ChatTemplate::builtin("chatml").unwrap();
            let format = Arc::new(TextFormat::new(Renderer::new(template, Tokenizer::bytes()).unwrap(), &[]));
            Scripted { format, replies: Mutex::new(replies.to_vec()), reports, generations: Mutex::default() }
        }
    }

    impl AnsweringModel for Scripted {
        fn format(&self) -> &Arc<TextFormat> {
            &self.format
        }

        fn sample(&self, generation: Generation, _: &dyn Exchange, on_token: OnToken) -> Result<Samples, ApiError> {
            let tokens: Vec<u32> = self.replies.lock().remove(0)?.bytes().map(u32::from).collect();
            let count = generation.count as usize;
            self.generations.lock().push(generation);
            for (index, token) in tokens.iter().enumerate().filter(|_| self.reports) {
                for sequence in 0..count {
                    let mut token = SampledToken::new(sequence, *token, -0.5);
                    token.finish_reason = (index + 1 == tokens.len()).then_some(FinishReason::Stop);
                    on_token(token);
                }
            }
            let logprobs = vec![-0.5; tokens.len()];
            Ok(Samples::new(vec![Sample::new(tokens, logprobs, FinishReason::Stop); count]))
        }
    }

    fn chat(more: Value) -> Request {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Request::chat(body.to_string().as_bytes()).unwrap()
    }

    fn sent(model: &Scripted, request: &Request, has_no_room: bool) -> Vec<String> {
        let recorded = Arc::new(Recorded { has_no_room, ..Recorded::default() });
        let exchange: Arc<dyn Exchange> = recorded.clone();
        answer(model, request, &exchange, 0);
        let sent = recorded.sent.lock();
        sent.clone()
    }

    /// The content in events, by choice, and the number of events.
    fn streamed(events: &[String]) -> (Vec<String>, usize) {
        let mut contents = vec![String::new(); 2];
        for event in events {
            let data = event.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n"));
            let Some(event) = data.and_then(|data| serde_json::from_str::<Value>(data).ok()) else { continue };
            let choice = &event["choices"][0];
            let content = choice["delta"]["content"].as_str().unwrap_or_default();
            contents[choice["index"].as_u64().unwrap_or_default() as usize].push_str(content);
        }
        (contents, events.len())
    }

    #[test]
    fn a_whole_answer_is_one_response() {
        for reports in [true, false] {
            let model = Scripted::new(&[Ok("Hello<|im_end|>")], reports);
            let sent = sent(&model, &chat(json!({})), false);
            let body: Value = serde_json::from_str(sent[0].strip_prefix("200 ").unwrap()).unwrap();
            assert_eq!(body["choices"][0]["message"]["content"], "Hello");
            assert_eq!(body["usage"]["completion_tokens"], "Hello<|im_end|>".len());
            assert_eq!(sent.len(), 1);
        }
    }

    #[test]
    fn a_stream_sends_each_token_as_it_comes() {
        let request = chat(json!({ "stream": true, "n": 2, "stream_options": { "include_usage": true } }));
        let events = sent(&Scripted::new(&[Ok("Hello")], true), &request, false);
        assert_eq!(streamed(&events).0, ["Hello", "Hello"]);
        // Five tokens and an end for each, the usage, `[DONE]` and the end.
        assert_eq!(events.len(), 2 * 6 + 3);
        assert!(events[12].contains("\"total_tokens\""), "{}", events[12]);
        assert_eq!(events[13..], ["data: [DONE]\n\n", "end"]);
    }

    #[test]
    fn a_slow_client_gets_more_at_a_time() {
        let request = chat(json!({ "stream": true }));
        let events = sent(&Scripted::new(&[Ok("Hello")], true), &request, true);
        assert_eq!(streamed(&events), (vec!["Hello".to_owned(), String::new()], 4));
        let whole = sent(&Scripted::new(&[Ok("Hello")], false), &request, false);
        assert_eq!(streamed(&whole).0[0], "Hello");
    }

    #[test]
    fn an_error_ends_a_stream_that_has_begun() {
        let body = br#"{"model": "m", "prompt": ["a", "b"], "stream": true}"#;
        let request = Request::completion(body).unwrap();
        let error = ApiError::new(500, "broken");
        let events = sent(&Scripted::new(&[Ok("x"), Err(error.clone())], true), &request, false);
        assert!(events[events.len() - 2].contains("broken"), "{events:?}");
        assert_eq!(events.last().unwrap(), "end");
        let events = sent(&Scripted::new(&[Err(error)], true), &request, false);
        assert!(events[0].starts_with("500 ") && events.len() == 1, "{events:?}");
    }

    #[test]
    fn stops_of_the_format_are_added() {
        let model = Scripted::new(&[Ok("x")], true);
        sent(&model, &chat(json!({ "stop": "\n" })), false);
        let generation = model.generations.lock().remove(0);
        assert_eq!(generation.stop_texts, ["\n", "<|im_end|>"]);
        assert_eq!(generation.params.stop, None);
    }
}
