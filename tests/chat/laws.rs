//! Laws of training examples, for random conversations in every template.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use quickcheck::{Arbitrary, Gen};
use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, ExampleNote, Renderer, Role, TrainOn, TrainingExamples};
use tinkex::types::Stop;

use super::byte_level::byte_level;
use super::fixtures::{fixture, fixture_outside};
use super::templates::template;

/// What may be said of a conversation that cannot be trained.
const REFUSALS: [&str; 4] =
    ["no message to train on", "the chat template refuses", "the chat template fails", "cannot be trained"];

/// Templates that write some messages with no sign of where they begin: replies to results, and what stands where the first
/// message of the user is to be.
const NOT_FOUND: [&str; 2] = ["deepseek_v3", "llama3_1"];

const CALM: [&str; 8] = ["", " ", "\n", "\n\n", "é 🎉", "Hi ", ": ", "a\n"];

struct Words<'a> {
    g: Gen,
    hostile: &'a [String],
}

impl Words<'_> {
    fn chance(&mut self, of: usize) -> bool {
        usize::arbitrary(&mut self.g) % of == 0
    }

    fn piece(&mut self, hostile: &[String]) -> String {
        let calm = (*self.g.choose(&CALM).unwrap()).to_owned();
        if hostile.is_empty() || !self.chance(3) {
            return calm;
        }
        let token = self.g.choose(hostile).unwrap().clone();
        let other = self.g.choose(hostile).unwrap().clone();
        let at = token.char_indices().nth(token.chars().count() / 2).unwrap().0;
        match usize::arbitrary(&mut self.g) % 4 {
            0 => format!("{token}{other}"),
            1 => format!("{}{other}{}", &token[..at], &token[at..]),
            2 => token[..at].to_owned(),
            _ => token,
        }
    }

    fn around(&mut self, word: &str, hostile: &[String]) -> String {
        format!("{}{word}{}", self.piece(hostile), self.piece(hostile))
    }

    fn conversation(&mut self, special: &[String]) -> Value {
        let hostile = self.hostile;
        let count = usize::arbitrary(&mut self.g) % 19 + 2;
        let mut messages: Vec<Value> = Vec::new();
        if self.chance(3) {
            messages.push(json!({"role": "system", "content": self.around("system0x", hostile)}));
        }
        let mut assistant = self.chance(12);
        while messages.len() < count {
            let index = messages.len();
            if !assistant {
                messages.push(json!({"role": "user", "content": self.around(&format!("user{index}x"), hostile)}));
                assistant = !self.chance(12);
                continue;
            }
            let mut message = json!({"role": "assistant", "content": self.around(&format!("reply{index}x"), special)});
            if self.chance(3) {
                message["reasoning_content"] = json!(self.around(&format!("think{index}x"), special));
            }
            assistant = self.chance(12);
            let calls = self.chance(4);
            if calls {
                let arguments = json!({"key": self.around(&format!("args{index}x"), special), "n": 1});
                if self.chance(2) {
                    message["content"] = json!("");
                }
                message["tool_calls"] = json!([{"id": "call00001", "type": "function",
                    "function": {"name": "look", "arguments": arguments}}]);
            }
            messages.push(message);
            if calls && !self.chance(6) {
                let index = messages.len();
                messages.push(json!({"role": "tool", "tool_call_id": "call00001", "name": "look",
                    "content": self.around(&format!("tool{index}x"), hostile)}));
                assistant = true;
            }
        }
        let mut line = json!({ "messages": messages });
        if self.chance(3) {
            line["tools"] = json!([{"type": "function", "function": {
                "name": "look", "description": self.around("describe", hostile),
                "parameters": {"type": "object", "properties": {"key": {"type": "string", "description": self.around("keydoc", hostile)}}},
            }}]);
        }
        line
    }
}

type Runs = Vec<(String, Vec<u32>, f32)>;

fn runs(tokenizer: &Tokenizer, examples: &TrainingExamples) -> Vec<Runs> {
    examples
        .examples
        .iter()
        .map(|example| {
            let tokens = example.weighted_tokens();
            let mut start = 0;
            tokens
                .weights()
                .chunk_by(|a, b| a == b)
                .map(|run| {
                    let ids = tokens.tokens()[start..start + run.len()].to_vec();
                    start += run.len();
                    (tokenizer.decode_with_special_tokens(&ids).unwrap(), ids, run[0])
                })
                .collect()
        })
        .collect()
}

fn completions(runs: &[Runs]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for example in runs {
        let mut text = String::new();
        for (run, _, weight) in example {
            if *weight == 1.0 {
                all.push((text.clone(), run.clone()));
            }
            text.push_str(run);
        }
    }
    all
}

#[derive(Default)]
struct Found(BTreeMap<String, (usize, String)>);

impl Found {
    fn add(&mut self, what: String, line: &str) {
        let entry = self.0.entry(what).or_insert_with(|| (0, line.to_owned()));
        entry.0 += 1;
        if line.len() < entry.1.len() {
            entry.1 = line.to_owned();
        }
    }
}

fn prefix(conversation: &Conversation, len: usize) -> Conversation {
    let mut shorter = conversation.clone();
    shorter.messages.truncate(len);
    shorter
}

fn laws(name: &str, renderer: &Renderer, line: &Value, found: &mut Found) {
    let tokenizer = renderer.tokenizer();
    let conversation: Conversation = serde_json::from_value(line.clone()).unwrap();
    let shown = line.to_string();
    let mut by_mode = BTreeMap::new();
    // The prompt for a message is the same in every mode.
    let mut prompts = BTreeMap::new();
    let all_replies: Vec<usize> =
        (0..conversation.messages.len()).filter(|i| conversation.messages[*i].role == Role::Assistant).collect();
    let last_user = conversation.messages.iter().rposition(|m| m.role == Role::User);
    for mode in TrainOn::ALL {
        let mut conversation = conversation.clone();
        if mode == TrainOn::Marked {
            for message in &mut conversation.messages {
                message.trainable = Some(message.role == Role::Assistant);
            }
        }
        let examples = match renderer.examples(&conversation, mode) {
            Ok(examples) => examples,
            Err(error) => {
                let message = error.to_string();
                let is_fair = REFUSALS.iter().any(|fair| message.contains(fair));
                if !is_fair && !NOT_FOUND.contains(&name) {
                    found.add(format!("{name} {mode}: {message}"), &shown);
                }
                continue;
            }
        };
        for example in &examples.examples {
            example.datum().unwrap().validate().unwrap();
        }
        let runs = runs(tokenizer, &examples);
        let trained_text: String =
            runs.iter().flatten().filter(|run| run.2 == 1.0).map(|run| run.0.clone() + "\u{1}").collect();
        let is_trained = |index: usize| match mode {
            TrainOn::LastAssistantMessage => all_replies.last() == Some(&index),
            TrainOn::LastAssistantTurn => all_replies.contains(&index) && last_user.is_none_or(|last| index > last),
            TrainOn::AllAssistantMessages | TrainOn::Marked => all_replies.contains(&index),
            TrainOn::AllMessages | TrainOn::AllTokens => true,
            TrainOn::AllUserAndSystemMessages => matches!(conversation.messages[index].role, Role::User | Role::System),
            _ => unreachable!(),
        };
        for (index, message) in line["messages"].as_array().unwrap().iter().enumerate() {
            let content = message["content"].as_str().unwrap();
            let role = message["role"].as_str().unwrap();
            let word = format!("{}{index}x", if role == "assistant" { "reply" } else { role });
            if !content.contains(&word) {
                continue;
            }
            let count = trained_text.matches(&word).count();
            let wanted = usize::from(is_trained(index));
            // Some templates write no text beside a call.
            let may_be_left_out = message.get("tool_calls").is_some();
            if count > wanted || (count < wanted && !may_be_left_out) {
                found.add(format!("{name} {mode}: {role} is trained {count} times, not {wanted}"), &shown);
            }
            // Some templates write results as JSON.
            if wanted == 1 && count == 1 && role != "tool" && !trained_text.contains(content.trim()) {
                found.add(format!("{name} {mode}: a part of {role} is trained"), &shown);
            }
        }
        if matches!(mode, TrainOn::LastAssistantMessage | TrainOn::LastAssistantTurn | TrainOn::AllAssistantMessages) {
            let stops = match renderer.stop() {
                Stop::Tokens(tokens) => tokens,
                _ => vec![],
            };
            let no_stop = examples.notes.iter().any(|note| matches!(note, ExampleNote::NoStop { .. }));
            let trained: Vec<usize> = (0..conversation.messages.len()).filter(|i| is_trained(*i)).collect();
            let done = completions(&runs);
            // Where prompts have no header, replies in a row are one run.
            if done.len() < trained.len() && name == "builtin tml_v0" {
                continue;
            }
            if done.len() != trained.len() {
                found.add(format!("{name} {mode}: {} completions for {}", done.len(), trained.len()), &shown);
            }
            let mut next = trained.iter();
            for example in &runs {
                let mut text = String::new();
                let mut ids: Vec<u32> = Vec::new();
                for (number, (run, tokens, weight)) in example.iter().enumerate() {
                    if *weight == 1.0 {
                        let Some(index) = next.next() else { break };
                        let prompt = prompts
                            .entry(*index)
                            .or_insert_with(|| renderer.prompt(&prefix(&conversation, *index)).unwrap());
                        if prompt.text != text {
                            found.add(
                                format!("{name} {mode}: the text before is not the prompt"),
                                &format!("{:?} not {text:?} {shown}", prompt.text),
                            );
                        }
                        if number <= 1 && prompt.input.to_tokens().unwrap() != ids {
                            found.add(format!("{name} {mode}: the tokens before are not the prompt's"), &shown);
                        }
                        if !stops.is_empty() && !no_stop && !tokens.last().is_some_and(|last| stops.contains(last)) {
                            found.add(format!("{name} {mode}: no stop"), &format!("{run:?} {shown}"));
                        }
                        if !stops.is_empty() && tokens[..tokens.len() - 1].iter().any(|token| stops.contains(token)) {
                            found.add(format!("{name} {mode}: a stop inside"), &format!("{run:?} {shown}"));
                        }
                    }
                    text.push_str(run);
                    ids.extend(tokens);
                }
            }
        }
        if mode == TrainOn::AllTokens && runs.iter().flatten().any(|run| run.2 != 1.0) {
            found.add(format!("{name} {mode}: not all is trained"), &shown);
        }
        by_mode.insert(mode.as_str(), (examples.clone(), completions(&runs)));
    }
    let get = |mode: TrainOn| by_mode.get(mode.as_str());
    if let (Some(all), Some(marked)) = (get(TrainOn::AllAssistantMessages), get(TrainOn::Marked)) {
        if all.0 != marked.0 {
            found.add(format!("{name} marked replies differ from all"), &shown);
        }
    }
    for (small, large) in [
        (TrainOn::LastAssistantMessage, TrainOn::LastAssistantTurn),
        (TrainOn::LastAssistantTurn, TrainOn::AllAssistantMessages),
    ] {
        if let (Some(small), Some(large)) = (get(small), get(large)) {
            let texts: Vec<_> = large.1.iter().map(|of| &of.1).collect();
            if !small.1.iter().all(|of| texts.contains(&&of.1)) {
                found.add(format!("{name} a small mode has what a large one has not"), &shown);
            }
        }
    }
}

/// The added tokens of the whole text, with the strings of messages harmless.
fn literal(name: &str, renderer: &Renderer, line: &Value, hostile: &[String], found: &mut Found) {
    fn clean(value: &Value, hostile: &[String]) -> Value {
        match value {
            Value::String(text) => {
                let mut text = text.clone();
                for token in hostile {
                    let at = token.char_indices().nth(token.chars().count() / 2).unwrap().0;
                    for piece in [token.as_str(), &token[..at], &token[at..]] {
                        text = text.replace(piece, "z");
                    }
                }
                text.into()
            }
            Value::Array(values) => values.iter().map(|value| clean(value, hostile)).collect(),
            Value::Object(map) => {
                map.iter().map(|(k, v)| (k.clone(), clean(v, hostile))).collect::<serde_json::Map<_, _>>().into()
            }
            other => other.clone(),
        }
    }
    let tokens = |line: &Value| {
        let conversation: Conversation = serde_json::from_value(line.clone()).unwrap();
        let text = renderer.prompt(&conversation);
        text.map(|prompt| {
            prompt.input.to_tokens().unwrap().into_iter().filter(|token| *token > 255).collect::<Vec<_>>()
        })
    };
    match (tokens(line), tokens(&clean(line, hostile))) {
        (Ok(a), Ok(b)) if a != b => found.add(format!("{name}: a text has become a token"), &line.to_string()),
        (Err(a), Ok(_)) => found.add(
            format!("{name} a special token in a text is refused: {}", a.to_string().lines().next().unwrap()),
            &line.to_string(),
        ),
        _ => {}
    }
}

/// The same conversations each time. Among them is a reply with a `<` that nothing closes, before another reply.
const SEED: u64 = 5;

#[test]
fn hold_for_any_conversation() {
    let mut templates: Vec<(String, ChatTemplate, &str)> = Vec::new();
    for name in ["smollm2", "qwen3", "qwen3_5", "gpt_oss", "deepseek_v3", "kimi_k2_thinking", "lfm2_5"] {
        templates.push((name.to_owned(), template(&fixture(&format!("templates/{name}"))), name));
    }
    for name in ["llama3_1", "llama3_plain", "gemma3"] {
        if let Some(fixture) = fixture_outside(&format!("templates/{name}")) {
            templates.push((name.to_owned(), template(&fixture), name));
        }
    }
    for (name, family) in super::properties::BUILTIN {
        templates.push((format!("builtin {name}"), ChatTemplate::builtin(name).unwrap(), family));
    }
    let templates = Mutex::new(templates.into_iter());
    let next = || templates.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some((name, template, family)) = next() {
                    hold(&name, template, family);
                }
            });
        }
    });
}

fn hold(name: &str, template: ChatTemplate, family: &str) {
    let mut found = Found::default();
    let tokenizer = byte_level(family);
    let renderer = Renderer::new(template, tokenizer.clone()).unwrap();
    let hostile: Vec<String> = tokenizer.added_tokens().into_keys().collect();
    let special: Vec<String> = tokenizer.special_tokens().into_keys().collect();
    let mut words = Words { g: Gen::from_size_and_seed(20, SEED), hostile: &hostile };
    for _ in 0..6 {
        let line = words.conversation(&special);
        laws(name, &renderer, &line, &mut found);
        literal(name, &renderer, &line, &hostile, &mut found);
    }
    let found: Vec<_> = found.0.iter().map(|(what, (count, line))| format!("{count} times {what}: {line}")).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
