//! What a line of the data file means: an example as JSON.
//!
//! | file | what it reads |
//! |---|---|
//! | `message.rs` | a message of a conversation |
//! | `learned.rs` | which messages are learned |
//! | `json.rs` | values, and what is wrong with them |
//!
//! Nothing that a line says is ignored silently: a known key with a value that is not understood is an error, and the caller
//! hears of all other keys.

mod json;
mod learned;
mod message;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tinkex::chat::{Conversation, Tool, TrainOn};

use self::json::{described, read, reason, text, unknown_keys};
use crate::conversation_options::Beginning;

pub(crate) const EXPECTED: &str = r#"expected {"prompt": "…", "completion": "…"} or {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"#;

/// The values of `split`. Case and blanks around them make no difference.
const TRAINED: [&str; 2] = ["train", "training"];
const HELD_OUT: [&str; 7] = ["test", "eval", "evaluation", "validation", "valid", "val", "dev"];

/// How many keys of a line are named that has none of the known ones.
const MAX_NAMED_KEYS: usize = 5;

const LINE_KEYS: [&str; 6] = ["prompt", "completion", "messages", "tools", "chat_template_kwargs", "split"];

/// What the command line says about all conversations.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChatOptions {
    pub(crate) train_on: TrainOn,
    /// What a conversation has that does not say otherwise.
    pub(crate) beginning: Beginning,
}

/// One line of the data file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Example {
    pub(crate) content: Content,
    /// Whether the file holds it out for evaluation.
    pub(crate) held_out: bool,
    /// Keys that mean something only if the template reads them.
    pub(crate) template_keys: Vec<String>,
    /// Keys that have no meaning here.
    pub(crate) unknown_keys: Vec<String>,
}

/// What a line has to learn from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Completion { prompt: String, completion: String },
    Chat { conversation: Conversation, train_on: TrainOn },
}

/// The values are read one by one, so that an error names the key.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line<'a> {
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    completion: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    chat_template_kwargs: Option<&'a RawValue>,
    #[serde(borrow)]
    split: Option<&'a RawValue>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Parses a line. The error says what is wrong with it.
pub(crate) fn parse(line: &str, options: &ChatOptions) -> Result<Example, String> {
    let line: Line<'_> =
        serde_json::from_str(line).map_err(|error| format!("{}{}; {EXPECTED}", reason(&error), column(&error)))?;
    let held_out = line.split.map(split).transpose()?.unwrap_or_default();
    let mut unknown_keys = unknown_keys(line.others.keys(), &LINE_KEYS)?;
    if line.others.contains_key("weight") {
        return Err("\"weight\" is a key of messages; an example has none".to_owned());
    }
    let text = |name: &str, value: &RawValue| text(value).map_err(|why| format!("{name:?} {why}"));
    let mut template_keys = Vec::new();
    let content = match (line.prompt, line.completion, line.messages) {
        (Some(prompt), Some(completion), None) => {
            let for_chats = [("tools", line.tools), ("chat_template_kwargs", line.chat_template_kwargs)];
            if let Some((key, _)) = for_chats.into_iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{key:?} is for messages, and prompts have no template"));
            }
            let (prompt, completion) = (text("prompt", prompt)?, text("completion", completion)?);
            if completion.trim().is_empty() {
                return Err("the completion is empty, so there is nothing to train on".to_owned());
            }
            Content::Completion { prompt, completion }
        }
        (None, None, Some(messages)) => {
            let messages: Vec<&RawValue> = serde_json::from_str(messages.get())
                .map_err(|_| format!("\"messages\" is {}, expected a list", described(messages)))?;
            let numbered = messages.into_iter().zip(1..);
            let parsed = numbered.map(|(value, number)| message::parse(value, number));
            let (mut messages, mut weights) = (Vec::new(), Vec::new());
            for parsed in parsed {
                let parsed = parsed?;
                template_keys.extend(parsed.template_keys);
                unknown_keys.extend(parsed.unknown_keys);
                messages.push(parsed.message);
                weights.push(parsed.weight);
            }
            let count = messages.len();
            let mut conversation = Conversation::new(messages);
            conversation.tools = line.tools.map_or(Ok(Vec::new()), tools)?;
            if let Some(arguments) = line.chat_template_kwargs {
                conversation.template_args = read(arguments).ok_or_else(|| {
                    format!("\"chat_template_kwargs\" is {}; expected an object", described(arguments))
                })?;
            }
            template_keys.extend(conversation.template_args.keys().cloned());
            conversation = options.beginning.complete(conversation);
            // A system message that the line does not have.
            let added = conversation.messages.len().saturating_sub(count);
            weights.splice(0..0, std::iter::repeat_n(None, added));
            let first = if added == 0 { 1 } else { 0 };
            let train_on = learned::choose(&mut conversation.messages, &weights, first, options.train_on)?;
            Content::Chat { conversation, train_on }
        }
        (_, _, Some(_)) => return Err(format!("prompt and messages cannot be combined; {EXPECTED}")),
        (Some(_), None, None) => return Err(format!("prompt without completion; {EXPECTED}")),
        (None, Some(_), None) => return Err(format!("completion without prompt; {EXPECTED}")),
        (None, None, None) => {
            let keys: Vec<String> = line.others.keys().take(MAX_NAMED_KEYS).map(|key| format!("{key:?}")).collect();
            let instead = if keys.is_empty() { String::new() } else { format!(", but {}", keys.join(", ")) };
            return Err(format!("neither \"prompt\" nor \"messages\"{instead}; {EXPECTED}"));
        }
    };
    Ok(Example { content, held_out, template_keys, unknown_keys })
}

/// Where a line is no JSON. An error of its whole value has no column.
fn column(error: &serde_json::Error) -> String {
    match error.column() {
        0 => String::new(),
        column => format!(" (column {column})"),
    }
}

/// The tools of a line.
fn tools(value: &RawValue) -> Result<Vec<Tool>, String> {
    serde_json::from_str(value.get()).map_err(|error| match value.get().starts_with('[') {
        true => format!("\"tools\" has one that is not an object: {}", reason(&error)),
        false => format!("\"tools\" is {}; expected a list", described(value)),
    })
}

/// Whether the split is one that is held out.
fn split(value: &RawValue) -> Result<bool, String> {
    let name = read::<String>(value).map(|name| name.trim().to_lowercase());
    match name.as_deref() {
        Some(name) if HELD_OUT.contains(&name) => Ok(true),
        Some(name) if TRAINED.contains(&name) => Ok(false),
        _ => {
            let known = [TRAINED.as_slice(), HELD_OUT.as_slice()].concat().join(", ");
            Err(format!("\"split\" is {}; expected one of {known}", value.get()))
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::json;
    use tinkex::chat::{Message, ToolCall};

    use super::*;

    fn parse(line: &str) -> Result<Example, String> {
        super::parse(line, &ChatOptions::default())
    }

    fn chat(line: &str) -> (Conversation, TrainOn) {
        match parse(line).unwrap().content {
            Content::Chat { conversation, train_on } => (conversation, train_on),
            Content::Completion { .. } => panic!("{line}"),
        }
    }

    #[test]
    fn completions_and_chats_are_parsed() {
        let line = parse(r#"{"prompt": "a", "completion": "b", "id": 1, "split": null}"#).unwrap();
        let content = Content::Completion { prompt: "a".to_owned(), completion: "b".to_owned() };
        let unknown_keys = vec!["id".to_owned()];
        assert_eq!(line, Example { content, held_out: false, template_keys: Vec::new(), unknown_keys });
        let line = parse(
            r#"{"messages": [{"role": "user", "content": "q", "name": "x"}, {"role": "assistant", "content": "r"}], "split": "test"}"#,
        );
        let line = line.unwrap();
        let mut question = Message::user("q");
        question.name = Some("x".to_owned());
        let conversation = Conversation::from([question, Message::assistant("r")]);
        assert_eq!(line.content, Content::Chat { conversation, train_on: TrainOn::AllAssistantMessages });
        assert_eq!((line.held_out, line.template_keys), (true, vec!["name".to_owned()]));
    }

    #[test]
    fn calls_reasoning_and_arguments_are_kept() {
        let (conversation, _) = chat(
            r#"{"messages": [{"role": "user", "content": "q", "tool_calls": null, "mood": 1}, {"role": "assistant", "reasoning": "hm", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "7"}], "tools": [{"type": "function", "function": {"name": "f"}}], "chat_template_kwargs": {"enable_thinking": true}}"#,
        );
        let [question, call, result] = &*conversation.messages else { panic!("{conversation:?}") };
        assert_eq!(question.others["mood"], 1);
        assert_eq!(
            (call.reasoning_content.as_deref(), &call.content),
            (Some("hm"), &Some(tinkex::chat::Content::Null))
        );
        assert_eq!(call.tool_calls, [ToolCall::new("f", "{}").id("c")]);
        assert_eq!(result, &Message::tool("c", "7"));
        assert_eq!(conversation.tools[0].name(), Some("f"));
        assert_eq!(conversation.template_args["enable_thinking"], json!(true));
    }

    #[test]
    fn weights_choose_the_messages_to_learn() {
        for (weight, trained) in [("0", false), ("0.0", false), ("1", true), ("1.0", true), ("null", true)] {
            let line = format!(
                r#"{{"messages": [{{"role": "user", "content": "q", "weight": 0}}, {{"role": "assistant", "content": "a", "weight": {weight}}}, {{"role": "assistant", "content": "b"}}]}}"#
            );
            let (conversation, train_on) = chat(&line);
            let marks: Vec<_> = conversation.messages.iter().map(|message| message.trainable).collect();
            match trained {
                true => assert_eq!((marks, train_on), (vec![None; 3], TrainOn::AllAssistantMessages), "{weight}"),
                false => {
                    let expected = [false, false, true].map(Some).to_vec();
                    assert_eq!((marks, train_on), (expected, TrainOn::Marked), "{weight}");
                }
            }
        }
    }

    #[test]
    fn splits_are_known_in_any_case() {
        let held_out = |split: &str| {
            parse(&format!(r#"{{"prompt": "a", "completion": "b", "split": {split:?}}}"#)).map(|line| line.held_out)
        };
        for split in ["test", "Test", "TEST", "test ", " valid", "Validation", "val", "dev", "eval", "evaluation"] {
            assert_eq!(held_out(split), Ok(true), "{split}");
        }
        for split in ["train", "Train ", "training"] {
            assert_eq!(held_out(split), Ok(false), "{split}");
        }
        for split in ["", "tset", "train2", "none"] {
            let error = held_out(split).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "\"split\" is {split:?}; expected one of train, training, test, eval, evaluation, validation, valid, val, dev"
                )
            );
        }
    }

    #[test]
    fn texts_in_parts_are_joined() {
        let line = r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a", "id": 1}, {"type": "text", "text": "b"}]}]}"#;
        let parsed = parse(line).unwrap();
        let conversation = Conversation::from([Message::assistant("ab")]);
        let content = Content::Chat { conversation, train_on: TrainOn::default() };
        assert_eq!((parsed.content, parsed.unknown_keys), (content, vec!["id".to_owned()]));
    }

    #[test]
    fn an_invalid_line_says_what_is_wrong() {
        for (line, why) in [
            ("nonsense", "expected ident"),
            (r#"{"prompt": 1, "completion": "b"}"#, "\"prompt\" is a number, expected a text"),
            (r#"{"prompt": "a"}"#, "without completion"),
            (r#"{"completion": "a"}"#, "without prompt"),
            ("{}", "neither \"prompt\" nor \"messages\"; expected {"),
            (
                r#"{"id": 1, "conversations": [{"from": "human", "value": "a"}]}"#,
                "neither \"prompt\" nor \"messages\", but \"id\", \"conversations\"; expected {",
            ),
            ("7", "invalid type: integer `7`, expected an object"),
            ("[]", "invalid type: sequence, expected an object; expected {"),
            (r#"{"prompt": "a", "completion": " "}"#, "nothing to train on"),
            (r#"{"prompt": "a", "prompt": "a", "completion": "b"}"#, "duplicate field `prompt`"),
            (r#"{"prompt": "a", "completion": "b", "messages": []}"#, "cannot be combined"),
            (r#"{"prompt": "a", "completion": "b", "weight": 0}"#, "\"weight\" is a key of messages"),
            (r#"{"prompt": "a", "completion": "b", "Split": "test"}"#, "unknown key \"Split\"; write \"split\""),
            (r#"{"prompt": "a", "completion": "b", "split": 3}"#, "\"split\" is 3; expected one of train"),
            (r#"{"messages": {}}"#, "\"messages\" is an object, expected a list"),
            (r#"{"messages": []}"#, "nothing to train on"),
            (r#"{"messages": [{"role": "user", "content": "q"}]}"#, "nothing to train on"),
            (r#"{"messages": ["hello"]}"#, "message 1: invalid type: string \"hello\", expected an object"),
            (r#"{"messages": [{"role": "robot", "content": "q"}]}"#, "message 1 has role \"robot\""),
            (r#"{"messages": [{"content": "q"}]}"#, "message 1 has no \"role\""),
            (r#"{"messages": [{"role": "user"}]}"#, "message 1 (user) has no \"content\""),
            (r#"{"messages": [{"role": "user", "content": null}]}"#, "message 1 (user) has no \"content\""),
            (r#"{"messages": [{"role": "user", "content": 3}]}"#, "the content of message 1 (user) is a number"),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
                "the content of message 1 (user) has part 1 of the type \"image_url\"",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}"#,
                "\"tool_calls\" of message 1 (assistant) cannot be read: missing field `function`",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": "[]"}]}"#,
                "\"tool_calls\" of message 1 (assistant) is a text, expected a list",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": null, "function_call": {}}]}"#,
                "message 1 (assistant) has \"function_call\"; write calls as \"tool_calls\"",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "q", "tool_calls": [{"function": {"name": "f"}}]}]}"#,
                "message 1 (user) has \"tool_calls\", but only the assistant calls tools",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "reasoning": "b", "thinking": "c"}]}"#,
                "message 1 (assistant) has two texts of reasoning that differ",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "trainable": 1}]}"#,
                "\"trainable\" of message 1 (assistant) is 1; expected true or false",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "train": true}]}"#,
                "message 1 (assistant) has \"trainable\", which only --train-on customized reads",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "train": true, "trainable": false}]}"#,
                "message 1 (assistant) has \"trainable\" and \"train\", which mean the same; keep one",
            ),
            (r#"{"messages": [{"role": "assistant", "content": "a"}], "tools": {}}"#, "\"tools\" is an object"),
            (r#"{"messages": [{"role": "assistant", "content": "a"}], "tools": [1]}"#, "\"tools\" has one that is"),
            (
                r#"{"messages": [{"role": "assistant", "content": "a"}], "chat_template_kwargs": []}"#,
                "\"chat_template_kwargs\" is a list; expected an object",
            ),
            (
                r#"{"prompt": "a", "completion": "b", "tools": []}"#,
                "\"tools\" is for messages, and prompts have no template",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "weight": "0"}]}"#,
                "the weight of message 1 (assistant) is \"0\"; expected 0 or 1",
            ),
            (r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}"#, "is 0.5; expected 0 or 1"),
            (r#"{"messages": [{"role": "assistant", "content": "a", "weight": false}]}"#, "is false; expected 0 or 1"),
            (r#"{"messages": [{"role": "assistant", "content": "a", "Weight": 0}]}"#, "write \"weight\""),
            (r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}"#, "have weight 0"),
            (r#"{"messages": [{"role": "user", "content": "q", "weight": 1}]}"#, "only the assistant's messages"),
            (r#"{"prompt": "\ud800", "completion": "b"}"#, "\"prompt\" is not valid text: "),
            (
                r#"{"messages": [{"role": "assistant", "content": "\ud83d"}]}"#,
                "the content of message 1 (assistant) is not valid text: ",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "\ud83d"}]}]}"#,
                "the content of message 1 (assistant) has part 1 whose \"text\" is not valid text: ",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a", "weight": 0}]}]}"#,
                "the content of message 1 (assistant) has part 1 with \"weight\", which is a key of messages",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "Text": "a"}]}]}"#,
                "has part 1 with an unknown key \"Text\"; write \"text\"",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": ["a"]}]}"#,
                "has part 1 with invalid type: string \"a\", expected an object",
            ),
            (r#"{"messages": [{"role": "assistant", "content": [{"text": "a"}]}]}"#, "has part 1 without \"type\""),
            (r#"{"messages": [{"role": "assistant", "content": [{"type": "text"}]}]}"#, "has part 1 without \"text\""),
            ("\"\u{1}\"", "control character"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
            assert!(!error.contains("at line"), "{error}");
        }
    }

    quickcheck! {
        fn damaged_lines_never_panic(is_chat: bool, changes: Vec<(usize, u8)>, cut: usize) -> bool {
            let line = match is_chat {
                true => r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "c"}], "weight": 1, "tool_calls": []}]}"#,
                false => r#"{"prompt": "a\u00e9", "completion": "b", "split": "test"}"#,
            };
            let mut line = line.as_bytes().to_vec();
            for (at, byte) in changes {
                let at = at % line.len();
                line[at] = byte;
            }
            line.truncate(line.len() - cut % 4);
            String::from_utf8(line).map_or(true, |line| parse(&line).err() != Some(String::new()))
        }
    }
}
