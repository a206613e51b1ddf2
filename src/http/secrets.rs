//! Keeps secrets out of ureq's hands, and so out of its log.
//!
//! At level trace ureq logs the bytes it writes. It is therefore given headers with stars for secrets, and the connection
//! puts the secrets in their places when the bytes leave.

use std::fmt;
use std::sync::Arc;

use ureq::Error;
use ureq::http::{HeaderName, HeaderValue};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use crate::config::Secret;

/// Header lines with a secret, each as ureq writes it and as it is sent. Both are of one length.
#[derive(Clone, Default)]
pub(super) struct SecretLines(Arc<[(Vec<u8>, Vec<u8>)]>);

impl SecretLines {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = (&'a HeaderName, &'a Secret)>) -> Self {
        let line = |name: &HeaderName, value: &[u8]| [name.as_str().as_bytes(), b": ", value].concat();
        let lines = secrets
            .into_iter()
            .map(|(name, secret)| (line(name, stars(secret).as_bytes()), line(name, secret.expose().as_bytes())));
        SecretLines(lines.collect())
    }

    /// Puts the secrets into the part of a request that is about to leave. ureq never parts a header line, and no JSON has
    /// a carriage return in it, so a body is passed over in one go.
    fn reveal(&self, output: &mut [u8]) {
        for line in output.split_mut(|byte| *byte == b'\r') {
            let start = usize::from(line.first() == Some(&b'\n'));
            let line = &mut line[start..];
            if let Some((_, sent)) = self.0.iter().find(|(written, _)| *written == line) {
                line.copy_from_slice(sent);
            }
        }
    }
}

/// As many stars as the secret has bytes.
pub(super) fn stars(secret: &Secret) -> HeaderValue {
    HeaderValue::from_str(&"*".repeat(secret.expose().len())).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl fmt::Debug for SecretLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLines")
    }
}

impl<T: Transport> Connector<T> for SecretLines {
    type Out = RevealingTransport<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| RevealingTransport { inner, secrets: self.clone() }))
    }
}

/// A connection that sends the secrets.
#[derive(Debug)]
pub(super) struct RevealingTransport<T> {
    inner: T,
    secrets: SecretLines,
}

impl<T: Transport> Transport for RevealingTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let end = amount.min(output.len());
        self.secrets.reveal(&mut output[..end]);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn secrets_take_the_place_of_their_stars_and_nothing_else_changes() {
        let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").build_with(|_| None).unwrap();
        let name = HeaderName::from_static("x-api-key");
        let lines = SecretLines::new([(&name, config.api_key())]);
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
            lines.reveal(&mut output);
            assert_eq!(String::from_utf8(output).unwrap(), sent);
        }
        assert!(!format!("{lines:?}").contains("tml-k"));
    }
}
