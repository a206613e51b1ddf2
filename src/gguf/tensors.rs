//! What the header of a GGUF file says of its tensors.

use std::io::{self, Read};

use super::fields::{Fields, invalid};

/// The most tensors of a file; the largest models have a few thousand.
pub(super) const MAX_TENSORS: u64 = 1 << 16;
const MAX_DIMENSIONS: u32 = 4;

/// A tensor of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    /// Rows before columns, as everywhere but in the file.
    pub(crate) shape: Vec<u64>,
    /// The number of ggml's type.
    pub(crate) kind: u32,
    /// Where its data begin, after [`data_start`](super::Header::data_start).
    pub(crate) offset: u64,
}

/// Reads this many descriptions.
pub(super) fn read<R: Read>(fields: &mut Fields<R>, count: u64) -> io::Result<Vec<TensorInfo>> {
    let mut tensors = Vec::new();
    for _ in 0..count {
        let name = fields.text()?;
        let dimensions = fields.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(invalid(format!("the tensor {name:?} claims {dimensions} dimensions")));
        }
        let mut shape = (0..dimensions).map(|_| fields.u64()).collect::<io::Result<Vec<u64>>>()?;
        shape.reverse();
        tensors.push(TensorInfo { name, shape, kind: fields.u32()?, offset: fields.u64()? });
    }
    Ok(tensors)
}
