//! Whether a poll brought a result in protobuf.

use crate::types::wire::protobuf;

/// Whether a response is a result in protobuf. All else that a poll may bring is JSON, whatever was asked for.
pub(crate) fn is_protobuf(status: u16, content_type: Option<&str>) -> bool {
    // 202 is "not yet".
    let may_be_result = (200..300).contains(&status) && status != 202;
    may_be_result && content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains(protobuf::CONTENT_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_told_by_the_content_type() {
        for (status, content_type, expected) in [
            (200, Some("application/x-protobuf"), true),
            (200, Some("Application/X-Protobuf; messageType=a.B"), true),
            (200, Some("application/json"), false),
            (200, None, false),
            (202, Some("application/x-protobuf"), false),
            (400, Some("application/x-protobuf"), false),
            (408, Some("application/x-protobuf"), false),
        ] {
            assert_eq!(is_protobuf(status, content_type), expected, "{status} {content_type:?}");
        }
    }
}
