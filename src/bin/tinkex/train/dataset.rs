//! Examples from lines of JSON.

use serde::Deserialize;

use crate::render::{self, Piece, Role};

const EXPECTED: &str = r#"expected {"prompt": "…", "completion": "…"} or {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"#;

/// The words in `split` for lines that are kept for evaluation.
const HELD_OUT: [&str; 5] = ["test", "eval", "validation", "val", "dev"];

/// One example of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) pieces: Vec<Piece>,
    /// Whether the file keeps it for evaluation.
    pub(crate) held_out: bool,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// A line of the file; other keys are ignored.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line {
    prompt: Option<String>,
    completion: Option<String>,
    messages: Option<Vec<Message>>,
    split: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Message {
    role: String,
    content: String,
}

/// Reads a file of examples, one a line; empty lines are passed over. An error is that of the first bad line, as
/// `NAME:LINE: what is wrong`.
pub(crate) fn parse(name: &str, text: &[u8]) -> Result<Vec<Example>, String> {
    // Some editors begin a file with this mark.
    let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(text);
    let mut examples = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = index + 1;
        examples.push(example(line, number).map_err(|why| format!("{name}:{number}: {why}"))?);
    }
    if examples.is_empty() {
        return Err(format!("{name} has no examples; {EXPECTED} on each line"));
    }
    Ok(examples)
}

fn example(line: &[u8], number: usize) -> Result<Example, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        // The line of the error is always 1.
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or_default();
        format!("{why} (column {}); {EXPECTED}", error.column())
    })?;
    let held_out = line.split.as_deref().is_some_and(|split| HELD_OUT.contains(&split));
    let pieces = match line {
        Line { prompt: Some(prompt), completion: Some(completion), messages: None, .. } => {
            if completion.trim().is_empty() {
                return Err("the completion is empty, so there is nothing to learn".to_owned());
            }
            render::pair(&prompt, &completion)
        }
        Line { prompt: None, completion: None, messages: Some(messages), .. } => conversation(&messages)?,
        Line { messages: Some(_), .. } => return Err(format!("both a prompt and messages; {EXPECTED}")),
        Line { prompt: Some(_), .. } => return Err(format!("a prompt without a completion; {EXPECTED}")),
        Line { completion: Some(_), .. } => return Err(format!("a completion without a prompt; {EXPECTED}")),
        Line { .. } => return Err(format!("neither a prompt nor messages; {EXPECTED}")),
    };
    Ok(Example { pieces, held_out, line: number })
}

fn conversation(messages: &[Message]) -> Result<Vec<Piece>, String> {
    let mut said = Vec::with_capacity(messages.len());
    for (index, Message { role, content }) in messages.iter().enumerate() {
        let Some(parsed) = Role::parse(role) else {
            let place = index + 1;
            return Err(format!("the role of message {place} is {role:?}; expected system, user, assistant or tool"));
        };
        said.push((parsed, content.as_str()));
    }
    if !said.iter().any(|(role, content)| *role == Role::Assistant && !content.trim().is_empty()) {
        return Err("no message of the assistant, so there is nothing to learn".to_owned());
    }
    Ok(render::chat(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_chats_are_read_with_their_lines_and_split() {
        let file = concat!(
            "\u{FEFF}",
            r#"{"prompt": "a", "completion": "b", "more": 1}"#,
            "\r\n\n",
            r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}], "split": "test"}"#,
        );
        let examples = parse("f", file.as_bytes()).unwrap();
        assert_eq!(examples.len(), 2);
        assert_eq!((examples[0].line, examples[0].held_out), (1, false));
        assert_eq!((examples[1].line, examples[1].held_out), (3, true));
        assert_eq!(examples[1].pieces, render::chat(&[(Role::User, "q"), (Role::Assistant, "r")]));
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_expected() {
        for (line, why) in [
            ("nonsense", "expected ident"),
            (r#"{"prompt": 1, "completion": "b"}"#, "invalid type"),
            (r#"{"prompt": "a"}"#, "without a completion"),
            (r#"{"completion": "a"}"#, "without a prompt"),
            ("{}", "neither"),
            ("7", "invalid type: integer `7`, expected an object"),
            (r#"{"prompt": "a", "completion": " "}"#, "nothing to learn"),
            (r#"{"prompt": "a", "completion": "b", "messages": []}"#, "both"),
            (r#"{"messages": []}"#, "nothing to learn"),
            (r#"{"messages": [{"role": "user", "content": "q"}]}"#, "nothing to learn"),
            (r#"{"messages": [{"role": "robot", "content": "q"}]}"#, "the role of message 1 is \"robot\""),
            (r#"{"messages": [{"role": "user"}]}"#, "missing field `content`"),
            ("\"\u{1}\"", "control character"),
        ] {
            let file = format!("{{\"prompt\": \"a\", \"completion\": \"b\"}}\n{line}\n");
            let error = parse("data.jsonl", file.as_bytes()).unwrap_err();
            assert!(error.starts_with("data.jsonl:2: ") && error.contains(why), "{error}");
            assert!(!error.contains("at line"), "{error}");
        }
        assert!(parse("f", b"\n \n").unwrap_err().contains("no examples"));
        assert!(parse("f", b"{\"prompt\": \"\xff\", \"completion\": \"b\"}").unwrap_err().starts_with("f:1: "));
    }
}
