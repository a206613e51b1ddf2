//! How examples and prompts become text, and text becomes tokens with weights. `train` and `sample` share it, so that a model
//! is asked as it was taught.

use tinkex::types::{Datum, ModelInput};
use tinkex::{Result, Tokenizer};

/// A stretch of text that is learned or only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Whether it is learned. What is learned ends with the token that ends a text.
    pub(crate) learned: bool,
}

impl Piece {
    pub(crate) fn read(text: impl Into<String>) -> Self {
        Piece { text: text.into(), learned: false }
    }

    pub(crate) fn learned(text: impl Into<String>) -> Self {
        Piece { text: text.into(), learned: true }
    }
}

/// Who says something in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub(crate) fn parse(name: &str) -> Option<Role> {
        match name {
            "system" => Some(Role::System),
            "user" => Some(Role::User),
            "assistant" => Some(Role::Assistant),
            "tool" => Some(Role::Tool),
            _ => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Role::System => "System:",
            Role::User => "User:",
            Role::Assistant => "Assistant:",
            Role::Tool => "Tool:",
        }
    }
}

/// A prompt and its completion, with a line break between them unless one of them has white space there.
pub(crate) fn pair(prompt: &str, completion: &str) -> Vec<Piece> {
    let joined =
        prompt.is_empty() || prompt.ends_with(char::is_whitespace) || completion.starts_with(char::is_whitespace);
    vec![Piece::read(format!("{prompt}{}", if joined { "" } else { "\n" })), Piece::learned(completion)]
}

/// A chat: each message is `Role: text`, with an empty line between two. What the assistant says is learned.
pub(crate) fn chat(messages: &[(Role, &str)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut read = String::new();
    for (index, (role, text)) in messages.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n\n" };
        read.push_str(&format!("{gap}{}", role.title()));
        if *role == Role::Assistant {
            pieces.push(Piece::read(std::mem::take(&mut read)));
            pieces.push(Piece::learned(format!(" {text}")));
        } else {
            read.push_str(&format!(" {text}"));
        }
    }
    if !read.is_empty() {
        pieces.push(Piece::read(read));
    }
    pieces
}

/// The prompt with which a model that learned [chats](chat) answers these messages.
pub(crate) fn chat_prompt(messages: &[(Role, &str)]) -> String {
    let asked: Vec<_> = messages.iter().copied().chain([(Role::Assistant, "")]).collect();
    let mut pieces = chat(&asked);
    pieces.pop();
    pieces.into_iter().map(|piece| piece.text).collect()
}

/// Tokens, and which of them are learned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tokens {
    tokens: Vec<u32>,
    learned: Vec<bool>,
}

/// The tokens of an example. What is learned ends with the tokenizer's token for that, or with a line break where it has none.
pub(crate) fn tokens(tokenizer: &Tokenizer, pieces: &[Piece]) -> Result<Tokens> {
    let mut all = Tokens { tokens: Vec::new(), learned: Vec::new() };
    for (index, piece) in pieces.iter().enumerate() {
        let mut tokens = match index {
            0 => tokenizer.encode(&piece.text)?,
            _ => tokenizer.encode_continuation(&piece.text)?,
        };
        if piece.learned {
            match tokenizer.eos_token() {
                Some(end) => tokens.push(end),
                None => tokens.extend(tokenizer.encode_continuation("\n")?),
            }
        }
        all.learned.extend(vec![piece.learned; tokens.len()]);
        all.tokens.extend(tokens);
    }
    Ok(all)
}

impl Tokens {
    /// How many tokens are learned: each but the first, before which the model has read nothing.
    pub(crate) fn weight(&self) -> usize {
        self.learned.iter().skip(1).filter(|learned| **learned).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// What the service trains on: the model reads all tokens but the last and predicts all but the first. Needs two tokens.
    pub(crate) fn datum(&self) -> Result<Datum> {
        let read = &self.tokens[..self.tokens.len().saturating_sub(1)];
        let targets: Vec<u32> = self.tokens.iter().skip(1).copied().collect();
        let weights: Vec<f32> = self.learned.iter().skip(1).map(|learned| f32::from(u8::from(*learned))).collect();
        Datum::new(ModelInput::from_tokens(read)).input("target_tokens", targets)?.input("weights", weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: &[Piece]) -> Vec<(&str, bool)> {
        pieces.iter().map(|piece| (piece.text.as_str(), piece.learned)).collect()
    }

    #[test]
    fn a_pair_is_parted_by_white_space() {
        for (prompt, completion, read) in
            [("a", "b", "a\n"), ("a ", "b", "a "), ("a", " b", "a"), ("", "b", ""), ("a\n\n", "\nb", "a\n\n")]
        {
            assert_eq!(texts(&pair(prompt, completion)), [(read, false), (completion, true)]);
        }
    }

    #[test]
    fn of_a_chat_what_the_assistant_says_is_learned() {
        use Role::{Assistant, System, User};
        let pieces =
            chat(&[(System, "Be brief."), (User, "Hi"), (Assistant, "Hello"), (User, "Bye"), (Assistant, "So long")]);
        assert_eq!(
            texts(&pieces),
            [
                ("System: Be brief.\n\nUser: Hi\n\nAssistant:", false),
                (" Hello", true),
                ("\n\nUser: Bye\n\nAssistant:", false),
                (" So long", true),
            ]
        );
        assert_eq!(chat_prompt(&[(System, "Be brief."), (User, "Hi")]), pieces[0].text);
        assert_eq!(texts(&chat(&[(Assistant, "x"), (User, "y")])).last(), Some(&("\n\nUser: y", false)));
    }

    #[test]
    fn the_weights_are_on_what_is_learned_and_its_end() {
        let tokens = tokens(&Tokenizer::bytes(), &pair("ab", "c")).unwrap();
        assert_eq!((tokens.len(), tokens.weight()), (5, 2));
        let datum = tokens.datum().unwrap();
        assert_eq!(datum.model_input.to_tokens().unwrap(), [97, 98, 10, 99]);
        assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64().unwrap(), [98, 10, 99, 256]);
        assert_eq!(datum.loss_fn_inputs["weights"].as_f32().unwrap(), [0.0, 0.0, 1.0, 1.0]);
    }
}
