//! How prompts, completions and chats become text, and text becomes tokens with weights. `train` and `sample` share this
//! template, so that a model is prompted in the format that it was trained on.

use tinkex::toolkit::WeightedTokens;
use tinkex::{Result, Tokenizer};

/// A part of an example's text, to be trained on or only read as context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) text: String,
    /// Whether the model is trained to produce it.
    pub(crate) trained: bool,
    /// Whether the end-of-sequence token follows: the text is a completion or a reply, trained on or not.
    pub(crate) ends: bool,
}

impl Segment {
    fn context(text: String) -> Self {
        Segment { text, trained: false, ends: false }
    }

    fn reply(text: String, trained: bool) -> Self {
        Segment { text, trained, ends: true }
    }
}

/// The text of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Completion { prompt: String, completion: String },
    Chat(Vec<Message>),
}

impl Content {
    /// The example in the format of this template. Its texts are moved, since they may be large.
    pub(crate) fn into_segments(self) -> Vec<Segment> {
        match self {
            Content::Completion { prompt, completion } => self::completion(prompt, completion),
            Content::Chat(messages) => chat(messages),
        }
    }
}

/// A message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) text: String,
    /// Whether the model is trained to produce it; for the assistant only.
    pub(crate) trained: bool,
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
fn completion(mut prompt: String, completion: String) -> Vec<Segment> {
    let is_separated =
        prompt.is_empty() || prompt.ends_with(char::is_whitespace) || completion.starts_with(char::is_whitespace);
    if !is_separated {
        prompt.push('\n');
    }
    vec![Segment::context(prompt), Segment::reply(completion, true)]
}

/// A chat: each message is `Role: text`, with an empty line between messages.
fn chat(messages: Vec<Message>) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut context = String::new();
    for (index, Message { role, mut text, trained }) in messages.into_iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n\n" };
        context.push_str(&format!("{gap}{}", role.label()));
        if role == Role::Assistant {
            text.insert(0, ' ');
            segments.push(Segment::context(std::mem::take(&mut context)));
            segments.push(Segment::reply(text, trained));
        } else {
            context.push_str(&format!(" {text}"));
        }
    }
    if !context.is_empty() {
        segments.push(Segment::context(context));
    }
    segments
}

/// The prompt that a model trained on [chats](Content::Chat) completes with the reply to these messages.
pub(crate) fn chat_prompt(messages: &[(Role, &str)]) -> String {
    let message = |&(role, text): &(Role, &str)| Message { role, text: text.to_owned(), trained: false };
    let mut messages: Vec<Message> = messages.iter().map(message).collect();
    messages.push(message(&(Role::Assistant, "")));
    let mut segments = chat(messages);
    segments.pop();
    segments.into_iter().map(|segment| segment.text).collect()
}

/// The text of a reply to a [`chat_prompt`]: without the space that follows the role.
pub(crate) fn reply(completion: &str) -> &str {
    completion.strip_prefix(' ').unwrap_or(completion)
}

/// Tokenizes an example, or as much of it as shows that it has more than `at_most` tokens. A segment that
/// [ends](Segment::ends) gets the tokenizer's end-of-sequence token, or a line break if it has none.
pub(crate) fn tokenize(tokenizer: &Tokenizer, segments: &[Segment], at_most: Option<usize>) -> Result<WeightedTokens> {
    let mut all = WeightedTokens::new();
    for (index, segment) in segments.iter().enumerate() {
        let room = at_most.map(|at_most| at_most.saturating_sub(all.len()));
        let mut tokens = encode(tokenizer, &segment.text, index == 0, room)?;
        if segment.ends {
            match tokenizer.eos_token() {
                Some(end) => tokens.push(end),
                None => tokens.extend(tokenizer.encode_continuation("\n")?),
            }
        }
        all = all.weighted(tokens, f32::from(segment.trained));
        if at_most.is_some_and(|at_most| all.len() > at_most) {
            break;
        }
    }
    Ok(all)
}

/// How much more of a text than `at_most` tokens is tokenized first: a token has fewer bytes on average, and what follows a cut
/// can change only the few tokens before it.
const BYTES_PER_TOKEN: usize = 16;
const TOKENS_AT_A_CUT: usize = 1024;

/// The tokens of a text, or of its beginning if that has more than `at_most` tokens already: a tokenizer needs about a hundred
/// bytes of memory for each token.
fn encode(tokenizer: &Tokenizer, text: &str, is_first: bool, at_most: Option<usize>) -> Result<Vec<u32>> {
    let encode = |text: &str| if is_first { tokenizer.encode(text) } else { tokenizer.encode_continuation(text) };
    if let Some(enough) = at_most.map(|at_most| at_most.saturating_add(TOKENS_AT_A_CUT)) {
        let mut cut = enough.saturating_mul(BYTES_PER_TOKEN);
        while cut < text.len() {
            let end = (cut..text.len()).find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
            let mut tokens = encode(text.get(..end).unwrap_or(text))?;
            if tokens.len() > enough {
                tokens.truncate(enough);
                return Ok(tokens);
            }
            cut = cut.saturating_mul(2);
        }
    }
    encode(text)
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
            assert_eq!(texts(&completion(prompt.to_owned(), text.to_owned())), [(context, false), (text, true)]);
        }
    }

    fn message(role: Role, text: &str, trained: bool) -> Message {
        Message { role, text: text.to_owned(), trained }
    }

    #[test]
    fn trained_replies_are_told_from_others() {
        use Role::{Assistant, System, User};
        let segments = chat(vec![
            message(System, "Be brief.", false),
            message(User, "Hi", false),
            message(Assistant, "Hello", false),
            message(User, "Bye", false),
            message(Assistant, "See you", true),
        ]);
        assert_eq!(
            texts(&segments),
            [
                ("System: Be brief.\n\nUser: Hi\n\nAssistant:", false),
                (" Hello", false),
                ("\n\nUser: Bye\n\nAssistant:", false),
                (" See you", true),
            ]
        );
        assert_eq!(segments.iter().map(|segment| segment.ends).collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!(chat_prompt(&[(System, "Be brief."), (User, "Hi")]), segments[0].text);
        assert_eq!([reply(&segments[1].text), reply("  Hello"), reply("Hello")], ["Hello", " Hello", "Hello"]);
        let last = chat(vec![message(Assistant, "x", true), message(User, "y", false)]);
        assert_eq!(texts(&last).last(), Some(&("\n\nUser: y", false)));
    }

    #[test]
    fn weights_cover_trained_tokens_and_their_end() {
        let text = tokenize(&Tokenizer::bytes(), &completion("ab".to_owned(), "c".to_owned()), None).unwrap();
        assert_eq!((text.len(), text.trained_len()), (5, 2));
        let datum = text.datum().unwrap();
        assert_eq!(datum.model_input.to_tokens().unwrap(), [97, 98, 10, 99]);
        assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64().unwrap(), [98, 10, 99, 256]);
        assert_eq!(datum.loss_fn_inputs["weights"].as_f32().unwrap(), [0.0, 0.0, 1.0, 1.0]);

        let chat = chat(vec![message(Role::Assistant, "x", false), message(Role::Assistant, "y", true)]);
        let text = tokenize(&Tokenizer::bytes(), &chat, None).unwrap();
        // Both replies end with the end-of-sequence token; of the first, nothing is learned.
        assert_eq!(text.tokens().iter().filter(|&&token| token == 256).count(), 2);
        assert_eq!(text.trained_len(), " y".len() + 1);
    }

    #[test]
    fn a_text_is_tokenized_up_to_its_limit() {
        let long = "é".repeat(1 << 20);
        let tokens =
            |at_most| tokenize(&Tokenizer::bytes(), &completion("ab".to_owned(), long.clone()), at_most).unwrap();
        let all = tokens(None);
        assert_eq!(all.len(), 3 + 2 * (1 << 20) + 1);
        let mut cut = tokens(Some(1000));
        assert!((1001..100_000).contains(&cut.len()), "{}", cut.len());
        cut.truncate(1000);
        assert_eq!((cut.tokens(), cut.weights()), (&all.tokens()[..1000], &all.weights()[..1000]));
        assert_eq!(tokens(Some(all.len())), all);
    }
}
