//! The header of a safetensors file: eight bytes with its length, then JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::local::pretrained::encoding::Encoding;
use crate::local::pretrained::refusal::Refusal::{self, Damaged, OtherType};
use crate::local::pretrained::stored::StoredTensor;

/// The longest header that is read; those of models with ten thousands of tensors have a few million bytes.
const MAX_HEADER: u64 = 64 << 20;

/// The entry of the header with texts about the file.
const METADATA: &str = "__metadata__";

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The tensors of a file, which is number `index` of the checkpoint's.
pub(super) fn read(path: &Path, index: usize) -> Result<Vec<StoredTensor>> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let tensors = opened.and_then(|(size, file)| tensors(file, size, index));
    tensors
        .map_err(|error| {
            Error::new(ErrorKind::Io, format!("the file {} cannot be read: {error}", path.display())).with_source(error)
        })?
        .map_err(|refusal| refusal.of(path))
}

/// The tensors of a file of this size in bytes. Reads its header alone.
pub(crate) fn tensors(
    mut file: impl Read,
    size: u64,
    index: usize,
) -> io::Result<std::result::Result<Vec<StoredTensor>, Refusal>> {
    let damaged = |why: String| Ok(Err(Damaged(why)));
    let mut length = [0; 8];
    if size < 8 {
        return damaged("it is too short for a safetensors file".to_owned());
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let rest = size - 8;
    if length > rest {
        return damaged(format!("it claims a header of {length} bytes, and has {rest}"));
    }
    if length > MAX_HEADER {
        return damaged(format!("its header has {length} bytes, more than {MAX_HEADER}"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    Ok(parse(&header, rest - length).map(|tensors| {
        let data = 8 + length;
        let stored = tensors.into_iter().map(|(label, tensor)| StoredTensor {
            label,
            file: index,
            offset: data + tensor.offset,
            shape: tensor.shape,
            encoding: tensor.encoding,
            interleaved_heads: None,
        });
        stored.collect()
    }))
}

struct Parsed {
    shape: Vec<usize>,
    encoding: Encoding,
    /// After the header.
    offset: u64,
}

/// Reads a header, before this many bytes of data.
fn parse(header: &[u8], data: u64) -> std::result::Result<BTreeMap<String, Parsed>, Refusal> {
    // Values of JSON would take many times the memory of the header.
    let mut entries: BTreeMap<String, &RawValue> =
        serde_json::from_slice(header).map_err(|error| Damaged(format!("its header is no JSON: {error}")))?;
    entries.remove(METADATA);
    let mut tensors = BTreeMap::new();
    let mut places = Vec::new();
    for (name, entry) in entries {
        let entry = serde_json::from_str(entry.get());
        let entry = entry.map_err(|error| Damaged(format!("its entry {name} cannot be read: {error}")))?;
        let Entry { dtype, shape, data_offsets: (start, end) } = entry;
        let encoding = Encoding::of_safetensors(&dtype).ok_or_else(|| {
            OtherType(format!("its tensor {name} is stored as {dtype}, and only F32, F16 and BF16 can be read"))
        })?;
        let bytes =
            encoding.bytes(&shape).ok_or_else(|| Damaged(format!("its tensor {name} claims the size {shape:?}")))?;
        if end.checked_sub(start) != Some(bytes) {
            return Err(Damaged(format!("its tensor {name} of {bytes} bytes claims those from {start} to {end}")));
        }
        places.push((start, end, name.clone()));
        tensors.insert(name, Parsed { shape, encoding, offset: start });
    }
    // The format wants each byte of the data to belong to one tensor, which excludes overlaps and files that were cut off.
    places.sort_unstable();
    let mut covered = 0;
    for (start, end, name) in places {
        if start != covered {
            let what = if start < covered { "overlaps another one" } else { "leaves a gap before it" };
            return Err(Damaged(format!("its tensor {name} {what}")));
        }
        covered = end;
    }
    match covered {
        _ if covered == data => Ok(tensors),
        _ if covered > data => Err(Damaged(format!("it was cut off: {data} bytes of {covered} are there"))),
        _ => Err(Damaged(format!("it has {data} bytes of data, and its tensors only {covered}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_belongs_to_one_tensor() {
        let tensor = |from: u64, to: u64| format!(r#"{{"dtype":"F16","shape":[2,1],"data_offsets":[{from},{to}]}}"#);
        let two = |first: String, second: String| format!(r#"{{"a":{first},"b":{second},"__metadata__":{{"x":"y"}}}}"#);
        let tensors = parse(two(tensor(4, 8), tensor(0, 4)).as_bytes(), 8).unwrap();
        assert_eq!((tensors["a"].offset, tensors["b"].offset, &tensors["b"].shape), (4, 0, &vec![2, 1]));
        for (header, why) in [
            (two(tensor(0, 4), tensor(2, 6)), "overlaps"),
            (two(tensor(0, 4), tensor(6, 10)), "gap"),
            (two(tensor(0, 4), tensor(8, 4)), "from 8 to 4"),
            (two(tensor(0, 4), tensor(4, 9)), "from 4 to 9"),
            (tensor(0, 4), "cannot be read"),
            (r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#.to_owned(), "stored as I64"),
            (
                r#"{"a":{"dtype":"F32","shape":[9223372036854775807,8],"data_offsets":[0,8]}}"#.to_owned(),
                "claims the size",
            ),
            (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#.to_owned(), "cannot be read"),
            (format!(r#"{{"a":{}}}"#, tensor(0, 4)), "only 4"),
            (two(tensor(0, 4), tensor(4, 8))[..9].to_owned(), "no JSON"),
        ] {
            let error = parse(header.as_bytes(), 8).map(|_| ()).unwrap_err();
            assert!(error.why().contains(why), "{why}: {error:?}");
        }
        assert!(
            parse(two(tensor(4, 8), tensor(0, 4)).as_bytes(), 7)
                .is_err_and(|refusal| refusal.why().contains("cut off"))
        );
    }
}
