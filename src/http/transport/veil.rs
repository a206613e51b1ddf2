//! Keeps secrets that a server sends out of ureq's log.
//!
//! At level trace ureq logs the bytes that it reads. So it gets them with placeholders of the same length, from the connection below
//! that log, and the response that it made of them gets the secrets back.

use ureq::http::{HeaderMap, HeaderValue};

use super::redact::Hidden;

/// The length from which a beginning of a secret is hidden, before the rest has come.
const MIN_START: usize = 8;

/// The length of a word of a head that may be an address with a secret: longer than the names of headers that ureq reads.
const MIN_WORD: usize = 24;

/// That of a word in the body of a response that gives a secret: longer than the size of a chunk.
const MIN_BODY_WORD: usize = 9;

/// Where a head has the first digit of the status, after `HTTP/1.1`.
const STATUS_AT: usize = 9;

/// What is hidden of a body. Of a head, it is known secrets and addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) enum Body {
    /// Known secrets.
    #[default]
    Ordinary,
    /// Each long word too: the service gives a secret. So it is in the head.
    GivesSecret,
    /// Nothing, if the response is a success: it is a file.
    File,
    /// Known secrets, for good: the bytes are decoded or passed on before anything could get them back.
    Kept,
}

/// What is hidden of one response.
#[derive(Default)]
pub(super) struct Veil {
    hidden: Hidden,
    body: Body,
    /// Whether the body has begun.
    is_in_body: bool,
    /// The head, as it came.
    head: Vec<u8>,
    /// The last bytes, as they came.
    recent: Vec<u8>,
    /// Whether the last byte is hidden.
    is_open: bool,
    /// What the placeholders stand for.
    pieces: Vec<Vec<u8>>,
    /// How many of them are before the body.
    before_body: usize,
}

impl Veil {
    pub(super) fn new(hidden: Hidden, body: Body) -> Self {
        Veil { hidden, body, ..Veil::default() }
    }

    /// Puts placeholders into bytes that have just come. Returns whether there are any.
    pub(super) fn cover(&mut self, new: &mut [u8]) -> bool {
        let start = self.recent.len();
        let text = [&self.recent, &*new].concat();
        let in_heads = self.read_heads(new);
        let head = if in_heads == 0 { 0 } else { start + in_heads };
        let covered = self.covered(&text, head).split_off(start);
        let mut at = 0;
        for run in covered.chunk_by(|one, next| one == next) {
            let end = at + run.len();
            if run[0] {
                if at > 0 || !self.is_open {
                    self.pieces.push(Vec::new());
                }
                if at < in_heads {
                    self.before_body = self.pieces.len();
                }
                let number = self.pieces.len() - 1;
                let piece = &mut self.pieces[number];
                let before = piece.len();
                piece.extend_from_slice(&new[at..end]);
                new[at..end].copy_from_slice(&placeholder(number, piece.len())[before..]);
            }
            self.is_open = run[0];
            at = end;
        }
        let longest = self.hidden.secrets().map(<[u8]>::len).max().unwrap_or_default().max(MIN_WORD);
        self.recent = text[text.len().saturating_sub(longest)..].to_vec();
        covered.contains(&true)
    }

    /// Reads on in the head, before which there may be those of interim responses. Returns how many of the bytes are of heads.
    fn read_heads(&mut self, new: &[u8]) -> usize {
        for (at, byte) in new.iter().enumerate() {
            if self.is_in_body {
                return at;
            }
            // ureq skips empty lines before a head, and its lines may end without a carriage return.
            if self.head.is_empty() && matches!(byte, b'\r' | b'\n') {
                continue;
            }
            self.head.push(*byte);
            if self.head.ends_with(b"\n\n") || self.head.ends_with(b"\n\r\n") {
                let status = self.head.get(STATUS_AT..).unwrap_or_default();
                if status.starts_with(b"1") && !status.starts_with(b"101") {
                    self.head.clear();
                    continue;
                }
                // An encoded one that gives a secret stays hidden, even if it is damaged by that.
                let is_failed_file = self.body == Body::File && !status.starts_with(b"2");
                if is_failed_file || (self.body == Body::Ordinary && self.is_encoded()) {
                    self.body = Body::Kept;
                }
                self.is_in_body = true;
            }
        }
        new.len()
    }

    /// Puts what is hidden back into the headers and the body that ureq made of the response.
    pub(super) fn lift(&self, headers: &mut HeaderMap, body: &mut [u8]) {
        if self.before_body > 0 {
            // Those of one name follow each other, in their order.
            let (mut last, mut number) = (None, 0);
            for (name, value) in headers.iter_mut() {
                number = if last == Some(name) { number + 1 } else { 0 };
                last = Some(name);
                match self.header(name.as_str(), number).and_then(|value| HeaderValue::from_bytes(value).ok()) {
                    Some(original) => *value = original,
                    None if value.as_bytes().contains(&b'*') => *value = HeaderValue::from_static(""),
                    None => (),
                }
            }
        }
        if self.body == Body::Kept {
            return;
        }
        let mut at = 0;
        for (number, piece) in self.pieces.iter().enumerate().skip(self.before_body) {
            let placeholder = placeholder(number, piece.len());
            // Each asterisk is part of a placeholder, so this is the one, however short it is.
            if let Some(before) = body[at..].windows(piece.len()).position(|part| part == placeholder) {
                let end = at + before + piece.len();
                body[at + before..end].copy_from_slice(piece);
                at = end;
            }
        }
    }

    /// The value of a header as it came; of several with this name, the one with this number.
    fn header(&self, name: &str, number: usize) -> Option<&[u8]> {
        let mut values = self.head.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        });
        values.nth(number)
    }

    /// Whether the body is compressed, which no request asks for while there is a veil.
    fn is_encoded(&self) -> bool {
        self.header("content-encoding", 0).is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity"))
    }

    /// Whether each byte is to be hidden. So many of the bytes are of a head.
    fn covered(&self, text: &[u8], head: usize) -> Vec<bool> {
        let mut covered = vec![false; text.len()];
        let heads = &text[..head];
        let (known, asterisks, words) = match self.body {
            Body::Ordinary => (text, text, heads),
            Body::GivesSecret => (text, text, text),
            Body::File => (heads, heads, heads),
            Body::Kept => (text, heads, heads),
        };
        // An asterisk, too, so that each one stands for something.
        for (covered, byte) in covered.iter_mut().zip(asterisks) {
            *covered = *byte == b'*';
        }
        for secret in self.hidden.secrets() {
            for at in 0..known.len() {
                let length = secret.len().min(known.len() - at);
                if length >= secret.len().min(MIN_START) && known[at..].starts_with(&secret[..length]) {
                    covered[at..at + length].fill(true);
                }
            }
        }
        let mut at = 0;
        while at < words.len() {
            let length = (at..words.len()).take_while(|&at| is_in_word(words[at], words.get(at + 1))).count();
            let word = &words[at..at + length];
            let continues = self.is_open && at <= self.recent.len() && at + length > self.recent.len();
            let is_address = || word.iter().any(|byte| matches!(byte, b'?' | b'@'));
            let min = if at < head { MIN_WORD } else { MIN_BODY_WORD };
            if length >= min && (self.body == Body::GivesSecret || is_address() || continues) {
                covered[at..at + length].fill(true);
            }
            at += length + 1;
        }
        covered
    }
}

/// A colon ends the name of a header, unless it is that of an address.
fn is_in_word(byte: u8, next: Option<&u8>) -> bool {
    match byte {
        b'"' => false,
        b':' => next.is_some_and(|next| *next == b'/' || next.is_ascii_digit()),
        byte => byte.is_ascii_graphic(),
    }
}

fn placeholder(number: usize, length: usize) -> Vec<u8> {
    let mut placeholder = format!("*{number:04x}*").into_bytes();
    placeholder.resize(length, b'*');
    placeholder
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use ureq::http::HeaderName;

    use super::*;
    use crate::config::Secret;
    use crate::http::transport::SecretLines;

    const KEY: &str = "tml-0123456789";

    fn veil(body: Body) -> Veil {
        Veil::new(Hidden::new(SecretLines::default(), vec![Secret::new(KEY)]), body)
    }

    /// What ureq reads of a text that comes in pieces of this length, and what becomes of it: of the last head, the values of its
    /// headers do.
    fn read(text: &str, length: usize, mut veil: Veil) -> (String, String) {
        let mut shown = text.as_bytes().to_vec();
        for piece in shown.chunks_mut(length) {
            veil.cover(piece);
        }
        let shown = String::from_utf8(shown).unwrap();
        let start = shown.rfind("HTTP/1.1 ").unwrap();
        let (head, body) = shown[start..].split_once("\r\n\r\n").unwrap();
        let mut headers = HeaderMap::new();
        for line in head.split("\r\n").skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        let mut body = body.as_bytes().to_vec();
        veil.lift(&mut headers, &mut body);
        let mut lifted = head.lines().next().unwrap().to_owned();
        for line in head.split("\r\n").skip(1) {
            let name = line.split_once(": ").unwrap().0;
            let number = lifted.to_lowercase().matches(&format!("\r\n{}: ", name.to_lowercase())).count();
            let value = headers.get_all(name).iter().nth(number).unwrap();
            lifted.push_str(&format!("\r\n{name}: {}", value.to_str().unwrap()));
        }
        let lifted = format!("{}{lifted}\r\n\r\n{}", &text[..start], String::from_utf8(body).unwrap());
        (shown, lifted)
    }

    #[test]
    fn a_repeated_key_is_hidden_however_it_comes() {
        let head = "HTTP/1.1 400 No\r\nx-echo: ";
        let text = format!("{head}{KEY}\r\n\r\nno {KEY}, tml-012345");
        let shown = format!("{head}*0000*********\r\n\r\nno *0001*********, *0002*****");
        assert_eq!(read(&text, 1000, veil(Body::Ordinary)).0, shown);
        for length in 1..text.len() {
            let (shown, lifted) = read(&text, length, veil(Body::Ordinary));
            assert_eq!(lifted, text, "{length}");
            assert!(!shown.contains("0123456789"), "{length}: {shown}");
        }
    }

    /// The ends of secrets whose beginnings came before are as short as one letter, and so are asterisks that are none.
    #[test]
    fn short_placeholders_are_told_apart() {
        let secrets = ["key-a-01", "key-b-12", "key-c-23"];
        let veil = || Veil::new(Hidden::new(SecretLines::default(), secrets.map(Secret::new).to_vec()), Body::Ordinary);
        let [a, b, c] = secrets;
        let text = format!(
            "HTTP/1.1 400 No *\r\nx-echo: {a}*\r\nx-other: {b}\r\nX-Echo: *, {c}{b}\r\n\r\n*{b} ** {a} *0000*** {c}{a} **"
        );
        for length in 1..text.len() {
            let (shown, lifted) = read(&text, length, veil());
            assert_eq!(lifted, text, "{length}");
            assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{length}: {shown}");
        }
    }

    #[test]
    fn heads_of_interim_responses_come_before() {
        let address = "https://me:word-1234@host:81/a?sig=abcdef";
        let text = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: {address}\r\nx-echo: {KEY}\r\n\r\n\
             HTTP/1.1 307 Moved\r\nlocation: {address}\r\n\r\n{KEY} {address}"
        );
        for length in [1, 7, 24, 1000] {
            for body in [Body::Ordinary, Body::File] {
                let (shown, lifted) = read(&text, length, veil(body));
                let head = &shown[..shown.len() - KEY.len() - address.len() - 1];
                assert!(!head.contains("abcdef"), "{length}: {shown}");
                assert!(!shown.contains("0123456789"), "{length}: {shown}");
                let last = text.find("HTTP/1.1 307").unwrap();
                // That of a failed download stays hidden.
                let end = if body == Body::File { text.rfind(KEY).unwrap() } else { text.len() };
                assert_eq!(lifted[last..end], text[last..end]);
            }
        }
        let file = text.replace("307 Moved", "200 OK");
        assert!(read(&file, 7, veil(Body::File)).0.ends_with(&format!("{KEY} {address}")), "a file is left alone");
        for (start, end) in [("", "\n"), ("", "\r\n"), ("\n\r\n", "\n")] {
            let heads = ["HTTP/1.1 100 Continue\n", &format!("HTTP/1.1 200 OK\nlocation: {address}\n")];
            let text = format!("{start}{}{end}{start}{}{end}{KEY} *", heads[0], heads[1]).into_bytes();
            for length in [1, 7, 1000] {
                let (mut shown, mut veil) = (text.clone(), veil(Body::File));
                for piece in shown.chunks_mut(length) {
                    veil.cover(piece);
                }
                let shown = String::from_utf8(shown).unwrap();
                assert!(shown.ends_with(&format!("{end}{KEY} *")), "{length} {start:?} {end:?}: {shown}");
                assert!(!shown.contains("abcdef"), "{length}: {shown}");
            }
        }
    }

    #[test]
    fn a_header_that_was_not_hidden_stays() {
        let mut veil = veil(Body::Ordinary);
        let mut shown = format!("HTTP/1.1 200 OK\r\nx-echo: {KEY}\r\n\r\n").into_bytes();
        veil.cover(&mut shown);
        let headers = [("x-echo", "*0000*********"), ("x-other", "kept"), ("x-unknown", "*0001*")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::from_iter(headers);
        veil.lift(&mut headers, &mut []);
        assert_eq!(["x-echo", "x-other", "x-unknown"].map(|name| &headers[name]), [KEY, "kept", ""]);
    }

    /// The decoder, which reads what ureq's log shows, finds each asterisk.
    #[test]
    fn an_encoded_body_is_left_alone() {
        for (encoding, is_encoded) in [("gzip", true), ("Identity", false)] {
            let head = format!("HTTP/1.1 200 OK\r\nx-echo: *{KEY}\r\nContent-Encoding: {encoding}\r\n\r\n");
            let body = b"\x1f\x8b\x08**\xff *0001*";
            for length in [1, 7, 1000] {
                let (mut shown, mut veil) = ([head.as_bytes(), body].concat(), veil(Body::Ordinary));
                for piece in shown.chunks_mut(length) {
                    veil.cover(piece);
                }
                let mut shown = shown.split_off(head.len());
                assert_eq!(shown == body, is_encoded, "{length}: {shown:?}");
                veil.lift(&mut HeaderMap::new(), &mut shown);
                assert_eq!(shown, body, "{length}");
            }
        }
    }

    #[test]
    fn a_response_that_gives_a_secret_is_hidden() {
        let token = "eyJhbGciOiJIUzI1NiJ9.e30.word";
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlocation: http://a:80/b?sig=0123456789abc\r\n\r\n{{\"jwt\":\"{token}\"}}"
        );
        for length in [1, 7, 24, 1000] {
            let (shown, lifted) = read(&text, length, veil(Body::GivesSecret));
            assert_eq!(lifted, text, "{length}");
            assert!(!shown.contains(".word") && !shown.contains("abc\r"), "{length}: {shown}");
            assert!(shown.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlocation: "), "{shown}");
            assert!(shown.contains("\r\n\r\n{\"jwt\":\""), "{shown}");
        }
    }

    #[test]
    fn an_address_in_a_head_is_hidden() {
        let text = "HTTP/1.1 307 Moved\r\nx-request-id: 0123456789012345678901234\r\nlocation: https://me:word-1234@host:81/a?sig=abcdef\r\n\r\n";
        for length in [1, 7, 24, 1000] {
            let (shown, lifted) = read(text, length, veil(Body::Ordinary));
            assert_eq!(lifted, text, "{length}");
            assert!(shown.contains("x-request-id: 0123456789012345678901234\r\n"), "{shown}");
            assert!(!shown.contains("abcdef"), "{length}: {shown}");
        }
        assert!(!read(text, 1000, veil(Body::Ordinary)).0.contains("word"));
    }

    #[test]
    fn the_body_of_a_download_is_left_alone() {
        for length in [1, 7, 1000] {
            let (shown, _) = read(&format!("HTTP/1.1 403 No\r\n\r\n{KEY}"), length, veil(Body::File));
            assert!(!shown.contains("0123456789"), "that of a failure is not: {shown}");
            let text = "HTTP/1.1 403 No\r\n\r\n2 * 3 ** 4";
            assert_eq!(read(text, length, veil(Body::File)).0, text, "nothing gets its asterisks back");
        }
        let head = "HTTP/1.1 200 OK\r\nlocation: //a/0123456789?01234567890123456789\r\n\r\n";
        let text = format!("{head}{KEY} 0123456789012345678901234");
        for length in [1, 7, 1000] {
            let (shown, lifted) = read(&text, length, veil(Body::File));
            assert_eq!((&shown[head.len()..], &*lifted), (&text[head.len()..], &*text), "{length}");
            assert!(!shown[..head.len()].contains("567890123456789"), "{shown}");
        }
    }

    quickcheck! {
        fn every_text_comes_back(parts: Vec<(String, bool)>, length: u8, gives_secret: bool) -> bool {
            let body = if gives_secret { Body::GivesSecret } else { Body::Ordinary };
            let parts = parts.iter().map(|(text, has_key)| format!("{text}{}", if *has_key { KEY } else { "*" }));
            let body_text = parts.collect::<String>();
            let head = b"HTTP/1.1 200 OK\r\n\r\n";
            let mut shown = [head, body_text.as_bytes()].concat();
            let mut veil = veil(body);
            for piece in shown.chunks_mut(usize::from(length.max(1))) {
                veil.cover(piece);
            }
            let mut lifted = shown.split_off(head.len());
            veil.lift(&mut HeaderMap::new(), &mut lifted);
            lifted == body_text.as_bytes()
        }
    }
}
