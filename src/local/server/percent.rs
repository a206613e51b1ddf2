//! Percent-encoding of single path segments, in URLs and in file names.

/// A text as one segment: everything but letters, digits, `-` and `_` is encoded, and `.` except at the beginning, so
/// that no name leads out of its folder or is hidden.
pub(super) fn encode(text: &str) -> String {
    let plain =
        |(at, byte): (usize, u8)| byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || (byte == b'.' && at > 0);
    let encoded = text.bytes().enumerate().map(|(at, byte)| match plain((at, byte)) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// The text of a segment; none if it is not UTF-8 or a `%` is not followed by two digits.
pub(super) fn decode(segment: &str) -> Option<String> {
    let mut pieces = segment.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_is_a_harmless_file_name() {
        for text in ["", ".", "..", "a/b", "session-1:train:0", "ü%20", "v1.5", "C:\\x", ".hidden"] {
            let encoded = encode(text);
            assert_eq!(decode(&encoded).as_deref(), Some(text));
            assert!(!encoded.starts_with('.') && !encoded.contains(['/', '\\', ':']), "{encoded}");
        }
        assert_eq!(encode("v1.5-a_b"), "v1.5-a_b");
    }

    #[test]
    fn what_is_not_encoded_properly_is_refused() {
        for segment in ["%", "%2", "%zz", "%ff", "%+1", "%ü"] {
            assert_eq!(decode(segment), None, "{segment}");
        }
    }
}
