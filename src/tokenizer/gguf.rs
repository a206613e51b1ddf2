//! Metadata of GGUF files: a model's vocabulary and chat template. Tensors are not read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// The most bytes of metadata that are read. The largest vocabularies take about 20 MB.
const MAX_BYTES: u64 = 256 << 20;
const MAX_KEYS: u64 = 1 << 16;
/// The most items of a list that is kept.
const MAX_ITEMS: u64 = 1 << 22;
/// How deep lists may hold lists.
const MAX_DEPTH: usize = 8;

/// Some of the metadata of a file.
#[derive(Debug)]
pub(crate) struct Metadata(BTreeMap<String, Value>);

/// A value that this crate has a use for. Others are read over.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Integer(i64),
    Flag(bool),
    Text(String),
    Integers(Vec<i64>),
    Texts(Vec<String>),
    Other,
}

impl Metadata {
    /// Reads the keys that `keep` names, such as `tokenizer.chat_template`.
    pub(crate) fn read(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).map_err(|error| {
            Error::new(ErrorKind::Io, format!("the GGUF file {shown} cannot be read: {error}")).with_source(error)
        })?;
        Metadata::from_reader(BufReader::with_capacity(1 << 16, file), keep).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::InvalidData { ErrorKind::Decode } else { ErrorKind::Io };
            Error::new(kind, format!("the GGUF file {shown} cannot be used: {error}"))
                .with_hint("download it again, or convert the model again")
                .with_source(error)
        })
    }

    fn from_reader(reader: impl Read, keep: impl Fn(&str) -> bool) -> io::Result<Self> {
        let mut fields = Fields { reader: reader.take(MAX_BYTES) };
        let metadata = fields.metadata(keep);
        let cut_off = metadata.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        match fields.reader.limit() {
            0 if cut_off => Err(invalid(format!("its metadata has more than {MAX_BYTES} bytes"))),
            _ if cut_off => Err(invalid("it ends within its metadata")),
            _ => metadata,
        }
    }

    /// The text of this key, if it is one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Option<&[String]> {
        match self.0.get(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        match self.0.get(key)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    #[cfg(any(test, feature = "tokenizers"))]
    pub(crate) fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.0.get(key)? {
            Value::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    #[cfg(any(test, feature = "tokenizers"))]
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The keys that were kept.
    #[cfg(any(test, feature = "chat"))]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

struct Fields<R> {
    reader: io::Take<R>,
}

impl<R: Read> Fields<R> {
    fn metadata(&mut self, keep: impl Fn(&str) -> bool) -> io::Result<Metadata> {
        if self.bytes::<4>()? != *b"GGUF" {
            return Err(invalid("it does not begin as a GGUF file"));
        }
        match self.u32()? {
            2 | 3 => {}
            version if (1..=3).contains(&version.swap_bytes()) => return Err(invalid("its numbers are big-endian")),
            version => return Err(invalid(format!("its version is {version}, and only 2 and 3 are known"))),
        }
        let _tensors = self.u64()?;
        let keys = self.count(MAX_KEYS, "keys")?;
        let mut kept = BTreeMap::new();
        for _ in 0..keys {
            let key = self.text()?;
            let kind = self.u32()?;
            let kept_value = if keep(&key) { Some(self.value(kind)?) } else { self.skip(kind, 1, 0).map(|()| None)? };
            if let Some(value) = kept_value {
                kept.insert(key, value);
            }
        }
        Ok(Metadata(kept))
    }

    fn value(&mut self, kind: u32) -> io::Result<Value> {
        Ok(match kind {
            7 => Value::Flag(self.bytes::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => self.list()?,
            _ => match self.number(kind)? {
                Some(number) => Value::Integer(number),
                None => Value::Other,
            },
        })
    }

    fn list(&mut self) -> io::Result<Value> {
        let kind = self.u32()?;
        if !matches!(kind, 0..=5 | 8 | 10 | 11) {
            let items = self.u64()?;
            self.skip(kind, items, 0)?;
            return Ok(Value::Other);
        }
        let items = self.count(MAX_ITEMS, "items in a list")?;
        if kind == 8 {
            return (0..items).map(|_| self.text()).collect::<io::Result<_>>().map(Value::Texts);
        }
        let numbers = (0..items).map(|_| Ok(self.number(kind)?.unwrap_or(-1)));
        numbers.collect::<io::Result<_>>().map(Value::Integers)
    }

    /// A number of this kind, or `None` if it is no integer that fits.
    fn number(&mut self, kind: u32) -> io::Result<Option<i64>> {
        Ok(match kind {
            0 => Some(u8::from_le_bytes(self.bytes()?).into()),
            1 => Some(i8::from_le_bytes(self.bytes()?).into()),
            2 => Some(u16::from_le_bytes(self.bytes()?).into()),
            3 => Some(i16::from_le_bytes(self.bytes()?).into()),
            4 => Some(self.u32()?.into()),
            5 => Some(i32::from_le_bytes(self.bytes()?).into()),
            10 => i64::try_from(self.u64()?).ok(),
            11 => Some(i64::from_le_bytes(self.bytes()?)),
            _ => self.skip(kind, 1, 0).map(|()| None)?,
        })
    }

    /// Reads over this many values of a kind.
    fn skip(&mut self, kind: u32, items: u64, depth: usize) -> io::Result<()> {
        let size: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                for _ in 0..items {
                    let length = self.u64()?;
                    self.skip_bytes(length)?;
                }
                return Ok(());
            }
            9 if depth < MAX_DEPTH => {
                for _ in 0..items {
                    let kind = self.u32()?;
                    let items = self.u64()?;
                    self.skip(kind, items, depth + 1)?;
                }
                return Ok(());
            }
            9 => return Err(invalid("its lists are too deep")),
            _ => return Err(invalid(format!("a value has the unknown type {kind}"))),
        };
        self.skip_bytes(size.saturating_mul(items))
    }

    fn skip_bytes(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())?;
        if skipped < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.u64()?;
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        String::from_utf8(bytes).map_err(|error| invalid(format!("a text in it is not UTF-8: {error}")))
    }

    fn count(&mut self, limit: u64, what: &str) -> io::Result<u64> {
        match self.u64()? {
            count if count <= limit => Ok(count),
            count => Err(invalid(format!("it claims {count} {what}, more than {limit}"))),
        }
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn file(version: u32, entries: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        for (key, kind, value) in entries {
            bytes.extend([&text(key)[..], &kind.to_le_bytes(), value].concat());
        }
        bytes
    }

    fn list(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes(), &items.concat()].concat()
    }

    fn example() -> Vec<u8> {
        let floats: Vec<Vec<u8>> = [0.5f32, 1.0].iter().map(|score| score.to_le_bytes().to_vec()).collect();
        file(
            3,
            &[
                ("general.name", 8, text("words")),
                ("scores", 9, list(6, &floats)),
                ("nested", 9, list(9, &[list(8, &[text("a")]), list(4, &[vec![1, 0, 0, 0]])])),
                ("tokens", 9, list(8, &[text("a"), text("Ġb")])),
                ("types", 9, list(5, &[vec![1, 0, 0, 0], vec![255, 255, 255, 255]])),
                ("eos", 4, vec![7, 0, 0, 0]),
                ("add_bos", 7, vec![1]),
                ("epsilon", 6, vec![0; 4]),
                ("large", 10, vec![255; 8]),
            ],
        )
    }

    #[test]
    fn kept_keys_are_read() {
        let metadata = Metadata::from_reader(&example()[..], |key| key != "general.name").unwrap();
        assert_eq!(metadata.text("general.name"), None);
        assert_eq!(metadata.texts("tokens").unwrap(), ["a", "Ġb"]);
        assert_eq!(metadata.integers("types").unwrap(), [1, -1]);
        assert_eq!((metadata.integer("eos"), metadata.flag("add_bos")), (Some(7), Some(true)));
        assert_eq!((metadata.integer("large"), metadata.text("epsilon"), metadata.texts("nested")), (None, None, None));
        assert_eq!(metadata.keys().count(), 8);
        let one = Metadata::from_reader(&example()[..], |key| key == "general.name").unwrap();
        assert_eq!((one.text("general.name"), one.keys().count()), (Some("words"), 1));
    }

    #[test]
    fn every_shorter_file_is_refused() {
        let bytes = example();
        for end in 0..bytes.len() {
            for keep in [true, false] {
                let error = Metadata::from_reader(&bytes[..end], |_| keep).unwrap_err();
                assert_eq!(error.to_string(), "it ends within its metadata", "{end}");
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        quickcheck::quickcheck(
            (|at: usize, byte: u8| {
                let mut bytes = example();
                let at = at % bytes.len();
                bytes[at] = byte;
                let _ = Metadata::from_reader(&bytes[..], |_| true);
                let _ = Metadata::from_reader(&bytes[..], |_| false);
            }) as fn(_, _),
        );
    }

    #[test]
    fn claims_without_end_are_refused() {
        let huge = u64::MAX.to_le_bytes();
        let strings = [&8u32.to_le_bytes()[..], &huge].concat();
        let numbers = [&5u32.to_le_bytes()[..], &huge].concat();
        let deep = (0..20).fold(list(9, &[]), |inner, _| list(9, &[inner]));
        for (bytes, why) in [
            (b"GGML".to_vec(), "does not begin as a GGUF file"),
            (file(1, &[]), "only 2 and 3"),
            (file(3u32.swap_bytes(), &[]), "big-endian"),
            ([&file(3, &[])[..16], &huge].concat(), "18446744073709551615 keys"),
            (file(3, &[("k", 8, huge.to_vec())]), "ends within"),
            (file(3, &[("k", 9, strings)]), "items in a list"),
            (file(3, &[("k", 9, numbers)]), "items in a list"),
            (file(3, &[("k", 9, deep)]), "too deep"),
            (file(3, &[("k", 13, vec![])]), "unknown type 13"),
            (file(3, &[("k", 8, [&2u64.to_le_bytes()[..], &[0xC3, 0x28]].concat())]), "not UTF-8"),
        ] {
            let error = Metadata::from_reader(&bytes[..], |_| true).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        let claim = file(3, &[("k", 8, huge.to_vec())]);
        let endless = Metadata::from_reader(claim.chain(io::repeat(b'a')), |_| false);
        assert!(endless.unwrap_err().to_string().contains("more than 268435456 bytes"));
    }
}
