//! Matrix products on slices: the one place that calls `gemm`, whose interface is unsafe, behind checked lengths.

/// A matrix in a slice, row-major or read as its transpose.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// `rows` × `columns`, row-major, from the start of the slice.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, strides: (columns, 1) }
    }

    /// The transpose.
    pub(super) fn transposed(self) -> Self {
        let Self { values, rows, columns, strides } = self;
        Self { values, rows: columns, columns: rows, strides: (strides.1, strides.0) }
    }

    /// Whether the slice holds all of it.
    fn fits(&self) -> bool {
        self.rows * self.columns <= self.values.len()
    }
}

/// What becomes of the old content of the output.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Into {
    /// It is replaced.
    Replace,
    /// The product is added to it.
    Add,
}

/// `out` = a b or `out` += a b, row-major.
///
/// # Panics
///
/// If the shapes do not fit each other and the slices: a mistake in this module's callers.
#[expect(unsafe_code, reason = "gemm takes pointers; the lengths behind them are checked here")]
pub(super) fn product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, into: Into) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert!(k == b.rows && a.fits() && b.fits() && m * n <= out.len(), "matrix shapes do not fit");
    let stride = |stride: usize| isize::try_from(stride).unwrap_or(isize::MAX);
    // SAFETY: a, b and out hold m × k, k × n and m × n numbers densely, as asserted; `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            into == Into::Add,
            a.values.as_ptr(),
            stride(a.strides.1),
            stride(a.strides.0),
            b.values.as_ptr(),
            stride(b.strides.1),
            stride(b.strides.0),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes_are_those_of_the_definition() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.5, -1.0, 2.0, 0.0, 3.0];
        let mut out = [0.0; 4];
        product(&mut out, Matrix::new(&a, 2, 3), Matrix::new(&b, 3, 2), Into::Replace);
        assert_eq!(out, [-1.0, 13.5, -1.0, 30.0]);
        product(&mut out, Matrix::new(&a, 2, 3), Matrix::new(&b, 3, 2), Into::Add);
        assert_eq!(out, [-2.0, 27.0, -2.0, 60.0]);
        let mut out = [0.0; 9];
        product(&mut out, Matrix::new(&a, 2, 3).transposed(), Matrix::new(&b, 2, 3), Into::Replace);
        assert_eq!(out, [9.0, 0.5, 11.0, 12.0, 1.0, 13.0, 15.0, 1.5, 15.0]);
    }

    #[test]
    #[should_panic(expected = "matrix shapes do not fit")]
    fn a_slice_that_is_too_short_is_refused() {
        product(&mut [0.0; 3], Matrix::new(&[0.0; 4], 2, 2), Matrix::new(&[0.0; 4], 2, 2), Into::Replace);
    }
}
