//! Parses the data file: examples as lines of JSON.

use serde::Deserialize;

use crate::template::{self, Role, Segment};

const EXPECTED: &str = r#"expected {"prompt": "…", "completion": "…"} or {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"#;

/// The values of `split` that hold a line out for evaluation.
const HELD_OUT: [&str; 5] = ["test", "eval", "validation", "val", "dev"];

/// One line of the data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) segments: Vec<Segment>,
    /// Whether the file holds it out for evaluation.
    pub(crate) held_out: bool,
    /// Line number, from 1.
    pub(crate) line: usize,
}

/// The JSON of a line. Other keys are ignored.
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

/// Parses a data file, skipping empty lines. The error is that of the first invalid line: `NAME:LINE: what is wrong`.
pub(crate) fn parse(name: &str, text: &[u8]) -> Result<Vec<Example>, String> {
    // Some editors write a byte order mark.
    let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(text);
    let mut examples = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = index + 1;
        examples.push(parse_line(line, number).map_err(|why| format!("{name}:{number}: {why}"))?);
    }
    if examples.is_empty() {
        return Err(format!("{name} contains no examples; {EXPECTED} on each line"));
    }
    Ok(examples)
}

fn parse_line(line: &[u8], number: usize) -> Result<Example, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        // serde_json counts lines within this line, so its number would mislead.
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or_default();
        format!("{why} (column {}); {EXPECTED}", error.column())
    })?;
    let held_out = line.split.as_deref().is_some_and(|split| HELD_OUT.contains(&split));
    let segments = match line {
        Line { prompt: Some(prompt), completion: Some(completion), messages: None, .. } => {
            if completion.trim().is_empty() {
                return Err("the completion is empty, so there is nothing to train on".to_owned());
            }
            template::completion(&prompt, &completion)
        }
        Line { prompt: None, completion: None, messages: Some(messages), .. } => conversation(&messages)?,
        Line { messages: Some(_), .. } => return Err(format!("prompt and messages cannot be combined; {EXPECTED}")),
        Line { prompt: Some(_), .. } => return Err(format!("prompt without completion; {EXPECTED}")),
        Line { completion: Some(_), .. } => return Err(format!("completion without prompt; {EXPECTED}")),
        Line { .. } => return Err(format!("neither prompt nor messages; {EXPECTED}")),
    };
    Ok(Example { segments, held_out, line: number })
}

fn conversation(messages: &[Message]) -> Result<Vec<Segment>, String> {
    let mut parsed = Vec::with_capacity(messages.len());
    for (index, Message { role, content }) in messages.iter().enumerate() {
        let Some(role) = Role::parse(role) else {
            let number = index + 1;
            return Err(format!("message {number} has role {role:?}; expected system, user, assistant or tool"));
        };
        parsed.push((role, content.as_str()));
    }
    if !parsed.iter().any(|(role, content)| *role == Role::Assistant && !content.trim().is_empty()) {
        return Err("no assistant message with content, so there is nothing to train on".to_owned());
    }
    Ok(template::chat(&parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_and_chats_are_parsed() {
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
        assert_eq!(examples[1].segments, template::chat(&[(Role::User, "q"), (Role::Assistant, "r")]));
    }

    #[test]
    fn an_invalid_line_is_reported_with_number() {
        for (line, why) in [
            ("nonsense", "expected ident"),
            (r#"{"prompt": 1, "completion": "b"}"#, "invalid type"),
            (r#"{"prompt": "a"}"#, "without completion"),
            (r#"{"completion": "a"}"#, "without prompt"),
            ("{}", "neither"),
            ("7", "invalid type: integer `7`, expected an object"),
            (r#"{"prompt": "a", "completion": " "}"#, "nothing to train on"),
            (r#"{"prompt": "a", "completion": "b", "messages": []}"#, "cannot be combined"),
            (r#"{"messages": []}"#, "nothing to train on"),
            (r#"{"messages": [{"role": "user", "content": "q"}]}"#, "nothing to train on"),
            (r#"{"messages": [{"role": "robot", "content": "q"}]}"#, "message 1 has role \"robot\""),
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
