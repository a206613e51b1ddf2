//! Conversations from stdin.

use serde_json::{Value, json};

use super::{MODEL, Scene, sampled, says};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_conversation_gets_its_reply() {
    let scene = Scene::new(&[" Hello!"]);
    let conversation = "{\"messages\": [\n  {\"role\": \"user\", \"content\": \"Hi\"}\n]}\n";
    let done = scene.run_with(&["chat", MODEL, "--system", "Be brief.", "--stop", "END", "--seed", "5"], conversation);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let message = json!({"role": "assistant", "content": "Hello!"});
    let reply = json!({"message": message, "end": "complete", "raw": " Hello!<|endoftext|>"});
    assert_eq!(lines(&done.stdout), [reply]);
    assert_eq!(scene.prompts(), ["System: Be brief.\n\nUser: Hi\n\nAssistant:"]);
    let params = &scene.samples()[0]["sampling_params"];
    assert_eq!((&params["seed"], &params["max_tokens"]), (&json!(5), &Value::Null));
    assert_eq!(params["stop"], json!(["<|endoftext|>", "END"]));
}

#[test]
fn replies_come_in_the_order_of_conversations() {
    // The first one is ready last.
    let scene = Scene::with(|number| match number {
        1 => sampled(vec![97], "length"),
        number => says(&format!(" {number}")),
    });
    let line = |text: &str| format!("[{{\"role\": \"user\", \"content\": \"{text}\"}}]\r\n");
    let done = scene
        .run_with(&["chat", MODEL, "-f", "json"], &["\u{FEFF}", &line("a"), "\n", &line("b"), &line("c")].concat());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let ends: Vec<Value> =
        lines(&done.stdout).into_iter().map(|line| json!([line["message"]["content"], line["end"]])).collect();
    // Samples are numbered as they leave, in any order.
    let expected = ["a", "b", "c"].map(|text| {
        let prompt = format!("User: {text}\n\nAssistant:");
        match scene.prompts().iter().position(|sent| *sent == prompt).expect("a sample for each conversation") {
            1 => json!(["a", "cut_off"]),
            number => json!([number.to_string(), "complete"]),
        }
    });
    assert_eq!(ends, expected);
}

#[test]
fn bad_conversations_are_refused_before_any_request() {
    for (stdin, more, what) in [
        ("hello", vec![], "stdin: conversation 1: expected value"),
        ("", vec![], "stdin: there is no conversation"),
        ("[]", vec![], "it has no messages"),
        (r#"[{"role": "assistant", "content": "x"}]"#, vec![], "there is nothing to reply to"),
        (r#"[{"role": "user", "content": "x"}]"#, vec!["--top-p", "2"], "top_p must be between 0 and 1"),
        (r#"[{"role": "user", "content": "x"}]"#, vec!["--tools", "none.json"], "cannot read the tools none.json"),
        (r#"[{"role": "user", "content": "x"}]"#, vec!["--template-arg", "x"], "expected NAME=VALUE"),
    ] {
        let scene = Scene::new(&[]);
        let done = scene.run_with(&[vec!["chat", MODEL], more].concat(), stdin);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.stderr.contains(what), "{what}: {}", done.stderr);
        assert!(scene.service.requests().is_empty());
    }
}

#[test]
fn a_template_that_refuses_names_the_conversation() {
    let scene = Scene::new(&[]);
    let template = scene
        .file("strict.jinja", "{% for m in messages %}{{ m.content or raise_exception('say something') }}{% endfor %}");
    let stdin = r#"[{"role": "user", "content": "x"}] [{"role": "user", "content": ""}]"#;
    let done = scene.run_with(&["chat", MODEL, "--template", &template], stdin);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
    assert!(done.stderr.contains("conversation 2: ") && done.stderr.contains("say something"), "{}", done.stderr);
    assert!(scene.samples().is_empty());
}

#[test]
fn what_the_template_does_not_read_is_said() {
    let scene = Scene::new(&[" Hello!"]);
    let template = scene.file("bare.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    let chat =
        |more: &[&str], stdin: &str| scene.run_with(&[&["chat", MODEL, "--template", &template], more].concat(), stdin);
    let question = r#"{"role": "user", "content": "x"}"#;
    let tool = r#"{"type": "function", "function": {"name": "add"}}"#;
    let tools = scene.file("tools.json", &format!("[{tool}]"));
    let alone = format!("[{question}]");
    for (more, stdin, what) in [
        (
            vec!["--template-arg", "mood=1"],
            alone.clone(),
            "error: --template-arg mood would change nothing: the template ",
        ),
        (vec!["--tools", &tools], alone.clone(), "error: --tools would change nothing: the template "),
        (
            vec![],
            format!("{alone} {{\"messages\": {alone}, \"tools\": [{tool}]}}"),
            "error: conversation 2: the conversation has tools, which the template ",
        ),
    ] {
        let done = chat(&more, &stdin);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.stderr.contains(what), "{what}: {}", done.stderr);
    }
    assert!(scene.samples().is_empty());

    let stdin = r#"{"messages": [{"role": "user", "content": "x", "name": "Ann", "weight": 1}], "chat_template_kwargs": {"mood": 1}}"#;
    let done = chat(&[], stdin);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr.starts_with("stdin: these keys have no meaning here: \"mood\", \"name\", \"weight\" ("),
        "{done:?}"
    );
}

#[test]
fn calls_that_a_prompt_leaves_out_are_said() {
    let scene = Scene::new(&[" Hello!", " Hello!"]);
    let template = scene.file("either.jinja", super::EITHER);
    let conversation = |content: &str| {
        let call = r#"{"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}"#;
        format!(
            r#"[{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": "{content}", "tool_calls": [{call}]}}, {{"role": "tool", "content": "1"}}]"#
        )
    };
    let stdin = [conversation(""), conversation("I add.")].join("\n");
    let done = scene.run_with(&["chat", MODEL, "--template", &template], &stdin);
    assert_eq!(done.code, Some(0), "{done:?}");
    let said = format!("conversation 2: the template {template} leaves out calls of tools of message 2\n");
    assert_eq!(done.stderr, said);
}
