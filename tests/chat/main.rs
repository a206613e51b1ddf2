//! Chat models: what the official renderers and the reference template engine make of the same conversations.
#![cfg(all(feature = "chat", feature = "tokenizers"))]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]
#![allow(clippy::print_stderr, reason = "a test says what it skips")]

mod builtin;
mod byte_level;
mod expressions;
mod fetched;
mod fixtures;
mod images;
mod laws;
mod literal;
mod masks;
mod modes;
mod notes;
mod official_prompts;
mod properties;
mod replies;
mod sft;
mod templates;
mod tokens;
mod tool_loops;
