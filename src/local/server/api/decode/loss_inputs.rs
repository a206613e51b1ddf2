//! The loss inputs of a datum: tensors with a number for each target, dense or sparse.

use std::collections::BTreeMap;

use super::check_token;
use crate::local::model::Model;
use crate::types::TensorData;

pub(super) const SEQUENCE_RATIO_MASK: &str = "sequence_ratio_mask";
pub(super) const TARGET_TOKENS: &str = "target_tokens";

/// The loss inputs of a datum. Each has the shape of the targets: N for as many tokens, or N × K.
#[derive(Debug)]
pub(super) struct LossInputs<'a> {
    tensors: &'a BTreeMap<String, TensorData>,
    /// The number of tokens of the model input.
    rows: usize,
    /// The number of targets for each token, if they are a matrix.
    columns: Option<usize>,
}

impl<'a> LossInputs<'a> {
    /// Checks the shape of the targets, of which there may be this many for each token, and this many in all.
    pub(super) fn new(
        tensors: &'a BTreeMap<String, TensorData>,
        rows: usize,
        max_columns: usize,
        max_targets: usize,
    ) -> Result<Self, String> {
        let list = LossInputs { tensors, rows, columns: None };
        let columns = match list.tensor(TARGET_TOKENS)?.shape() {
            Some(&[_, columns]) => Some(columns),
            _ => None,
        };
        match columns {
            Some(0) => return Err(format!("{TARGET_TOKENS} has no column")),
            Some(columns) if columns > max_columns => {
                return Err(format!(
                    "{TARGET_TOKENS} has {columns} columns, more than the vocabulary of {max_columns} tokens"
                ));
            }
            _ => (),
        }
        let inputs = LossInputs { columns, ..list };
        if inputs.targets() > max_targets {
            return Err("the batch has too many target tokens up to here: send it in several requests".to_owned());
        }
        Ok(inputs)
    }

    pub(super) fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// The number of targets.
    pub(super) fn targets(&self) -> usize {
        self.rows.saturating_mul(self.columns.unwrap_or(1))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn target_tokens(&self, model: &dyn Model) -> Result<Vec<u32>, String> {
        let tensor = self.dense(TARGET_TOKENS, self.tensor(TARGET_TOKENS)?)?;
        let tokens = tensor.as_i64().ok_or_else(|| format!("{TARGET_TOKENS} must be of dtype int64"))?;
        tokens.iter().map(|&token| check_token(model, token)).collect()
    }

    /// A loss input with a number for each target.
    pub(super) fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.tensor(name)?;
        tensor.validate().map_err(|error| format!("{name}: {error}"))?;
        let tensor = self.dense(name, tensor)?;
        Ok(match (tensor.as_f32(), tensor.as_i64()) {
            (Some(values), _) => values.to_vec(),
            (None, values) => values.unwrap_or_default().iter().map(|&value| value as f32).collect(),
        })
    }

    /// A loss input as [`floats`](LossInputs::floats) gives it, if the datum has it.
    pub(super) fn optional_floats(&self, name: &str) -> Result<Option<Vec<f32>>, String> {
        self.has(name).then(|| self.floats(name)).transpose()
    }

    fn tensor(&self, name: &str) -> Result<&'a TensorData, String> {
        self.tensors.get(name).ok_or_else(|| format!("the loss input {name} is missing"))
    }

    /// The tensor with all its numbers, as many as there are targets. The cells that a sparse one leaves out are 0.
    fn dense(&self, name: &str, tensor: &TensorData) -> Result<TensorData, String> {
        let (rows, columns) = (self.rows, self.columns.unwrap_or(1));
        let fits = match tensor.shape() {
            None => tensor.len() == self.targets(),
            Some(&[length]) => self.columns.is_none_or(|columns| columns == 1) && length == rows,
            Some(shape) => shape == [rows, columns],
        };
        if !fits {
            let values = match tensor.shape() {
                Some(shape) if shape.len() != 1 || self.columns.is_some() => format!("the shape {shape:?}"),
                _ => format!("{} values", tensor.len()),
            };
            let targets = self.columns.map(|columns| format!(" and {columns} targets each")).unwrap_or_default();
            return Err(format!("{name} has {values} for a model input of {rows} tokens{targets}"));
        }
        let dense = match tensor.stored_values().as_i64() {
            Some(_) => tensor.to_dense(0_i64),
            None => tensor.to_dense(0.0_f32),
        };
        let dense = dense.map_err(|error| format!("{name}: {error}"))?;
        match dense.len() == self.targets() {
            true => Ok(dense),
            false => Err(format!("{name} has {} values, but the shape {:?}", dense.len(), dense.shape())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(targets: TensorData, weights: TensorData) -> BTreeMap<String, TensorData> {
        BTreeMap::from([(TARGET_TOKENS.to_owned(), targets), ("weights".to_owned(), weights)])
    }

    fn integers(shape: &[usize]) -> TensorData {
        TensorData::from(vec![1_i64; shape.iter().product()]).with_shape(shape).unwrap()
    }

    fn floats(shape: &[usize]) -> TensorData {
        TensorData::from(vec![0.5_f32; shape.iter().product()]).with_shape(shape).unwrap()
    }

    #[test]
    fn inputs_have_the_shape_of_the_targets() {
        let flat = |values: usize| floats(&[values]).without_shape();
        for (targets, weights, found) in [
            (integers(&[2]), floats(&[2]), ""),
            (integers(&[2]).without_shape(), flat(2), ""),
            (integers(&[2]), floats(&[2, 1]), ""),
            (integers(&[2, 1]), floats(&[2]), ""),
            (integers(&[2, 3]), floats(&[2, 3]), ""),
            (integers(&[2, 3]), flat(6), ""),
            (integers(&[2]), floats(&[3]), "weights has 3 values for a model input of 2 tokens"),
            (integers(&[2]), floats(&[1, 2]), "weights has the shape [1, 2] for"),
            (integers(&[2, 3]), floats(&[2]), "weights has the shape [2] for a model input of 2 tokens and 3 targets"),
            (integers(&[2, 3]), floats(&[6]), "weights has the shape [6]"),
            (integers(&[2, 3]), floats(&[3, 2]), "weights has the shape [3, 2]"),
            (integers(&[3, 2]), floats(&[3, 2]), "target_tokens has the shape [3, 2] for a model input of 2 tokens"),
            (integers(&[2, 1, 1]), floats(&[2]), "target_tokens has the shape [2, 1, 1]"),
            (integers(&[2, 0]), floats(&[2, 0]), "target_tokens has no column"),
            (integers(&[2, 5]), floats(&[2, 5]), "5 columns, more than the vocabulary of 4"),
            (integers(&[2, 4]), floats(&[2, 4]), "too many target tokens"),
        ] {
            let tensors = inputs(targets.clone(), weights.clone());
            let read = LossInputs::new(&tensors, 2, 4, 7).and_then(|inputs| {
                inputs.dense(TARGET_TOKENS, &tensors[TARGET_TOKENS])?;
                inputs.floats("weights")
            });
            let error = read.err().unwrap_or_default();
            assert!(error.contains(found) && error.is_empty() == found.is_empty(), "{targets:?} {weights:?}: {error}");
        }
    }

    #[test]
    fn sparse_inputs_are_filled_with_zeros() {
        let targets = TensorData::sparse_csr([7_i64, 8, 9], [0, 1, 3], [2, 0, 1], [2, 3]).unwrap();
        let weights = TensorData::sparse_csr([0.5_f32], [0, 0, 1], [1], [2, 3]).unwrap();
        let tensors = inputs(targets, weights);
        let inputs = LossInputs::new(&tensors, 2, 4, 100).unwrap();
        let dense = inputs.dense(TARGET_TOKENS, &tensors[TARGET_TOKENS]).unwrap();
        assert_eq!(dense.as_i64(), Some(&[0, 0, 7, 8, 9, 0][..]));
        assert_eq!(inputs.floats("weights").unwrap(), [0.0, 0.0, 0.0, 0.0, 0.5, 0.0]);
        assert_eq!((inputs.columns(), inputs.targets()), (Some(3), 6));

        let huge = TensorData::sparse_csr([1_i64], vec![0, 1, 1], [7], [2, usize::MAX / 4]).unwrap();
        let wide = super::tests::inputs(huge, floats(&[2]));
        assert!(LossInputs::new(&wide, 2, 4, 100).is_err());
        let wide = LossInputs::new(&wide, 2, usize::MAX, usize::MAX).unwrap();
        assert!(wide.dense(TARGET_TOKENS, &wide.tensors[TARGET_TOKENS]).is_err());
    }
}
