//! Products with a matrix whose columns are side by side in memory, as those of a transposed weight are: each number is the dot
//! product of two slices.
//!
//! The sums run in vectors along the slices, in blocks of [`BLOCK`]; then the lanes are added, then the blocks. Tiles of every shape
//! keep this order.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::matrix::Matrix;

/// How many numbers are summed at once: three slices of the left and four of the right matrix fit into the first cache.
const BLOCK: usize = 768;

/// Adds `alpha · left · right` to some columns of a result.
pub(super) struct Dots<'a, 'right, 'out> {
    pub(super) alpha: f32,
    pub(super) left: &'a [&'a [f32]],
    /// The right matrix, transposed.
    pub(super) right: Matrix<'right>,
    pub(super) columns: Range<usize>,
    pub(super) out: &'a mut [&'out mut [f32]],
    pub(super) scratch: &'a mut [f32],
}

/// How much scratch it takes for so many columns.
pub(super) fn scratch_length(right: Matrix<'_>, columns: usize) -> usize {
    if right.row(0).is_some() { 0 } else { columns * BLOCK.min(right.dim().1) }
}

impl WithSimd for Dots<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Dots { alpha, left, right, columns, out, scratch } = self;
        let steps = right.dim().1;
        let mut left_slices = left.to_vec();
        for start in (0..steps).step_by(BLOCK) {
            let block = start..steps.min(start + BLOCK);
            for (slice, row) in left_slices.iter_mut().zip(left) {
                *slice = &row[block.clone()];
            }
            if right.row(0).is_none() {
                for (column, to) in columns.clone().zip(scratch.chunks_exact_mut(block.len())) {
                    right.copy(column, block.clone(), to);
                }
            }
            let mut right_slices: Vec<&[f32]> = Vec::with_capacity(columns.len());
            for (index, column) in columns.clone().enumerate() {
                right_slices.push(match right.row(column) {
                    Some(row) => &row[block.clone()],
                    None => &scratch[index * block.len()..][..block.len()],
                });
            }
            add_block(simd, alpha, &left_slices, &right_slices, out);
        }
    }
}

/// Adds the products of slices of one block.
#[inline(always)]
fn add_block<S: Simd>(simd: S, alpha: f32, left: &[&[f32]], right: &[&[f32]], out: &mut [&mut [f32]]) {
    let mut row = 0;
    while left.len() - row >= 3 {
        add_rows::<S, 3, 4>(simd, alpha, &left[row..], right, &mut out[row..]);
        row += 3;
    }
    match left.len() - row {
        2 => add_rows::<S, 2, 6>(simd, alpha, &left[row..], right, &mut out[row..]),
        1 => add_rows::<S, 1, 8>(simd, alpha, &left[row..], right, &mut out[row..]),
        _ => {}
    }
}

/// Adds `R` rows, `C` columns at a time.
#[inline(always)]
fn add_rows<S: Simd, const R: usize, const C: usize>(
    simd: S,
    alpha: f32,
    left: &[&[f32]],
    right: &[&[f32]],
    out: &mut [&mut [f32]],
) {
    let mut column = 0;
    while right.len() - column >= C {
        let sums = tile::<S, R, C>(simd, left, &right[column..]);
        for r in 0..R {
            for c in 0..C {
                out[r][column + c] += alpha * sums[r][c];
            }
        }
        column += C;
    }
    for column in column..right.len() {
        let sums = tile::<S, R, 1>(simd, left, &right[column..]);
        for r in 0..R {
            out[r][column] += alpha * sums[r][0];
        }
    }
}

/// The dot products of `R` slices with `C` others: a vector of sums for each, all in registers.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(simd: S, left: &[&[f32]], right: &[&[f32]]) -> [[f32; C]; R] {
    let length = left[0].len();
    let vectors = length / S::F32_LANES;
    let mut left_vectors: [&[S::f32s]; R] = [&[]; R];
    for r in 0..R {
        left_vectors[r] = &S::as_simd_f32s(left[r]).0[..vectors];
    }
    let mut right_vectors: [&[S::f32s]; C] = [&[]; C];
    for c in 0..C {
        right_vectors[c] = &S::as_simd_f32s(right[c]).0[..vectors];
    }

    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    let mut left_now = [simd.splat_f32s(0.0); R];
    for at in 0..vectors {
        for r in 0..R {
            left_now[r] = left_vectors[r][at];
        }
        for c in 0..C {
            let right_now = right_vectors[c][at];
            for r in 0..R {
                sums[r][c] = simd.mul_add_e_f32s(left_now[r], right_now, sums[r][c]);
            }
        }
    }
    let rest = vectors * S::F32_LANES;
    if rest < length {
        for r in 0..R {
            left_now[r] = simd.partial_load_f32s(&left[r][rest..]);
        }
        for c in 0..C {
            let right_now = simd.partial_load_f32s(&right[c][rest..]);
            for r in 0..R {
                sums[r][c] = simd.mul_add_e_f32s(left_now[r], right_now, sums[r][c]);
            }
        }
    }
    let mut totals = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            totals[r][c] = simd.reduce_sum_f32s(sums[r][c]);
        }
    }
    totals
}
