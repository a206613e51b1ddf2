//! Packed arrays: little-endian numbers in a row, without alignment. And how many messages a body may have.

use prost::encoding::decode_varint;

use super::DType;
use crate::types::TensorData;

/// The maximum number of messages of a repeated field. An empty one is two bytes of a body, and many times that in memory.
const MAX_MESSAGES: usize = 1 << 20;

/// Fails if a body has too many of the messages with this tag to decode it.
pub(super) fn check_count(body: &[u8], tag: u64) -> Result<(), String> {
    let mut count = 0;
    for_each_field(body, |field, _| {
        count += usize::from(field == tag);
        Ok(())
    })?;
    within_limit(count, &format!("the field {tag} has"))
}

/// Fails if the body of a [`ForwardBackwardRequest`](super::ForwardBackwardRequest) has too many messages to decode it: datums,
/// and chunks, loss inputs and provenance spans in all of them.
#[cfg(feature = "local")]
pub(crate) fn check_request(body: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for_each_field(body, |field, content| {
        if field == 3 {
            count += 1;
            for_each_field(content, |_, _| {
                count += 1;
                Ok(())
            })?;
        }
        Ok(())
    })?;
    within_limit(count, "data and its fields have")
}

fn within_limit(count: usize, what: &str) -> Result<(), String> {
    match count > MAX_MESSAGES {
        true => Err(format!("{what} {count} messages, more than {MAX_MESSAGES}")),
        false => Ok(()),
    }
}

/// Calls back with the number and the content of each field of a message, up to the first malformed one. What is wrong with
/// that, the decoder says. The start of a group is an error: no message of the protocol has one, and the decoder would read on behind
/// it.
fn for_each_field<'a>(
    message: &'a [u8],
    mut each: impl FnMut(u64, &'a [u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = message;
    while let Ok(key) = decode_varint(&mut rest) {
        let (field, wire_type) = (key >> 3, key & 7);
        let length = match wire_type {
            0 => decode_varint(&mut rest).map(|_| 0),
            1 => Ok(8),
            2 => decode_varint(&mut rest),
            3 => return Err(format!("the field {field} is a group")),
            5 => Ok(4),
            _ => return Ok(()),
        };
        let length = length.ok().and_then(|length| usize::try_from(length).ok());
        let Some((content, next)) = length.and_then(|length| rest.split_at_checked(length)) else { return Ok(()) };
        each(field, content)?;
        rest = next;
    }
    Ok(())
}

/// Reads numbers of `N` bytes each. `what` names the array in the error.
pub(super) fn read<T, const N: usize>(
    bytes: &[u8],
    what: &str,
    from_le: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
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
pub(crate) fn size_of_dtype(dtype: i32, what: &str) -> Result<usize, String> {
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
    format!("{what} has numbers of the unknown dtype {dtype}")
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
