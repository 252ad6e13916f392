//! Where products go, and who computes them.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::simd::prefetch;

/// Rows before a row is finished that what is finished with it is asked for: short parts of rows far from each other are not foreseen by
/// the machine.
pub const AHEAD: usize = 8;

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread: within a parallel loop.
    One,
    /// All threads of the current rayon pool.
    All,
}

impl Threads {
    /// Calls `work` for `0..count`.
    pub(super) fn each(self, count: usize, work: impl Fn(usize) + Sync) {
        match self {
            Self::One => (0..count).for_each(work),
            Self::All => (0..count).into_par_iter().for_each(&work),
        }
    }
}

/// A part of a row of a product.
pub struct Segment<'a> {
    /// The row.
    pub row: usize,
    /// The columns.
    pub cols: Range<usize>,
    /// The product's values there.
    pub out: &'a mut [f32],
    /// The second output's values there.
    pub second: &'a mut [f32],
}

/// The output of a product, row-major without gaps, perhaps with a second one of the same shape, and what is done to both.
pub(super) struct Target<'a, F> {
    out: *mut f32,
    second: Option<*mut f32>,
    rows: usize,
    cols: usize,
    finish: Option<F>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads write through `out` and `second` to their tiles alone, which do not overlap.
unsafe impl<F: Sync> Sync for Target<'_, F> {}

impl<'a, F: Fn(Segment<'_>) + Sync> Target<'a, F> {
    /// # Panics
    /// If an output is not `rows x cols`, but for a second one that is empty.
    pub fn new(
        out: &'a mut [f32],
        second: &'a mut [f32],
        [rows, cols]: [usize; 2],
        finish: Option<F>,
    ) -> Self {
        assert_eq!(Some(out.len()), rows.checked_mul(cols), "the output of a product is not {rows} x {cols}");
        assert!(second.is_empty() || second.len() == out.len(), "the second output is not {rows} x {cols}");
        let second = (!second.is_empty()).then_some(second.as_mut_ptr());
        Self { out: out.as_mut_ptr(), second, rows, cols, finish, borrowed: PhantomData }
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Calls `work` for the tiles of these rows, of `height` rows and `width` columns at most.
    pub fn each_tile(
        &mut self,
        rows: Range<usize>,
        [height, width]: [usize; 2],
        threads: Threads,
        work: impl Fn(Tile<'_, F>) + Sync,
    ) {
        assert!(rows.end <= self.rows);
        let (across, target) = (self.cols.div_ceil(width), &*self);
        threads.each(rows.len().div_ceil(height) * across, |tile| {
            let (top, left) = (rows.start + tile / across * height, tile % across * width);
            let (rows, cols) = (top..(top + height).min(rows.end), left..(left + width).min(target.cols));
            work(Tile { target, rows, cols });
        });
    }
}

/// A part of a [`Target`] that one thread has for itself.
pub(super) struct Tile<'a, F> {
    target: &'a Target<'a, F>,
    /// Its rows.
    pub rows: Range<usize>,
    /// Its columns.
    pub cols: Range<usize>,
}

impl<F: Fn(Segment<'_>)> Tile<'_, F> {
    /// The first value, and the number of values from one row to the next.
    pub fn start(&mut self) -> (*mut f32, usize) {
        (self.target.out.wrapping_add(self.offset(self.rows.start)), self.target.cols)
    }

    /// The values of one of its rows.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row));
        // SAFETY: rows and columns of tiles lie within the output, which is borrowed exclusively; no other tile has these.
        unsafe { std::slice::from_raw_parts_mut(self.target.out.add(self.offset(row)), self.cols.len()) }
    }

    /// Does what is to be done to each row, while it is in the cache.
    pub fn finish(mut self) {
        let Some(finish) = &self.target.finish else { return };
        for row in self.rows.clone() {
            if let Some(second) = self.target.second {
                prefetch(second.wrapping_add(self.offset(row + AHEAD)), self.cols.len());
            }
            let second = self.target.second.map(|second| {
                // SAFETY: as in `row`; the second output is as large as the first, and another slice.
                unsafe { std::slice::from_raw_parts_mut(second.add(self.offset(row)), self.cols.len()) }
            });
            let (cols, second) = (self.cols.clone(), second.unwrap_or_default());
            finish(Segment { row, cols, out: self.row(row), second });
        }
    }

    fn offset(&self, row: usize) -> usize {
        row * self.target.cols + self.cols.start
    }
}

/// The length of equal parts of `len`, a multiple of `unit` and at most `limit`, which is one.
pub(super) fn even_part(len: usize, limit: usize, unit: usize) -> usize {
    len.div_ceil(len.div_ceil(limit)).next_multiple_of(unit).min(limit)
}
