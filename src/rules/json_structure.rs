//! The structure of JSON text: brackets and strings, found without reading what is between them. So a large result is read once,
//! when it is decoded.

/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// A part of the structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// A bracket that opens, with the depth inside.
    Open(usize),
    /// One that closes, with the depth outside, and how many bytes follow.
    Close(usize, usize),
    /// A string as it is written, and how deep it is.
    Text(usize, &'a [u8]),
}

/// Calls back for each part until it says to stop. Returns whether it did.
fn walk<'a>(json: &'a [u8], mut stop: impl FnMut(Part<'a>) -> bool) -> bool {
    let (mut depth, mut string, mut escaped) = (0_usize, None, false);
    for (block, bytes) in json.chunks(BLOCK).enumerate() {
        // Most of a large result is numbers.
        if !escaped && !bytes.iter().fold(false, |found, &byte| found | is_mark(byte)) {
            continue;
        }
        for (at, &byte) in (block * BLOCK..).zip(bytes) {
            let part = match byte {
                _ if escaped => {
                    escaped = false;
                    continue;
                }
                b'\\' => {
                    escaped = string.is_some();
                    continue;
                }
                b'"' => match string.take() {
                    Some(start) => Part::Text(depth, &json[start..at]),
                    None => {
                        string = Some(at + 1);
                        continue;
                    }
                },
                b'[' | b'{' if string.is_none() => {
                    depth += 1;
                    Part::Open(depth)
                }
                b']' | b'}' if string.is_none() => {
                    depth = depth.saturating_sub(1);
                    Part::Close(depth, json.len() - at - 1)
                }
                _ => continue,
            };
            if stop(part) {
                return true;
            }
        }
    }
    false
}

/// Whether it is a bracket, a quote or a backslash.
fn is_mark(byte: u8) -> bool {
    // With this bit, square brackets are curly ones, and the backslash is the bar between those.
    matches!(byte | 0x20, b'{'..=b'}') || byte == b'"'
}

/// Whether anything in this JSON is nested deeper than this.
pub(crate) fn is_deeper_than(depth: usize, json: &[u8]) -> bool {
    walk(json, |part| matches!(part, Part::Open(inside) if inside > depth))
}

/// Whether this is an object, as far as its structure shows, and none of these words is a key or a string directly in it.
pub(crate) fn is_object_without(words: &[&[u8]], json: &[u8]) -> bool {
    let (json, mut is_whole) = (json.trim_ascii(), false);
    let is_found = walk(json, |part| match part {
        Part::Close(0, rest) => {
            is_whole = rest == 0;
            !is_whole
        }
        // An escape may hide any word.
        Part::Text(1, text) => words.contains(&text) || text.contains(&b'\\'),
        _ => false,
    });
    json.starts_with(b"{") && is_whole && !is_found
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::Value;

    use super::*;

    #[test]
    fn words_at_the_top_level_are_found() {
        let long = " ".repeat(3 * BLOCK);
        for (json, expected) in [
            (r#"{"a":1}"#, true),
            (" {} \n", true),
            (r#"{"error":null}"#, false),
            (r#"{"a":"error"}"#, false),
            (r#"{"a":{"error":[1]},"b":["error"]}"#, true),
            (r#"{"errors":"an error"}"#, true),
            (r#"{"a":"\"","error":1}"#, false),
            (r#"{"\u0065rror":1}"#, false),
            (r#"{"a":["\\","{"],"error":1}"#, false),
            (r#"{"a":["\\","{"]}"#, true),
            (&format!(r#"{{"a":[1,2{long}],{long}"error":{long}1}}"#), false),
            (&format!(r#"{{"a":[1,2{long}],{long}"b":{long}1}}"#), true),
            ("[]", false),
            ("", false),
            ("1", false),
            (r#"{"a":1"#, false),
            (r#"{"a":[1}"#, false),
            (r#"{"a":1}}"#, false),
            (r#"{"a":1}{}"#, false),
            (r#"{"a":1} x"#, false),
            (r#"x{"a":1}"#, false),
            (r#"{"a":1}""#, false),
            (r#"{"a":"b}"#, false),
        ] {
            assert_eq!(is_object_without(&[b"error", b"other"], json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        for (json, depth) in [
            ("", 0),
            ("1", 0),
            ("[]", 1),
            ("[[],[]]", 2),
            (r#"[{"a":[1]},"[[[["]"#, 3),
            (r#"["\"[[[",[1]]"#, 2),
            (r#"\"[[\\"[[["#, 3),
            ("]]][", 1),
            // What a backslash at the end of a block escapes is in the next one, which has no mark.
            (&format!("\"{}\\{}\"[[", "7".repeat(BLOCK - 2), "7".repeat(BLOCK)), 2),
        ] {
            assert!(!is_deeper_than(depth, json.as_bytes()), "{json}");
            assert!(depth == 0 || is_deeper_than(depth - 1, json.as_bytes()), "{json}");
        }
    }

    /// How deep it is, byte by byte.
    fn depth_of(json: &[u8]) -> usize {
        let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
        for byte in json {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_string,
                b'"' => in_string = !in_string,
                b'[' | b'{' if !in_string => depth += 1,
                b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        deepest
    }

    quickcheck! {
        fn blocks_without_marks_change_nothing(picks: Vec<u8>, gap: u8) -> bool {
            let json: Vec<u8> = picks.iter().flat_map(|&pick| {
                let byte = b"[]{}\"\\1,"[usize::from(pick % 8)];
                std::iter::once(byte).chain(vec![b'7'; if pick > 200 { gap.into() } else { 0 }])
            }).collect();
            let depth = depth_of(&json);
            !is_deeper_than(depth, &json) && (depth == 0 || is_deeper_than(depth - 1, &json))
        }

        fn it_is_what_a_parser_finds(keys: Vec<String>, values: Vec<String>, word: String) -> bool {
            let json: Value = keys.into_iter().zip(values.into_iter().map(Value::from)).collect();
            let text = json.to_string();
            let quoted = Value::from(&*word).to_string();
            let is_there = json.as_object().unwrap().iter().any(|(key, value)| *key == word || *value == word);
            let found = is_object_without(&[quoted.trim_matches('"').as_bytes()], text.as_bytes());
            // Escapes may hide it.
            found != is_there || (!found && text.contains('\\'))
        }
    }
}
