//! What jinja2 3.1.6, set up as transformers 5.8.0 sets it up, makes of expressions that templates use or may use.
//!
//! `tests/golden/chat_engine/expressions.json` has the variables, and for each template its text, or null where jinja2 fails.

use std::fs;

use serde_json::Value;
use tinkex::chat::{ChatTemplate, Conversation};

/// What the engine does not have. A template that uses it gets an error, never another text.
const MISSING: [&str; 19] = [
    "{{ s.swapcase() }}",
    "{{ s.center(13, '*') }}",
    "{{ s.encode('utf-8') }}",
    "{{ l.index('a') }}",
    "{{ '%s-%d' % ('a', 3) }}",
    "{{ 2 ** -1 }}",
    "{{ +i }}",
    "{{ s|wordcount }}",
    "{{ s|truncate(5) }}",
    "{{ 10|filesizeformat }}",
    "{{ 'a b'|urlencode }}",
    "{{ 'a'|center(5) }}",
    "{{ 'x'|wordwrap(5) }}",
    "{{ '<a>x</a>'|striptags }}",
    "{{ d|xmlattr }}",
    "{{ [[1,2],[3]]|sum(start=[]) }}",
    "{{ cycler('a', 'b').next() }}",
    "{{ joiner(',')() }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, a=2) }}",
];

/// Templates whose text is another one, and why.
const DIFFERENT: [(&str, &str); 16] = [
    ("{{ 7 % -3 }}", "the remainder is never negative"),
    ("{{ s.partition(' ') }}", "a tuple prints as a list"),
    ("{{ d.items() }}", "a view of a dict prints as a list"),
    ("{{ d.keys() }}", "a view of a dict prints as a list"),
    ("{{ d.items()|list }}", "a tuple prints as a list"),
    ("{{ d|items|list }}", "a tuple prints as a list"),
    ("{{ range(3) }}", "a range prints as a list"),
    ("{{ (1, 2) }}{{ (1,) }}{{ () }}", "a tuple prints as a list"),
    ("{{ {'b': 1, 'a': 2}|dictsort }}", "a tuple prints as a list"),
    ("{{ {'b': 1, 'a': 2}|dictsort(by='value') }}", "a tuple prints as a list"),
    ("{{ '<b>&\"'|e }}", "quotes have names"),
    ("{{ l|pprint }}", "for a person"),
    ("{{ \"it's a\"|title }}{{ \"it's-a b_c\".title() }}", "the filter takes an apostrophe for the end of a word"),
    ("{{ none|list }}", "null has no items; jinja2 fails"),
    ("{{ n|join }}", "null has no items; jinja2 fails"),
    ("{% for a in n %}{% endfor %}", "null has no items; jinja2 fails"),
];

#[test]
fn expressions_give_the_reference_text() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat_engine/expressions.json");
    let table: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut problems = Vec::new();
    for case in table["cases"].as_array().unwrap() {
        let source = case[0].as_str().unwrap();
        let mut conversation = Conversation::default();
        conversation.template_args = table["context"].as_object().unwrap().clone();
        let text = ChatTemplate::new(source).and_then(|template| template.render(&conversation, false));
        let is_equal = case[1].as_str() == text.as_deref().ok();
        let is_right = if MISSING.contains(&source) {
            text.is_err()
        } else {
            is_equal != DIFFERENT.iter().any(|(different, _)| *different == source)
        };
        if !is_right {
            problems.push(format!("{source}: expected {}, not {text:?}", case[1]));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The first line of the error of a template.
fn error(source: &str) -> String {
    let rendered = ChatTemplate::new(source).and_then(|template| template.render(&Conversation::default(), false));
    rendered.map(|text| text.len()).unwrap_err().to_string()
}

#[test]
fn templates_without_end_are_stopped() {
    for (source, expected) in [
        (
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "stopped after 20000000 instructions",
        ),
        ("{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}", "stopped: its text has more than"),
        (
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "a text of more than",
        ),
        (
            "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "a text of more than",
        ),
        (
            "{% set n = namespace(x=[1] * 600000) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "a list of more than",
        ),
        (
            "{% set n = namespace(x='a' * 8200) %}{% for a in range(9) %}{% set n.x = n.x|replace('a', n.x) %}{% endfor %}",
            "a text of more than",
        ),
        ("{{ '%500000000d'|format(1) }}", "it makes more than"),
        ("{{ '{:500000000}'.format(1) }}", "it makes more than"),
        ("{{ [1]|batch(500000000, 'x') }}", "it makes more than"),
        ("{{ ([1] * 500000000)|length }}", "it makes more than"),
        // Most of what it may make is a few texts, which take less time.
        (
            "{% for a in range(3) %}{% set b = 'x' * 67000000 %}{% endfor %}\
             {% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
            "it makes more",
        ),
        (
            "{% set n = namespace(x=[1]) %}{% for a in range(999) %}{% set n.x = [n.x] %}{% endfor %}",
            "more than 200 levels",
        ),
        (
            "{% set n = namespace() %}{% for a in range(9999) %}{% set n.x = namespace(x=n.x) %}{% endfor %}",
            "more than 200 levels",
        ),
        ("{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(1) }}", "recursion"),
    ] {
        let error = error(source);
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn captured_text_has_a_limit() {
    let text = "plain text ".repeat(9999);
    let source = ["{% set x %}{% for a in range(9999) %}", &text, "{% endfor %}{% endset %}"].concat();
    assert!(error(&source).contains("it makes more than"));
}

#[test]
fn errors_say_what_and_where() {
    for (source, expected) in [
        (
            "{{ raise_exception('Roles must alternate.') }}",
            "the chat template refuses the conversation: Roles must alternate.",
        ),
        ("\n\n{{ none.x.y }}", "(line 3 of the template)"),
        ("\n{% if %}", "the chat template is not valid Jinja: syntax error"),
        ("{{ strftime_now('%Q') }}", "strftime_now does not know %Q"),
        ("{{ raise_exception('a\u{1b}[2Jb') }}", "refuses the conversation: a [2Jb"),
        ("{{ '%\u{1b}' | format(1) }}", "conversion type ' '"),
    ] {
        let error = error(source);
        assert!(error.contains(expected), "{source}: {error}");
    }
}
