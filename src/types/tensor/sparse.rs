//! Sparse matrices in compressed sparse rows.

use std::sync::Arc;

use super::{Element, TensorData, Values};
use crate::error::{Error, Result};

/// Where the values of a sparse matrix are.
#[derive(Debug, PartialEq)]
pub(super) struct Indices {
    /// Where each row begins among the values, and the number of values at the end.
    crow: Vec<i64>,
    /// The column of each value.
    col: Vec<i64>,
}

impl Indices {
    pub(super) fn crow(&self) -> &[i64] {
        &self.crow
    }

    pub(super) fn col(&self) -> &[i64] {
        &self.col
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(self.crow.as_slice()) + size_of_val(self.col.as_slice())
    }

    /// Checks that each of this number of values has a cell of its own in a matrix of this shape, row by row.
    fn check(&self, values: usize, shape: &[usize]) -> Result<(), String> {
        let &[rows, columns] = shape else {
            return Err(format!("a sparse tensor has two dimensions, not the shape {shape:?}"));
        };
        let (crow, col) = (self.crow.as_slice(), self.col.as_slice());
        let bounds_fit = crow.len().checked_sub(1) == Some(rows) && crow.first() == Some(&0);
        if !bounds_fit || !crow.is_sorted() || crow.last().copied() != i64::try_from(values).ok() {
            return Err(format!("the row indices do not split {values} values into {rows} rows"));
        }
        if col.len() != values {
            return Err(format!("there are {} column indices for {values} values", col.len()));
        }
        if let Some(column) =
            col.iter().find(|&&column| usize::try_from(column).map_or(true, |column| column >= columns))
        {
            return Err(format!("the column index {column} is not below {columns}"));
        }
        let mut rows = crow.windows(2).filter_map(|pair| col.get(pair[0] as usize..pair[1] as usize));
        match rows.all(|row| row.windows(2).all(|pair| pair[0] < pair[1])) {
            true => Ok(()),
            false => Err("the column indices of a row do not rise".to_owned()),
        }
    }
}

impl TensorData {
    /// A matrix that stores some of its numbers, in compressed sparse rows: the values row by row, where each row begins among
    /// them (with their number at the end), and the column of each. Floats become float32, integers and booleans int64.
    ///
    /// What the other cells stand for depends on the use: 0 for loss inputs, no token for
    /// [`target_prompt_logprobs`](super::super::SampleResponse::target_prompt_logprobs).
    ///
    /// # Errors
    ///
    /// Indices that do not fit the shape or the number of values, or whose columns do not rise within a row; an integer that
    /// does not fit into an `i64`.
    ///
    /// ```
    /// use tinkex::types::TensorData;
    ///
    /// // 0 0 5
    /// // 7 0 0
    /// let sparse = TensorData::sparse_csr([5, 7], [0, 1, 2], [2, 0], [2, 3])?;
    /// assert!(sparse.is_sparse() && sparse.as_i64().is_none());
    /// assert_eq!((sparse.crow_indices(), sparse.col_indices()), (Some(&[0, 1, 2][..]), Some(&[2, 0][..])));
    /// assert_eq!(sparse.stored_values().as_i64(), Some(&[5, 7][..]));
    /// assert_eq!(sparse.to_dense(0_i64)?.as_i64(), Some(&[0, 0, 5, 7, 0, 0][..]));
    /// assert_eq!(sparse.to_dense(0_i64)?.into_sparse(0_i64)?, sparse);
    /// assert!(TensorData::sparse_csr([5], [0, 1], [3], [1, 3]).is_err());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn sparse_csr<T: Element>(
        values: impl Into<Vec<T>>,
        crow_indices: impl Into<Vec<i64>>,
        col_indices: impl Into<Vec<i64>>,
        shape: [usize; 2],
    ) -> Result<Self> {
        let values = TensorData::new(values)?;
        values.with_indices(crow_indices.into(), col_indices.into(), shape.into()).map_err(Error::invalid_input)
    }

    /// The sparse matrix that has these numbers as values. Returns what is wrong with the indices.
    pub(crate) fn with_indices(self, crow: Vec<i64>, col: Vec<i64>, shape: Vec<usize>) -> Result<Self, String> {
        let indices = Indices { crow, col };
        indices.check(self.len(), &shape)?;
        Ok(TensorData { shape: Some(shape.into()), indices: Some(Arc::new(indices)), ..self })
    }

    /// Converts a matrix of this type, `f32` or `i64`, into a sparse one that does not store the cells with this value. Other
    /// tensors stay as they are: those of another number of dimensions, and those in which no cell has the value.
    ///
    /// # Errors
    ///
    /// A tensor of the other type. [`sparse_csr`](TensorData::sparse_csr) has an example.
    #[doc(alias = "from_torch_sparse")]
    pub fn into_sparse<T: Element + PartialEq>(self, absent: T) -> Result<Self> {
        let &[rows, columns] = self.shape().unwrap_or_default() else { return Ok(self) };
        if self.is_sparse() {
            return Ok(self);
        }
        let cells = self.cells::<T>()?;
        let (mut values, mut crow, mut col) = (Vec::new(), vec![0], Vec::new());
        for row in 0..rows {
            let cells = cells.get(row * columns..(row + 1) * columns).unwrap_or_default();
            for (column, &cell) in cells.iter().enumerate().filter(|(_, cell)| **cell != absent) {
                values.push(cell);
                col.push(column as i64);
            }
            crow.push(values.len() as i64);
        }
        if values.len() == cells.len() {
            return Ok(self);
        }
        TensorData::sparse_csr(values, crow, col, [rows, columns])
    }

    /// Converts a sparse matrix of this type, `f32` or `i64`, into a dense one, with this number in the cells that it does not
    /// store. A dense tensor stays as it is.
    ///
    /// # Errors
    ///
    /// A sparse tensor of the other type, or one whose cells no memory could hold. [`sparse_csr`](TensorData::sparse_csr) has an
    /// example.
    pub fn to_dense<T: Element>(&self, absent: T) -> Result<Self> {
        let (Some(indices), &[rows, columns]) = (&self.indices, self.shape().unwrap_or_default()) else {
            return Ok(self.clone());
        };
        let stored = self.cells::<T>()?;
        let mut cells = Vec::new();
        let too_large =
            || Error::invalid_input(format!("a dense tensor of the shape [{rows}, {columns}] is too large"));
        let length = rows.checked_mul(columns).ok_or_else(too_large)?;
        cells.try_reserve_exact(length).map_err(|_| too_large())?;
        cells.resize(length, absent);
        for (row, pair) in indices.crow.windows(2).enumerate() {
            for index in pair[0] as usize..pair[1] as usize {
                cells[row * columns + indices.col[index] as usize] = stored[index];
            }
        }
        TensorData::new(cells)?.with_shape([rows, columns])
    }

    /// The numbers that the tensor stores, if they have this type.
    fn cells<T: Element>(&self) -> Result<&[T]> {
        self.typed().ok_or_else(|| {
            let (dtype, wanted) = (self.dtype(), std::any::type_name::<T>());
            Error::invalid_input(format!("a {dtype} tensor has no cells of type {wanted}"))
        })
    }

    /// Whether the tensor stores some of its numbers only.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.indices.is_some()
    }

    /// Where each row of a sparse tensor begins among its values, with their number at the end. None if it is dense.
    /// [`sparse_csr`](TensorData::sparse_csr) has an example.
    #[must_use]
    pub fn crow_indices(&self) -> Option<&[i64]> {
        self.indices.as_deref().map(Indices::crow)
    }

    /// The column of each value of a sparse tensor. None if it is dense. [`sparse_csr`](TensorData::sparse_csr) has an example.
    #[must_use]
    pub fn col_indices(&self) -> Option<&[i64]> {
        self.indices.as_deref().map(Indices::col)
    }

    /// The numbers that the tensor stores, as a flat list that shares their memory. [`sparse_csr`](TensorData::sparse_csr) has
    /// an example.
    #[must_use]
    pub fn stored_values(&self) -> Self {
        let values = self.values.clone();
        TensorData { values, shape: Some(Box::from([self.len()])), indices: None }
    }

    /// Fails for a sparse tensor.
    #[cfg(feature = "ndarray")]
    pub(super) fn check_dense(&self) -> Result<()> {
        match self.is_sparse() {
            true => Err(Error::invalid_input("a sparse tensor is no array").with_hint("convert it with to_dense")),
            false => Ok(()),
        }
    }

    /// The numbers that a tensor stores, as floats or as integers.
    pub(crate) fn stored(&self) -> Stored<'_> {
        match &self.values {
            Values::F32(values) => Stored::F32(values),
            Values::I64(values) => Stored::I64(values),
        }
    }
}

/// The numbers that a tensor stores, dense or sparse.
pub(crate) enum Stored<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_that_do_not_fit_are_refused() {
        for (crow, col, shape, why) in [
            (vec![0, 1, 2], vec![0, 1], vec![2, 2], ""),
            (vec![0, 0, 2], vec![0, 1], vec![2, 2], ""),
            (vec![0, 1], vec![0, 1], vec![2, 2], "row indices"),
            (vec![], vec![0, 1], vec![0, 2], "row indices"),
            (vec![1, 1, 2], vec![0, 1], vec![2, 2], "row indices"),
            (vec![0, 3, 2], vec![0, 1], vec![2, 2], "row indices"),
            (vec![0, -1, 2], vec![0, 1], vec![2, 2], "row indices"),
            (vec![0, 1, 3], vec![0, 1], vec![2, 2], "row indices"),
            (vec![0, 1, 2], vec![0], vec![2, 2], "column indices for 2 values"),
            (vec![0, 1, 2], vec![0, 2], vec![2, 2], "column index 2"),
            (vec![0, 1, 2], vec![-1, 1], vec![2, 2], "column index -1"),
            (vec![0, 2, 2], vec![1, 1], vec![2, 2], "do not rise"),
            (vec![0, 2, 2], vec![1, 0], vec![2, 2], "do not rise"),
            (vec![0, 1, 2], vec![0, 1], vec![4], "two dimensions"),
            (vec![0, 1, 2], vec![0, 1], vec![], "two dimensions"),
            (vec![0, 1, 2], vec![0, 1], vec![2, 2, 1], "two dimensions"),
        ] {
            let tensor = TensorData::from(vec![1_i64, 2]).with_indices(crow.clone(), col.clone(), shape.clone());
            let error = tensor.err().unwrap_or_default();
            assert!(error.contains(why) && error.is_empty() == why.is_empty(), "{crow:?} {col:?} {shape:?}: {error}");
        }
    }

    #[test]
    fn a_sparse_tensor_keeps_its_shape() {
        let sparse = TensorData::sparse_csr([1.0, f64::NAN], [0, 1, 2], [0, 1], [2, 2]).unwrap();
        assert_eq!(sparse.clone().without_shape().shape(), Some(&[2, 2][..]));
        assert!(sparse.clone().with_shape([2]).is_err() && sparse.clone().with_shape([2, 2]).is_ok());
        assert!(sparse.clone().into_vec::<f32>().is_none() && sparse.as_f32().is_none());
        assert!(sparse.validate().unwrap_err().to_string().contains("index 1"));
        assert_eq!(sparse.heap_bytes(), 2 * 4 + 5 * 8);
        #[cfg(feature = "ndarray")]
        assert!(sparse.array::<f32, ndarray::Ix2>().unwrap_err().to_string().contains("sparse"));
    }

    #[test]
    fn conversions_are_of_the_tensors_type() {
        let dense = TensorData::from(vec![0_i64, 3]).with_shape([1, 2]).unwrap();
        assert!(dense.clone().into_sparse(0.0_f32).is_err());
        let sparse = dense.into_sparse(0_i64).unwrap();
        assert!(sparse.to_dense(0.0_f32).is_err());
        let huge = TensorData::sparse_csr([1_i64], vec![0, 1], [7], [1, usize::MAX / 16]).unwrap();
        assert!(huge.to_dense(0_i64).unwrap_err().to_string().contains("too large"));
    }
}
