//! Keeps secrets out of ureq, and so out of its log.
//!
//! At level trace ureq logs the headers and the bytes that it writes. So it gets headers with masked secrets, and the
//! connection, which lies below that log, unmasks them as the bytes leave.

use std::fmt;
use std::sync::Arc;

use ureq::http::{HeaderName, HeaderValue};

/// Header lines with a secret, each as ureq writes it and as it is sent, of the same length.
#[derive(Clone, Default)]
pub(in crate::http) struct SecretLines(Arc<[SecretLine]>);

#[derive(Clone)]
struct SecretLine {
    name: HeaderName,
    masked: Vec<u8>,
    sent: Vec<u8>,
}

impl SecretLines {
    /// The lines of these headers.
    pub(in crate::http) fn new<'a>(secrets: impl IntoIterator<Item = (&'a HeaderName, &'a [u8])>) -> Self {
        SecretLines(secrets.into_iter().map(|(name, secret)| SecretLine::new(name, secret)).collect())
    }

    /// These lines; those of a request's own headers replace the ones of the same names.
    pub(in crate::http) fn with(&self, own: &[(HeaderName, HeaderValue)]) -> Self {
        if own.is_empty() {
            return self.clone();
        }
        let kept = self.0.iter().filter(|line| own.iter().all(|(name, _)| *name != line.name)).cloned();
        SecretLines(kept.chain(own.iter().map(|(name, secret)| SecretLine::new(name, secret.as_bytes()))).collect())
    }

    /// Puts the secrets into a part of a request's head that is about to leave. Returns whether there were any. ureq never
    /// splits a header line.
    pub(super) fn unmask(&self, output: &mut [u8]) -> bool {
        let mut unmasked = false;
        for line in output.split_mut(|byte| *byte == b'\r') {
            let start = usize::from(line.first() == Some(&b'\n'));
            let line = &mut line[start..];
            if let Some(secret) = self.0.iter().find(|secret| secret.masked == line) {
                line.copy_from_slice(&secret.sent);
                unmasked = true;
            }
        }
        unmasked
    }
}

impl SecretLine {
    fn new(name: &HeaderName, secret: &[u8]) -> Self {
        let line = |value: &[u8]| [name.as_str().as_bytes(), b": ", value].concat();
        SecretLine { name: name.clone(), masked: line(mask(secret).as_bytes()), sent: line(secret) }
    }
}

/// Asterisks, as many as the secret has bytes.
pub(in crate::http) fn mask(secret: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(&vec![b'*'; secret.len()]).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The length of a secret that is not found in ordinary text, in bytes. A local server accepts any key.
const MIN_SECRET: usize = 8;

/// Masks a secret that a server repeats in an error, which is logged and shown.
pub(in crate::http) fn mask_in(body: &mut [u8], secret: &[u8]) {
    if secret.len() < MIN_SECRET {
        return;
    }
    let mut rest = body;
    while let Some(at) = rest.windows(secret.len()).position(|part| part == secret) {
        let (found, after) = std::mem::take(&mut rest).split_at_mut(at + secret.len());
        found[at..].fill(b'*');
        rest = after;
    }
}

impl fmt::Debug for SecretLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLines")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_masked_lines_change() {
        let name = HeaderName::from_static("x-api-key");
        let lines = SecretLines::new([(&name, b"tml-k".as_slice())]);
        for (written, sent) in [
            (
                "POST / HTTP/1.1\r\nx-api-key: *****\r\na: b\r\n\r\n",
                "POST / HTTP/1.1\r\nx-api-key: tml-k\r\na: b\r\n\r\n",
            ),
            ("x-api-key: *****\r\n", "x-api-key: tml-k\r\n"),
            ("x-other: *****\r\nx-api-key: ****\r\n", "x-other: *****\r\nx-api-key: ****\r\n"),
            (r#"{"a":"x-api-key: *****"}"#, r#"{"a":"x-api-key: *****"}"#),
        ] {
            let mut output = written.as_bytes().to_vec();
            assert_eq!(lines.unmask(&mut output), written != sent);
            assert_eq!(String::from_utf8(output).unwrap(), sent);
        }
        assert!(!format!("{lines:?}").contains("tml-k"));
    }

    #[test]
    fn a_repeated_secret_is_masked() {
        for (body, secret, expected) in [
            ("no tml-12345, tml-12345!", "tml-12345", "no *********, *********!"),
            ("tml-1234", "tml-12345", "tml-1234"),
            ("no key", "key", "no key"),
            ("", "", ""),
        ] {
            let mut masked = body.as_bytes().to_vec();
            mask_in(&mut masked, secret.as_bytes());
            assert_eq!(String::from_utf8(masked).unwrap(), expected);
        }
    }

    #[test]
    fn a_requests_own_secret_replaces_the_configurations() {
        let [key, token] = ["x-api-key", "x-token"].map(HeaderName::from_static);
        let lines = SecretLines::new([(&key, b"first".as_slice())]);
        let own = [(key, HeaderValue::from_static("other")), (token, HeaderValue::from_static("t"))];
        let mut output = b"x-api-key: *****\r\nx-token: *\r\n\r\n".to_vec();
        assert!(lines.with(&own).unmask(&mut output));
        assert_eq!(output, b"x-api-key: other\r\nx-token: t\r\n\r\n");
    }
}
