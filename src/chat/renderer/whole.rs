//! Training on the text of a whole conversation: where each message is in it.

use super::completions::{Spans, common_prefix, without_rest};
use super::script::Script;
use crate::chat::content::Content;
use crate::chat::message::{Message, Role};
use crate::chat::template::{ChatTemplate, Rendering};
use crate::error::{Error, Result};

/// Stands in place of a message's content: no text has it.
const PLACE: char = '\u{FDD1}';

/// A part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    start: usize,
    end: usize,
}

/// What a template writes around messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The end of a turn that is no reply, such as `<|im_end|>`; empty if the format has none.
    turn_end: String,
    /// What a prompt ends in.
    header: String,
}

impl Frame {
    /// What this template writes.
    pub(super) fn of(template: &ChatTemplate) -> Self {
        let messages = [Message::user(PLACE.to_string())];
        let (template_args, now) = (&serde_json::Map::new(), template.time());
        let render = |add_generation_prompt| {
            let rendering = Rendering { messages: &messages, tools: &[], template_args, add_generation_prompt, now };
            template.render_messages(rendering).unwrap_or_default()
        };
        let (history, prompt) = (render(false), render(true));
        let end = history.split(PLACE).next_back().unwrap_or_default();
        let turn_end = if end.trim().is_empty() { end } else { end.trim_end() };
        let header = prompt.get(common_prefix(&prompt, &history)..).unwrap_or_default();
        Frame { turn_end: turn_end.to_owned(), header: header.to_owned() }
    }
}

/// The whole conversation, where these messages are trained, ascending; with `headers`, everything is.
pub(super) fn spans(
    script: &Script<'_>,
    trained: &[usize],
    headers: bool,
    stop: &[String],
    frame: &Frame,
) -> Result<Spans> {
    let messages = script.messages();
    let full = script.render(messages.len(), false)?;
    let text = without_rest(&full, stop).to_owned();
    let mut spans = Spans { text, ends: Vec::new(), messages: messages.len() };
    let regions = match (Places { script, text: &spans.text, stop, frame }.regions(), headers) {
        (Ok(regions), _) => regions,
        // Everything is trained: where the messages are does not matter.
        (Err(_), true) => Vec::new(),
        (Err(error), false) => return Err(error),
    };
    let mut end = 0;
    for (index, Region { start, end: until }) in regions.into_iter().enumerate() {
        let header = if headers { 1.0 } else { 0.0 };
        let body = if headers || trained.binary_search(&index).is_ok() { 1.0 } else { 0.0 };
        spans.ends.extend((start > end).then_some((start, header)));
        spans.ends.extend((until > start).then_some((until, body)));
        end = until.max(start);
    }
    let rest = spans.text.len();
    spans.ends.extend((rest > end).then_some((rest, if headers { 1.0 } else { 0.0 })));
    Ok(spans)
}

struct Places<'a> {
    script: &'a Script<'a>,
    text: &'a str,
    stop: &'a [String],
    frame: &'a Frame,
}

impl Places<'_> {
    /// Where each message is, without its header, in order.
    fn regions(&self) -> Result<Vec<Region>> {
        let messages = self.script.messages();
        let contents = self.contents(messages)?;
        let mut regions: Vec<Region> = Vec::with_capacity(messages.len());
        for (index, (message, content)) in messages.iter().zip(&contents).enumerate() {
            let before = regions.last().map_or(0, |region| region.end);
            let next = contents.iter().skip(index + 1).find_map(|content| *content);
            let limit = next.map_or(self.text.len(), |content| content.start);
            regions.push(match content {
                Some(content) => self.turn(*content, before, limit),
                None if message.role == Role::Assistant => self.reply(index, before, limit)?,
                None => return Err(not_found(index)),
            });
        }
        Ok(regions)
    }

    /// The contents of the messages that are no replies.
    fn contents(&self, messages: &[Message]) -> Result<Vec<Option<Region>>> {
        let is_turn = |message: &Message| message.role != Role::Assistant;
        let all = self.script.render_changed(|messages| {
            messages.iter_mut().filter(|message| is_turn(message)).for_each(put_place);
        });
        if let Some(contents) = all.ok().and_then(|places| self.all_contents(messages, &places)) {
            return Ok(contents);
        }
        // A template that decides by the contents: one by one.
        let mut contents = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            if !is_turn(message) {
                contents.push(None);
                continue;
            }
            let one = self.script.render_changed(|messages| messages.get_mut(index).into_iter().for_each(put_place))?;
            contents.push(Some(self.one_content(&one).ok_or_else(|| not_found(index))?));
        }
        Ok(contents)
    }

    fn one_content(&self, text: &str) -> Option<Region> {
        let (before, after) = text.split_once(PLACE)?;
        // The text may be without white space at its end.
        let after = [after, after.trim_end()].into_iter().find(|after| self.text.ends_with(after))?;
        let region = Region { start: before.len(), end: self.text.len().checked_sub(after.len())? };
        (self.text.starts_with(before) && region.start <= region.end).then_some(region)
    }

    /// The contents by a text with all places: the text between them is the template's.
    fn all_contents(&self, messages: &[Message], places: &str) -> Option<Vec<Option<Region>>> {
        let turns = messages.iter().filter(|message| message.role != Role::Assistant).count();
        let mut between = places.split(PLACE);
        if places.matches(PLACE).count() != turns || !self.text.starts_with(between.next()?) {
            return None;
        }
        let mut end = places.find(PLACE).unwrap_or(places.len());
        let mut contents = Vec::with_capacity(messages.len());
        for message in messages {
            if message.role == Role::Assistant {
                contents.push(None);
                continue;
            }
            let after = between.next()?;
            let rest = self.text.get(end..)?;
            let content = message.text();
            let content = [content.as_str(), content.trim()].into_iter().find_map(|content| {
                let len = prefix_without_marks(rest, content)?;
                let follows = rest.get(len..)?;
                (follows.starts_with(after) || follows == after.trim_end()).then_some(len)
            })?;
            contents.push(Some(Region { start: end, end: end + content }));
            end += content + after.len();
        }
        Some(contents)
    }

    /// The message with this content: with the end of its turn, if that follows, and with the space before it, which a tokenizer
    /// joins to the word after it.
    fn turn(&self, content: Region, before: usize, limit: usize) -> Region {
        let header = self.text.get(before..content.start).unwrap_or_default();
        let space = usize::from(header.ends_with(' '));
        let after = self.text.get(content.end..limit.max(content.end)).unwrap_or_default();
        let end = if self.frame.turn_end.is_empty() { None } else { after.find(&self.frame.turn_end) };
        Region { start: content.start - space, end: content.end + end.map_or(0, |end| end + self.frame.turn_end.len()) }
    }

    /// A reply, between the end of the message before it and the content of a message after it.
    fn reply(&self, index: usize, before: usize, limit: usize) -> Result<Region> {
        let prompt = self.script.render(index, true).ok();
        let aligned = prompt.as_deref().map_or(0, |prompt| common_prefix(prompt, self.text));
        let is_whole = prompt.as_deref().is_some_and(|prompt| prompt.len() == aligned);
        let start = if is_whole && aligned >= before {
            aligned
        } else if self.outside_tags(before, aligned) > before {
            self.outside_tags(before, aligned)
        } else {
            // The prompt has earlier messages in another form, or there is none: its last part, the header, is looked for.
            let history = self.script.render(index, false).ok();
            let header = match (&prompt, &history) {
                (Some(prompt), Some(history)) => prompt.get(common_prefix(prompt, history)..).unwrap_or_default(),
                _ => &self.frame.header,
            };
            self.after_header(header.trim_start(), before, limit).ok_or_else(|| not_found(index))?
        };
        let limit = self.header_of_next(index, limit);
        let start = start.min(limit);
        let body = self.text.get(start..limit).unwrap_or_default();
        let ends = self
            .stop
            .iter()
            .map(String::as_str)
            .chain([self.frame.turn_end.as_str()])
            .filter(|end| !end.trim().is_empty());
        let end = ends.filter_map(|end| body.rfind(end).map(|at| at + end.len())).max();
        let end = match end {
            Some(end) => end,
            None => self.end_without_stop(index, start, limit, body)?,
        };
        Ok(Region { start, end: start + end })
    }

    /// Where a header ends, which follows `before`. Its last tags may be others in a conversation than in a prompt.
    fn after_header(&self, header: &str, before: usize, limit: usize) -> Option<usize> {
        if header.is_empty() {
            return None;
        }
        let rest = self.text.get(before..limit)?;
        if let Some(at) = rest.find(header) {
            return Some(before + at + header.len());
        }
        let start = before + rest.len() - rest.trim_start().len();
        let end = self.outside_tags(start, start + common_prefix(header, rest.trim_start()));
        (end > start).then_some(end)
    }

    /// The length of a reply that ends with no token: as far as the text goes without the messages after it, or to the next header.
    fn end_without_stop(&self, index: usize, start: usize, limit: usize, body: &str) -> Result<usize> {
        let alone = self.script.render(index + 1, false)?;
        let common = self.outside_tags(start, common_prefix(&alone, self.text).min(limit));
        if common > start {
            return Ok(common - start);
        }
        let header = self.frame.header.trim();
        let next = if header.is_empty() { None } else { body.find(header) };
        Ok(next.unwrap_or(body.len()))
    }

    /// Where the text of a reply ends at most: at the next reply's content if that follows, else at `limit`.
    fn header_of_next(&self, index: usize, limit: usize) -> usize {
        let next = index + 1;
        if self.script.messages().get(next).is_none_or(|next| next.role != Role::Assistant) {
            return limit;
        }
        if let Ok(prompt) = self.script.render(next, true) {
            let aligned = common_prefix(&prompt, self.text);
            if aligned >= prompt.trim_end().len() {
                return aligned.min(limit);
            }
        }
        // The prompt has earlier messages in another form: the text with another reply there has not.
        let other = self.script.render_changed(|messages| {
            if let Some(message) = messages.get_mut(next) {
                put_place(message);
                message.reasoning_content = None;
                // Beside a call, a template may leave the content out.
                message.tool_calls.iter_mut().for_each(|call| call.name = PLACE.to_string());
            }
        });
        other.map_or(limit, |other| common_prefix(&other, self.text).min(limit))
    }

    /// The end of a common part from `start` on, or the start of a tag that is only begun there: what goes on with another one.
    /// A tag is on one line: a `<` that has a line break after it is a text's.
    fn outside_tags(&self, start: usize, end: usize) -> usize {
        let common = self.text.get(start..end).unwrap_or_default();
        match common.rfind(['<', '>', '\n']) {
            Some(at) if common.get(at..).is_some_and(|tag| tag.starts_with('<')) => start + at,
            _ => end,
        }
    }
}

fn put_place(message: &mut Message) {
    message.content = Some(Content::Text(PLACE.to_string()));
}

/// The length of the part of a text that is this content, where the text may have marks.
fn prefix_without_marks(text: &str, content: &str) -> Option<usize> {
    if text.starts_with(content) {
        return Some(content.len());
    }
    let mut rest = text.char_indices().filter(|(_, c)| *c != crate::chat::literal::MARK);
    let mut end = 0;
    for c in content.chars() {
        let (at, found) = rest.next()?;
        if found != c {
            return None;
        }
        end = at + c.len_utf8();
    }
    Some(end)
}

fn not_found(index: usize) -> Error {
    Error::invalid_input(format!("messages[{index}] cannot be found in the text that the template writes"))
        .with_hint("train on the assistant's messages only, or use another template")
}
