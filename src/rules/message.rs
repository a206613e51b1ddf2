//! What an answer says about a failure.

/// The text in the body.
pub(crate) fn message_of(_status: u16, body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
