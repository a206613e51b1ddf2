//! OpenAI's API in front of models, for programs that know only that.
//!
//! [`LocalServer`](super::LocalServer) has it below `/v1`, beside Tinker's own API; [`OpenAiProxy`](super::OpenAiProxy) puts it in
//! front of any Tinker service.
//!
//! | endpoint | |
//! |---|---|
//! | `POST /v1/chat/completions` | the model's next message, in the format of its chat template |
//! | `POST /v1/completions` | the continuation of a text or of tokens, or of several |
//! | `GET /v1/models`, `GET /v1/models/NAME` | the models: base models, and checkpoints by their `tinker://` path |
//!
//! The API key is that of Tinker's API: `authorization: Bearer KEY`. Requests that a browser sends for a web page get 403, unless the
//! page's origin is allowed ([`LocalServerBuilder::allow_origin`](super::LocalServerBuilder::allow_origin)).
//!
//! ```
//! use tinkex::local::LocalServer;
//!
//! # fn main() -> tinkex::Result<()> {
//! let server = LocalServer::start()?;
//! println!("export OPENAI_BASE_URL={}/v1 OPENAI_API_KEY=tml-local", server.base_url());
//! # Ok(())
//! # }
//! ```
//!
//! # Parameters
//!
//! | parameters | |
//! |---|---|
//! | `model`, `messages` or `prompt` | required; messages have texts alone: images and sounds are refused |
//! | `max_completion_tokens`, `max_tokens` | of a chat: up to the context; of a completion: 16 |
//! | `temperature`, `top_p`, `top_k`, `seed`, `n` (1 to 128) | as with Tinker; at most 1024 answers to all prompts together |
//! | `stop` | a text, or texts, that end an answer and are not part of it |
//! | `stream`, `stream_options.include_usage` | server-sent events |
//! | `logprobs`, `top_logprobs` | up to 20; of each token that was sampled, those of reasoning included, but not of what ends the answer |
//! | `tools`, `tool_choice` | `auto` and `none`; schemas are shown to the model, and not enforced, also with `strict` |
//! | `chat_template_kwargs`, `reasoning_effort` | variables of the template; refused if it does not read them |
//! | `response_format` | `text` alone |
//! | `cache_prompt`, `metadata`, `prompt_cache_key`, `prompt_cache_retention`, `safety_identifier`, `service_tier`, `store`, `user`, `verbose` | accepted, without effect |
//! | all others | refused by name, unless they have the value that means the same as leaving them out, such as `presence_penalty: 0` |
//!
//! # Answers
//!
//! - Reasoning is in `reasoning_content`, apart from `content`, and calls of tools in `tool_calls`, whole.
//! - A reply that does not follow the model's format has `malformed` in its choice: the problem, and the text as it was sampled.
//! - A model without a chat template gets the plain format, `User: …`, as with the program.
//! - Text is sent as soon as it can no longer be the beginning of a stop or a tag. To a client that reads slowly more text is sent at a
//!   time, so that no more waits for it than its whole answer.
//! - Nothing is computed any more once the client closes its connection.
//! - An error before the first event has a status; later it is an event, and the stream ends without `[DONE]`.

mod answer;
mod choice;
mod error;
mod exchange;
mod messages;
mod parameters;
mod request;
mod response;
mod routes;
mod stop_text;
mod text_format;
mod token_text;

pub(in crate::local) use answer::answer;
pub(in crate::local) use error::ApiError;
pub(in crate::local) use exchange::{AnsweringModel, Exchange, Generation, OnToken};
pub(crate) use request::Request;
pub(in crate::local) use routes::{Endpoint, ModelEntry, PREFIX, bearer_key, list};
pub(in crate::local) use text_format::TextFormat;
