//! What the replies of a model look like, found in its template.

use super::conversation::Conversation;
use super::message::Message;
use super::template::ChatTemplate;

/// The format of replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplySyntax {
    stop: Vec<String>,
    pub(super) body: Body,
}

/// What is between the prompt and the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A text with blocks of reasoning and of calls in it.
    Text { think: Option<Think>, calls: Option<Calls> },
    /// Messages with channels, as those of GPT-OSS.
    Harmony,
    /// Messages that each have one kind of content, as those of `tml_v0`.
    Messages,
}

/// Reasoning in `<think>` and `</think>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Think {
    /// Whether line breaks around the tags belong to them.
    pub(super) lines: bool,
    /// Whether a reply without reasoning does not close the block that its prompt opened, as with DeepSeek R1.
    pub(super) may_stay_open: bool,
}

/// How calls of tools are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`
    Json,
    /// `<tool_call><function=…><parameter=…>…`
    Xml,
    /// `<tool_call>name<arg_key>…</arg_key><arg_value>…</arg_value></tool_call>`
    Glm,
    /// `<｜DSML｜tool_calls><｜DSML｜invoke name="…">…`
    Dsml,
    /// `<｜tool▁calls▁begin｜>…`
    DeepSeek,
    /// `<|tool_calls_section_begin|>…`
    Kimi,
    /// `<|tool_call_start|>[name(argument=…)]<|tool_call_end|>`
    Python,
    /// The whole text is `{"name": …, "parameters": …}`.
    Bare,
}

impl ReplySyntax {
    /// The format of replies to prompts of this template.
    pub(crate) fn of(template: &ChatTemplate) -> Self {
        let source = template.source_with_tools();
        let conversation = Conversation::from([Message::user("Hi"), Message::assistant(REPLY)]);
        let example = template.render(&conversation, false).ok();
        let reasoned = Message { reasoning_content: Some(REPLY.to_owned()), ..Message::assistant(REPLY) };
        let reasoned = template.render(&Conversation::from([Message::user("Hi"), reasoned]), false).ok();
        let has_lines = has_lines(source) || reasoned.as_deref().is_some_and(has_lines);
        let may_stay_open = example.as_deref().is_some_and(|example| !example.contains("</think>"));
        let body = body(source, has_lines, may_stay_open);
        let known = known_stops(source, body).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let stop =
            if known.is_empty() { example.as_deref().and_then(end_of_reply).into_iter().collect() } else { known };
        ReplySyntax { stop, body }
    }

    /// The texts that end a reply: special tokens, except for formats without any. Empty if the template shows none.
    pub(crate) fn stop(&self) -> &[String] {
        &self.stop
    }
}

/// A reply that shows what the template writes around one.
const REPLY: &str = "Reply";

fn body(source: &str, lines: bool, may_stay_open: bool) -> Body {
    let has = |text: &str| source.contains(text);
    if has("<|channel|>") && has("<|start|>") {
        return Body::Harmony;
    }
    if has("<|message_model|>") {
        return Body::Messages;
    }
    let calls = [
        ("｜DSML｜", Calls::Dsml),
        ("<|tool_calls_section_begin|>", Calls::Kimi),
        ("<｜tool▁calls▁begin｜>", Calls::DeepSeek),
        ("<|tool_call_start|>", Calls::Python),
        ("<arg_key>", Calls::Glm),
        ("<function=", Calls::Xml),
        ("<tool_call>", Calls::Json),
        ("\"parameters\": ", Calls::Bare),
    ];
    let calls = calls.into_iter().find(|(mark, _)| has(mark)).map(|(_, calls)| calls);
    let think = has("<think>") || has("</think>") || has("<｜Assistant｜>");
    let may_stay_open = may_stay_open && has("<｜Assistant｜>");
    Body::Text { think: think.then_some(Think { lines, may_stay_open }), calls }
}

/// Whether line breaks follow the tags of reasoning, as a string of the template or as plain text.
fn has_lines(text: &str) -> bool {
    ["<think>\\n", "<think>\n", "</think>\\n", "</think>\n"].into_iter().any(|lines| text.contains(lines))
}

fn known_stops(source: &str, body: Body) -> Vec<&'static str> {
    let has = |text: &str| source.contains(text);
    match body {
        Body::Harmony => return vec!["<|return|>", "<|call|>", "<|endoftext|>"],
        Body::Messages => return vec!["<|content_model_end_sampling|>"],
        Body::Text { .. } => {}
    }
    if has("<|im_end|>") {
        vec!["<|im_end|>"]
    } else if has("<|eot_id|>") {
        if has("<|eom_id|>") { vec!["<|eot_id|>", "<|eom_id|>"] } else { vec!["<|eot_id|>"] }
    } else if has("<|observation|>") {
        vec!["<|endoftext|>", "<|user|>", "<|observation|>"]
    } else if has("<｜Assistant｜>") {
        vec!["<｜end▁of▁sentence｜>"]
    } else if has("<end_of_turn>") {
        vec!["<end_of_turn>"]
    } else {
        vec![]
    }
}

/// What an example has after its reply.
fn end_of_reply(example: &str) -> Option<String> {
    let (_, end) = example.rsplit_once(REPLY)?;
    let token = end.trim_start();
    let close = match token.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return Some(end.to_owned()),
    };
    token.get(..=token.find(close)?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(source: &str) -> Vec<String> {
        let template = ChatTemplate::new(source).unwrap().special_token("eos_token", "</s>");
        ReplySyntax::of(&template).stop().to_vec()
    }

    #[test]
    fn a_known_format_has_its_stops() {
        assert_eq!(stop("<|im_start|>{{ x }}<|im_end|>"), ["<|im_end|>"]);
        assert_eq!(stop("<|start|>assistant<|channel|>final"), ["<|return|>", "<|call|>", "<|endoftext|>"]);
        assert_eq!(stop("<|user|><|observation|>"), ["<|endoftext|>", "<|user|>", "<|observation|>"]);
    }

    #[test]
    fn lines_around_reasoning_are_seen() {
        let think = |open: &str| {
            let source = format!(
                "{{% for m in messages %}}{{{{ {open} ~ m.reasoning_content ~ '</think>' ~ m.content ~ eos_token }}}}{{% endfor %}}"
            );
            let Body::Text { think, .. } = ReplySyntax::of(&ChatTemplate::new(source).unwrap()).body else { panic!() };
            think.unwrap().lines
        };
        assert!(think("'<think>\\n'") && think("'<think>' ~ '\\n'") && !think("'<think>'"));
    }

    #[test]
    fn an_unknown_format_shows_its_end() {
        let messages = |end: &str| format!("{{% for m in messages %}}{{{{ m.content }}}}{end}{{% endfor %}}");
        assert_eq!(stop(&messages("{{ eos_token }}")), ["</s>"]);
        assert_eq!(stop(&messages("<done>\n")), ["<done>"]);
        assert_eq!(stop(&messages("\n\nUser:")), ["\n\nUser:"]);
        assert!(stop(&messages("\n")).is_empty() && stop("no message").is_empty());
    }
}
