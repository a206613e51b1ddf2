//! How a model reads prompts and writes answers.

use std::collections::BTreeSet;

use super::error::ApiError;
use super::request::{PromptText, Request, Subject};
use crate::chat::{Conversation, ExampleNote, Prompt, Renderer};
use crate::local::model::{FinishReason, SampledToken};
use crate::tokenizer::Tokenizer;
use crate::types::Stop;

/// A model's tokenizer and the format of its chats.
#[derive(Clone, Debug)]
pub(in crate::local) struct TextFormat {
    pub(super) renderer: Renderer,
    /// Tokens that end an answer wherever they are.
    end_tokens: Vec<u32>,
    /// Those of them that the renderer reads as an end.
    read_ends: Vec<u32>,
    /// Special tokens: one that ended a sample ended the answer.
    special_tokens: BTreeSet<u32>,
}

/// A prompt, and what is needed to read an answer to it.
#[derive(Clone, Debug)]
pub(super) struct ReadyPrompt {
    pub(super) tokens: Vec<u32>,
    /// Of a chat.
    pub(super) prompt: Option<Prompt>,
}

impl TextFormat {
    /// How a renderer's model reads and writes. `end_tokens` end a text of the model, besides those of the renderer.
    pub(in crate::local) fn new(renderer: Renderer, end_tokens: &[u32]) -> Self {
        let tokenizer = renderer.tokenizer();
        let mut read_ends: Vec<u32> = tokenizer.eos_token().into_iter().collect();
        if let Stop::Tokens(tokens) = renderer.stop() {
            read_ends.extend(tokens);
        }
        let special_tokens = tokenizer.special_tokens().into_values().collect();
        TextFormat { end_tokens: [end_tokens, &read_ends].concat(), read_ends, special_tokens, renderer }
    }

    /// Whether a token ends its answer, and is not part of it.
    pub(super) fn is_end(&self, token: &SampledToken<'_>) -> bool {
        let has_stopped = token.finish_reason == Some(FinishReason::Stop);
        self.end_tokens.contains(&token.token) || (has_stopped && self.special_tokens.contains(&token.token))
    }

    /// Whether a token says something to the renderer: all do but the ends that only the model knows.
    pub(super) fn is_read(&self, token: &SampledToken<'_>) -> bool {
        self.read_ends.contains(&token.token) || !self.is_end(token)
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.renderer.tokenizer()
    }

    /// The prompts of a request.
    pub(super) fn prompts(&self, request: &Request) -> Result<Vec<ReadyPrompt>, ApiError> {
        match &request.subject {
            Subject::Completion(prompts) => prompts.iter().map(|prompt| self.completion(prompt)).collect(),
            Subject::Chat { conversation, template_args } => {
                let template = self.renderer.template();
                if let Some((name, param)) =
                    template_args.iter().find(|(name, _)| !template.has_name(conversation, name))
                {
                    let problem = format!("the chat template of this model does not read {name}: leave it out");
                    return Err(ApiError::unsupported(*param, problem));
                }
                Ok(vec![self.chat(conversation)?])
            }
        }
    }

    fn completion(&self, prompt: &PromptText) -> Result<ReadyPrompt, ApiError> {
        let tokens = match prompt {
            PromptText::Tokens(tokens) => tokens.clone(),
            PromptText::Text(text) => self.tokenizer().encode(text).map_err(|error| ApiError::from(&error))?,
        };
        if tokens.is_empty() {
            return Err(ApiError::invalid("prompt", "is empty: give at least one token"));
        }
        Ok(ReadyPrompt { tokens, prompt: None })
    }

    fn chat(&self, conversation: &Conversation) -> Result<ReadyPrompt, ApiError> {
        let prompt = self.renderer.prompt(conversation).map_err(|error| ApiError::from(&error))?;
        let names = conversation.tools.iter().filter_map(|tool| tool.name());
        if let Some(name) = names.into_iter().find(|name| !prompt.text.contains(name)) {
            let problem = format!("the chat template of this model has no place for the tool {name}: leave tools out");
            return Err(ApiError::unsupported("tools", problem));
        }
        let left_out = prompt.notes.iter().find_map(|note| match note {
            ExampleNote::ToolCallsLeftOut { message } => Some(*message),
            _ => None,
        });
        if let Some(index) = left_out {
            let problem = "the chat template of this model has no place for calls of tools: write them as text";
            return Err(ApiError::unsupported(format!("messages[{index}].tool_calls"), problem));
        }
        let tokens = prompt.input.to_tokens().map_err(|error| ApiError::from(&error))?;
        Ok(ReadyPrompt { tokens, prompt: Some(prompt) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::ChatTemplate;

    fn prompts(template: &str, body: Value) -> Result<Vec<Vec<u32>>, Value> {
        let template = ChatTemplate::builtin(template).or_else(|_| ChatTemplate::new(template)).unwrap();
        let format = TextFormat::new(Renderer::new(template, Tokenizer::bytes()).unwrap(), &[]);
        let body = body.to_string();
        let request = if body.contains("messages") {
            Request::chat(body.as_bytes())
        } else {
            Request::completion(body.as_bytes())
        };
        let prompts = format.prompts(&request.unwrap());
        let prompts = prompts.map(|prompts| prompts.into_iter().map(|prompt| prompt.tokens).collect());
        prompts.map_err(|error| error.to_json()["error"]["param"].clone())
    }

    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn chats_are_written_in_the_models_format() {
        let chat = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        assert_eq!(prompts("plain", chat.clone()), Ok(vec![bytes("User: Hi\n\nAssistant:")]));
        let chatml = prompts("chatml", chat).unwrap();
        assert!(chatml[0].ends_with(&bytes("<|im_start|>assistant\n")), "{chatml:?}");
    }

    #[test]
    fn completions_take_prompts_as_they_are() {
        assert_eq!(prompts("plain", json!({ "model": "m", "prompt": ["a", "b"] })), Ok(vec![vec![97], vec![98]]));
        assert_eq!(prompts("plain", json!({ "model": "m", "prompt": [7, 8] })), Ok(vec![vec![7, 8]]));
        assert_eq!(prompts("plain", json!({ "model": "m", "prompt": "" })), Err(json!("prompt")));
    }

    #[test]
    fn what_a_template_leaves_out_is_refused() {
        let chat = |more: Value| {
            let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let tools = json!({ "tools": [{ "type": "function", "function": { "name": "weather", "parameters": {} } }] });
        let bare = "{% for message in messages %}{{ message.content }}{% endfor %}";
        assert_eq!(prompts(bare, chat(tools.clone())), Err(json!("tools")));
        assert!(prompts("chatml", chat(tools)).is_ok());
        assert_eq!(prompts("plain", chat(json!({ "reasoning_effort": "low" }))), Err(json!("reasoning_effort")));
        let args = json!({ "chat_template_kwargs": { "enable_thinking": false } });
        assert_eq!(prompts("plain", chat(args.clone())), Err(json!("chat_template_kwargs")));
        assert!(prompts("qwen3_8", chat(args)).is_ok());
        // A part of a name, a word of a text, one of a comment, and nothing at all.
        for name in ["enable", "thinking", "turns", ""] {
            let args = json!({ "chat_template_kwargs": { name: false } });
            assert_eq!(prompts("qwen3_8", chat(args)), Err(json!("chat_template_kwargs")), "{name}");
        }
        let own_default = "{% set thinks = thinks | default(true) %}{{ messages[0].content }}";
        assert!(prompts(own_default, chat(json!({ "chat_template_kwargs": { "thinks": false } }))).is_ok());
    }
}
