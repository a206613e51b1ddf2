//! The format of conversations.

use tinkex::chat::Renderer;
use tinkex::{Tokenizer, TokenizerSource};

use super::dataset::ChatOptions;
use super::train_options::Options;
use super::training_data::TrainingData;
use crate::chat_format::{self, ChatFormat};
use crate::conversation_options::Beginning;
use crate::failure::Failure;
use crate::screen;

/// How conversations become examples.
#[derive(Debug)]
pub(crate) struct ChatSettings {
    pub(crate) format: ChatFormat,
    pub(crate) renderer: Renderer,
}

impl ChatSettings {
    /// Finds the format if the file has conversations. Says which it is, and names keys of the file that it does not read.
    pub(super) fn find(
        options: &Options,
        data: &TrainingData,
        chat_options: &ChatOptions,
        tokenizer: &Tokenizer,
        source: &TokenizerSource,
    ) -> Result<Option<Self>, Failure> {
        if !data.has_chats {
            return Ok(None);
        }
        let format = chat_format::find(options.conversation.template.as_deref(), tokenizer, source)?;
        screen::line(format_args!("conversations: {}, --train-on {}", format.origin, chat_options.train_on));
        format.check_options(&chat_options.beginning)?;
        data.template_keys.warn(&options.data, |key| format.reads(key));
        let renderer = format.renderer(tokenizer)?;
        Ok(Some(ChatSettings { format, renderer }))
    }
}

/// Refuses options for conversations, for a file that has none.
pub(super) fn refuse(options: &Options, chat_options: &ChatOptions) -> Result<(), Failure> {
    let given = [
        ("--train-on", options.train_on.is_some()),
        ("--template", options.conversation.template.is_some()),
        ("--system, --tools or --template-arg", chat_options.beginning != Beginning::default()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((option, _)) => {
            let message = format!("{option} is for lines with messages, and {} has none", options.data.display());
            Err(Failure::usage(message).hint("leave it out; prompts and completions have no chat template"))
        }
    }
}
