//! The fields of which the header of a GGUF file is made: numbers, texts, and lists of them.

use std::io::{self, Read};

/// The most bytes of a header that are read. The largest vocabularies take about 20 MB.
const MAX_BYTES: u64 = 256 << 20;
/// The most items of the lists that are kept, in all. A vocabulary with its merges has about a million.
const MAX_ITEMS: u64 = 1 << 22;
/// How deep lists may hold lists.
const MAX_DEPTH: usize = 8;

/// Reads one field after the other.
pub(super) struct Fields<R> {
    reader: io::Take<R>,
    items_left: u64,
}

impl<R: Read> Fields<R> {
    pub(super) fn new(reader: R) -> Self {
        Fields { reader: reader.take(MAX_BYTES), items_left: MAX_ITEMS }
    }

    /// How many bytes have been read.
    #[cfg(feature = "pretrained")]
    pub(super) fn position(&self) -> u64 {
        MAX_BYTES - self.reader.limit()
    }

    /// What was read, or why it ends too early.
    pub(super) fn explained<T>(&self, read: io::Result<T>) -> io::Result<T> {
        let is_cut_off = read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        match self.reader.limit() {
            0 if is_cut_off => Err(invalid(format!("its header has more than {MAX_BYTES} bytes"))),
            _ if is_cut_off => Err(invalid("it ends within its header")),
            _ => read,
        }
    }

    /// A number of this kind, or `None` if it is no integer that fits.
    pub(super) fn integer(&mut self, kind: u32) -> io::Result<Option<i64>> {
        Ok(match kind {
            0 => Some(u8::from_le_bytes(self.bytes()?).into()),
            1 => Some(i8::from_le_bytes(self.bytes()?).into()),
            2 => Some(u16::from_le_bytes(self.bytes()?).into()),
            3 => Some(i16::from_le_bytes(self.bytes()?).into()),
            4 => Some(self.u32()?.into()),
            5 => Some(i32::from_le_bytes(self.bytes()?).into()),
            10 => i64::try_from(self.u64()?).ok(),
            11 => Some(i64::from_le_bytes(self.bytes()?)),
            _ => self.skip(kind, 1).map(|()| None)?,
        })
    }

    /// Reads over this many values of a kind.
    pub(super) fn skip(&mut self, kind: u32, items: u64) -> io::Result<()> {
        self.skip_within(kind, items, 0)
    }

    fn skip_within(&mut self, kind: u32, items: u64, depth: usize) -> io::Result<()> {
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
                    self.skip_within(kind, items, depth + 1)?;
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

    pub(super) fn text(&mut self) -> io::Result<String> {
        let length = self.u64()?;
        let mut bytes = Vec::new();
        // What grows is what the file has, whatever length it claims.
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        String::from_utf8(bytes).map_err(|error| invalid(format!("a text in it is not UTF-8: {error}")))
    }

    pub(super) fn count(&mut self, limit: u64, what: &str) -> io::Result<u64> {
        match self.u64()? {
            count if count <= limit => Ok(count),
            count => Err(invalid(format!("it claims {count} {what}, more than {limit}"))),
        }
    }

    /// How many items a list has that will be kept.
    pub(super) fn items(&mut self) -> io::Result<u64> {
        let items = self.count(self.items_left, "items in a list")?;
        self.items_left -= items;
        Ok(items)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

pub(super) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
