//! A depthwise convolution in squares of positions, as large as the registers allow.

use std::ops::Deref;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::surroundings::Map;
use crate::PatchLayout;
use crate::cpu::Buffer;

/// Channels are padded to a multiple of this, the lanes of the widest vectors.
pub(super) const LANES: usize = 16;

/// A depthwise convolution: features `[B, P * cell * cell, C]`, kernel `K x K` (odd), zero padding `K / 2`.
#[derive(Clone, Copy)]
pub struct Depthwise<'a> {
    /// Where the positions lie.
    pub layout: &'a PatchLayout,
    /// Channels, `C`.
    pub channels: usize,
    /// Side of the kernel, `K`.
    pub kernel: usize,
}

impl Depthwise<'_> {
    /// For every output position and tap the row of the features that is read, or `None` for a zero: `[B * N, K * K]`.
    pub fn sources(&self) -> Vec<Option<usize>> {
        let (cell, kernel) = (self.layout.cell, self.kernel);
        let map = Map::new(self.layout, (kernel / 2, kernel / 2));
        let mut sources = Vec::with_capacity(self.rows() * kernel * kernel);
        for row in 0..self.rows() {
            let (patch, position) = (row / (cell * cell), row % (cell * cell));
            for tap in 0..kernel * kernel {
                let (line, column) = (position / cell + tap / kernel, position % cell + tap % kernel);
                sources.push(map.row(patch, line, column).map(|row| row as usize));
            }
        }
        sources
    }

    /// Positions of all images.
    pub fn rows(&self) -> usize {
        self.layout.ids.len() * self.layout.cell * self.layout.cell
    }

    /// Channels of the padded features.
    pub(super) fn width(&self) -> usize {
        self.channels.next_multiple_of(LANES)
    }

    /// The features times `visible`, with zeros as the channels from `C` on.
    pub(super) fn padded<'x>(&self, x: &'x [f32], visible: Option<&[f32]>) -> Padded<'x> {
        assert_eq!(x.len(), self.rows() * self.channels);
        assert!(visible.is_none_or(|visible| visible.len() == self.rows()));
        if visible.is_none() && self.width() == self.channels {
            return Padded::Same(x);
        }
        let mut padded = Buffer::zeros(self.rows() * self.width());
        let rows = padded.par_chunks_mut(self.width()).zip(x.par_chunks(self.channels)).enumerate();
        rows.for_each(|(row, (padded, x))| {
            let visible = visible.map_or(1.0, |visible| visible[row]);
            for (padded, x) in padded.iter_mut().zip(x) {
                *padded = x * visible;
            }
        });
        Padded::Copy(padded)
    }

    /// The first `C` channels of padded features.
    pub(super) fn cropped(&self, padded: Buffer) -> Buffer {
        if self.width() == self.channels {
            return padded;
        }
        let mut cropped = Buffer::unspecified(self.rows() * self.channels);
        let rows = cropped.par_chunks_mut(self.channels).zip(padded.par_chunks(self.width()));
        rows.for_each(|(row, padded)| row.copy_from_slice(&padded[..self.channels]));
        cropped
    }

    /// How many patches ahead features are asked for: in a dense layout the patch whose corner the next patch is the first to
    /// read. Patches are read in columns of channels, a pattern that the machine does not foresee.
    pub(super) fn ahead(&self) -> usize {
        self.layout.cols + 2
    }

    pub(super) fn vectorized<O: Operation>(&self, operation: O) -> O::Output {
        Arch::new().dispatch(Vectorized { conv: self, operation })
    }
}

/// Features whose rows are whole vectors.
pub(super) enum Padded<'a> {
    Same(&'a [f32]),
    Copy(Buffer),
}

impl Deref for Padded<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Same(values) => values,
            Self::Copy(values) => values,
        }
    }
}

/// A computation in squares of `SIDE x SIDE` positions and `W` vectors of channels.
pub(super) trait Operation {
    type Output;
    fn run<S: Simd, const SIDE: usize, const W: usize>(self, simd: S, conv: &Depthwise<'_>) -> Self::Output;
}

/// Chooses squares and vectors so that the sums of a square take half of the machine's registers.
pub(super) struct Vectorized<'a, O> {
    pub conv: &'a Depthwise<'a>,
    pub operation: O,
}

impl<O: Operation> WithSimd for Vectorized<'_, O> {
    type Output = O::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> O::Output {
        let Self { conv, operation } = self;
        let cell = conv.layout.cell;
        let fits = |vectors: usize| conv.width().is_multiple_of(vectors * S::F32_LANES);
        if const { S::REGISTER_COUNT >= 32 } {
            if cell.is_multiple_of(4) {
                return operation.run::<S, 4, 1>(simd, conv);
            }
            if cell.is_multiple_of(2) && fits(4) {
                return operation.run::<S, 2, 4>(simd, conv);
            }
        }
        match cell.is_multiple_of(2) {
            true if fits(2) => operation.run::<S, 2, 2>(simd, conv),
            true => operation.run::<S, 2, 1>(simd, conv),
            false => operation.run::<S, 1, 1>(simd, conv),
        }
    }
}

/// The places `(row, col)` of a patch's squares.
pub(super) fn squares<const SIDE: usize>(cell: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..cell).step_by(SIDE).flat_map(move |row| (0..cell).step_by(SIDE).map(move |col| (row, col)))
}
