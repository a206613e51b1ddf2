//! The products against `f64`, and the bits of their results.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice, Zip, concatenate};
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::matrix::Matrix;
use super::product;
use super::{Threads, Weight, f16_to_f32, f32_to_f16, linear, linear_backward};

/// Numbers between -1 and 1, the same for the same seed.
fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    Array2::from_shape_simple_fn((rows, columns), || random.f32() * 2.0 - 1.0)
}

/// How the numbers of a matrix lie in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    /// Some columns of a wider matrix, as those of a head.
    Head,
    /// Every second column.
    Apart,
}

impl Layout {
    /// A matrix whose [`Layout::view`] has this shape.
    fn storage(self, (rows, columns): (usize, usize), seed: u64) -> Array2<f32> {
        match self {
            Layout::Rows => matrix(rows, columns, seed),
            Layout::Columns => matrix(columns, rows, seed),
            Layout::Head => matrix(rows, columns + 5, seed),
            Layout::Apart => matrix(rows, columns * 2, seed),
        }
    }

    fn view(self, storage: &mut Array2<f32>) -> ArrayViewMut2<'_, f32> {
        match self {
            Layout::Rows => storage.view_mut(),
            Layout::Columns => storage.view_mut().reversed_axes(),
            Layout::Head => storage.slice_axis_mut(Axis(1), Slice::new(3, Some(-2), 1)),
            Layout::Apart => storage.slice_axis_mut(Axis(1), Slice::new(0, None, 2)),
        }
    }
}

/// A product of rows × steps with steps × columns, near the edges of the tiles and blocks.
#[derive(Clone, Debug)]
struct Product {
    rows: usize,
    steps: usize,
    columns: usize,
    /// Of the left and right matrix, and of the result.
    layouts: [Layout; 3],
}

impl Arbitrary for Product {
    fn arbitrary(g: &mut Gen) -> Product {
        let near = |g: &mut Gen, edges: [usize; 6]| g.choose(&edges).unwrap() + usize::arbitrary(g) % 3;
        let layout = |g: &mut Gen| *g.choose(&[Layout::Rows, Layout::Columns, Layout::Head, Layout::Apart]).unwrap();
        let steps = near(g, [0, 7, 15, 31, 255, 767]);
        // Many rows and columns are shared out differently; with few steps, to be quick.
        let (most_rows, most_columns) = if steps < 10 { (191, 384) } else { (18, 95) };
        Product {
            rows: near(g, [0, 1, 4, 7, 12, most_rows]),
            steps,
            columns: near(g, [0, 3, 7, 15, 31, most_columns]),
            layouts: [layout(g), layout(g), layout(g)],
        }
    }
}

/// Whether a result is the product, up to the rounding of sums in `f32`.
fn is_product(result: ArrayView2<'_, f32>, left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>) -> bool {
    let (left, right) = (left.mapv(f64::from), right.mapv(f64::from));
    let magnitudes = left.mapv(f64::abs).dot(&right.mapv(f64::abs));
    Zip::from(result)
        .and(&left.dot(&right))
        .and(&magnitudes)
        .all(|&result, exact, magnitude| (f64::from(result) - exact).abs() <= 1e-6 * (1.0 + magnitude))
}

/// The products of the kernel, which the functions of models leave to ndarray in programs that are not optimized.
fn optimized(left: ArrayView2<'_, f32>, right: Matrix<'_>) -> Array2<f32> {
    let mut out = Array2::zeros((left.nrows(), right.dim().1));
    product::add_product(1.0, left, right, out.view_mut());
    out
}

quickcheck! {
    fn products_of_views_are_exact_sums(product: Product) -> bool {
        let Product { rows, steps, columns, layouts: [left_layout, right_layout, out_layout] } = product;
        let mut left = left_layout.storage((rows, steps), 1);
        let mut right = right_layout.storage((steps, columns), 2);
        let before = out_layout.storage((rows, columns), 3);
        let mut after = before.clone();
        let (left, right) = (left_layout.view(&mut left), right_layout.view(&mut right));
        product::add_product(0.5, left.view(), Matrix::Full(right.view()), out_layout.view(&mut after));

        // What is not in the view of the result stays as it is.
        let mut change = after - before;
        let sum = change.sum();
        let change = out_layout.view(&mut change);
        (change.sum() - sum).abs() < 1e-2 && is_product((&change * 2.0).view(), left.view(), right.view())
    }

    fn linear_layers_are_exact_sums(product: Product) -> bool {
        let (rows, inputs, outputs) = (product.rows, product.steps, product.columns);
        let (x, dy) = (matrix(rows, inputs, 1), matrix(rows, outputs, 2));
        let half = matrix(outputs, inputs, 3).mapv(f32_to_f16);
        let full = half.mapv(f16_to_f32);
        is_product(optimized(x.view(), Matrix::Half(half.t())).view(), x.view(), full.t())
            && is_product(optimized(dy.view(), Matrix::Half(half.view())).view(), dy.view(), full.view())
            && [Weight::Full(full.clone()), Weight::Half(half)].iter().all(|weight| {
                is_product(linear(x.view(), weight).view(), x.view(), full.t())
                    && is_product(linear_backward(dy.view(), weight).view(), dy.view(), full.view())
            })
    }
}

/// Both products with both precisions of a weight, by the kernel and by the functions of models.
fn results(half: &Array2<u16>, x: ArrayView2<'_, f32>, dy: ArrayView2<'_, f32>) -> [Array2<f32>; 8] {
    let full = half.mapv(f16_to_f32);
    let weights = [Weight::Full(full.clone()), Weight::Half(half.clone())];
    [
        optimized(x, Matrix::Full(full.t())),
        optimized(x, Matrix::Half(half.t())),
        optimized(dy, Matrix::Full(full.view())),
        optimized(dy, Matrix::Half(half.view())),
        linear(x, &weights[0]),
        linear(x, &weights[1]),
        linear_backward(dy, &weights[0]),
        linear_backward(dy, &weights[1]),
    ]
}

#[test]
fn bits_depend_on_neither_threads_nor_rows() {
    let (rows, inputs, outputs) = (13, 820, 100);
    let (x, dy) = (matrix(rows, inputs, 1), matrix(rows, outputs, 2));
    let weight = matrix(outputs, inputs, 3).mapv(f32_to_f16);
    let together = results(&weight, x.view(), dy.view());
    // Neither do they depend on the precision in which a weight is kept.
    assert!(together.chunks(2).all(|pair| pair[0] == pair[1]));
    for count in 1..4 {
        let threads = Threads::new(Some(count));
        assert!(threads.run(|| results(&weight, x.view(), dy.view())) == together, "{count} threads");
        for size in [1, 2, 7] {
            let parts: Vec<_> = (0..rows).step_by(size).map(|row| Slice::from(row..rows.min(row + size))).collect();
            let parts = parts.into_iter().map(|rows| {
                threads.run(|| results(&weight, x.slice_axis(Axis(0), rows), dy.slice_axis(Axis(0), rows)))
            });
            let parts: Vec<_> = parts.collect();
            for (index, together) in together.iter().enumerate() {
                let parts: Vec<_> = parts.iter().map(|part| part[index].view()).collect();
                assert!(concatenate(Axis(0), &parts).unwrap() == together, "{index}: {size} rows, {count} threads");
            }
        }
    }
}

#[test]
fn every_finite_half_number_is_read_exactly() {
    let finite: Vec<u16> = (0..=u16::MAX).filter(|&bits| f16_to_f32(bits).is_finite()).collect();
    let bits = Array2::from_shape_vec((248, 256), finite).unwrap();
    let expected = bits.mapv(f16_to_f32);
    let one_row = Array2::from_shape_fn((1, 256), |(_, column)| if column == 9 { 1.0 } else { 0.0 });
    assert_eq!(optimized(one_row.view(), Matrix::Half(bits.t())), expected.slice_axis(Axis(1), Slice::from(9..10)).t());
    assert_eq!(optimized(Array2::eye(256).view(), Matrix::Half(bits.t())), expected.t());
    assert_eq!(optimized(Array2::eye(248).view(), Matrix::Half(bits.view())), expected);
}
