//! Keeps secrets that a server sends out of ureq's log.
//!
//! At level trace ureq logs the bytes that it reads. So it gets them with placeholders of the same length, from the connection below
//! that log, and the response that it made of them gets the secrets back.

use std::cmp::Reverse;

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
}

/// What is hidden of one response.
#[derive(Default)]
pub(super) struct Veil {
    hidden: Hidden,
    body: Body,
    /// Whether the body has begun.
    is_in_body: bool,
    /// The number of bytes that have come.
    read: usize,
    /// The last bytes, as they came.
    recent: Vec<u8>,
    /// Whether the last byte is hidden.
    is_open: bool,
    /// What the placeholders stand for.
    pieces: Vec<Vec<u8>>,
}

impl Veil {
    pub(super) fn new(hidden: Hidden, body: Body) -> Self {
        Veil { hidden, body, ..Veil::default() }
    }

    /// Puts placeholders into bytes that have just come. Returns whether there are any.
    pub(super) fn cover(&mut self, new: &mut [u8]) -> bool {
        let start = self.recent.len();
        let text = [&self.recent, &*new].concat();
        if self.body == Body::File
            && self.read <= STATUS_AT
            && text.get(STATUS_AT).is_some_and(|status| *status != b'2')
        {
            self.body = Body::Ordinary;
        }
        let covered = self.covered(&text).split_off(start);
        let mut at = 0;
        for run in covered.chunk_by(|one, next| one == next) {
            let end = at + run.len();
            if run[0] {
                if at > 0 || !self.is_open {
                    self.pieces.push(Vec::new());
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
        self.read += new.len();
        self.is_in_body |= head_of(&text).is_some();
        self.recent = text[text.len().saturating_sub(longest)..].to_vec();
        covered.contains(&true)
    }

    /// Puts what is hidden back. Returns whether there was any.
    pub(super) fn lift(&self, text: &mut [u8]) -> bool {
        let mut has_changed = false;
        let mut numbers: Vec<_> = (0..self.pieces.len()).collect();
        // Short placeholders are the beginnings of longer ones.
        numbers.sort_by_key(|number| Reverse(self.pieces[*number].len()));
        for (number, piece) in numbers.into_iter().map(|number| (number, &self.pieces[number])) {
            let placeholder = placeholder(number, piece.len());
            if let Some(at) = text.windows(piece.len()).position(|part| part == placeholder) {
                text[at..at + piece.len()].copy_from_slice(piece);
                has_changed = true;
            }
        }
        has_changed
    }

    /// Whether each byte is to be hidden.
    fn covered(&self, text: &[u8]) -> Vec<bool> {
        let mut covered = vec![false; text.len()];
        let head = if self.is_in_body { 0 } else { head_of(text).unwrap_or(text.len()) };
        let (known, words) = match self.body {
            Body::Ordinary => (text, &text[..head]),
            Body::GivesSecret => (text, text),
            Body::File => (&text[..head], &text[..head]),
        };
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

/// The length of the head, if it has ended.
fn head_of(text: &[u8]) -> Option<usize> {
    text.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4)
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

    use super::*;
    use crate::config::Secret;
    use crate::http::transport::SecretLines;

    const KEY: &str = "tml-0123456789";

    fn veil(body: Body) -> Veil {
        Veil::new(Hidden::new(SecretLines::default(), vec![Secret::new(KEY)]), body)
    }

    /// What ureq reads of a text that comes in pieces of this length, and what becomes of it.
    fn read(text: &str, length: usize, mut veil: Veil) -> (String, String) {
        let mut shown = text.as_bytes().to_vec();
        for piece in shown.chunks_mut(length) {
            veil.cover(piece);
        }
        let mut lifted = shown.clone();
        veil.lift(&mut lifted);
        (String::from_utf8(shown).unwrap(), String::from_utf8(lifted).unwrap())
    }

    #[test]
    fn a_repeated_key_is_hidden_however_it_comes() {
        let text = format!("x-echo: {KEY}\r\n\r\nno {KEY}, tml-012345");
        let shown = "x-echo: *0000*********\r\n\r\nno *0001*********, *0002*****";
        assert_eq!(read(&text, 1000, veil(Body::Ordinary)).0, shown);
        for length in 1..text.len() {
            let (shown, lifted) = read(&text, length, veil(Body::Ordinary));
            assert_eq!(lifted, text, "{length}");
            assert!(!shown.contains("0123456789"), "{length}: {shown}");
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
            let parts = parts.iter().map(|(text, has_key)| format!("{}{}", text.replace('*', ""), if *has_key { KEY } else { "" }));
            let text = parts.collect::<String>();
            let mut shown = text.as_bytes().to_vec();
            let mut veil = veil(body);
            for piece in shown.chunks_mut(usize::from(length.max(1))) {
                veil.cover(piece);
            }
            let same_length = shown.len() == text.len();
            veil.lift(&mut shown);
            same_length && shown == text.as_bytes()
        }
    }
}
