//! What a model learns of a conversation.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What a model learns of a conversation. The names are those of the official cookbook's `TrainOnWhat`.
///
/// ```
/// use tinkex::chat::TrainOn;
///
/// assert_eq!("last_assistant_turn".parse::<TrainOn>()?, TrainOn::LastAssistantTurn);
/// assert_eq!(TrainOn::default(), TrainOn::AllAssistantMessages);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[doc(alias = "TrainOnWhat")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrainOn {
    /// The assistant's last message.
    LastAssistantMessage,
    /// The assistant's messages after the last one of the user.
    LastAssistantTurn,
    /// All messages of the assistant.
    #[default]
    AllAssistantMessages,
    /// All messages, without their headers.
    AllMessages,
    /// Everything, with the headers of messages.
    AllTokens,
    /// All messages of user and system.
    AllUserAndSystemMessages,
    /// The messages that are marked as [`trainable`](crate::chat::Message::trainable).
    Marked,
}

impl TrainOn {
    /// All of them.
    pub const ALL: [TrainOn; 7] = [
        TrainOn::LastAssistantMessage,
        TrainOn::LastAssistantTurn,
        TrainOn::AllAssistantMessages,
        TrainOn::AllMessages,
        TrainOn::AllTokens,
        TrainOn::AllUserAndSystemMessages,
        TrainOn::Marked,
    ];

    /// Its name, as in `all_assistant_messages`.
    ///
    /// ```
    /// use tinkex::chat::TrainOn;
    ///
    /// assert_eq!(TrainOn::AllTokens.as_str(), "all_tokens");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TrainOn::LastAssistantMessage => "last_assistant_message",
            TrainOn::LastAssistantTurn => "last_assistant_turn",
            TrainOn::AllAssistantMessages => "all_assistant_messages",
            TrainOn::AllMessages => "all_messages",
            TrainOn::AllTokens => "all_tokens",
            TrainOn::AllUserAndSystemMessages => "all_user_and_system_messages",
            TrainOn::Marked => "customized",
        }
    }
}

impl fmt::Display for TrainOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TrainOn {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = TrainOn::ALL.into_iter().find(|mode| mode.as_str() == name);
        found.ok_or_else(|| {
            let names = TrainOn::ALL.map(TrainOn::as_str).join(", ");
            Error::invalid_input(format!("{name:?} is no way to train on a conversation; expected one of {names}"))
        })
    }
}
