//! Keeps secrets out of ureq, and so out of its log.
//!
//! At level trace ureq logs the headers and the bytes that it writes. So it gets headers with masked secrets, and the
//! connection, which lies below that log, unmasks them as the bytes leave.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ureq::http::{HeaderName, HeaderValue, Uri};

use crate::config::Secret;

/// Header lines with a secret, each as ureq writes it and as it is sent, of the same length.
#[derive(Clone, Default)]
pub(in crate::http) struct SecretLines(Arc<[SecretLine]>);

#[derive(Clone)]
struct SecretLine {
    /// `None` for the line of the request itself.
    name: Option<HeaderName>,
    masked: Vec<u8>,
    sent: Vec<u8>,
    /// Where the secret itself begins and ends in `sent`.
    secret: Range<usize>,
}

impl SecretLines {
    /// The lines of these headers.
    pub(in crate::http) fn new<'a>(secrets: impl IntoIterator<Item = (&'a HeaderName, &'a [u8])>) -> Self {
        SecretLines(secrets.into_iter().map(|(name, secret)| SecretLine::new(name, secret)).collect())
    }

    /// With the line of a request whose query may be a signature.
    pub(in crate::http) fn and_request_line(&self, method: &str, uri: &Uri) -> Self {
        let Some(query) = uri.query() else { return self.clone() };
        let line = |query: &str| format!("{method} {}?{query} HTTP/1.1", uri.path()).into_bytes();
        let (masked, sent) = (line(&"*".repeat(query.len())), line(query));
        let end = sent.len() - " HTTP/1.1".len();
        let line = SecretLine { name: None, masked, secret: end - query.len()..end, sent };
        SecretLines(self.0.iter().cloned().chain([line]).collect())
    }

    /// These lines; those of a request's own headers replace the ones of the same names.
    pub(in crate::http) fn with(&self, own: &[(HeaderName, HeaderValue)]) -> Self {
        if own.is_empty() {
            return self.clone();
        }
        let kept = self.0.iter().filter(|line| own.iter().all(|(name, _)| Some(name) != line.name.as_ref())).cloned();
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
        let (masked, sent) = (line(mask(secret).as_bytes()), line(secret));
        // Without the scheme of an authorization.
        let start = sent.iter().rposition(|byte| *byte == b' ').map_or(0, |at| at + 1);
        SecretLine { name: Some(name.clone()), masked, secret: start..sent.len(), sent }
    }

    fn secret(&self) -> &[u8] {
        &self.sent[self.secret.clone()]
    }
}

/// Asterisks, as many as the secret has bytes.
pub(in crate::http) fn mask(secret: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(&vec![b'*'; secret.len()]).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The address with a masked query.
pub(in crate::http) fn without_query(uri: &Uri) -> Uri {
    let Some(query) = uri.query() else { return uri.clone() };
    let masked = format!("{}?{}", uri.path(), "*".repeat(query.len()));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = masked.parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// The length of a secret that is not found in ordinary text, in bytes. A local server accepts any key.
const MIN_SECRET: usize = 8;

/// What no error and no line of the log may show of a response: the secrets of its request, and the credentials of the client,
/// which a server may repeat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hidden {
    lines: SecretLines,
    credentials: Vec<Secret>,
    /// Parts of an address: the user name and password, with the `@`, and a query.
    address: Vec<String>,
}

impl Hidden {
    pub(in crate::http) fn new(lines: SecretLines, credentials: Vec<Secret>) -> Self {
        Hidden { lines, credentials, address: Vec::new() }
    }

    /// With the user name and password in this address.
    pub(in crate::http) fn with_login(&self, address: Option<&str>) -> Self {
        let authority = address.and_then(|address| address.split_once("//")?.1.split(['/', '?', '#']).next());
        let login = authority.and_then(|authority| Some(authority[..=authority.rfind('@')?].to_owned()));
        Hidden { address: login.into_iter().collect(), ..self.clone() }
    }

    /// With all that may give access in this address: a query may be a signature.
    pub(in crate::http) fn with_address(&self, address: Option<&str>) -> Self {
        let mut hidden = self.with_login(address);
        let query = address.and_then(|address| Some(address.split_once('?')?.1));
        hidden.address.extend(query.filter(|query| query.len() >= MIN_SECRET).map(str::to_owned));
        hidden
    }

    /// The secrets that are long enough to be looked for.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.0.iter().map(SecretLine::secret);
        let credentials = self.credentials.iter().map(|credential| credential.expose().as_bytes());
        lines.chain(credentials).filter(|secret| secret.len() >= MIN_SECRET)
    }

    /// Masks what is hidden. Returns whether there was any.
    pub(in crate::http) fn mask_in(&self, text: &mut [u8]) -> bool {
        let address = self.address.iter().map(String::as_bytes);
        let mut masked = false;
        for secret in address.chain(self.secrets()) {
            masked |= mask_in(text, secret);
        }
        masked
    }

    /// The text, masked.
    pub(in crate::http) fn mask(&self, text: String) -> String {
        let mut bytes = text.into_bytes();
        self.mask_in(&mut bytes);
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// Masks each occurrence of a secret.
fn mask_in(text: &mut [u8], secret: &[u8]) -> bool {
    let mut masked = false;
    let mut rest = text;
    while let Some(at) = rest.windows(secret.len()).position(|part| part == secret) {
        let (found, after) = rest.split_at_mut(at + secret.len());
        found[at..].fill(b'*');
        (rest, masked) = (after, true);
    }
    masked
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

    fn whole_path(uri: &Uri) -> String {
        format!("{}{}", uri.path(), uri.query().map(|query| format!("?{query}")).unwrap_or_default())
    }

    #[test]
    fn a_signed_address_is_masked() {
        for (uri, masked) in [
            ("https://host:1/a?sig=12345678", "https://host:1/a?************"),
            ("http://host?sig=1", "http://host/?*****"),
            ("http://host/a", "http://host/a"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(without_query(&uri).to_string(), masked);
            let lines = SecretLines::default().and_request_line("GET", &uri);
            let mut head =
                format!("GET {path} HTTP/1.1\r\nhost: host\r\n", path = whole_path(&without_query(&uri))).into_bytes();
            lines.unmask(&mut head);
            assert_eq!(
                String::from_utf8(head).unwrap(),
                format!("GET {path} HTTP/1.1\r\nhost: host\r\n", path = whole_path(&uri))
            );
        }
        let uri = "http://host/a?sig=12345678".parse().unwrap();
        let hidden = Hidden::new(SecretLines::default().and_request_line("GET", &uri), Vec::new());
        assert_eq!(hidden.mask("HTTP/1.1 403 for sig=12345678".to_owned()), "HTTP/1.1 403 for ************");
    }

    #[test]
    fn a_repeated_secret_is_masked() {
        let lines = |name: &'static str, value: &'static str| {
            SecretLines::new([(&HeaderName::from_static(name), value.as_bytes())])
        };
        for (text, hidden, expected) in [
            (
                "no tml-12345, tml-12345!",
                Hidden::new(lines("x-api-key", "tml-12345"), Vec::new()),
                "no *********, *********!",
            ),
            ("tml-1234", Hidden::new(lines("x-api-key", "tml-12345"), Vec::new()), "tml-1234"),
            ("no key", Hidden::new(lines("x-api-key", "key"), Vec::new()), "no key"),
            ("", Hidden::new(lines("x-api-key", ""), Vec::new()), ""),
            ("no word-1234", Hidden::new(lines("authorization", "Bearer word-1234"), Vec::new()), "no *********"),
            ("no tml-12345", Hidden::new(SecretLines::default(), vec![Secret::new("tml-12345")]), "no *********"),
            ("to http://a:b@c/d", Hidden::default().with_address(Some("http://a:b@c/d")), "to http://****c/d"),
            ("to //a@b@c", Hidden::default().with_address(Some("//a@b@c")), "to //****c"),
            ("to /a?sig=1234567", Hidden::default().with_address(Some("/a?sig=1234567")), "to /a?***********"),
            ("to /a?step", Hidden::default().with_address(Some("/a?step")), "to /a?step"),
            ("to http://c/d@e", Hidden::default().with_address(Some("http://c/d@e")), "to http://c/d@e"),
            ("größer word-1234ü", Hidden::new(lines("x-a", "word-1234"), Vec::new()), "größer *********ü"),
        ] {
            assert_eq!(hidden.mask(text.to_owned()), expected);
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
