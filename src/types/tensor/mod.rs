//! Tensors: arrays of numbers with a shape.

#[cfg(feature = "ndarray")]
mod array;
mod deserialize;
mod element;
mod sparse;

use std::any::Any;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
pub use element::Element;
use sparse::Indices;
pub(crate) use sparse::Stored;

/// The element type of a tensor, `float32` or `int64` on the wire. [`TensorData`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floats.
    Float32,
    /// 64-bit signed integers.
    Int64,
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dtype::Float32 => "float32",
            Dtype::Int64 => "int64",
        })
    }
}

/// A tensor of `f32` or `i64`, stored row by row. Clones are cheap: they share the numbers.
///
/// The number of elements always matches the shape. A tensor without a shape, which servers may send, is a flat list. A matrix
/// may be sparse and store a few of its numbers: see [`sparse_csr`](TensorData::sparse_csr).
///
/// ```
/// use tinkex::types::{Dtype, TensorData};
///
/// let tensor = TensorData::from(vec![0.5_f32, 1.0, 2.0, 4.0]).with_shape([2, 2])?;
/// assert_eq!(tensor.dtype(), Dtype::Float32);
/// assert_eq!(serde_json::to_string(&tensor).unwrap(),
/// r#"{"data":[0.5,1.0,2.0,4.0],"dtype":"float32","shape":[2,2]}"#);
/// assert!(tensor.with_shape([3]).is_err());
///
/// // Other integers become int64, or the requested type.
/// let tokens = TensorData::new([7_u32, 8])?;
/// assert_eq!((tokens.as_i64(), tokens.as_f32()), (Some(&[7, 8][..]), None));
/// assert_eq!((tokens.len(), tokens.shape()), (2, Some(&[2][..])));
/// let weights = TensorData::of_dtype([0, 1], Dtype::Float32)?;
/// assert_eq!(weights.into_vec::<f32>(), Some(vec![0.0, 1.0]));
///
/// // A tensor may hold NaN and infinities, which servers may return, but they cannot be sent.
/// assert!(TensorData::from(vec![f32::NAN]).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData {
    values: Values,
    shape: Option<Box<[usize]>>,
    /// Of a sparse tensor: where its values are.
    indices: Option<Arc<Indices>>,
}

/// The elements, by type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Values {
    F32(Arc<Vec<f32>>),
    I64(Arc<Vec<i64>>),
}

impl TensorData {
    /// Converts a list of numbers into a tensor of one dimension: floats become float32, integers and booleans int64.
    ///
    /// Vectors of `f32` and `i64` are not copied.
    ///
    /// # Errors
    ///
    /// An integer that does not fit into an `i64`.
    pub fn new<T: Element>(values: impl Into<Vec<T>>) -> Result<Self> {
        TensorData::of_dtype(values.into(), T::DTYPE)
    }

    /// Converts a list of numbers into a tensor of one dimension and this type.
    ///
    /// # Errors
    ///
    /// For int64: a number that is not whole, or does not fit.
    pub fn of_dtype<T: Element>(values: impl Into<Vec<T>>, dtype: Dtype) -> Result<Self> {
        let values = values.into();
        Ok(match dtype {
            Dtype::Float32 => {
                same_type::<T, f32>(values).unwrap_or_else(|values| values.into_iter().map(T::to_f32).collect()).into()
            }
            Dtype::Int64 => match same_type::<T, i64>(values) {
                Ok(values) => values.into(),
                Err(values) => {
                    let whole = |(index, value): (usize, T)| {
                        value.to_i64().ok_or_else(|| {
                            Error::invalid_input(format!("the number {value} at index {index} does not fit int64"))
                        })
                    };
                    values.into_iter().enumerate().map(whole).collect::<Result<Vec<i64>>>()?.into()
                }
            },
        })
    }

    /// Changes the shape and keeps the numbers, in row-major order (the last dimension varies fastest).
    ///
    /// # Errors
    ///
    /// A shape that does not match the number of elements; another shape for a sparse tensor.
    pub fn with_shape(mut self, shape: impl Into<Vec<usize>>) -> Result<Self> {
        let shape = shape.into();
        if self.indices.is_some() {
            return match self.shape() == Some(&*shape) {
                true => Ok(self),
                false => Err(Error::invalid_input(format!("a sparse tensor cannot get the shape {shape:?}"))),
            };
        }
        if holds(&shape, self.len()) {
            self.shape = Some(shape.into());
            Ok(self)
        } else {
            Err(Error::invalid_input(shape_mismatch(&shape, self.len())))
        }
    }

    /// Removes the shape: the tensor becomes a flat list. A sparse tensor keeps its shape.
    #[must_use]
    pub fn without_shape(mut self) -> Self {
        self.shape = self.shape.filter(|_| self.indices.is_some());
        self
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::Float32,
            Values::I64(_) => Dtype::Int64,
        }
    }

    /// The shape. None if the tensor is a flat list.
    #[must_use]
    pub fn shape(&self) -> Option<&[usize]> {
        self.shape.as_deref()
    }

    /// The number of elements. Of a sparse tensor, the number of those that it stores.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }

    /// The memory of the numbers in bytes, for the limits of a queue.
    pub(crate) fn heap_bytes(&self) -> usize {
        let values = match &self.values {
            Values::F32(values) => size_of_val(values.as_slice()),
            Values::I64(values) => size_of_val(values.as_slice()),
        };
        values + self.indices.as_ref().map_or(0, |indices| indices.heap_bytes())
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of a float32 tensor, row by row. None if it is sparse.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.values {
            Values::F32(values) if self.indices.is_none() => Some(values),
            _ => None,
        }
    }

    /// The numbers of an int64 tensor, row by row. None if it is sparse.
    #[must_use]
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.values {
            Values::I64(values) if self.indices.is_none() => Some(values),
            _ => None,
        }
    }

    /// The numbers that the tensor stores, if they have this type, `f32` or `i64`.
    fn typed<T: Element>(&self) -> Option<&[T]> {
        let values: &dyn Any = match &self.values {
            Values::F32(values) => &**values,
            Values::I64(values) => &**values,
        };
        values.downcast_ref::<Vec<T>>().map(Vec::as_slice)
    }

    /// The numbers, row by row, if the tensor has this type, `f32` or `i64`, and is not sparse. Copies only if the tensor has
    /// clones.
    #[must_use]
    pub fn into_vec<T: Element>(self) -> Option<Vec<T>> {
        match self.values {
            _ if self.indices.is_some() => None,
            Values::F32(values) => same_type(Arc::unwrap_or_clone(values)).ok(),
            Values::I64(values) => same_type(Arc::unwrap_or_clone(values)).ok(),
        }
    }

    /// Checks that every number can be sent: JSON has no NaN and no infinities.
    ///
    /// # Errors
    ///
    /// The index of the first float that is not finite.
    pub fn validate(&self) -> Result<()> {
        self.check_finite(&"this tensor")
    }

    /// [`validate`](TensorData::validate), with a name for the error message.
    pub(super) fn check_finite(&self, place: &dyn std::fmt::Display) -> Result<()> {
        let floats: &[f32] = match &self.values {
            Values::F32(values) => values,
            Values::I64(_) => &[],
        };
        // Without a branch for each number.
        if floats.iter().fold(true, |finite, value| finite & value.is_finite()) {
            return Ok(());
        }
        match floats.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            Some((index, value)) => {
                Err(Error::invalid_input(format!("the number at index {index} of {place} is {value}"))
                    .with_hint("only finite float32 numbers can be sent"))
            }
            None => Ok(()),
        }
    }
}

/// Whether a tensor of this shape has this number of elements.
fn holds(shape: &[usize], len: usize) -> bool {
    shape.contains(&0) && len == 0
        || shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension)) == Some(len)
}

fn shape_mismatch(shape: &[usize], len: usize) -> String {
    format!("the shape {shape:?} does not hold {len} numbers")
}

/// The same vector, if the two types are the same.
fn same_type<T: 'static, U: 'static>(values: Vec<T>) -> Result<Vec<U>, Vec<T>> {
    let mut slot = Some(values);
    match (&mut slot as &mut dyn Any).downcast_mut::<Option<Vec<U>>>().and_then(Option::take) {
        Some(values) => Ok(values),
        None => Err(slot.unwrap_or_default()),
    }
}

impl From<Vec<f32>> for TensorData {
    fn from(values: Vec<f32>) -> Self {
        let shape = Some(Box::from([values.len()]));
        TensorData { values: Values::F32(Arc::new(values)), shape, indices: None }
    }
}

impl From<Vec<i64>> for TensorData {
    fn from(values: Vec<i64>) -> Self {
        let shape = Some(Box::from([values.len()]));
        TensorData { values: Values::I64(Arc::new(values)), shape, indices: None }
    }
}

impl From<Vec<u32>> for TensorData {
    /// Token ids as int64.
    fn from(values: Vec<u32>) -> Self {
        values.into_iter().map(i64::from).collect::<Vec<i64>>().into()
    }
}

impl From<&[f32]> for TensorData {
    fn from(values: &[f32]) -> Self {
        values.to_vec().into()
    }
}

impl From<&[i64]> for TensorData {
    fn from(values: &[i64]) -> Self {
        values.to_vec().into()
    }
}

impl From<&[u32]> for TensorData {
    /// Token ids as int64.
    fn from(values: &[u32]) -> Self {
        values.to_vec().into()
    }
}

impl Serialize for TensorData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = 2 + usize::from(self.shape.is_some()) + 2 * usize::from(self.indices.is_some());
        let mut tensor = serializer.serialize_struct("TensorData", fields)?;
        tensor.serialize_field("data", &self.values)?;
        tensor.serialize_field("dtype", &self.dtype())?;
        match &self.shape {
            Some(shape) => tensor.serialize_field("shape", shape)?,
            None => tensor.skip_field("shape")?,
        }
        if let Some(indices) = &self.indices {
            tensor.serialize_field("sparse_crow_indices", indices.crow())?;
            tensor.serialize_field("sparse_col_indices", indices.col())?;
        }
        tensor.end()
    }
}
