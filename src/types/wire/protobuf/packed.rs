//! Packed arrays: little-endian numbers in a row, without alignment. And how many messages a body may have.

use prost::decode_length_delimiter;

use super::DType;
use crate::types::TensorData;

/// The maximum number of messages of a repeated field. An empty one is two bytes of a body, and many times that in memory.
const MAX_MESSAGES: usize = 1 << 20;

/// Fails if a body has too many of the messages with this tag to decode it.
pub(super) fn check_count(body: &[u8], tag: usize) -> Result<(), String> {
    let (mut rest, mut count) = (body, 0);
    while let Ok(key) = decode_length_delimiter(&mut rest) {
        count += usize::from(key >> 3 == tag);
        let length = match key & 7 {
            0 => decode_length_delimiter(&mut rest).map(|_| 0),
            1 => Ok(8),
            2 => decode_length_delimiter(&mut rest),
            5 => Ok(4),
            _ => break,
        };
        // What is wrong with a body, its decoder says.
        match length.ok().and_then(|length| rest.get(length..)) {
            Some(next) => rest = next,
            None => break,
        }
    }
    match count > MAX_MESSAGES {
        true => Err(format!("the field {tag} has {count} messages, more than {MAX_MESSAGES}")),
        false => Ok(()),
    }
}

/// Reads numbers of `N` bytes each. `what` names the array in the error.
pub(super) fn read<T, const N: usize>(bytes: &[u8], what: &str, from_le: fn([u8; N]) -> T) -> Result<Vec<T>, String> {
    let numbers = bytes.chunks_exact(N);
    if !numbers.remainder().is_empty() {
        return Err(format!("{what} has {} bytes, which are no numbers of {N} bytes each", bytes.len()));
    }
    let number = |bytes: &[u8]| {
        let mut number = [0; N];
        number.copy_from_slice(bytes);
        from_le(number)
    };
    Ok(numbers.map(number).collect())
}

/// Reads indices.
pub(super) fn read_i64(bytes: &[u8], what: &str) -> Result<Vec<i64>, String> {
    read(bytes, what, i64::from_le_bytes)
}

/// Reads token ids.
pub(super) fn read_tokens(bytes: &[u8], what: &str) -> Result<Vec<u32>, String> {
    let tokens = read(bytes, what, i32::from_le_bytes)?;
    let token = |token| u32::try_from(token).map_err(|_| format!("{what} has the negative token id {token}"));
    tokens.into_iter().map(token).collect()
}

/// Reads numbers of this type as a flat tensor: all integers as int64, all floats as float32.
pub(super) fn read_tensor(bytes: &[u8], dtype: i32, what: &str) -> Result<TensorData, String> {
    Ok(match dtype_of(dtype, what)? {
        DType::DtypeFloat32 => read(bytes, what, f32::from_le_bytes)?.into(),
        DType::DtypeInt64 => read(bytes, what, i64::from_le_bytes)?.into(),
        DType::DtypeInt32 => read(bytes, what, |number| i64::from(i32::from_le_bytes(number)))?.into(),
        DType::DtypeBfloat16 => {
            read(bytes, what, |upper| f32::from_bits(u32::from(u16::from_le_bytes(upper)) << 16))?.into()
        }
        DType::DtypeUnspecified => return Err(no_dtype(dtype, what)),
    })
}

/// The size of a number of this type in bytes.
pub(super) fn size_of_dtype(dtype: i32, what: &str) -> Result<usize, String> {
    match dtype_of(dtype, what)? {
        DType::DtypeInt64 => Ok(8),
        DType::DtypeFloat32 | DType::DtypeInt32 => Ok(4),
        DType::DtypeBfloat16 => Ok(2),
        DType::DtypeUnspecified => Err(no_dtype(dtype, what)),
    }
}

fn dtype_of(dtype: i32, what: &str) -> Result<DType, String> {
    DType::try_from(dtype).map_err(|_| no_dtype(dtype, what))
}

fn no_dtype(dtype: i32, what: &str) -> String {
    format!("{what} has numbers of the unknown type {dtype}")
}

/// The length of each dimension.
pub(super) fn read_shape(dimensions: &[i64], what: &str) -> Result<Vec<usize>, String> {
    if dimensions.len() > MAX_DIMENSIONS {
        return Err(format!("{what} has {} dimensions", dimensions.len()));
    }
    let length = |&length| usize::try_from(length).map_err(|_| format!("{what} has the shape {dimensions:?}"));
    dimensions.iter().map(length).collect()
}

/// As many as numpy allows. Each datum of a result has a copy of its shape.
const MAX_DIMENSIONS: usize = 64;
