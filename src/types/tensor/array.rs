//! Conversions between tensors and ndarray arrays, without a copy if the memory order allows it.

use ndarray::{Array, ArrayBase, ArrayView, Data, Dimension, IxDyn, ShapeError};

use super::{Dtype, Element, TensorData};
use crate::error::{Error, Result};
use crate::types::LossInput;
use crate::types::datum::sealed::Sealed;

impl TensorData {
    /// Converts an array of any dimension and memory order into a tensor of the same shape: floats become float32, integers
    /// and booleans int64.
    ///
    /// An owned array of `f32` or `i64` in row-major order is not copied.
    ///
    /// # Errors
    ///
    /// An integer that does not fit into an `i64`.
    ///
    /// ```
    /// use tinkex::ndarray::{ArrayView2, Ix2, array};
    /// use tinkex::types::TensorData;
    ///
    /// let tensor = TensorData::from_array(array![[0.5, 1.0], [2.0, 4.0]].t())?;
    /// assert_eq!(tensor.as_f32(), Some(&[0.5, 2.0, 1.0, 4.0][..]));
    /// let back: ArrayView2<'_, f32> = tensor.array()?;
    /// assert_eq!(back, array![[0.5, 2.0], [1.0, 4.0]]);
    /// assert_eq!(tensor.into_array::<f32, Ix2>()?, array![[0.5, 2.0], [1.0, 4.0]]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[doc(alias = "from_numpy")]
    pub fn from_array<T, S, D>(array: ArrayBase<S, D>) -> Result<Self>
    where
        T: Element,
        S: Data<Elem = T>,
        D: Dimension,
    {
        let shape = array.shape().to_vec();
        let values = if array.is_standard_layout() {
            let len = array.len();
            let (mut values, offset) = array.into_owned().into_raw_vec_and_offset();
            // The array may cover only a part of its vector.
            values.truncate(offset.unwrap_or_default() + len);
            values.drain(..offset.unwrap_or_default());
            values
        } else {
            array.iter().copied().collect()
        };
        TensorData::new(values)?.with_shape(shape)
    }

    /// A view of the tensor as an array of its shape, or of one dimension if it has no shape. `T` is `f32` or `i64`, and
    /// `D` may be [`IxDyn`](type@IxDyn) for any number of dimensions.
    ///
    /// # Errors
    ///
    /// A tensor of another type or another number of dimensions, or a sparse one. [`from_array`](TensorData::from_array)
    /// has an example.
    #[doc(alias = "to_numpy")]
    pub fn array<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>> {
        self.check_dense()?;
        let values = self.typed::<T>().ok_or_else(|| wrong_type::<T>(self.dtype()))?;
        let dimensions = self.dimensions();
        let view = ArrayView::from_shape(IxDyn(&dimensions), values);
        view.and_then(ArrayView::into_dimensionality).map_err(|error| wrong_shape(&dimensions, &error))
    }

    /// Converts the tensor into an array of its shape, or of one dimension if it has no shape. Copies only if the tensor has
    /// clones.
    ///
    /// # Errors
    ///
    /// As for [`array`](TensorData::array).
    pub fn into_array<T: Element, D: Dimension>(self) -> Result<Array<T, D>> {
        self.check_dense()?;
        let (dimensions, dtype) = (self.dimensions(), self.dtype());
        let values = self.into_vec().ok_or_else(|| wrong_type::<T>(dtype))?;
        let array = Array::from_shape_vec(IxDyn(&dimensions), values);
        array.and_then(Array::into_dimensionality).map_err(|error| wrong_shape(&dimensions, &error))
    }

    fn dimensions(&self) -> Vec<usize> {
        self.shape().map_or_else(|| vec![self.len()], <[usize]>::to_vec)
    }
}

fn wrong_type<T>(dtype: Dtype) -> Error {
    let requested = std::any::type_name::<T>();
    Error::invalid_input(format!("a {dtype} tensor cannot be converted to an array of {requested}"))
        .with_hint("float32 tensors convert to arrays of f32, int64 tensors to arrays of i64")
}

fn wrong_shape(dimensions: &[usize], error: &ShapeError) -> Error {
    Error::invalid_input(format!("a tensor of shape {dimensions:?} cannot be converted to this array: {error}"))
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> Sealed for ArrayBase<S, D> {}
impl<T: Element, S: Data<Elem = T>, D: Dimension> Sealed for &ArrayBase<S, D> {}

impl<T: Element, S: Data<Elem = T>, D: Dimension> LossInput for ArrayBase<S, D> {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        TensorData::from_array(self).map_err(|error| Error::invalid_input(format!("the loss input {name:?}: {error}")))
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> LossInput for &ArrayBase<S, D> {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        self.view().into_tensor(name)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, ArrayD, Axis, Ix2, Slice, array};

    use super::*;

    #[test]
    fn row_major_arrays_are_not_copied() {
        let array = Array2::<f32>::from_shape_fn((3, 4), |(row, column)| (row * 4 + column) as f32);
        let before = array.as_ptr();
        let tensor = TensorData::from_array(array.clone()).unwrap();
        assert_eq!(tensor.shape(), Some(&[3, 4][..]));
        let tensor_of_owned = TensorData::from_array(array).unwrap();
        assert_eq!(tensor_of_owned, tensor);
        assert_eq!(tensor_of_owned.as_f32().unwrap().as_ptr(), before);
        let back: Array2<f32> = tensor_of_owned.into_array().unwrap();
        assert_eq!(back.as_ptr(), before);
    }

    #[test]
    fn every_memory_order_is_read_row_by_row() {
        // `s![]` expands to `unsafe`, which this crate forbids.
        let array = array![[1_i32, 2, 3], [4, 5, 6]];
        let sliced = |axis, slice: Slice| {
            let mut sliced = array.clone();
            sliced.slice_axis_inplace(Axis(axis), slice);
            sliced
        };
        for (array, expected) in [
            (array.clone().reversed_axes(), vec![1, 4, 2, 5, 3, 6]),
            (sliced(1, Slice::new(0, None, -1)), vec![3, 2, 1, 6, 5, 4]),
            (sliced(1, Slice::from(1..)), vec![2, 3, 5, 6]),
            (sliced(0, Slice::from(1..)), vec![4, 5, 6]),
            (sliced(0, Slice::from(..1)), vec![1, 2, 3]),
            (sliced(0, Slice::from(..0)), vec![]),
        ] {
            let (view, shape) = (TensorData::from_array(array.view()).unwrap(), array.shape().to_vec());
            assert_eq!((view.as_i64(), view.shape()), (Some(expected.as_slice()), Some(shape.as_slice())));
            assert_eq!(TensorData::from_array(array).unwrap(), view);
        }
    }

    #[test]
    fn conversions_need_matching_type_and_shape() {
        let tensor = TensorData::from(vec![1_i64, 2, 3, 4]).with_shape([2, 2]).unwrap();
        assert_eq!(tensor.array::<i64, Ix2>().unwrap(), array![[1, 2], [3, 4]]);
        assert_eq!(tensor.array::<i64, IxDyn>().unwrap().shape(), [2, 2]);
        assert!(tensor.array::<f32, Ix2>().is_err());
        assert!(tensor.array::<i64, ndarray::Ix3>().is_err());
        let flat: Array1<i64> = tensor.without_shape().into_array().unwrap();
        assert_eq!(flat, array![1, 2, 3, 4]);
        let scalar: ArrayD<f32> = TensorData::from(vec![0.5_f32]).with_shape([]).unwrap().into_array().unwrap();
        assert_eq!(scalar.ndim(), 0);
        let hollow = TensorData::from(Vec::<f32>::new()).with_shape([0, usize::MAX, 2]).unwrap();
        assert!(hollow.array::<f32, IxDyn>().is_err());
    }
}
