//! Random damage to bytes that a decoder takes.

use quickcheck::{Arbitrary, Gen};

/// What typically breaks decoders.
const WORDS: [&[u8]; 22] = [
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"{",
    b"]",
    b"\"",
    b"\r\n",
    b"\n\n",
    b"\x00",
    b"\x1b[2J",
    b"9223372036854775808",
    b"18446744073709551616",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xc0\xaf",
    b"%00",
    b"../",
    b"&limit=-1",
    b"[[[[[[[[",
    b"* 99999",
];

/// What can be nested.
const OPENINGS: [&[u8]; 4] = [b"[", b"{\"a\":", b"{%if x%}", b"("];

/// The most bytes that changes may make of an input.
const MAX_BYTES: usize = 1 << 20;

/// A change of a few bytes, somewhere.
#[derive(Clone, Debug)]
pub enum Change {
    Set(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    /// These many bytes again.
    Repeat(u16, u8),
    /// The end is missing.
    Cut(u16),
    /// One of [`OPENINGS`], so often.
    Nest(u16, u8, u16),
}

impl Arbitrary for Change {
    fn arbitrary(g: &mut Gen) -> Self {
        let place = u16::arbitrary(g);
        match u8::arbitrary(g) % 16 {
            0..5 => Change::Set(place, u8::arbitrary(g)),
            5..9 => Change::Insert(place, g.choose(&WORDS).unwrap().to_vec()),
            9 => Change::Insert(place, Vec::arbitrary(g)),
            10..12 => Change::Remove(place, u8::arbitrary(g)),
            12..14 => Change::Repeat(place, u8::arbitrary(g)),
            14 => Change::Cut(place),
            _ => Change::Nest(place, u8::arbitrary(g), u16::arbitrary(g) % 2000),
        }
    }
}

impl Change {
    fn to(&self, bytes: &mut Vec<u8>) {
        let at = |place: u16| usize::from(place) % (bytes.len() + 1);
        match self {
            Change::Set(place, value) => {
                let place = at(*place);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = *value;
                }
            }
            Change::Insert(place, inserted) => {
                let place = at(*place);
                bytes.splice(place..place, inserted.iter().copied());
            }
            Change::Remove(place, count) => {
                let place = at(*place);
                bytes.drain(place..bytes.len().min(place + usize::from(*count)));
            }
            Change::Repeat(place, count) => {
                let place = at(*place);
                let again = bytes[place..bytes.len().min(place + usize::from(*count))].to_vec();
                bytes.splice(place..place, again);
            }
            Change::Cut(place) => bytes.truncate(at(*place)),
            Change::Nest(place, opening, depth) => {
                let place = at(*place);
                let opening = OPENINGS[usize::from(*opening) % OPENINGS.len()];
                bytes.splice(place..place, opening.repeat(usize::from(*depth)));
            }
        }
        bytes.truncate(MAX_BYTES);
    }
}

/// Makes these changes, one after the other.
pub fn damage(bytes: &mut Vec<u8>, changes: &[Change]) {
    changes.iter().for_each(|change| change.to(bytes));
}

/// The number of random cases: `QUICKCHECK_TESTS`, or this one.
pub fn cases(usual: u64) -> u64 {
    std::env::var("QUICKCHECK_TESTS").map_or(usual, |cases| cases.parse().unwrap())
}
