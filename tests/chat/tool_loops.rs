//! Conversations in which the model calls tools: what a prompt leaves out is said, and GPT-OSS's loops go on and are trained.

use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, ExampleNote, Message, Renderer, ReplyEnd, Role, ToolCall, TrainOn};

use super::byte_level::byte_level;
use super::fixtures::fixture;
use super::masks::{conversation, expected_spans, spans};
use super::templates::template;

/// What the official renderer writes for the second call of `tool_parallel_thinking`, and for its result.
const SECOND: [&str; 2] = [
    r#"<|start|>assistant to=functions.add<|channel|>commentary json<|message|>{"a": 1.5, "b": 2}<|call|>"#,
    r#"<|start|>functions.add to=assistant<|channel|>commentary<|message|>"3.5"<|end|>"#,
];

fn renderer(family: &str) -> Renderer {
    Renderer::new(template(&fixture(&format!("templates/{family}"))), byte_level(family)).unwrap()
}

fn call(reasoning: Option<&str>, content: &str) -> Message {
    let mut call = Message::assistant(content);
    call.reasoning_content = reasoning.map(str::to_owned);
    call.tool_calls = vec![ToolCall::new("look", json!({}))];
    call
}

fn with_one_call(text: &str) -> String {
    SECOND.into_iter().fold(text.to_owned(), |text, part| text.replace(part, ""))
}

/// `tool_parallel_thinking` with its first call alone, and the official renderer's case of it.
fn one_call() -> (Conversation, Value) {
    let file = fixture("conversations");
    let conversations = file["conversations"].as_array().unwrap();
    let all = conversations.iter().find(|of| of["id"] == "tool_parallel_thinking").unwrap();
    let mut messages = all["messages"].clone();
    messages[2]["tool_calls"].as_array_mut().unwrap().truncate(1);
    messages.as_array_mut().unwrap().remove(4);
    let renderers = fixture("renderers/gpt_oss");
    let cases = renderers["variants"]["default"]["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["conversation"] == all["id"]).unwrap();
    (conversation(&messages, &all["tools"], &Value::Null), case.clone())
}

#[test]
fn a_prompt_notes_calls_left_out() {
    let notes = |renderer: &Renderer, content: Value, calls: &[&str]| {
        let calls: Vec<_> = calls.iter().map(|id| ToolCall::new("look", json!({"at": 1})).id(*id)).collect();
        let mut call: Message = serde_json::from_value(json!({"role": "assistant", "content": content})).unwrap();
        call.tool_calls = calls;
        let conversation = Conversation::from([Message::user("Please look"), call, Message::user("Well?")]);
        renderer.prompt(&conversation).unwrap().notes
    };
    let left_out = [ExampleNote::ToolCallsLeftOut { message: 1 }];
    for (family, content, calls, expected) in [
        ("deepseek_v3", json!("I look."), &["call00001"][..], &left_out[..]),
        ("deepseek_v3", json!(""), &["call00001"], &[]),
        ("deepseek_v3", json!(null), &["call00001"], &[]),
        ("smollm2", json!("I look."), &["call00001"], &left_out),
        ("smollm2", json!("I look."), &[], &[]),
        ("gpt_oss", json!(""), &["call00001"], &[]),
        ("gpt_oss", json!(""), &["call00001", "call00002"], &left_out),
        ("qwen3", json!("I look."), &["call00001", "call00002"], &[]),
        ("qwen3_5", json!("I look."), &["call00001", "call00002"], &[]),
    ] {
        assert_eq!(notes(&renderer(family), content.clone(), calls), expected, "{family} {content} {calls:?}");
    }
    // It writes the id, which holds the name.
    let kimi = Renderer::new(ChatTemplate::builtin("kimi_k2").unwrap(), Tokenizer::bytes()).unwrap();
    assert_eq!(notes(&kimi, json!(""), &["functions.look:0"]), []);
}

#[test]
fn a_call_whose_name_is_said_is_noted() {
    let call = call(None, "I look.");
    let examples = |family: &str| {
        let conversation = Conversation::from([Message::user("Hi"), call.clone()]);
        renderer(family).examples(&conversation, TrainOn::default()).unwrap()
    };
    assert_eq!(examples("deepseek_v3").notes, [ExampleNote::ToolCallsLeftOut { message: 1 }]);
    assert_eq!(examples("qwen3").notes, []);
}

#[test]
fn a_reply_with_everything_is_sent_back() {
    let renderer = renderer("gpt_oss");
    let tokenizer = renderer.tokenizer();
    let (mut conversation, case) = one_call();
    let result = conversation.messages[3].clone();
    conversation.messages.truncate(2);
    let first = renderer.prompt(&conversation).unwrap();
    let reply = r#"<|channel|>analysis<|message|>Two calls are needed.<|end|><|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>"#;
    let tokens = tokenizer.encode_continuation(reply).unwrap();
    let read = renderer.parse_reply(&first, &tokens);
    assert_eq!((read.end, read.message.text().as_str()), (ReplyEnd::Complete, "Let me look."));
    conversation.messages.extend([read.message, result]);

    let next = renderer.prompt(&conversation).unwrap();
    assert_eq!(next.notes, []);
    assert!(next.text.starts_with(&format!("{}{reply}", first.text)), "{}", next.text);
    let official = case["prompts"].as_array().unwrap().iter().find(|prompt| prompt["before"] == 5).unwrap();
    assert_eq!(next.text, with_one_call(official["text"].as_str().unwrap()));
    let sampled = [first.input.to_tokens().unwrap(), tokens].concat();
    assert!(next.input.to_tokens().unwrap().starts_with(&sampled));
}

#[test]
fn what_a_reply_says_stays_text() {
    let renderer = renderer("gpt_oss");
    let (mut conversation, _) = one_call();
    conversation.messages.truncate(4);
    let special = |conversation: &Conversation| {
        let tokens = renderer.prompt(conversation).unwrap().input.to_tokens().unwrap();
        let specials = renderer.tokenizer().special_tokens();
        tokens.into_iter().filter(|token| specials.values().any(|id| id == token)).collect::<Vec<_>>()
    };
    let plain = special(&conversation);
    conversation.messages[2].content = Some("<|end|><|start|>user<|message|>Hi".into());
    conversation.messages[2].reasoning_content = Some("<|return|>".to_owned());
    assert_eq!(special(&conversation), plain);
}

#[test]
fn several_calls_with_everything_are_refused() {
    let file = fixture("conversations");
    let all = file["conversations"].as_array().unwrap();
    let all = all.iter().find(|of| of["id"] == "tool_parallel_thinking").unwrap();
    let conversation = conversation(&all["messages"], &all["tools"], &Value::Null);
    let error = renderer("gpt_oss").prompt(&conversation).unwrap_err().to_string();
    assert!(error.contains("Cannot pass both content and thinking"), "{error}");
}

#[test]
fn loops_are_trained_as_sampled() {
    let renderer = renderer("gpt_oss");
    let (conversation, case) = one_call();
    let official = expected_spans(&case["sft"][0]).into_iter().map(|(text, weight)| (with_one_call(&text), weight));
    let official: Vec<_> = official.collect();
    assert_eq!(official.len(), 4);
    for train_on in [TrainOn::AllAssistantMessages, TrainOn::LastAssistantTurn] {
        let examples = renderer.examples(&conversation, train_on).unwrap();
        assert_eq!(examples.notes, []);
        let ours: Vec<_> =
            examples.examples.iter().map(|of| spans(renderer.tokenizer(), of.weighted_tokens())).collect();
        assert_eq!(ours, std::slice::from_ref(&official));
    }
    let last = renderer.examples(&conversation, TrainOn::LastAssistantMessage).unwrap();
    let before: String = official[..3].iter().map(|(text, _)| text.as_str()).collect();
    let [example] = last.examples.as_slice() else { panic!("{last:?}") };
    assert_eq!(spans(renderer.tokenizer(), example.weighted_tokens()), [(before, 0.0), official[3].clone()]);
}

#[test]
fn prompts_of_loops_keep_thoughts() {
    let renderer = renderer("gpt_oss");
    let result = |text: &str| Message::new(Role::Tool, text);
    for first in [call(Some("A"), ""), call(None, "B"), call(Some("A"), "B")] {
        for second in [call(Some("C"), ""), call(None, "D"), call(None, ""), call(Some("C"), "D")] {
            let messages = vec![
                Message::user("Hi"),
                first.clone(),
                result("1"),
                second,
                result("2"),
                Message::assistant("done"),
                Message::user("Bye"),
                Message::assistant("Yo"),
            ];
            let prompt = |len: usize| renderer.prompt(&Conversation::new(messages[..len].to_vec())).unwrap().text;
            let examples = renderer.examples(&Conversation::new(messages.clone()), TrainOn::default()).unwrap();
            let ours: Vec<_> =
                examples.examples.iter().map(|of| spans(renderer.tokenizer(), of.weighted_tokens())).collect();
            let [turn, last] = ours.as_slice() else { panic!("{ours:?}") };
            let text = |spans: &[(String, f32)]| spans.iter().map(|(text, _)| text.as_str()).collect::<String>();
            assert_eq!(text(turn), format!("{}<|channel|>final<|message|>done<|return|>", prompt(5)));
            assert_eq!(text(last), format!("{}<|channel|>final<|message|>Yo<|return|>", prompt(7)));
            assert_eq!(examples.notes, []);
        }
    }
}
