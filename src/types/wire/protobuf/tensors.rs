//! Tensors from and to their messages.

use prost::bytes::Bytes;

use super::packed::{read_i64, read_shape, read_tensor};
use super::{DType, SparseCsr, Tensor, tensor};
use crate::types::{Dtype, Stored, TensorData};

/// Reads a tensor. `what` names it in the error.
pub(super) fn read(message: Tensor, what: &str) -> Result<TensorData, String> {
    let shape = read_shape(&message.shape, what)?;
    match message.encoding {
        Some(tensor::Encoding::Dense(bytes)) => {
            let numbers = read_tensor(&bytes, message.dtype, what)?;
            match shape.is_empty() {
                true => Ok(numbers.without_shape()),
                false => numbers.with_shape(shape).map_err(|error| format!("{what}: {error}")),
            }
        }
        Some(tensor::Encoding::SparseCsr(SparseCsr { values, crow_indices, col_indices })) => {
            let numbers = read_tensor(&values, message.dtype, what)?;
            let crow = read_i64(&crow_indices, &format!("{what}.sparse_csr.crow_indices"))?;
            let col = read_i64(&col_indices, &format!("{what}.sparse_csr.col_indices"))?;
            numbers.with_indices(crow, col, shape).map_err(|error| format!("{what}: {error}"))
        }
        None => Err(format!("{what} has no numbers")),
    }
}

/// The message of a tensor.
pub(super) fn message(tensor: &TensorData) -> Tensor {
    let numbers = numbers(tensor);
    let encoding = match (tensor.crow_indices(), tensor.col_indices()) {
        (Some(crow), Some(col)) => tensor::Encoding::SparseCsr(SparseCsr {
            values: numbers,
            crow_indices: to_bytes(crow, i64::to_le_bytes),
            col_indices: to_bytes(col, i64::to_le_bytes),
        }),
        _ => tensor::Encoding::Dense(numbers),
    };
    let shape = tensor.shape().unwrap_or_default().iter().map(|&length| length as i64).collect();
    Tensor { encoding: Some(encoding), dtype: dtype(tensor).into(), shape }
}

/// The type of a tensor's numbers.
pub(super) fn dtype(tensor: &TensorData) -> DType {
    match tensor.dtype() {
        Dtype::Float32 => DType::DtypeFloat32,
        Dtype::Int64 => DType::DtypeInt64,
    }
}

/// The numbers that a tensor stores.
pub(super) fn numbers(tensor: &TensorData) -> Bytes {
    match tensor.stored() {
        Stored::F32(values) => to_bytes(values, f32::to_le_bytes),
        Stored::I64(values) => to_bytes(values, i64::to_le_bytes),
    }
}

/// Numbers in a row.
pub(super) fn to_bytes<T: Copy, const N: usize>(numbers: &[T], to_le: fn(T) -> [u8; N]) -> Bytes {
    numbers.iter().flat_map(|&number| to_le(number)).collect()
}
