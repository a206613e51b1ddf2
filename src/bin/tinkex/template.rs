//! How prompts, completions and chats become text, and text becomes tokens with weights. `train` and `sample` share this
//! template, so that a model is prompted in the format that it was trained on.

use tinkex::types::{Datum, ModelInput};
use tinkex::{Result, Tokenizer};

/// A part of an example's text, to be trained on or only read as context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) text: String,
    /// Whether the model is trained to produce it. A trained segment ends with the end-of-sequence token.
    pub(crate) trained: bool,
}

impl Segment {
    pub(crate) fn context(text: impl Into<String>) -> Self {
        Segment { text: text.into(), trained: false }
    }

    pub(crate) fn trained(text: impl Into<String>) -> Self {
        Segment { text: text.into(), trained: true }
    }
}

/// The author of a chat message.
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

    fn label(self) -> &'static str {
        match self {
            Role::System => "System:",
            Role::User => "User:",
            Role::Assistant => "Assistant:",
            Role::Tool => "Tool:",
        }
    }
}

/// A prompt and its completion, separated by a line break unless there is white space already.
pub(crate) fn completion(prompt: &str, completion: &str) -> Vec<Segment> {
    let is_separated =
        prompt.is_empty() || prompt.ends_with(char::is_whitespace) || completion.starts_with(char::is_whitespace);
    let separator = if is_separated { "" } else { "\n" };
    vec![Segment::context(format!("{prompt}{separator}")), Segment::trained(completion)]
}

/// A chat: each message is `Role: text`, with an empty line between messages. The assistant's messages are trained on.
pub(crate) fn chat(messages: &[(Role, &str)]) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut context = String::new();
    for (index, (role, text)) in messages.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n\n" };
        context.push_str(&format!("{gap}{}", role.label()));
        if *role == Role::Assistant {
            segments.push(Segment::context(std::mem::take(&mut context)));
            segments.push(Segment::trained(format!(" {text}")));
        } else {
            context.push_str(&format!(" {text}"));
        }
    }
    if !context.is_empty() {
        segments.push(Segment::context(context));
    }
    segments
}

/// The prompt that a model trained on [chats](chat) completes with the reply to these messages.
pub(crate) fn chat_prompt(messages: &[(Role, &str)]) -> String {
    let with_reply: Vec<_> = messages.iter().copied().chain([(Role::Assistant, "")]).collect();
    let mut segments = chat(&with_reply);
    segments.pop();
    segments.into_iter().map(|segment| segment.text).collect()
}

/// The text of a reply to a [`chat_prompt`]: without the space that follows the role.
pub(crate) fn reply(completion: &str) -> &str {
    completion.strip_prefix(' ').unwrap_or(completion)
}

/// The tokens of an example, and which of them are trained on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenizedText {
    tokens: Vec<u32>,
    trained: Vec<bool>,
}

/// Tokenizes an example. A trained segment gets the tokenizer's end-of-sequence token, or a line break if it has none.
pub(crate) fn tokenize(tokenizer: &Tokenizer, segments: &[Segment]) -> Result<TokenizedText> {
    let mut all = TokenizedText { tokens: Vec::new(), trained: Vec::new() };
    for (index, segment) in segments.iter().enumerate() {
        let mut tokens = match index {
            0 => tokenizer.encode(&segment.text)?,
            _ => tokenizer.encode_continuation(&segment.text)?,
        };
        if segment.trained {
            match tokenizer.eos_token() {
                Some(end) => tokens.push(end),
                None => tokens.extend(tokenizer.encode_continuation("\n")?),
            }
        }
        all.trained.extend(vec![segment.trained; tokens.len()]);
        all.tokens.extend(tokens);
    }
    Ok(all)
}

impl TokenizedText {
    /// Number of tokens that are trained on. The first token never is: nothing comes before it to predict it from.
    pub(crate) fn trained_len(&self) -> usize {
        self.trained.iter().skip(1).filter(|trained| **trained).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The datum for cross-entropy: the inputs are all tokens but the last, the targets all but the first. Needs two tokens.
    pub(crate) fn datum(&self) -> Result<Datum> {
        let inputs = &self.tokens[..self.tokens.len().saturating_sub(1)];
        let targets: Vec<u32> = self.tokens.iter().skip(1).copied().collect();
        let weights: Vec<f32> = self.trained.iter().skip(1).map(|trained| f32::from(u8::from(*trained))).collect();
        Datum::new(ModelInput::from_tokens(inputs)).input("target_tokens", targets)?.input("weights", weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(segments: &[Segment]) -> Vec<(&str, bool)> {
        segments.iter().map(|segment| (segment.text.as_str(), segment.trained)).collect()
    }

    #[test]
    fn prompt_and_completion_are_separated_by_white_space() {
        for (prompt, text, context) in
            [("a", "b", "a\n"), ("a ", "b", "a "), ("a", " b", "a"), ("", "b", ""), ("a\n\n", "\nb", "a\n\n")]
        {
            assert_eq!(texts(&completion(prompt, text)), [(context, false), (text, true)]);
        }
    }

    #[test]
    fn the_assistants_messages_are_trained_on() {
        use Role::{Assistant, System, User};
        let segments =
            chat(&[(System, "Be brief."), (User, "Hi"), (Assistant, "Hello"), (User, "Bye"), (Assistant, "See you")]);
        assert_eq!(
            texts(&segments),
            [
                ("System: Be brief.\n\nUser: Hi\n\nAssistant:", false),
                (" Hello", true),
                ("\n\nUser: Bye\n\nAssistant:", false),
                (" See you", true),
            ]
        );
        assert_eq!(chat_prompt(&[(System, "Be brief."), (User, "Hi")]), segments[0].text);
        assert_eq!([reply(&segments[1].text), reply("  Hello"), reply("Hello")], ["Hello", " Hello", "Hello"]);
        assert_eq!(texts(&chat(&[(Assistant, "x"), (User, "y")])).last(), Some(&("\n\nUser: y", false)));
    }

    #[test]
    fn weights_cover_trained_tokens_and_their_end() {
        let text = tokenize(&Tokenizer::bytes(), &completion("ab", "c")).unwrap();
        assert_eq!((text.len(), text.trained_len()), (5, 2));
        let datum = text.datum().unwrap();
        assert_eq!(datum.model_input.to_tokens().unwrap(), [97, 98, 10, 99]);
        assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64().unwrap(), [98, 10, 99, 256]);
        assert_eq!(datum.loss_fn_inputs["weights"].as_f32().unwrap(), [0.0, 0.0, 1.0, 1.0]);
    }
}
