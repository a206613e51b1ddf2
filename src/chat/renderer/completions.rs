//! What a model is trained to reply: the difference between a prompt and the text that goes on with the reply.

use super::script::Script;
use crate::chat::content::Content;
use crate::chat::literal::without_marks;
use crate::chat::message::{Message, Role};
use crate::error::{Error, Result};

/// A text with the weights of its parts: each from the end of the one before it to this position.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spans {
    pub(super) text: String,
    pub(super) ends: Vec<(usize, f32)>,
    /// The number of messages that it is of.
    pub(super) messages: usize,
}

/// A trained message of the assistant.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) message: usize,
    pub(super) prompt: String,
    pub(super) text: String,
}

/// The completion of the message with this index.
pub(super) fn completion(script: &Script<'_>, message: usize, stop: &[String]) -> Result<Completion> {
    let named = |error: Error| error.with_detail(format!("messages[{message}], which is to be trained"));
    let prompt = script.render(message, true).map_err(named)?;
    let full = script.render(message + 1, false).map_err(named)?;
    let rest = rest(&prompt, &full).or_else(|| rest_of_shortened(script, message, &full));
    let Some(rest) = rest else {
        return Err(Error::invalid_input(format!(
            "messages[{message}] cannot be trained: the template writes it differently from how its prompt begins"
        ))
        .with_hint(format!(
            "the prompt ends in {:?}, and the conversation has {:?} there; do not train it, or switch on in the template what it has, such as reasoning",
            tail(&prompt),
            beginning_of_difference(&prompt, &full),
        )));
    };
    let text = without_rest(rest, stop).to_owned();
    if text.is_empty() {
        let what = format!("messages[{message}] cannot be trained: the template writes nothing for it");
        return Err(Error::invalid_input(what).with_hint("leave the message out, or use another template"));
    }
    Ok(Completion { message, prompt, text })
}

/// What follows the prompt. A prompt that ends in white space which the text does not have, such as `<think>` and a line break,
/// is followed by what the text has instead.
fn rest<'a>(prompt: &str, full: &'a str) -> Option<&'a str> {
    if let Some(rest) = full.strip_prefix(prompt) {
        return Some(rest);
    }
    let common = common_prefix(prompt, full);
    if common < prompt.trim_end().len() { None } else { full.get(common..) }
}

/// What follows the prompt in a text that leaves out what the prompt has of earlier replies: some templates drop what was thought
/// before a tool call once the final answer is there. It must be the text without that, too, and begin with the prompt without it.
fn rest_of_shortened<'a>(script: &Script<'_>, message: usize, full: &'a str) -> Option<&'a str> {
    [false, true].into_iter().find_map(|with_content| {
        let shorten = |messages: &mut [Message]| {
            for reply in messages.iter_mut().take(message).filter(|message| message.role == Role::Assistant) {
                reply.reasoning_content = None;
                if with_content && !reply.tool_calls.is_empty() {
                    reply.content = Some(Content::from(""));
                }
            }
        };
        let shortened = script.render_some_changed(message + 1, false, shorten).ok()?;
        let prompt = script.render_some_changed(message, true, shorten).ok()?;
        if shortened == full { full.strip_prefix(&prompt) } else { None }
    })
}

/// The text up to its last stop, if only white space follows.
pub(super) fn without_rest<'a>(text: &'a str, stop: &[String]) -> &'a str {
    let end = stop.iter().filter_map(|stop| text.rfind(stop.as_str()).map(|start| start + stop.len())).max();
    match end.and_then(|end| text.split_at_checked(end)) {
        Some((kept, rest)) if rest.trim().is_empty() => kept,
        _ => text,
    }
}

/// Adds a completion to the last example if its prompt goes on with the text of that, else as an example of its own.
pub(super) fn add(examples: &mut Vec<Spans>, completion: Completion, stop: &[String]) {
    let Completion { message, prompt, text } = completion;
    if !examples.last_mut().is_some_and(|example| goes_on(example, &prompt, stop)) {
        examples.push(Spans::default());
    }
    let Some(example) = examples.last_mut() else { return };
    example.text.push_str(prompt.get(example.text.len()..).unwrap_or_default());
    example.ends.push((example.text.len(), 0.0));
    example.text.push_str(&text);
    example.ends.push((example.text.len(), 1.0));
    example.messages = message + 1;
}

/// Whether a prompt goes on with an example. In some formats what begins the next turn ends the reply: the example then ends in
/// the one that the prompt has.
fn goes_on(example: &mut Spans, prompt: &str, stop: &[String]) -> bool {
    if prompt.starts_with(&example.text) {
        return true;
    }
    let Some(end) = stop.iter().find(|stop| example.text.ends_with(stop.as_str())) else { return false };
    let before = example.text.len() - end.len();
    let after = match (example.text.get(..before), prompt.get(before..)) {
        (Some(text), Some(after)) if prompt.starts_with(text) => after,
        _ => return false,
    };
    let Some(end) = stop.iter().find(|stop| after.starts_with(stop.as_str())) else { return false };
    example.text.truncate(before);
    example.text.push_str(end);
    if let Some(last) = example.ends.last_mut() {
        last.0 = example.text.len();
    }
    true
}

/// Whether the template leaves out the reasoning of a message.
pub(super) fn leaves_reasoning_out(message: &Message, completion: &str) -> bool {
    let reasoning = message.reasoning_content.as_deref().unwrap_or_default().trim();
    if reasoning.is_empty() {
        return false;
    }
    let text = without_marks(completion);
    let Some(at) = text.find(reasoning) else { return true };
    // A short reasoning may also be in the content: it must be there once more.
    let content = message.text();
    let in_content = content.matches(reasoning).count();
    in_content > 0 && text.get(at..).is_none_or(|text| text.matches(reasoning).count() <= in_content)
}

/// Whether the template leaves out a call of a message.
pub(super) fn leaves_calls_out(message: &Message, completion: &str) -> bool {
    let text = without_marks(completion);
    message.tool_calls.iter().any(|call| !text.contains(&call.name))
}

/// The length of what two texts begin with.
pub(super) fn common_prefix(a: &str, b: &str) -> usize {
    let bytes = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=bytes).rev().find(|at| a.is_char_boundary(*at)).unwrap_or(0)
}

fn tail(text: &str) -> String {
    let text = without_marks(text);
    let start = text.char_indices().rev().nth(29).map_or(0, |(at, _)| at);
    text.get(start..).unwrap_or_default().to_owned()
}

fn beginning_of_difference(prompt: &str, full: &str) -> String {
    let rest = full.get(common_prefix(prompt, full)..).unwrap_or_default();
    without_marks(rest).chars().take(30).collect()
}
