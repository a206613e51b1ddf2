//! Percent-encoding of single path segments, in URLs and in file names.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Bytes that are encoded: all but letters, digits, `-`, `_` and `.`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Encodes a text as one segment.
///
/// A leading `.` is encoded too, so that no name becomes a hidden file, `.` or `..`.
pub(crate) fn encode(text: &str) -> String {
    let encoded = utf8_percent_encode(text, ENCODED).to_string();
    match encoded.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => encoded,
    }
}

/// Decodes a segment; `None` if it is not UTF-8 or a `%` is not followed by two hexadecimal digits.
pub(crate) fn decode(segment: &str) -> Option<String> {
    // The crate passes malformed escapes through. Here two spellings of one name would be two keys, so they are rejected.
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !segment.split('%').skip(1).all(is_escape) {
        return None;
    }
    percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_round_trips() {
        for text in ["", ".", "..", "a/b", "session-1:train:0", "ü%20", "v1.5", "C:\\x", ".hidden"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
        assert_eq!(encode("v1.5-a_b"), "v1.5-a_b");
    }

    #[test]
    fn every_segment_is_a_safe_file_name() {
        for text in ["", ".", "..", "a/b", "session-1:train:0", "ü%20", "v1.5", "C:\\x", ".hidden"] {
            let encoded = encode(text);
            assert!(!encoded.starts_with('.') && !encoded.contains(['/', '\\', ':']), "{encoded}");
        }
    }

    #[test]
    fn malformed_escapes_are_rejected() {
        for segment in ["%", "%2", "%zz", "%ff", "%+1", "%ü"] {
            assert_eq!(decode(segment), None, "{segment}");
        }
    }
}
