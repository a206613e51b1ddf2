//! Chat models: conversations as prompts and training examples in a model's own format, and replies read back.
//!
//! | to | use |
//! |---|---|
//! | read or write a conversation, as OpenAI's API and data sets have it | [`Conversation`], [`Message`], [`Tool`], [`ToolCall`] |
//! | load the format of a model | [`ChatTemplate`] |
//! | make prompts and training examples, and read replies | [`Renderer`] |
//! | choose what a model learns | [`TrainOn`] |

mod content;
mod conversation;
mod literal;
mod message;
mod renderer;
mod reply;
mod syntax;
pub(crate) mod template;
mod tools;
mod train_on;

pub use content::{Content, Part};
pub use conversation::Conversation;
pub use message::{Message, Role};
pub use renderer::{Cut, ExampleNote, Prompt, Renderer, TrainingExample, TrainingExamples};
pub use reply::{Reply, ReplyDelta, ReplyEnd, ReplyParser};
pub use template::ChatTemplate;
pub use tools::{Tool, ToolCall};
pub use train_on::TrainOn;
