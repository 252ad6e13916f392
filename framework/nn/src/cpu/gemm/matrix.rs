//! Factors of products.

use std::ops::Range;

/// A matrix in a slice. Transposing it copies nothing.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, without gaps.
    pub fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::with_row_stride(values, rows, cols, cols)
    }

    /// Row-major, with `row_stride` elements from the start of a row to that of the next.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn with_row_stride(values: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        if rows > 0 && cols > 0 {
            let len = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(cols));
            assert!(len.is_some_and(|len| values.len() >= len), "the slice holds no {rows} x {cols}");
        }
        Self { values, rows, cols, row_stride, col_stride: 1 }
    }

    /// Some of its columns.
    #[must_use]
    pub(super) fn cols(self, cols: Range<usize>) -> Self {
        let values = self.values.get(cols.start * self.col_stride..).unwrap_or_default();
        Self { values, cols: cols.len(), ..self }
    }

    /// The transposed matrix.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the slice holds no")]
    fn sizes_that_overflow_are_refused() {
        let rows = usize::MAX / 4 + 2;
        Matrix::with_row_stride(&[0.0; 8], rows, 4, 4);
    }
}
