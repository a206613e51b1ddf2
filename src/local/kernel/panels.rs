//! Products with a matrix whose rows are side by side in memory: numbers of the left matrix times rows of the right one.
//!
//! The right matrix is packed into panels that are two vectors wide. Each number of the result is summed in blocks of [`BLOCK`] steps,
//! one step after the other.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::matrix::Matrix;

/// How many steps are summed at once: the slices of a tile and a panel fit into the first cache.
const BLOCK: usize = 256;

/// The width of a panel in vectors. With it a tile of six rows has twelve vectors of sums.
const VECTORS: usize = 2;

/// Adds `alpha · left · right` to some columns of a result.
pub(super) struct Panels<'a, 'right, 'out> {
    pub(super) alpha: f32,
    pub(super) left: &'a [&'a [f32]],
    pub(super) right: Matrix<'right>,
    pub(super) columns: Range<usize>,
    pub(super) out: &'a mut [&'out mut [f32]],
    pub(super) scratch: &'a mut [f32],
}

/// How much scratch it takes for so many columns, with vectors of up to 16 numbers.
pub(super) fn scratch_length(right: Matrix<'_>, columns: usize) -> usize {
    columns.next_multiple_of(16 * VECTORS) * BLOCK.min(right.dim().0)
}

impl WithSimd for Panels<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Panels { alpha, left, right, columns, out, scratch } = self;
        let width = VECTORS * S::F32_LANES;
        let steps = right.dim().0;
        for start in (0..steps).step_by(BLOCK) {
            let block = start..steps.min(start + BLOCK);
            for (first, panel) in columns.clone().step_by(width).zip(scratch.chunks_exact_mut(width * block.len())) {
                let columns = first..columns.end.min(first + width);
                for (step, row) in block.clone().zip(panel.chunks_exact_mut(width)) {
                    let (row, beyond) = row.split_at_mut(columns.len());
                    right.copy(step, columns.clone(), row);
                    beyond.fill(0.0);
                }
            }
            let mut row = 0;
            while row < left.len() {
                let (left, out) = (&left[row..], &mut out[row..]);
                row += match left.len() {
                    1 => add_rows::<S, 1>(simd, alpha, left, &block, scratch, out),
                    2 => add_rows::<S, 2>(simd, alpha, left, &block, scratch, out),
                    3..6 => add_rows::<S, 3>(simd, alpha, left, &block, scratch, out),
                    _ => add_rows::<S, 6>(simd, alpha, left, &block, scratch, out),
                };
            }
        }
    }
}

/// Adds `R` rows of one block, a panel at a time. Returns `R`.
#[inline(always)]
fn add_rows<S: Simd, const R: usize>(
    simd: S,
    alpha: f32,
    left: &[&[f32]],
    block: &Range<usize>,
    panels: &[f32],
    out: &mut [&mut [f32]],
) -> usize {
    let mut slices: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        slices[r] = &left[r][block.clone()];
    }
    let width = VECTORS * S::F32_LANES;
    let alpha = simd.splat_f32s(alpha);
    for (first, panel) in (0..out[0].len()).step_by(width).zip(panels.chunks_exact(width * block.len())) {
        let sums = tile::<S, R>(simd, slices, panel);
        for r in 0..R {
            let out = &mut out[r][first..];
            let (whole, rest) = S::as_mut_simd_f32s(out);
            for v in 0..VECTORS {
                if v < whole.len() {
                    whole[v] = simd.mul_add_e_f32s(alpha, sums[r][v], whole[v]);
                } else if v == whole.len() {
                    let sum = simd.mul_add_e_f32s(alpha, sums[r][v], simd.partial_load_f32s(rest));
                    simd.partial_store_f32s(rest, sum);
                }
            }
        }
    }
    R
}

/// The products of `R` slices with a panel: vectors of sums, all in registers.
#[inline(always)]
fn tile<S: Simd, const R: usize>(simd: S, mut left: [&[f32]; R], panel: &[f32]) -> [[S::f32s; VECTORS]; R] {
    let steps = left[0].len();
    for slice in &mut left {
        *slice = &slice[..steps];
    }
    let (panel, _) = S::as_simd_f32s(panel);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for (step, right) in panel.chunks_exact(VECTORS).enumerate().take(steps) {
        for r in 0..R {
            let left = simd.splat_f32s(left[r][step]);
            for v in 0..VECTORS {
                sums[r][v] = simd.mul_add_e_f32s(left, right[v], sums[r][v]);
            }
        }
    }
    sums
}
