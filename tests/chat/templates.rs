//! The texts that the reference engine renders, and what it refuses.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, Tool, TrainOn};
use tinkex::{Tokenizer, TokenizerSource};

use crate::fixtures::{FOLDER, fixture, fixture_outside};

/// The template of a fixture, with its special tokens and its date.
pub fn template(fixture: &Value) -> ChatTemplate {
    let config = fixture["tokenizer_config"].as_object().unwrap();
    let mut template = ChatTemplate::new(config["chat_template"].as_str().unwrap()).unwrap();
    for (name, token) in config.iter().filter(|(name, _)| *name != "chat_template") {
        template = template.special_token(name, token.as_str().unwrap());
    }
    // The fixtures were all made on the same day.
    if fixture["now"] == "2026-11-25" { template.now(day()) } else { template }
}

fn day() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_564_800)
}

/// The conversation of a case.
pub fn conversation(case: &Value) -> Conversation {
    let or_empty = |key: &str, empty: Value| case.get(key).filter(|value| !value.is_null()).cloned().unwrap_or(empty);
    serde_json::from_value(json!({
        "messages": case["messages"],
        "tools": or_empty("tools", json!([])),
        "chat_template_kwargs": or_empty("kwargs", json!({})),
    }))
    .unwrap()
}

/// Cases whose text is another one by intention. LFM2.5 reads reasoning as `thinking`, which is what it gets; the fixture has it as
/// `reasoning_content`, which the template leaves out.
const REASONING_UNDER_ITS_KEY: [(&str, &str); 6] = [
    ("lfm2_5", "thinking"),
    ("lfm2_5", "thinking+gen"),
    ("lfm2_5", "thinking_multi"),
    ("lfm2_5", "thinking_multi+gen"),
    ("lfm2_5", "tool_parallel_thinking"),
    ("lfm2_5", "tool_parallel_thinking+gen"),
];

/// The conversation with reasoning under the very key that the fixture has.
fn with_reasoning_as_it_is(mut conversation: Conversation) -> Conversation {
    for message in &mut conversation.messages {
        if let Some(reasoning) = message.reasoning_content.take() {
            message.others.insert("reasoning_content".to_owned(), reasoning.into());
        }
    }
    conversation
}

/// Every difference from the reference.
fn differences(fixture: &Value) -> Vec<String> {
    let template = template(fixture);
    let mut differences = Vec::new();
    for case in fixture["cases"].as_array().unwrap() {
        let (mut conversation, add_generation_prompt) =
            (conversation(case), case["add_generation_prompt"].as_bool().unwrap());
        let name = (fixture["family"].as_str().unwrap(), case["id"].as_str().unwrap());
        if REASONING_UNDER_ITS_KEY.contains(&name) {
            let text = template.render(&conversation, add_generation_prompt).unwrap();
            assert!(text.contains("</think>") && !case["text"].as_str().unwrap().contains("</think>"));
            conversation = with_reasoning_as_it_is(conversation);
        }
        let rendered = template.render(&conversation, add_generation_prompt);
        let difference = match (case["text"].as_str(), rendered) {
            (Some(expected), Ok(text)) if text == expected => None,
            (Some(expected), Ok(text)) => Some(format!("expected {expected:?}, not {text:?}")),
            (Some(_), Err(error)) => Some(format!("refused: {error}")),
            (None, Err(error)) => {
                let message = case["error"]["message"].as_str().unwrap();
                let is_given = case["error"]["kind"] == "render" || error.to_string().contains(message);
                (!is_given).then(|| format!("expected the error {message:?}, not {error}"))
            }
            (None, Ok(text)) => Some(format!("expected an error, {}, not {text:?}", case["error"])),
        };
        differences.extend(difference.map(|difference| format!("{}: {difference}", case["id"])));
    }
    differences
}

macro_rules! families {
    ($($name:ident from $read:ident;)*) => {$(
        #[test]
        fn $name() {
            let Some(fixture) = $read(concat!("templates/", stringify!($name))) else { return };
            let differences = differences(&fixture);
            assert!(differences.is_empty(), "{}", differences.join("\n"));
        }
    )*};
}

fn inside(name: &str) -> Option<Arc<Value>> {
    Some(fixture(name))
}

families! {
    deepseek_v3 from inside;
    gemma3 from fixture_outside;
    gpt_oss from inside;
    kimi_k2_thinking from inside;
    lfm2_5 from inside;
    llama3_1 from fixture_outside;
    llama3_plain from fixture_outside;
    qwen3 from inside;
    qwen3_5 from inside;
    smollm2 from inside;
}

#[test]
fn packages_have_templates_and_tokens() {
    let fixture = fixture("templates/smollm2");
    let folder = format!("{FOLDER}/tokenizers/smollm2");
    let case = &fixture["cases"][0];
    for path in [folder.clone(), format!("{folder}/tokenizer_config.json"), format!("{folder}/tokenizer.json")] {
        let template = ChatTemplate::from_path(&path).unwrap();
        assert_eq!(template.source(), fixture["tokenizer_config"]["chat_template"]);
        let loaded = ChatTemplate::load(&path, &TokenizerSource::from_env_with(|_| None)).unwrap().unwrap();
        let text = loaded.render(&conversation(case), case["add_generation_prompt"] == true).unwrap();
        assert_eq!(text, case["text"]);
    }
}

#[test]
fn hub_ids_are_read_from_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("tokenizers/someone--model");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("tokenizer_config.json"),
        r#"{"chat_template": "config", "eos_token": {"content": "</s>"}}"#,
    )
    .unwrap();
    std::fs::write(folder.join("chat_template.jinja"), "file{{ eos_token }}").unwrap();
    let path = cache.path().display().to_string();
    let source = TokenizerSource::from_env_with(|name| (name == "TINKEX_CACHE").then(|| path.clone())).offline(true);
    let template = ChatTemplate::load("someone/model", &source).unwrap().unwrap();
    assert_eq!(template.render(&Conversation::default(), false).unwrap(), "file</s>");
    assert!(ChatTemplate::load("bytes", &source).unwrap().is_none());
}

#[test]
fn hub_ids_are_never_directories() {
    let source = TokenizerSource::from_env_with(|_| None).offline(true);
    let tokenizer = Tokenizer::from_path("tests/data").unwrap();
    assert_eq!(tokenizer.id(), "./tests/data");
    assert!(ChatTemplate::load(tokenizer.id(), &source).unwrap().is_none());
    let error = ChatTemplate::load("tests/data", &source).unwrap_err();
    assert!(error.to_string().contains("is not in the cache"), "{error}");
}

#[test]
fn gguf_files_have_templates_and_tokens() {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let entry = |key: &str, kind: u32, value: Vec<u8>| [text(key), kind.to_le_bytes().to_vec(), value].concat();
    let tokens = [8_u32.to_le_bytes().to_vec(), 2_u64.to_le_bytes().to_vec(), text("<s>"), text("</s>")].concat();
    let file = [
        b"GGUF".to_vec(),
        3_u32.to_le_bytes().to_vec(),
        0_u64.to_le_bytes().to_vec(),
        4_u64.to_le_bytes().to_vec(),
        entry("tokenizer.chat_template", 8, text("{{ bos_token }}plain")),
        entry("tokenizer.chat_template.tool_use", 8, text("tools{{ bos_token }}")),
        entry("tokenizer.ggml.tokens", 9, tokens),
        entry("tokenizer.ggml.bos_token_id", 4, 0_u32.to_le_bytes().to_vec()),
    ];
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.gguf", "MODEL.GGUF"] {
        let path = folder.path().join(name);
        std::fs::write(&path, file.concat()).unwrap();
        let template = ChatTemplate::from_path(&path).unwrap();
        assert_eq!(template.render(&Conversation::default(), false).unwrap(), "<s>plain");
        let with_tools = Conversation::default().tools([Tool::function("add", "", json!({}))]);
        assert_eq!(template.render(&with_tools, false).unwrap(), "tools<s>");
    }
}

#[test]
fn a_vocabulary_is_no_template() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["tokenizer.model", "qwen.tiktoken", "QWEN.TIKTOKEN", "TOKENIZER.JSON"];
    let paths = names.map(|name| folder.path().join(name));
    for path in &paths {
        std::fs::write(path, "{}").unwrap();
        let error = ChatTemplate::from_path(path).unwrap_err();
        assert!(error.to_string().contains("has no chat template"), "{error}");
    }
    // What lies beside it has the template.
    std::fs::write(folder.path().join("chat_template.jinja"), "beside").unwrap();
    for path in &paths {
        assert_eq!(ChatTemplate::from_path(path).unwrap().source(), "beside");
    }
}

#[test]
fn texts_of_a_conversation_have_one_time() {
    // Between two readings of the clock, microseconds pass.
    let source = "{{ strftime_now('%Y-%f') }} {{ strftime_now('%Y-%f') }}|\
        {% for message in messages %}{{ message.role ~ ': ' ~ message.content ~ '.' }}{% endfor %}\
        {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    let template = ChatTemplate::new(source).unwrap();
    let renderer = Renderer::new(template, Tokenizer::bytes()).unwrap();
    let messages = [Message::user("<|endoftext|>"), Message::assistant("b"), Message::user("c")];
    let conversation = Conversation::from(messages);
    for train_on in [TrainOn::AllAssistantMessages, TrainOn::AllMessages] {
        let examples = renderer.examples(&conversation, train_on).unwrap().examples;
        let text = renderer.tokenizer().decode(examples[0].weighted_tokens().tokens()).unwrap();
        let (first, second) = text.split_once('|').unwrap().0.split_once(' ').unwrap();
        assert_eq!(first, second);
    }
}

#[test]
fn null_counts_as_absent() {
    let line = r#"{"messages": [{"role": "assistant", "content": "Hi", "tool_calls": null, "name": null}], "tools": null,
        "chat_template_kwargs": null}"#;
    let conversation: Conversation = serde_json::from_str(line).unwrap();
    assert!(conversation.tools.is_empty() && conversation.messages[0].tool_calls.is_empty());
}

#[test]
fn slices_and_filters_are_those_of_python() {
    for (source, expected) in [
        ("{{ messages[::-1] }}|{% for m in messages[::-1] %}x{% endfor %}", "[]|"),
        ("{{ [1, 2, 3][::-1] }}{{ [1, 2, 3][:0:-1] }}{{ [1, 2, 3][0:2:-1] }}", "[3, 2, 1][3, 2][]"),
        ("{{ [1, 2, 3][1:] + [4][-9:9] }}{{ 'abcd'[1:-1] }}{{ 'abcd'[::2] }}{{ ''[::-1] }}", "[2, 3, 4]bcac"),
        ("{{ [{'a': [1, 2]}][0]['a'][:1][0] - 1 }}{{ {'a': 'xyz'[1:]}['a'] }}", "0yz"),
        ("{{ none[1:] }}{{ ['a', 'b']|upper }}{{ '%s'|format(['a']) }}", "['A', 'B']['a']"),
        (
            "{{ '{\n'|indent(4, first=true) }}|{{ 'a\nb\n'|indent('> ') }}",
            "    {
|a
> b
",
        ),
        (
            "a{% raw %}
{{ b{% endraw %}
c",
            "a
{{ bc",
        ),
    ] {
        let text = ChatTemplate::new(source).unwrap().render(&Conversation::default(), false).unwrap();
        assert_eq!(text, expected, "{source}");
    }
}

#[test]
fn long_expressions_leave_the_stack_alone() {
    for (start, repeated, end) in [
        ("{{ 1", "+1", " }}"),
        ("{{ a", ".b", " }}"),
        ("{{ a", "[0]", " }}"),
        ("{{ a", "|string", " }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ 1", " if 1 else 1", " }}"),
        ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
    ] {
        for count in [40, 100, 200, 450, 50_000] {
            let source = [start, &repeated.repeat(count), end].concat();
            let result =
                ChatTemplate::new(source.as_str()).map(|template| template.render(&Conversation::default(), false));
            assert!(count < 50_000 || result.is_err(), "{repeated}");
        }
    }
}
