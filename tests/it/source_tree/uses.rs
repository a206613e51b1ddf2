//! Reads which paths a Rust file mentions. A few lines of lexing are enough here; a parser would be a large dependency.

/// The paths in the code that begin with `crate`, `super` or one of the file's child modules, with braces expanded. Comments,
/// string literals and the unit tests at the end of the file are left out.
pub(super) fn paths(source: &str, children: &[&str]) -> Vec<Vec<String>> {
    let tokens = tokens(without_unit_tests(source));
    let (mut paths, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let starts = matches!(tokens[at], "crate" | "super") || children.contains(&tokens[at]);
        let follows = at > 0 && matches!(tokens[at - 1], "::" | ".");
        if starts && !follows && tokens.get(at + 1) == Some(&"::") {
            at = expand(&tokens, at, &[], &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads one path, or a tree of paths in braces, and returns where it ends.
fn expand(tokens: &[&str], mut at: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while at < tokens.len() {
        match tokens[at] {
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = if tokens[at] == "," { at + 1 } else { expand(tokens, at, &path, paths) };
                }
                return at + 1;
            }
            "self" if !path.is_empty() => at += 1,
            segment => {
                path.push(segment.to_owned());
                at += 1;
            }
        }
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    paths.push(path);
    at
}

fn without_unit_tests(source: &str) -> &str {
    let tests = source.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(source, |tests| &source[..tests])
}

fn tokens(source: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), source);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => string_literal(rest),
            // Quotes as characters, so that they do not open a string.
            '\'' if rest.starts_with("'\"'") => 3,
            ':' if rest.starts_with("::") => 2,
            _ if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let token = &rest[..length];
        if !token.starts_with("//") && !token.starts_with('"') && !first.is_whitespace() {
            tokens.push(token);
        }
        rest = &rest[length..];
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The length of the string literal at the start.
fn string_literal(source: &str) -> usize {
    let mut escaped = false;
    for (at, character) in source.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            _ => escaped = character == '\\' && !escaped,
        }
    }
    source.len()
}

#[test]
fn braces_are_expanded() {
    let source = "use crate::a::{self, B, c::{D, e::F}};\nuse super::g;\nfn f() { crate::h::run(child::I) }";
    let paths: Vec<String> = paths(source, &["child"]).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        ["crate::a", "crate::a::B", "crate::a::c::D", "crate::a::c::e::F", "super::g", "crate::h::run", "child::I"]
    );
}

#[test]
fn comments_strings_and_tests_are_skipped() {
    let source = "// crate::a\nlet b = \"crate::\\\"c\";\nlet d = '\"';\nuse crate::e;\n#[cfg(test)]\nmod tests {\nuse crate::f;}";
    assert_eq!(paths(source, &[]), [["crate", "e"]]);
}
