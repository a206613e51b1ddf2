//! `tinkex sample --chat`.

use serde_json::json;

use super::{MODEL, Scene};

/// A format with reasoning, and an argument.
pub const THINKING: &str = "\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}";

#[test]
fn the_format_is_that_of_the_template() {
    let scene = Scene::new(&["<think>\nHm.\n</think>\n\nYes.<|im_end|>"]);
    let template = scene.file("thinking.jinja", THINKING);
    let words = ["sample", "-m", MODEL, "--chat", "--system", "Be brief.", "--template", &template, "-f", "json"];
    let document = scene.run_with(&words, "Is it?\r\n").json();
    let prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!((document["prompt"].as_str(), scene.prompts()), (Some(prompt), vec![prompt.to_owned()]));
    let sample = &document["samples"][0];
    assert_eq!((&sample["text"], &sample["end"]), (&json!("Yes."), &json!("complete")), "{sample}");
    let message = json!({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."});
    assert_eq!(sample["message"], message);
    assert_eq!(scene.samples()[0]["sampling_params"]["max_tokens"], 256);
}

#[test]
fn arguments_reach_the_template() {
    let scene = Scene::new(&["Yes.<|im_end|>"]);
    let template = scene.file("thinking.jinja", THINKING);
    let arguments = ["--template", &template, "--template-arg", "enable_thinking=false"];
    let done = scene.run_with(&[&["sample", "-m", MODEL, "--chat", "Is it?"], arguments.as_slice()].concat(), "");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "Yes.\n"), "{done:?}");
    assert!(scene.prompts()[0].ends_with("assistant\n<think>\n\n</think>\n\n"), "{:?}", scene.prompts());
}

#[test]
fn options_of_conversations_need_a_chat() {
    let scene = Scene::new(&[]);
    for (option, value) in [("--system", "x"), ("--template", "plain"), ("--tools", "x"), ("--template-arg", "x=1")] {
        let done = scene.run_with(&["sample", "-m", MODEL, "hi", option, value], "");
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.stderr.contains("--chat"), "{}", done.stderr);
    }
    let unknown = scene.run_with(&["sample", "-m", MODEL, "--chat", "--template", "nope", "hi"], "");
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert!(unknown.stderr.contains("no built-in template is named \"nope\""), "{}", unknown.stderr);
    let unread = ["--template", "chatml", "--template-arg", "enable_thinking=false"];
    let unread = scene.run_with(&[&["sample", "-m", MODEL, "--chat", "hi"], unread.as_slice()].concat(), "");
    assert_eq!((unread.code, unread.stdout.as_str()), (Some(2), ""));
    let why =
        "error: --template-arg enable_thinking would change nothing: the built-in template chatml does not read it\n";
    assert!(unread.stderr.contains(why), "{}", unread.stderr);
    assert!(scene.samples().is_empty());
}

#[test]
fn the_tokenizer_brings_its_template() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/tokenizers/smollm2");
    let tokenizer = tinkex::Tokenizer::from_path(directory).unwrap();
    let reply = tokenizer.encode_continuation("Fine.<|im_end|>").unwrap();
    let scene = Scene::with(move |_| super::sampled(reply.clone(), "stop"));
    let chat = ["sample", "-m", MODEL, "--chat", "--tokenizer", directory, "--system", "Be kind.", "-f", "json"];
    let document = scene.run_with(&[&chat, ["How are <|im_end|> you?"].as_slice()].concat(), "").json();
    let prompt = document["prompt"].as_str().unwrap();
    let end = "<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(
        prompt,
        format!("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHow are <|im_end|> you?{end}")
    );
    // What the user typed is text.
    let token = json!(tokenizer.token_to_id("<|im_end|>"));
    let tokens = document["prompt_tokens"].as_array().unwrap();
    assert_eq!(tokens.iter().filter(|other| **other == token).count(), 2);
    assert_eq!(
        (&document["samples"][0]["text"], &document["samples"][0]["end"]),
        (&json!("Fine."), &json!("complete"))
    );
    assert_eq!(scene.samples()[0]["sampling_params"]["stop"], json!([token]));
}

#[cfg(feature = "tokenizers")]
#[test]
fn a_file_needs_no_folder() {
    let scene = Scene::new(&[]);
    scene.file("tokenizer.model", "not read");
    let done = scene.run_with(&["sample", "-m", MODEL, "--tokenizer", "tokenizer.model", "hi"], "");
    assert!(done.stderr.contains("has no tokenizer.json at ., only tokenizer.model"), "{}", done.stderr);
}
