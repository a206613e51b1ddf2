//! Conversations from stdin, and their replies as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::{Deserializer, Map, Value};
use tinkex::SampleOptions;
use tinkex::chat::{Content, Conversation, Message, Prompt, Role, Tool};
use tinkex::types::SampleResponse;

use super::Partner;
use crate::app::App;
use crate::chat_format;
use crate::conversation_options::Beginning;
use crate::failure::Failure;
use crate::reply::ReadReply;
use crate::screen;
use crate::text::json;

/// The keys of a conversation.
const KEYS: [&str; 3] = ["messages", "tools", "chat_template_kwargs"];

/// Reads all conversations, with what the options add to them.
pub(super) fn read(mut stdin: impl Read, beginning: &Beginning) -> Result<Vec<Conversation>, Failure> {
    let hint = r#"expected conversations as JSON, such as {"messages": [{"role": "user", "content": "Hi"}]}"#;
    let mut text = String::new();
    stdin
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read stdin: {error}")).hint(hint))?;
    let (conversations, unknown) = parse(&text).map_err(|why| Failure::usage(format!("stdin: {why}")).hint(hint))?;
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.iter().map(|key| format!("{key:?}")).collect();
        screen::line(format_args!("stdin: these keys of conversations have no meaning here: {}", unknown.join(", ")));
    }
    Ok(conversations.into_iter().map(|conversation| beginning.complete(conversation)).collect())
}

/// The conversations of a text, and the keys that they have and that mean nothing.
fn parse(text: &str) -> Result<(Vec<Conversation>, BTreeSet<String>), String> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let (mut conversations, mut unknown) = (Vec::new(), BTreeSet::new());
    for value in Deserializer::from_str(text).into_iter::<Value>() {
        let number = conversations.len() + 1;
        let named = |why: String| format!("conversation {number}: {why}");
        let conversation = value.map_err(|error| error.to_string()).and_then(|value| match value {
            // Only the messages.
            Value::Array(messages) => conversation(Map::from_iter([("messages".to_owned(), Value::Array(messages))])),
            Value::Object(keys) => {
                unknown.extend(keys.keys().filter(|key| !KEYS.contains(&key.as_str())).cloned());
                conversation(keys)
            }
            _ => Err("it is neither an object nor a list of messages".to_owned()),
        });
        let conversation = conversation.map_err(named)?;
        match conversation.messages.last().map(|message| &message.role) {
            None => return Err(named("it has no messages".to_owned())),
            Some(Role::Assistant) => {
                return Err(named("its last message is the assistant's: there is nothing to reply to".to_owned()));
            }
            Some(_) => conversations.push(conversation),
        }
    }
    if conversations.is_empty() {
        return Err("there is no conversation".to_owned());
    }
    Ok((conversations, unknown))
}

/// A conversation with these keys. The parts are read one by one, so that an error names what is wrong.
fn conversation(mut keys: Map<String, Value>) -> Result<Conversation, String> {
    let messages = match keys.remove("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err("\"messages\" is no list".to_owned()),
        None => return Err("it has no \"messages\"".to_owned()),
    };
    let messages = messages.into_iter().zip(1..).map(|(value, number)| {
        let message: Message = serde_json::from_value(value).map_err(|error| format!("message {number}: {error}"))?;
        let place = format!("message {number} ({})", message.role.as_str());
        let has_content = !matches!(message.content, None | Some(Content::Null));
        match message.role {
            Role::Other(_) => Err(format!("{place}: the role is none of system, developer, user, assistant and tool")),
            Role::Assistant => Ok(message),
            _ if has_content => Ok(message),
            _ => Err(format!("{place} has no \"content\"")),
        }
    });
    let conversation = Conversation::new(messages.collect::<Result<Vec<_>, _>>()?);
    let tools: Vec<Tool> = match keys.remove("tools") {
        None | Some(Value::Null) => Vec::new(),
        Some(tools) => serde_json::from_value(tools).map_err(|error| format!("\"tools\": {error}"))?,
    };
    let template_args = match keys.remove("chat_template_kwargs") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err("\"chat_template_kwargs\" is no object".to_owned()),
    };
    Ok(template_args.into_iter().fold(conversation.tools(tools), |all, (name, value)| all.template_arg(name, value)))
}

/// Prints the reply to each conversation, in their order.
pub(super) fn run(app: &App, partner: &Partner, conversations: &[Conversation]) -> Result<(), Failure> {
    app.output.note(format_args!("using {}", partner.format.origin));
    let named = |index: usize, failure: Failure| match conversations.len() {
        1 => failure,
        _ => failure.subject(&format!("conversation {}", index + 1)),
    };
    note_unread(partner, conversations);
    let prompts = conversations.iter().enumerate().map(|(index, conversation)| {
        let prompt = partner.format.check(conversation).map_err(Failure::usage);
        let prompt = prompt.and_then(|()| Ok(partner.renderer.prompt(conversation)?));
        prompt.map_err(|failure| named(index, failure))
    });
    let prompts: Vec<Prompt> = prompts.collect::<Result<_, _>>()?;
    for (index, prompt) in prompts.iter().enumerate() {
        if let Some(what) = partner.format.calls_left_out(chat_format::without_calls(prompt)) {
            screen::line(format_args!("conversation {}: {what}", index + 1));
        }
    }
    let requests =
        prompts.iter().map(|prompt| SampleOptions::new(&prompt.input).sampling_params(partner.params.clone()));
    let mut ready = BTreeMap::new();
    let mut next = 0;
    for (index, response) in partner.sampler.sample_many(requests) {
        ready.insert(index, response);
        while let Some(response) = ready.remove(&next) {
            let prompt = prompts.get(next);
            let reply = response.map_err(Failure::from).and_then(|response| reply(partner, prompt, response));
            app.output.raw(&reply.map_err(|failure| named(next, failure))?)?;
            next += 1;
        }
    }
    Ok(())
}

/// Names the keys of messages, and the template's arguments, that the template does not read.
fn note_unread(partner: &Partner, conversations: &[Conversation]) {
    let unread: BTreeSet<&str> = conversations
        .iter()
        .flat_map(|conversation| {
            let names = conversation.messages.iter().filter(|message| message.name.is_some()).map(|_| "name");
            let others = conversation.messages.iter().flat_map(|message| message.others.keys());
            names.chain(others.chain(conversation.template_args.keys()).map(String::as_str))
        })
        .filter(|key| !partner.format.reads(key))
        .collect();
    if !unread.is_empty() {
        let unread: Vec<_> = unread.iter().map(|key| format!("{key:?}")).collect();
        let origin = &partner.format.origin;
        screen::line(format_args!("stdin: these keys have no meaning here: {} ({origin})", unread.join(", ")));
    }
}

/// The line of a reply.
fn reply(partner: &Partner, prompt: Option<&Prompt>, response: SampleResponse) -> Result<String, Failure> {
    let (Some(prompt), Some(sequence)) = (prompt, response.sequences.first()) else {
        return Err(Failure::failed("the service has sent no reply"));
    };
    let reply = ReadReply::from(partner.renderer.parse_reply(prompt, &sequence.tokens));
    serde_json::to_string(&reply)
        .map(|reply| json(&reply))
        .map_err(|error| Failure::failed(format!("the reply cannot be written as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_documents_or_lines() {
        let hi = r#"{"messages": [{"role": "user", "content": "Hi"}]}"#;
        let count = |text: &str| parse(text).unwrap().0.len();
        assert_eq!(count(hi), 1);
        assert_eq!(count(&format!("\u{FEFF}{hi}\r\n\r\n{hi}\r\n")), 2);
        assert_eq!(count(&hi.replace(' ', "\n  ")), 1);
        assert_eq!(count(r#"[{"role": "user", "content": "Hi"}]"#), 1);
        let (_, unknown) = parse(&hi.replacen('{', r#"{"tools": [], "temperature": 1, "#, 1)).unwrap();
        assert_eq!(unknown.into_iter().collect::<Vec<_>>(), ["temperature"]);
    }

    #[test]
    fn what_has_no_reply_is_refused() {
        for (text, why) in [
            ("", "there is no conversation"),
            ("hello", "conversation 1: expected value at line 1"),
            ("{}", "conversation 1: it has no \"messages\""),
            ("7", "conversation 1: it is neither an object nor a list of messages"),
            (r#"{"messages": {}}"#, "conversation 1: \"messages\" is no list"),
            (r#"[{"content": "a"}]"#, "conversation 1: message 1: missing field `role`"),
            (r#"[{"role": "user", "content": "a"}, {"role": "user"}]"#, "conversation 1: message 2 (user) has no"),
            (r#"[{"role": "user", "content": null}]"#, "conversation 1: message 1 (user) has no \"content\""),
            (r#"[{"role": "human", "content": "a"}]"#, "conversation 1: message 1 (human): the role is none of"),
            (r#"{"messages": [], "tools": "[]"}"#, "conversation 1: \"tools\": invalid type: string"),
            (r#"{"messages": [], "chat_template_kwargs": 1}"#, "conversation 1: \"chat_template_kwargs\" is no"),
            ("[]", "conversation 1: it has no messages"),
            (
                r#"[{"role": "user", "content": "a"}] [{"role": "assistant", "content": "b"}]"#,
                "conversation 2: its last",
            ),
            (r#"[{"role": "user", "content": "a"}] {"#, "conversation 2: EOF"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
