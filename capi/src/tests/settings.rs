//! The interface knows every setting and every kind of error of the library.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tinkex::{Config, Wire};

use crate::config;

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The methods of `ConfigBuilder` that are no key, with the reason.
const NOT_KEYS: [(&str, &str); 5] = [
    ("build", "builds"),
    ("build_with", "builds"),
    ("clock", "of tests in Rust"),
    ("observer", "a trait of Rust; the log has the warnings"),
    ("queue_state_observer", "a trait of Rust; paused queues are logged"),
];

#[test]
fn every_setting_is_a_documented_key() {
    let builder = source("../src/config/builder/mod.rs");
    let methods = builder.split("    pub fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap());
    let settings = source("../src/config/settings.rs");
    let plain = settings.lines().filter(|line| line.ends_with("refused;") || line.ends_with("allowed;"));
    let plain = plain.map(|line| line.trim().split(':').next().unwrap());
    let names: BTreeSet<&str> = methods.chain(plain).collect();
    assert!(names.contains("base_url") && names.contains("timeout_idle"), "{names:?}");
    let header = source("include/tinkex.h");
    let documented = header.split_once("Keys of config_json").unwrap().1.split_once("*/").unwrap().0;
    let words: BTreeSet<&str> = documented.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for name in names {
        if NOT_KEYS.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let key = match name {
            "header" => "headers",
            name => name,
        };
        let wrong_type = format!("{{{key:?}: [[]]}}");
        let error = config::read(Some(&wrong_type)).unwrap_err();
        assert!(!format!("{error:?}").contains("unknown field"), "{key}: {error:?}");
        assert!(words.contains(key), "the header does not document {key}");
    }
}

#[test]
fn keys_set_what_they_name() {
    let config = config::read(Some(
        r#"{"api_key": "tml-k", "base_url": "http://127.0.0.1:9/a", "tags": ["x"], "project_id": "p", "display_name": "d",
            "user_metadata": {"k": "v"}, "telemetry": false, "wire": "json", "timeout_idle": 2.5, "timeout_operation": null,
            "timeout_billing": 0, "max_retries": 3, "constrained": true, "max_queued": 7, "proxy": "off"}"#,
    ))
    .unwrap();
    assert_eq!(
        (config.base_url(), config.tags(), config.wire()),
        ("http://127.0.0.1:9/a", &["x".to_owned()][..], Wire::Json)
    );
    assert_eq!((config.project_id(), config.display_name()), (Some("p"), Some("d")));
    assert_eq!((config.timeout_idle().as_millis(), config.timeout_operation(), config.max_retries()), (2500, None, 3));
    assert_eq!(config.timeout_billing(), Some(std::time::Duration::ZERO));
    let constrained = Config::constrained().api_key("tml-k").build().unwrap();
    assert_eq!(config.max_poll_connections(), constrained.max_poll_connections());
    assert_eq!((config.max_queued(), config.telemetry(), config.proxy()), (7, false, &tinkex::Proxy::Off));
    assert_eq!(config.user_metadata()["k"], "v");
}

#[test]
fn every_error_kind_has_a_status() {
    let kinds = source("../src/error/kind.rs");
    let kinds = kinds.split_once("pub enum ErrorKind {").unwrap().1.split_once("\n}").unwrap().0;
    let kinds: BTreeSet<&str> = kinds
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(','))
        .map(|kind| kind.split('(').next().unwrap())
        .collect();
    assert!(kinds.len() >= 15, "{kinds:?}");
    let here = source("src/error.rs");
    let header = source("include/tinkex.h");
    for kind in kinds {
        assert!(
            here.contains(&format!("ErrorKind::{kind} =>")) || here.contains(&format!("ErrorKind::{kind}(_) =>")),
            "{kind}"
        );
        let words =
            kind.char_indices().map(|(at, c)| if at > 0 && c.is_uppercase() { format!("_{c}") } else { c.to_string() });
        let constant = format!("TINKEX_{}", words.collect::<String>().to_uppercase());
        assert!(header.contains(&format!("{constant} = ")), "{constant}");
    }
}

/// Hints of functions that no call of this interface reaches.
const NO_NAMES_HERE: [&str; 3] = [
    "load it, and give it as Part::Image or as data:image/png;base64,…",
    "pass the whole text that SamplingClient::get_sampler_handle returned",
    "remove that text, or allow special tokens in texts with Renderer::special_tokens_in_text",
];

fn hints(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The hints of others: of the program, the local server, and what C does not have.
            if !["bin", "eval", "local", "hyperparams", "rl"].iter().any(|others| path.ends_with(others)) {
                hints(&path, found);
            }
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let texts = text.split("with_hint(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
        found.extend(texts.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
}

#[test]
fn hints_name_functions_of_this_interface() {
    let mut found = BTreeSet::new();
    hints(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut found);
    assert!(found.iter().any(|hint| hint.contains("ServiceClient::connect")), "{found:?}");
    let rust: Vec<_> = found
        .iter()
        .filter(|hint| !NO_NAMES_HERE.contains(&hint.as_str()))
        .filter(|hint| crate::error::in_names_of_here(hint).contains("::"))
        .collect();
    assert!(rust.is_empty(), "{rust:?}");
}

#[test]
fn statuses_have_the_names_of_the_header() {
    let header = source("include/tinkex.h");
    let constants = header.split_once("enum {").unwrap().1.split_once("};").unwrap().0;
    let mut count = 0;
    for line in constants.lines() {
        let Some((name, rest)) = line.trim().split_once(" = ") else { continue };
        let number = rest.split([',', ' ']).next().unwrap().parse().unwrap();
        let known = crate::error::tinkex_status_name(number);
        // SAFETY: names live as long as the process.
        let known = unsafe { std::ffi::CStr::from_ptr(known) }.to_str().unwrap();
        assert_eq!(format!("TINKEX_{}", known.to_uppercase()), name);
        count += 1;
    }
    assert_eq!(count, 18);
}

#[test]
fn no_error_shows_a_secret() {
    for config in [
        r#"{"cloudflare_access": "hidden"}"#,
        r#"{"headers": "hidden \", expected"}"#,
        r#"{"max_retries": "hidden"}"#,
        r#"{"api_key": "hidden\nhidden"}"#,
        r#"{"api_key": "tml-k", "headers": {"authorization": "hidden\r\n"}}"#,
        r#"{"api_key": "tml-k", "proxy": "http://me:hidden@"}"#,
        r#"{"api_key": "tml-k", "base_url": "http://me:hidden@host"}"#,
    ] {
        let error = format!("{:?}", config::read(Some(config)).unwrap_err());
        assert!(!error.contains("hidden"), "{error}");
    }
}
