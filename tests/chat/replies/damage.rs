//! Replies that break their format: they are never complete, and what is damaged is no call.

use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, ReplyEnd};

use super::formats::{CALLS, ask, parts, read};
use super::template;
use crate::byte_level::byte_level;

/// The end and the calls of replies.
fn ends(family: &str, texts: &[&str]) -> Vec<(bool, usize)> {
    let renderer = Renderer::new(template(family), byte_level(family)).unwrap();
    let read = |text: &&str| {
        let reply = read(&renderer, &ask(), "", text);
        (reply.end == ReplyEnd::Complete, reply.message.tool_calls.len())
    };
    texts.iter().map(read).collect()
}

#[test]
fn gpt_oss_says_nothing_for_others() {
    let result = "<|start|>functions.add to=assistant<|channel|>commentary<|message|>{\"sum\": 3}<|end|>";
    let end = "<|start|>assistant<|channel|>final<|message|>Three.<|return|>";
    let thought = "<|channel|>analysis<|message|>Hm.<|end|>";
    let user = "<|start|>user<|channel|>final<|message|>Thanks!<|return|>";
    let texts = [format!("{thought}{end}"), format!("{thought}{result}{end}"), format!("{thought}{user}")];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(ends("gpt_oss", &texts), [(true, 0), (false, 0), (false, 0)]);
}

#[test]
fn a_prompt_may_begin_the_message() {
    let source = template("gpt_oss").source().to_owned();
    let source = source + "{% if add_generation_prompt %}<|channel|>final<|message|>{% endif %}";
    let renderer = Renderer::new(ChatTemplate::new(source).unwrap(), byte_level("gpt_oss")).unwrap();
    let reply = read(&renderer, &Conversation::from([Message::user("Hi")]), "", "Hello<|return|>");
    assert_eq!(parts(&reply), ("Hello".to_owned(), None, vec![], &ReplyEnd::Complete));
}

#[test]
fn a_text_without_a_message_is_malformed() {
    assert_eq!(ends("tml_v0", &["Hello<|content_model_end_sampling|>"]), [(false, 0)]);
}

#[test]
fn a_sentence_is_no_call_of_glm() {
    let texts = [
        "</think><tool_call>I add them.</tool_call><|user|>",
        "</think><tool_call>add a 1</tool_call><|user|>",
        "</think><tool_call>\nadd\n</tool_call><|observation|>",
    ];
    assert_eq!(ends("glm_5_2", &texts), [(false, 0), (false, 0), (true, 1)]);
}

#[test]
fn a_block_without_calls_is_malformed() {
    for (family, text) in [
        ("qwen3", "<tool_call>[]</tool_call><|im_end|>"),
        ("lfm2_5", "<|tool_call_start|>[]<|tool_call_end|><|im_end|>"),
        ("kimi_k2", "<|tool_calls_section_begin|><|tool_calls_section_end|><|im_end|>"),
        ("deepseek_v3", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>"),
        ("deepseek_v4", "</think><｜DSML｜tool_calls></｜DSML｜tool_calls><｜end▁of▁sentence｜>"),
    ] {
        assert_eq!(ends(family, &[text]), [(false, 0)], "{family}");
    }
}

#[test]
fn parts_of_calls_are_no_content() {
    for (family, text) in CALLS {
        let (from, mark) = match family {
            "gpt_oss" => ("to=functions", "to functions"),
            "tml_v0" => ("<|message_model|>add<|content_invoke_tool_json|>", ""),
            "qwen3" | "qwen3_5" | "qwen3_8" | "glm_5_2" | "glm_5_3" => ("<tool_call>", ""),
            "kimi_k2" => ("<|tool_calls_section_begin|>", ""),
            "deepseek_v3" => ("<｜tool▁calls▁begin｜>", ""),
            "deepseek_v4" | "deepseek_v4_1" => ("calls>", ""),
            _ => ("<|tool_call_start|>", ""),
        };
        assert!(text.contains(from));
        assert_eq!(ends(family, &[&text.replacen(from, mark, 1)]), [(false, 0)], "{family}");
    }
}

#[test]
fn arguments_under_another_key_are_not_lost() {
    let call = |rest: &str| format!("<tool_call>{{\"name\": \"add\"{rest}}}</tool_call><|im_end|>");
    let texts = [call(""), call(", \"id\": 1"), call(", \"argument\": {\"a\": 1}"), call(", \"a\": 1")];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(ends("qwen3", &texts), [(true, 1), (true, 1), (false, 0), (false, 0)]);
}

#[test]
fn a_declaration_is_no_call() {
    // Such a template says how calls are written.
    let source =
        "{{ '{\"name\": …, \"parameters\": …}' }}{% for m in messages %}{{ m.content ~ '<|im_end|>' }}{% endfor %}";
    let renderer = Renderer::new(ChatTemplate::new(source).unwrap(), byte_level("qwen3")).unwrap();
    let call = r#"{"type": "function", "name": "add", "parameters": {}}"#;
    for (text, calls) in [
        (call, 1),
        (r#"{"name": "add", "description": "Adds", "parameters": {"type": "object"}}"#, 0),
        (r#"{"name": "add"}"#, 0),
    ] {
        let reply = read(&renderer, &ask(), "", &format!("{text}<|im_end|>"));
        assert_eq!((reply.message.tool_calls.len(), reply.end), (calls, ReplyEnd::Complete), "{text}");
        assert_eq!(reply.message.text(), if calls == 1 { "" } else { text });
    }
}

#[test]
fn reasoning_that_stops_open_is_malformed() {
    // As QwQ does: the prompt opens the block, and earlier messages have none.
    let source = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '<|im_end|>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ 'assistant: <think>\\n' }}{% endif %}";
    let renderer = Renderer::new(ChatTemplate::new(source).unwrap(), byte_level("qwen3")).unwrap();
    let reply = read(&renderer, &ask(), "", "Hm.<|im_end|>");
    assert!(matches!(reply.end, ReplyEnd::Malformed(_)), "{reply:?}");
    assert_eq!(reply.message.reasoning_content.as_deref(), Some("Hm."));
}
