//! The header of a GGUF file.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::Metadata;
use super::fields::{Fields, invalid};
#[cfg(feature = "pretrained")]
use super::tensors::{self, MAX_TENSORS, TensorInfo};
use crate::error::{Error, ErrorKind, Result};

/// What begins the data is a multiple of this, unless `general.alignment` says otherwise.
#[cfg(feature = "pretrained")]
const ALIGNMENT: i64 = 32;

/// The header of a file: its metadata, and where its tensors are.
#[cfg(feature = "pretrained")]
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    /// The place in the file from which the offsets of tensors count.
    pub(crate) data_start: u64,
    /// What that place and all offsets are multiples of.
    pub(crate) alignment: u64,
}

#[cfg(feature = "pretrained")]
impl Header {
    /// Reads a header with all of its metadata.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        read(path, Header::from_reader)
    }

    pub(crate) fn from_reader(reader: impl Read) -> io::Result<Self> {
        let mut fields = Fields::new(reader);
        let header = Header::from_fields(&mut fields);
        fields.explained(header)
    }

    fn from_fields<R: Read>(fields: &mut Fields<R>) -> io::Result<Self> {
        let count = tensor_count(fields)?;
        if count > MAX_TENSORS {
            return Err(invalid(format!("it claims {count} tensors, more than {MAX_TENSORS}")));
        }
        let metadata = Metadata::from_fields(fields, |_| true)?;
        let tensors = tensors::read(fields, count)?;
        let alignment = match metadata.has("general.alignment") {
            true => metadata.integer("general.alignment").unwrap_or_default(),
            false => ALIGNMENT,
        };
        let alignment = u32::try_from(alignment).ok().filter(|alignment| alignment.is_power_of_two());
        let alignment = alignment.ok_or_else(|| invalid("its general.alignment is not a power of two"))?.into();
        Ok(Header { metadata, tensors, data_start: fields.position().next_multiple_of(alignment), alignment })
    }
}

impl Metadata {
    /// Reads the keys that `keep` names, such as `tokenizer.chat_template`.
    pub(crate) fn read(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Self> {
        read(path, |reader| Metadata::from_reader(reader, keep))
    }

    fn from_reader(reader: impl Read, keep: impl Fn(&str) -> bool) -> io::Result<Self> {
        let mut fields = Fields::new(reader);
        let metadata = tensor_count(&mut fields).and_then(|_| Metadata::from_fields(&mut fields, keep));
        fields.explained(metadata)
    }
}

fn read<T>(path: &Path, parse: impl FnOnce(BufReader<File>) -> io::Result<T>) -> Result<T> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the GGUF file {shown} cannot be read: {error}")).with_source(error)
    })?;
    parse(BufReader::with_capacity(1 << 16, file)).map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::InvalidData { ErrorKind::Decode } else { ErrorKind::Io };
        Error::new(kind, format!("the GGUF file {shown} cannot be used: {error}"))
            .with_hint("download it again, or convert the model again")
            .with_source(error)
    })
}

/// Reads the beginning of a file, which says how many tensors it has.
fn tensor_count<R: Read>(fields: &mut Fields<R>) -> io::Result<u64> {
    if fields.bytes::<4>()? != *b"GGUF" {
        return Err(invalid("it does not begin as a GGUF file"));
    }
    match fields.u32()? {
        2 | 3 => {}
        version if (1..=3).contains(&version.swap_bytes()) => return Err(invalid("its numbers are big-endian")),
        version => return Err(invalid(format!("its version is {version}, and only 2 and 3 are known"))),
    }
    fields.u64()
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
        assert_eq!((metadata.float("epsilon"), metadata.float("eos")), (Some(0.0), None));
        assert_eq!(metadata.keys().count(), 8);
        let one = Metadata::from_reader(&example()[..], |key| key == "general.name").unwrap();
        assert_eq!((one.text("general.name"), one.keys().count()), (Some("words"), 1));
    }

    #[cfg(feature = "pretrained")]
    #[test]
    fn tensors_are_described_rows_first() {
        let claims = |count: u64, dimensions: u32, entries: &[_]| {
            let mut bytes = file(3, entries);
            bytes[8..16].copy_from_slice(&count.to_le_bytes());
            bytes.extend(
                [&text("w")[..], &dimensions.to_le_bytes(), &32u64.to_le_bytes(), &2u64.to_le_bytes()].concat(),
            );
            bytes.extend([&8u32.to_le_bytes()[..], &64u64.to_le_bytes()].concat());
            bytes
        };
        let header = Header::from_reader(&claims(1, 2, &[])[..]).unwrap();
        assert_eq!(header.tensors, [TensorInfo { name: "w".to_owned(), shape: vec![2, 32], kind: 8, offset: 64 }]);
        assert_eq!((header.data_start, header.alignment), (96, 32));
        let alignment = |value: u32| ("general.alignment", 4, value.to_le_bytes().to_vec());
        let header = Header::from_reader(&claims(1, 2, &[alignment(256)])[..]).unwrap();
        assert_eq!((header.data_start, header.alignment), (256, 256));
        for (bytes, why) in [
            (claims(1, 5, &[]), "5 dimensions"),
            (claims(2, 2, &[]), "ends within its header"),
            (claims(1 << 63, 2, &[]), "9223372036854775808 tensors"),
            (claims(1, 2, &[alignment(0)]), "general.alignment"),
            (claims(1, 2, &[alignment(33)]), "general.alignment"),
            (claims(1, 2, &[("general.alignment", 6, 64f32.to_le_bytes().to_vec())]), "general.alignment"),
        ] {
            let error = Header::from_reader(&bytes[..]).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn all_lists_share_one_budget() {
        let half = list(0, &[vec![7; 1 << 21]]);
        let half = [&half[..4], &(1u64 << 21).to_le_bytes(), &half[12..]].concat();
        let two = file(3, &[("a", 9, half.clone()), ("b", 9, half.clone())]);
        assert_eq!(Metadata::from_reader(&two[..], |_| true).unwrap().integers("b").unwrap().len(), 1 << 21);
        let more = file(3, &[("a", 9, half.clone()), ("b", 9, half), ("c", 9, list(8, &[text("one")]))]);
        let error = Metadata::from_reader(&more[..], |_| true).unwrap_err().to_string();
        assert!(error.contains("1 items in a list, more than 0"), "{error}");
        assert!(Metadata::from_reader(&more[..], |key| key != "a").is_ok());
    }

    #[test]
    fn every_shorter_file_is_refused() {
        let bytes = example();
        for end in 0..bytes.len() {
            for keep in [true, false] {
                let error = Metadata::from_reader(&bytes[..end], |_| keep).unwrap_err();
                assert_eq!(error.to_string(), "it ends within its header", "{end}");
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
            (file(3, &[("k", 7, vec![1]), ("k", 7, vec![0])]), "the key k twice"),
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
