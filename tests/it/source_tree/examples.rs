//! Which public methods have an example of their own.

use std::fs;

use super::rust_files;

/// The types whose every public method has one: what a program calls, configures and gets back.
const TYPES: [&str; 23] = [
    "Api",
    "ChatTemplate",
    "Config",
    "ConfigBuilder",
    "Conversation",
    "Error",
    "Message",
    "Pending",
    "Renderer",
    "ReplyParser",
    "RestClient",
    "SamplingClient",
    "ServiceClient",
    "Telemetry",
    "TextDecoder",
    "Tokenizer",
    "TokenizerSource",
    "Tool",
    "ToolCall",
    "TrainOn",
    "TrainingClient",
    "TrainingExample",
    "TrainingExamples",
];

#[test]
fn every_method_of_a_client_has_an_example() {
    let (mut methods, mut without) = (0, Vec::new());
    for file in rust_files("src") {
        let source = fs::read_to_string(&file).unwrap();
        for (type_name, method, has_example) in public_methods(&source) {
            if TYPES.contains(&type_name) {
                methods += 1;
                if !has_example {
                    without.push(format!("{}: {type_name}::{method}", file.display()));
                }
            }
        }
    }
    assert!(methods > 150, "only {methods} methods were found");
    assert!(without.is_empty(), "{} methods have no example:\n{}", without.len(), without.join("\n"));
}

/// The public methods of a file, each with its type, and whether its documentation has code.
fn public_methods(source: &str) -> Vec<(&str, &str, bool)> {
    let (mut found, mut type_name, mut has_code) = (Vec::new(), "", false);
    for line in source.lines() {
        let code = line.trim_start();
        if let Some(rest) = line.strip_prefix("impl") {
            let implemented = rest.split(" for ").last().unwrap_or_default();
            let implemented = implemented.split_once("> ").map_or(implemented, |(_, after)| after).trim();
            type_name = implemented.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        }
        let method = line.strip_prefix("    pub ").map(|rest| rest.trim_start_matches("const "));
        match method.and_then(|rest| rest.strip_prefix("fn ")) {
            Some(rest) => {
                found.push((type_name, rest.split(['(', '<']).next().unwrap_or_default(), has_code));
                has_code = false;
            }
            None if code.starts_with("///") => has_code |= code.contains("```"),
            // Another item.
            None if line == "    }" || line == "}" || line.is_empty() => has_code = false,
            None => {}
        }
    }
    found
}

#[test]
fn methods_are_told_by_their_documentation() {
    let source = "impl<T> A<T> {\n    /// Text.\n    ///\n    /// ```\n    /// code\n    /// ```\n    #[must_use]\n    pub fn \
                  one(&self) {}\n\n    /// Text.\n    pub fn two<T>(self) {\n    }\n}\nimpl B {\n    pub const fn three() {}\n}\n";
    assert_eq!(public_methods(source), [("A", "one", true), ("A", "two", false), ("B", "three", false)]);
}
