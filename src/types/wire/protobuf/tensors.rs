//! Tensors from and to their messages.

use prost::bytes::Bytes;

use super::packed::{read_shape, read_tensor};
use super::{DType, Tensor, tensor};
use crate::types::TensorData;

/// Reads a tensor.
pub(super) fn read(message: Tensor, what: &str) -> Result<TensorData, String> {
    let shape = read_shape(&message.shape, what)?;
    let numbers = match message.encoding {
        Some(tensor::Encoding::Dense(bytes)) => read_tensor(&bytes, message.dtype, what)?,
        Some(tensor::Encoding::SparseCsr(_)) => return Err(format!("{what} is sparse")),
        None => return Err(format!("{what} has no numbers")),
    };
    match shape.is_empty() {
        true => Ok(numbers.without_shape()),
        false => numbers.with_shape(shape).map_err(|error| format!("{what}: {error}")),
    }
}

/// The message of a tensor.
pub(super) fn message(tensor: &TensorData) -> Tensor {
    let (dtype, bytes) = numbers(tensor);
    let shape = tensor.shape().unwrap_or_default().iter().map(|&length| length as i64).collect();
    Tensor { encoding: Some(tensor::Encoding::Dense(bytes)), dtype: dtype.into(), shape }
}

/// The type and the bytes of a tensor's numbers.
pub(super) fn numbers(tensor: &TensorData) -> (DType, Bytes) {
    let floats = tensor.as_f32().map(|values| (DType::DtypeFloat32, to_bytes(values, f32::to_le_bytes)));
    let integers = tensor.as_i64().map(|values| (DType::DtypeInt64, to_bytes(values, i64::to_le_bytes)));
    floats.or(integers).unwrap_or_default()
}

/// Numbers in a row.
pub(super) fn to_bytes<T: Copy, const N: usize>(numbers: &[T], to_le: fn(T) -> [u8; N]) -> Bytes {
    numbers.iter().flat_map(|&number| to_le(number)).collect()
}
