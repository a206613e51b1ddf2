//! What the caller is told about examples, and what is cut off them.

use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, ExampleNote, Message, Renderer, TrainOn};

use super::byte_level::byte_level;
use super::fixtures::fixture;
use super::templates::template;

fn conversation(messages: Value) -> Conversation {
    serde_json::from_value(json!({ "messages": messages })).unwrap()
}

fn renderer(family: &str) -> Renderer {
    Renderer::new(template(&fixture(&format!("templates/{family}"))), byte_level(family)).unwrap()
}

#[test]
fn what_a_template_leaves_out_is_noted() {
    let call = json!([{"id": "call00001", "type": "function", "function": {"name": "look", "arguments": "{}"}}]);
    let conversation = conversation(json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "7", "reasoning_content": "7"},
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": null, "tool_calls": call},
    ]));
    let notes = |family: &str| renderer(family).examples(&conversation, TrainOn::default()).unwrap().notes;
    assert_eq!(
        notes("smollm2"),
        [ExampleNote::ReasoningLeftOut { message: 1 }, ExampleNote::ToolCallsLeftOut { message: 3 }]
    );
    assert_eq!(notes("qwen3"), []);
    assert_eq!(
        notes("deepseek_v3"),
        [ExampleNote::ReasoningLeftOut { message: 1 }, ExampleNote::NoStop { message: 3 }]
    );
}

#[test]
fn a_message_that_cannot_be_trained_is_named() {
    let conversation = conversation(json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo", "reasoning_content": "Hm."},
    ]))
    .template_arg("enable_thinking", false);
    let error = renderer("qwen3").examples(&conversation, TrainOn::default()).unwrap_err().to_string();
    assert!(error.contains("messages[1] cannot be trained"), "{error}");
}

#[test]
fn a_conversation_without_a_reply_is_refused() {
    for train_on in
        [TrainOn::LastAssistantMessage, TrainOn::LastAssistantTurn, TrainOn::AllAssistantMessages, TrainOn::Marked]
    {
        let error =
            renderer("qwen3").examples(&Conversation::from([Message::user("Hi")]), train_on).unwrap_err().to_string();
        assert!(error.contains("no message to train on") && error.contains(train_on.as_str()), "{error}");
    }
}

#[test]
fn marked_replies_are_trained_like_all() {
    let messages = |marked: bool| {
        let mut messages =
            vec![Message::user("Hi"), Message::assistant("Yo"), Message::user("Why?"), Message::assistant("So.")];
        if marked {
            for message in messages.iter_mut().skip(1).step_by(2) {
                message.trainable = Some(true);
            }
        }
        Conversation::new(messages)
    };
    for family in ["qwen3", "gpt_oss", "smollm2"] {
        let renderer = renderer(family);
        assert_eq!(
            renderer.examples(&messages(true), TrainOn::Marked).unwrap(),
            renderer.examples(&messages(false), TrainOn::AllAssistantMessages).unwrap()
        );
    }
}

#[test]
fn bytes_end_with_their_token() {
    let renderer = Renderer::new(ChatTemplate::builtin("plain").unwrap(), Tokenizer::bytes()).unwrap();
    let conversation = Conversation::from([Message::user("<|endoftext|>"), Message::assistant("Yo")]);
    let examples = renderer.examples(&conversation, TrainOn::default()).unwrap().examples;
    let tokens = examples[0].weighted_tokens().tokens();
    assert_eq!(tokens.iter().filter(|token| **token == 256).count(), 1);
    assert_eq!((tokens.last(), tokens.len()), (Some(&256), "User: <|endoftext|>\n\nAssistant: Yo".len() + 1));
}

#[test]
fn cuts_are_exact_in_tokens() {
    let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello, you.")]);
    let example = renderer("qwen3").examples(&conversation, TrainOn::default()).unwrap().examples.remove(0);
    let len = example.weighted_tokens().len();
    for max in 0..=len + 1 {
        let mut example = example.clone();
        let trained = example.weighted_tokens().trained_len();
        let cut = example.truncate(max);
        assert_eq!(example.weighted_tokens().len(), max.min(len));
        assert_eq!(cut.map_or(0, |cut| cut.tokens), len.saturating_sub(max));
        assert_eq!(cut.map_or(0, |cut| cut.trained), trained - example.weighted_tokens().trained_len());
    }
}

#[test]
fn a_limit_keeps_the_tokens_of_the_whole() {
    let long = "Ünï <|im_end|> <think> text,\n\t of 12345 words. ".repeat(400);
    let conversation = Conversation::from([
        Message::user("Hi"),
        Message::assistant("Hello, you."),
        Message::user(long.clone()),
        Message::assistant(long),
    ]);
    for family in ["qwen3", "gpt_oss", "smollm2"] {
        let renderer = renderer(family);
        for train_on in [TrainOn::AllAssistantMessages, TrainOn::AllTokens] {
            let whole = renderer.examples(&conversation, train_on).unwrap();
            for max in [0, 1, 40, 500, 1 << 20] {
                let limited = renderer.clone().max_example_tokens(max).examples(&conversation, train_on).unwrap();
                assert_eq!((limited.notes, limited.examples.len()), (whole.notes.clone(), whole.examples.len()));
                for (example, whole) in limited.examples.iter().zip(&whole.examples) {
                    let (tokens, all) = (example.weighted_tokens(), whole.weighted_tokens());
                    let len = all.len().min(max + 1);
                    assert_eq!(tokens.tokens(), &all.tokens()[..len], "{family}");
                    assert_eq!(tokens.weights(), &all.weights()[..len], "{family}");
                    let cut = example.clone().truncate(max);
                    assert_eq!(cut.is_some_and(|cut| cut.is_at_least), all.len() > max);
                }
            }
        }
    }
}
