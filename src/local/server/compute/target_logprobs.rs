//! Log-probabilities of given tokens at each position of a prompt: the layout of the tensor that asks for them, and of the one
//! that reports them.

use crate::error::Result;
use crate::types::TensorData;

/// The requested tokens of each row, as far as the tensor stores them. A row belongs to each token of the prompt but the first.
/// Rows that the tensor does not have are left out, as are all of a tensor that holds no integers.
pub(crate) fn target_rows(targets: &TensorData) -> Vec<Vec<i64>> {
    let cells = targets.stored_values().into_vec::<i64>().unwrap_or_default();
    if let Some(crow) = targets.crow_indices() {
        return crow.windows(2).map(|pair| cells[pair[0] as usize..pair[1] as usize].to_vec()).collect();
    }
    match targets.shape() {
        Some(&[rows, columns]) if columns > 0 => cells.chunks(columns).take(rows).map(<[i64]>::to_vec).collect(),
        _ => Vec::new(),
    }
}

/// The log-probabilities in the layout of the request, with zero where it asks for none (−1). `logprobs` has an entry for each
/// token of the prompt, and in it one number for each token that is asked for.
pub(super) fn in_layout_of(targets: &TensorData, logprobs: &[Vec<f32>]) -> Result<TensorData> {
    let mut values = Vec::new();
    for (row, logprobs) in target_rows(targets).iter().zip(logprobs.iter().skip(1)) {
        let mut logprobs = logprobs.iter().copied();
        values.extend(row.iter().map(|&token| if token < 0 { 0.0 } else { logprobs.next().unwrap_or(0.0) }));
    }
    let shape = targets.shape().unwrap_or_default();
    match (targets.crow_indices(), targets.col_indices(), shape) {
        (Some(crow), Some(col), &[rows, columns]) => TensorData::sparse_csr(values, crow, col, [rows, columns]),
        _ => TensorData::new(values)?.with_shape(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_layout_of_its_request() {
        let logprobs = [vec![], vec![-0.5], vec![-1.5, -2.5]];
        let dense = TensorData::new(vec![-1_i64, 7, 8, 9]).unwrap().with_shape([2, 2]).unwrap();
        assert_eq!(target_rows(&dense), [vec![-1, 7], vec![8, 9]]);
        let report = in_layout_of(&dense, &logprobs).unwrap();
        assert_eq!((report.as_f32(), report.shape()), (Some(&[0.0, -0.5, -1.5, -2.5][..]), Some(&[2, 2][..])));

        let sparse = dense.into_sparse(-1_i64).unwrap();
        assert_eq!(target_rows(&sparse), [vec![7], vec![8, 9]]);
        let report = in_layout_of(&sparse, &logprobs).unwrap();
        assert_eq!((report.crow_indices(), report.col_indices()), (sparse.crow_indices(), sparse.col_indices()));
        assert_eq!(report.stored_values().as_f32(), Some(&[-0.5, -1.5, -2.5][..]));
    }
}
