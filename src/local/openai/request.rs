//! Requests of `/v1/chat/completions` and `/v1/completions`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::messages;
use super::parameters::Parameters;
use crate::chat::Conversation;
use crate::types::SamplingParams;

/// As many answers to one prompt as OpenAI allows.
const MAX_CHOICES: u32 = 128;
/// As many answers to all prompts of a request as one request of Tinker's API gives.
const MAX_ANSWERS: usize = 1024;
/// As many of the most probable tokens as OpenAI reports.
const MAX_TOP_LOGPROBS: u32 = 20;
/// How many tokens a completion has if the request does not say it, as with OpenAI.
const COMPLETION_TOKENS: u32 = 16;
const EFFORT: &str = "reasoning_effort";

/// A request for answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// The name of the model.
    pub(in crate::local) model: String,
    pub(super) subject: Subject,
    /// Answers to each prompt.
    pub(super) n: u32,
    /// Without `stop`.
    pub(super) params: SamplingParams,
    /// Texts that end an answer, and are not part of it.
    pub(super) stop: Vec<String>,
    /// How many of the most probable tokens are reported in place of each; `None`: no log-probabilities at all.
    pub(super) logprobs: Option<u32>,
    pub(super) is_streamed: bool,
    /// Whether the last event of a stream has the usage.
    pub(super) include_usage: bool,
}

/// What the model answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    Chat {
        conversation: Conversation,
        /// The variables of the template that it must read, with the parameter that sets each.
        template_args: Vec<(String, &'static str)>,
    },
    Completion(Vec<PromptText>),
}

impl Subject {
    /// How many prompts there are.
    fn prompts(&self) -> usize {
        match self {
            Subject::Chat { .. } => 1,
            Subject::Completion(prompts) => prompts.len(),
        }
    }
}

/// A prompt of a completion.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum PromptText {
    Text(String),
    Tokens(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    One(PromptText),
    Several(Vec<PromptText>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Several(Vec<String>),
}

impl Request {
    /// A request of `/v1/chat/completions`.
    pub(crate) fn chat(body: &[u8]) -> Result<Self, ApiError> {
        let mut parameters = Parameters::parse(body)?;
        let messages = parameters.take_required("messages", "a list of messages")?;
        let mut conversation = messages::conversation(messages)?;
        conversation.tools = messages::tools(&mut parameters)?;
        let args = parameters.take::<Map<String, Value>>("chat_template_kwargs", "an object")?.unwrap_or_default();
        let mut template_args: Vec<_> = args.keys().map(|name| (name.clone(), "chat_template_kwargs")).collect();
        conversation.template_args = args;
        if let Some(effort) = parameters.take::<String>(EFFORT, "a text")? {
            template_args.push((EFFORT.to_owned(), EFFORT));
            let other = conversation.template_args.insert(EFFORT.to_owned(), effort.clone().into());
            if let Some(other) = other.filter(|other| *other != effort) {
                let problem = format!("is {effort:?}, but chat_template_kwargs has {other}: set one");
                return Err(ApiError::invalid(EFFORT, problem));
            }
        }
        check_response_format(&mut parameters)?;

        let limit = parameters.take::<u32>("max_tokens", "a number from 1")?;
        let new_limit = parameters.take::<u32>("max_completion_tokens", "a number from 1")?;
        let max_tokens = match (limit, new_limit) {
            (Some(old), Some(new)) if old != new => {
                return Err(ApiError::invalid(
                    "max_tokens",
                    format!("is {old}, but max_completion_tokens is {new}: set one"),
                ));
            }
            (old, new) => new.or(old),
        };
        let is_wanted = parameters.take::<bool>("logprobs", "true or false")?.unwrap_or_default();
        let top = parameters.take::<u32>("top_logprobs", "a number from 0 to 20")?;
        if top.is_some_and(|top| top > 0) && !is_wanted {
            return Err(ApiError::invalid("top_logprobs", "needs logprobs: set that to true"));
        }
        let logprobs = is_wanted.then_some(top.unwrap_or_default());
        Request::of(parameters, Subject::Chat { conversation, template_args }, max_tokens, logprobs, "top_logprobs")
    }

    /// A request of `/v1/completions`.
    pub(crate) fn completion(body: &[u8]) -> Result<Self, ApiError> {
        let mut parameters = Parameters::parse(body)?;
        let prompts = match parameters.take_required("prompt", "a text, a list of tokens, or a list of these")? {
            Prompts::One(prompt) => vec![prompt],
            Prompts::Several(prompts) => prompts,
        };
        let max_tokens = parameters.take::<u32>("max_tokens", "a number from 1")?.unwrap_or(COMPLETION_TOKENS);
        let logprobs = parameters.take::<u32>("logprobs", "a number from 0 to 20")?;
        Request::of(parameters, Subject::Completion(prompts), Some(max_tokens), logprobs, "logprobs")
    }

    /// The parameters that both have. `top` is the name of the one with the number of most probable tokens.
    fn of(
        mut parameters: Parameters,
        subject: Subject,
        max_tokens: Option<u32>,
        logprobs: Option<u32>,
        top: &str,
    ) -> Result<Self, ApiError> {
        if logprobs.is_some_and(|logprobs| logprobs > MAX_TOP_LOGPROBS) {
            return Err(ApiError::invalid(top, format!("must be a number from 0 to {MAX_TOP_LOGPROBS}")));
        }
        let n = parameters.take::<u32>("n", "a number from 1")?.unwrap_or(1);
        if n == 0 || n > MAX_CHOICES {
            return Err(ApiError::invalid("n", format!("must be a number from 1 to {MAX_CHOICES}")));
        }
        let prompts = subject.prompts();
        if prompts.saturating_mul(n as usize) > MAX_ANSWERS {
            let asked = format!("{prompts} with n {n} are more than {MAX_ANSWERS} answers: send fewer at a time");
            return Err(ApiError::invalid("prompt", asked));
        }
        let default = SamplingParams::default();
        let params = SamplingParams {
            max_tokens,
            // Negative seeds are as good as others.
            seed: parameters.take::<i64>("seed", "a whole number")?.map(|seed| seed as u64),
            stop: None,
            temperature: parameters.take("temperature", "a number")?.unwrap_or(default.temperature),
            top_k: parameters.take("top_k", "a whole number")?.unwrap_or(default.top_k),
            top_p: parameters.take("top_p", "a number")?.unwrap_or(default.top_p),
        };
        params.validate().map_err(|error| ApiError::from(&error))?;
        let stop = match parameters.take("stop", "a text, or a list of texts")? {
            None => Vec::new(),
            Some(Stops::One(stop)) => vec![stop],
            Some(Stops::Several(stops)) => stops,
        };
        if stop.iter().any(String::is_empty) {
            return Err(ApiError::invalid("stop", "a text in it is empty"));
        }
        let is_streamed = parameters.take::<bool>("stream", "true or false")?.unwrap_or_default();
        let options = parameters.take::<Map<String, Value>>("stream_options", "an object")?;
        if options.is_some() && !is_streamed {
            return Err(ApiError::invalid("stream_options", "needs stream: set that to true"));
        }
        let include_usage = includes_usage(&options.unwrap_or_default())?;
        let model = parameters.take_required("model", "the name of a model")?;
        parameters.finish()?;
        Ok(Request { model, subject, n, params, stop, logprobs, is_streamed, include_usage })
    }
}

/// Whether the options of a stream ask for the usage.
fn includes_usage(options: &Map<String, Value>) -> Result<bool, ApiError> {
    let mut is_included = false;
    for (name, value) in options {
        let param = format!("stream_options.{name}");
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("include_usage", Value::Bool(wanted)) => is_included = *wanted,
            // Padding: it says nothing.
            ("include_obfuscation", Value::Bool(_)) => {}
            ("include_usage" | "include_obfuscation", _) => {
                return Err(ApiError::invalid(param, "must be true or false"));
            }
            _ => return Err(ApiError::unsupported(param, "this server does not support it: leave it out")),
        }
    }
    Ok(is_included)
}

/// Only texts: nothing keeps a model to a grammar.
fn check_response_format(parameters: &mut Parameters) -> Result<(), ApiError> {
    let Some(format) = parameters.take::<Map<String, Value>>("response_format", "an object")? else { return Ok(()) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(()),
        kind => {
            let kind = kind.unwrap_or("of no type");
            Err(ApiError::unsupported("response_format", format!("{kind} is not supported: leave it out, or use text")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(more: Value) -> Result<Request, ApiError> {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Request::chat(body.to_string().as_bytes())
    }

    fn completion(more: Value) -> Result<Request, ApiError> {
        let mut body = json!({ "model": "m", "prompt": "Hi" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Request::completion(body.to_string().as_bytes())
    }

    #[test]
    fn what_is_left_out_has_openais_default() {
        let request = chat(json!({})).unwrap();
        assert_eq!(request.params, SamplingParams::default());
        assert_eq!((request.n, request.logprobs, request.is_streamed), (1, None, false));
        assert_eq!(completion(json!({})).unwrap().params, SamplingParams::default().max_tokens(16));
    }

    #[test]
    fn parameters_of_both_are_read() {
        let more = json!({
            "n": 2, "temperature": 0, "top_p": 0.5, "top_k": 7, "seed": -1, "stop": "\n", "stream": true,
            "stream_options": { "include_usage": true }, "max_tokens": 5, "user": "me",
        });
        for request in [chat(more.clone()).unwrap(), completion(more).unwrap()] {
            let params = SamplingParams::default().temperature(0.0).top_p(0.5).top_k(7).seed(u64::MAX).max_tokens(5);
            assert_eq!((&request.params, request.n), (&params, 2));
            assert_eq!((request.stop, request.is_streamed, request.include_usage), (vec!["\n".to_owned()], true, true));
        }
    }

    #[test]
    fn log_probabilities_are_asked_for_in_two_ways() {
        assert_eq!(chat(json!({ "logprobs": true })).unwrap().logprobs, Some(0));
        assert_eq!(chat(json!({ "logprobs": true, "top_logprobs": 3 })).unwrap().logprobs, Some(3));
        assert_eq!(chat(json!({ "logprobs": false, "top_logprobs": 0 })).unwrap().logprobs, None);
        assert_eq!(completion(json!({ "logprobs": 3 })).unwrap().logprobs, Some(3));
    }

    #[test]
    fn prompts_are_texts_or_tokens() {
        let prompts = |prompt: Value| match completion(json!({ "prompt": prompt })).unwrap().subject {
            Subject::Completion(prompts) => prompts,
            Subject::Chat { .. } => unreachable!(),
        };
        let text = |text: &str| PromptText::Text(text.to_owned());
        assert_eq!(prompts(json!("a")), [text("a")]);
        assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(prompts(json!([1, 2])), [PromptText::Tokens(vec![1, 2])]);
        assert_eq!(prompts(json!([[1], [2, 3]])), [PromptText::Tokens(vec![1]), PromptText::Tokens(vec![2, 3])]);
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let param = |result: Result<Request, ApiError>| result.unwrap_err().to_json()["error"]["param"].clone();
        for (more, name) in [
            (json!({ "model": null }), "model"),
            (json!({ "messages": null }), "messages"),
            (json!({ "n": 0 }), "n"),
            (json!({ "n": 129 }), "n"),
            (json!({ "stop": ["a", ""] }), "stop"),
            (json!({ "stop": 5 }), "stop"),
            (json!({ "seed": 1.5 }), "seed"),
            (json!({ "top_logprobs": 2 }), "top_logprobs"),
            (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
            (json!({ "max_tokens": 5, "max_completion_tokens": 6 }), "max_tokens"),
            (json!({ "stream_options": {} }), "stream_options"),
            (json!({ "stream": true, "stream_options": { "include_usage": 1 } }), "stream_options.include_usage"),
            (json!({ "stream": true, "stream_options": { "include_all": true } }), "stream_options.include_all"),
            (json!({ "reasoning_effort": "low", "chat_template_kwargs": { "reasoning_effort": "high" } }), EFFORT),
            (json!({ "response_format": { "type": "json_object" } }), "response_format"),
            (json!({ "presence_penalty": 1 }), "presence_penalty"),
        ] {
            assert_eq!(param(chat(more.clone())), name, "{more}");
        }
        for (more, name) in [
            (json!({ "prompt": 5 }), "prompt"),
            (json!({ "prompt": vec!["a"; 1025] }), "prompt"),
            (json!({ "prompt": vec!["a"; 9], "n": 128 }), "prompt"),
            (json!({ "logprobs": 21 }), "logprobs"),
            (json!({ "echo": true }), "echo"),
        ] {
            assert_eq!(param(completion(more.clone())), name, "{more}");
        }
        for more in
            [json!({ "temperature": -1 }), json!({ "top_p": 2 }), json!({ "top_k": 0 }), json!({ "max_tokens": 0 })]
        {
            assert_eq!(chat(more.clone()).unwrap_err().status, 400, "{more}");
        }
        for more in [
            json!({ "response_format": { "type": "text" } }),
            json!({ "max_tokens": 5, "max_completion_tokens": 5 }),
            json!({ "stream": true, "stream_options": { "include_usage": null, "include_obfuscation": false } }),
            json!({ "reasoning_effort": "low", "chat_template_kwargs": { "reasoning_effort": "low" } }),
        ] {
            assert!(chat(more.clone()).is_ok(), "{more}");
        }
        assert!(completion(json!({ "prompt": vec!["a"; 8], "n": 128 })).is_ok());
    }

    #[test]
    fn variables_of_the_template_come_from_two_parameters() {
        let request = chat(json!({ "reasoning_effort": "low", "chat_template_kwargs": { "enable_thinking": false } }));
        let Subject::Chat { conversation, template_args } = request.unwrap().subject else { unreachable!() };
        assert_eq!(
            Value::Object(conversation.template_args),
            json!({ "enable_thinking": false, "reasoning_effort": "low" })
        );
        assert_eq!(template_args[1], ("reasoning_effort".to_owned(), "reasoning_effort"));
    }
}
