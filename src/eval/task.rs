//! Tasks, and the files that they are read from.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::grader::{Grader, shown};
#[cfg(feature = "chat")]
use crate::chat::{Conversation, Message};
use crate::error::{Error, ErrorKind, Result};

/// The form of a line, for errors.
const EXPECTED: &str = r#"write each line as {"id": "…", "prompt": "…", "grade": {"exact": "…"}}, or with "messages": [{"role": "user", "content": "…"}] in place of "prompt""#;

/// Something that a model is asked, and what makes its answer right.
///
/// ```
/// use tinkex::eval::Task;
///
/// let tasks = Task::from_jsonl(
///     r#"{"prompt": "2 + 2 =", "grade": {"number": 4}}
///        {"id": "name", "messages": [{"role": "user", "content": "Who?"}], "grade": {"contains": "Ada"}}"#,
/// )?;
/// assert_eq!((tasks[0].id.as_str(), tasks[0].prompt.text()), ("1", Some("2 + 2 =")));
/// assert!(tasks[0].grader.grade("It is 4.")?);
/// assert!(tasks[1].prompt.text().is_none());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Task {
    /// Its name, which no other task of a file has.
    pub id: String,
    /// What the model is asked.
    pub prompt: TaskPrompt,
    /// What makes an answer right.
    pub grader: Grader,
}

/// What a model is asked. [`Task`] has an example.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskPrompt {
    /// A text, to be continued or sent as the message of a user.
    Text(String),
    /// The messages of a conversation, as in OpenAI's API: objects with a `role`, at least one.
    Messages(Vec<Value>),
}

impl TaskPrompt {
    /// The text, `None` for messages.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            TaskPrompt::Text(text) => Some(text),
            TaskPrompt::Messages(_) => None,
        }
    }
}

impl Task {
    /// A task with this text as its prompt.
    ///
    /// ```
    /// use tinkex::eval::{Grader, Task};
    ///
    /// let task = Task::new("sum", "2 + 2 =", Grader::number(4.0)?);
    /// assert_eq!(task.prompt.text(), Some("2 + 2 ="));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn new(id: impl Into<String>, prompt: impl Into<String>, grader: Grader) -> Self {
        Task { id: id.into(), prompt: TaskPrompt::Text(prompt.into()), grader }
    }

    /// The tasks of a text, a line of JSON each: a `prompt` or `messages`, a `grade` ([the module](super) has a table of them), and
    /// perhaps an `id`. Without one, the id is the number of the line. Empty lines do not count.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a line of another form or with another field, for an id that is there twice, and
    /// for a text without tasks. The error names line and field.
    pub fn from_jsonl(text: &str) -> Result<Vec<Task>> {
        parse_all(text, |line| line)
    }

    /// [`from_jsonl`](Task::from_jsonl) of a file. A file can name commands, which grading then runs: open those that you trust.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) for a file that cannot be read, and those of [`from_jsonl`](Task::from_jsonl), which also name the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Vec<Task>> {
        let shown = path.as_ref().display();
        let text = fs::read_to_string(&path).map_err(|error| {
            let message = format!("cannot read the tasks {shown}: {error}");
            Error::new(ErrorKind::Io, message).with_hint("give the path of a file of JSON lines").with_source(error)
        })?;
        parse_all(&text, |why| format!("{shown}: {why}"))
    }

    /// The conversation that asks this: the messages, or the text as the message of a user.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for messages that are none; the error names the task.
    ///
    /// ```
    /// use tinkex::chat::Message;
    /// use tinkex::eval::Task;
    ///
    /// let task = &Task::from_jsonl(r#"{"prompt": "2 + 2?", "grade": {"number": 4}}"#)?[0];
    /// assert_eq!(task.conversation()?.messages, [Message::user("2 + 2?")]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[cfg(feature = "chat")]
    pub fn conversation(&self) -> Result<Conversation> {
        let messages = match &self.prompt {
            TaskPrompt::Text(text) => return Ok(Conversation::from([Message::user(text.as_str())])),
            TaskPrompt::Messages(messages) => messages,
        };
        let parsed = messages.iter().zip(1..).map(|(message, number)| {
            serde_json::from_value::<Message>(message.clone()).map_err(|error| {
                Error::invalid_input(format!("task {}: message {number} is not valid: {error}", self.id))
                    .with_hint(EXPECTED)
            })
        });
        Ok(Conversation::from(parsed.collect::<Result<Vec<_>>>()?))
    }
}

/// The tasks of a text. `place` completes what errors say.
fn parse_all(text: &str, place: impl Fn(String) -> String) -> Result<Vec<Task>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let refused = |why: String, hint: &str| Error::invalid_input(place(why)).with_hint(hint.to_owned());
    let (mut tasks, mut lines_of_ids) = (Vec::new(), HashMap::new());
    for (line, number) in text.lines().zip(1_usize..).filter(|(line, _)| !line.trim().is_empty()) {
        let task = parse(line, number).map_err(|error| {
            refused(format!("line {number}: {}", error.message()), error.hint().unwrap_or(EXPECTED))
        })?;
        if let Some(first) = lines_of_ids.insert(task.id.clone(), number) {
            let why = format!("line {number}: the id {:?} is that of line {first}", task.id);
            return Err(refused(why, "give each task an id of its own; without one it is the number of the line"));
        }
        tasks.push(task);
    }
    if tasks.is_empty() {
        return Err(refused("there are no tasks".to_owned(), EXPECTED));
    }
    Ok(tasks)
}

fn parse(line: &str, number: usize) -> Result<Task> {
    let mut fields: Map<String, Value> = serde_json::from_str(line)
        .map_err(|error| Error::invalid_input(format!("it is no object of JSON: {error}")))?;
    let id = fields.remove("id").map_or(Ok(number.to_string()), id)?;
    let prompt = match (fields.remove("prompt"), fields.remove("messages")) {
        (Some(Value::String(text)), None) => TaskPrompt::Text(text),
        (Some(other), None) => return Err(Error::invalid_input(format!("prompt is {}, not a text", shown(&other)))),
        (None, Some(list)) => TaskPrompt::Messages(messages(list)?),
        (None, None) => return Err(Error::invalid_input("there is neither prompt nor messages")),
        (Some(_), Some(_)) => return Err(Error::invalid_input("there are both prompt and messages")),
    };
    let grade = fields.remove("grade").ok_or_else(|| Error::invalid_input("there is no grade"))?;
    if let Some(unknown) = fields.keys().next() {
        return Err(Error::invalid_input(format!("there is no field {unknown:?}")));
    }
    Ok(Task { id, prompt, grader: Grader::from_json(&grade)? })
}

fn id(value: Value) -> Result<String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        Value::String(_) => Err(Error::invalid_input("id is empty")),
        other => Err(Error::invalid_input(format!("id is {}, not a text or a whole number", shown(&other)))),
    }
}

fn messages(list: Value) -> Result<Vec<Value>> {
    let Value::Array(messages) = list else {
        return Err(Error::invalid_input(format!("messages is {}, not a list", shown(&list))));
    };
    if messages.is_empty() {
        return Err(Error::invalid_input("messages is empty"));
    }
    match messages.iter().position(|message| !message.get("role").is_some_and(Value::is_string)) {
        Some(index) => Err(Error::invalid_input(format!("message {} has no role", index + 1))),
        None => Ok(messages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_or_line_numbers() {
        let text = "\u{FEFF}{\"prompt\": \"a\", \"grade\": {\"exact\": \"b\"}}\r\n\n{\"id\": 7, \"prompt\": \"\", \"grade\": {\"exact\": \"b\"}}\n{\"prompt\": \"c\", \"grade\": {\"exact\": \"d\"}}";
        let tasks = Task::from_jsonl(text).unwrap();
        assert_eq!(tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["1", "7", "4"]);
        assert_eq!(tasks[1].prompt, TaskPrompt::Text(String::new()));
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        for (text, why) in [
            ("", "there are no tasks"),
            ("\n \n", "there are no tasks"),
            ("x", "line 1: it is no object of JSON: expected value"),
            ("[]", "line 1: it is no object of JSON: invalid type"),
            (r#"{"grade": {"exact": "b"}}"#, "line 1: there is neither prompt nor messages"),
            (
                r#"{"prompt": "a", "messages": [], "grade": {"exact": "b"}}"#,
                "line 1: there are both prompt and messages",
            ),
            (r#"{"prompt": 1, "grade": {"exact": "b"}}"#, "line 1: prompt is 1, not a text"),
            (r#"{"messages": "a", "grade": {"exact": "b"}}"#, "line 1: messages is a text, not a list"),
            (r#"{"messages": [], "grade": {"exact": "b"}}"#, "line 1: messages is empty"),
            (r#"{"messages": [{"content": "a"}], "grade": {"exact": "b"}}"#, "line 1: message 1 has no role"),
            (r#"{"prompt": "a"}"#, "line 1: there is no grade"),
            (r#"{"prompt": "a", "grade": {"exact": 1}}"#, "line 1: grade.exact is 1, not a text"),
            (r#"{"prompt": "a", "grade": {"exact": "b"}, "answer": 1}"#, "line 1: there is no field \"answer\""),
            (r#"{"id": null, "prompt": "a", "grade": {"exact": "b"}}"#, "line 1: id is null, not a text"),
            (r#"{"id": "", "prompt": "a", "grade": {"exact": "b"}}"#, "line 1: id is empty"),
            (
                "{\"id\": \"2\", \"prompt\": \"a\", \"grade\": {\"exact\": \"b\"}}\n{\"prompt\": \"a\", \"grade\": {\"exact\": \"b\"}}",
                "line 2: the id \"2\" is that of line 1",
            ),
        ] {
            let error = Task::from_jsonl(text).unwrap_err();
            assert!(error.message().starts_with(why) && error.hint().is_some(), "{text}: {error}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.jsonl");
        let missing = Task::open(&path).unwrap_err();
        assert!(missing.kind() == ErrorKind::Io && missing.message().contains("tasks.jsonl"), "{missing}");
        fs::write(&path, "{}").unwrap();
        let error = Task::open(&path).unwrap_err();
        assert!(error.message().contains("tasks.jsonl: line 1: there is neither"), "{error}");
    }

    #[cfg(feature = "chat")]
    #[test]
    fn messages_are_a_conversation() {
        let line = |message: &str| format!(r#"{{"id": "x", "messages": [{message}], "grade": {{"exact": "b"}}}}"#);
        let conversation = |message: &str| Task::from_jsonl(&line(message)).unwrap()[0].conversation();
        let read = conversation(r#"{"role": "user", "content": "Hi"}"#).unwrap();
        assert_eq!(read.messages, [Message::user("Hi")]);
        let error = conversation(r#"{"role": "user", "content": 1}"#).unwrap_err();
        assert!(error.message().starts_with("task x: message 1 is not valid"), "{error}");
    }
}
