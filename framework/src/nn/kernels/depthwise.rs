//! Depthwise convolution on patch-sparse features.
//!
//! Every patch is a small dense problem: its positions and their surroundings are copied into a tile (zeros where the image
//! ends or a patch is absent), [`LANES`] channels at a time, and the tile is correlated with the kernel in registers.

// The inner loops have to be compiled for the vectors of `vectorized`.

use rayon::prelude::*;

use super::Buffer;
use super::chunks::sum_chunks;
use super::reduce::add;
use super::simd::multiversion;
use crate::nn::{PatchLayout, profile};

/// Channels that are computed together.
const LANES: usize = 16;

type Lanes = [f32; LANES];

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
    /// The output, from a weight `[C, K, K]`, a bias `[C]` and what the input is multiplied by, `[B, P * cell * cell]`.
    pub fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        visible: Option<&[f32]>,
    ) -> Buffer {
        let _span = profile::kernel("depthwise");
        self.correlate(x, &self.pack(weight, |tap| tap), bias, visible)
    }

    /// The gradient of the input: the gradient of the output correlated with the flipped kernel.
    pub fn grad_input(&self, grad: &[f32], weight: &[f32], visible: Option<&[f32]>) -> Buffer {
        let _span = profile::kernel("depthwise");
        let last = self.kernel * self.kernel - 1;
        let mut output = self.correlate(grad, &self.pack(weight, |tap| last - tap), None, None);
        if let Some(visible) = visible {
            output.par_chunks_mut(self.channels).zip(visible).for_each(|(row, &visible)| {
                for value in row {
                    *value *= visible;
                }
            });
        }
        output
    }

    /// The gradient of the weight, `[C, K, K]`.
    pub fn grad_weight(&self, x: &[f32], grad: &[f32], visible: Option<&[f32]>) -> Vec<f32> {
        let _span = profile::kernel("depthwise");
        let taps = self.kernel * self.kernel;
        let patch_len = self.layout.cell * self.layout.cell * self.channels;
        assert_eq!((x.len(), grad.len()), (self.rows() * self.channels, self.rows() * self.channels));
        let width = self.channels.div_ceil(LANES) * taps * LANES;
        let packed = sum_chunks(self.layout.ids.len(), width, |patches, sums| {
            let (sums, _) = sums.as_chunks_mut();
            let mut tile = Tile::new(self);
            for patch in patches {
                tile.locate(patch);
                add_grad_weight(&mut tile, x, visible, &grad[patch * patch_len..][..patch_len], sums);
            }
        });
        let mut weight = vec![0.0; self.channels * taps];
        for (index, weight) in weight.iter_mut().enumerate() {
            let (channel, tap) = (index / taps, index % taps);
            *weight = packed[(channel / LANES * taps + tap) * LANES + channel % LANES];
        }
        weight
    }

    /// For every output position and tap the row of the features that is read, or `None` for a zero: `[B * N, K * K]`.
    pub fn sources(&self) -> Vec<Option<usize>> {
        let (cell, kernel) = (self.layout.cell, self.kernel);
        let mut tile = Tile::new(self);
        let mut sources = Vec::with_capacity(self.layout.ids.len() * cell * cell * kernel * kernel);
        for patch in 0..self.layout.ids.len() {
            tile.locate(patch);
            for position in 0..cell * cell {
                for tap in 0..kernel * kernel {
                    let (row, col) = (position / cell + tap / kernel, position % cell + tap % kernel);
                    sources.push(tile.sources[row * tile.side + col]);
                }
            }
        }
        sources
    }

    /// Positions of all images.
    fn rows(&self) -> usize {
        self.layout.ids.len() * self.layout.cell * self.layout.cell
    }

    fn correlate(&self, x: &[f32], taps: &[Lanes], bias: Option<&[f32]>, visible: Option<&[f32]>) -> Buffer {
        let cell = self.layout.cell;
        assert_eq!(x.len(), self.rows() * self.channels);
        assert!(visible.is_none_or(|visible| visible.len() == self.rows()));
        let mut output = Buffer::unspecified(x.len());
        output.par_chunks_mut(cell * cell * self.channels).enumerate().for_each_init(
            || Tile::new(self),
            |tile, (patch, output)| {
                tile.locate(patch);
                correlate_patch(tile, x, taps, bias, visible, output);
            },
        );
        output
    }

    /// `[C / LANES][K * K][LANES]` from `[C, K * K]`; `tap` says which tap of the weight comes where.
    fn pack(&self, weight: &[f32], tap: impl Fn(usize) -> usize) -> Vec<Lanes> {
        let taps = self.kernel * self.kernel;
        assert_eq!(weight.len(), self.channels * taps);
        let mut packed = vec![[0.0; LANES]; self.channels.div_ceil(LANES) * taps];
        for (channel, weight) in weight.chunks_exact(taps).enumerate() {
            for (place, packed) in packed[channel / LANES * taps..][..taps].iter_mut().enumerate() {
                packed[channel % LANES] = weight[tap(place)];
            }
        }
        packed
    }
}

multiversion! {
    /// The output `[cell * cell, C]` of the patch that the tile was last located at.
    fn correlate_patch(
        tile: &mut Tile<'_>,
        x: &[f32],
        taps: &[Lanes],
        bias: Option<&[f32]>,
        visible: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let kernel = tile.conv.kernel;
        for (block, taps) in taps.chunks_exact(kernel * kernel).enumerate() {
            let first = block * LANES;
            tile.fill(x, visible, first);
            tile.correlate(taps, &bias.map_or([0.0; LANES], |bias| lanes(&bias[first..])), output, first);
        }
    }
}

multiversion! {
    /// Adds what the output gradient `[cell * cell, C]` of the patch says about the taps, `[C / LANES][K * K][LANES]`.
    fn add_grad_weight(
        tile: &mut Tile<'_>,
        x: &[f32],
        visible: Option<&[f32]>,
        grad: &[f32],
        sums: &mut [Lanes],
    ) {
        let kernel = tile.conv.kernel;
        for (block, sums) in sums.chunks_exact_mut(kernel * kernel).enumerate() {
            tile.fill(x, visible, block * LANES);
            tile.add_grad_weight(grad, block * LANES, sums);
        }
    }
}

/// A patch with its surroundings.
struct Tile<'a> {
    conv: &'a Depthwise<'a>,
    /// Positions along a side, `cell + K - 1`.
    side: usize,
    /// The row of the features at every position of the tile, if it is present.
    sources: Vec<Option<usize>>,
    /// Some channels of these rows.
    values: Vec<Lanes>,
    /// Some channels of the patch's output gradient.
    grads: Vec<Lanes>,
}

impl<'a> Tile<'a> {
    fn new(conv: &'a Depthwise<'a>) -> Self {
        let side = conv.layout.cell + conv.kernel - 1;
        Self {
            conv,
            side,
            sources: vec![None; side * side],
            values: vec![[0.0; LANES]; side * side],
            grads: vec![[0.0; LANES]; conv.layout.cell * conv.layout.cell],
        }
    }

    /// Finds the positions of the tile around a patch, given as an index into [`PatchLayout::ids`].
    fn locate(&mut self, patch: usize) {
        let PatchLayout { rows, cols, cell, kept, .. } = *self.conv.layout;
        let id = self.conv.layout.ids[patch] as usize;
        let image = patch / kept;
        let slots = &self.conv.layout.slots[image * rows * cols..][..rows * cols];
        // Shifted by the padding, so that no coordinate is negative.
        let padding = self.conv.kernel / 2;
        let (top, left) = (id / cols * cell, id % cols * cell);
        for (index, source) in self.sources.iter_mut().enumerate() {
            let (row, col) = (top + index / self.side, left + index % self.side);
            let inside = (padding..padding + rows * cell).contains(&row)
                && (padding..padding + cols * cell).contains(&col);
            *source = inside.then(|| (row - padding, col - padding)).and_then(|(row, col)| {
                let slot = slots[row / cell * cols + col / cell];
                let position = row % cell * cell + col % cell;
                (slot != PatchLayout::ABSENT).then(|| (image * kept + slot as usize) * cell * cell + position)
            });
        }
    }

    /// Copies the channels from `first` on.
    #[inline(always)]
    fn fill(&mut self, x: &[f32], visible: Option<&[f32]>, first: usize) {
        let channels = self.conv.channels;
        for (value, source) in self.values.iter_mut().zip(&self.sources) {
            *value = match *source {
                None => [0.0; LANES],
                Some(row) => lanes(&x[row * channels + first..(row + 1) * channels]),
            };
            if let (Some(visible), Some(row)) = (visible, *source) {
                for value in value {
                    *value *= visible[row];
                }
            }
        }
    }

    /// Writes the channels from `first` on of the patch's output `[cell * cell, C]`.
    #[inline(always)]
    fn correlate(&self, taps: &[Lanes], bias: &Lanes, output: &mut [f32], first: usize) {
        let cell = self.conv.layout.cell;
        for row in 0..cell {
            let mut col = 0;
            while col < cell {
                col += match cell - col {
                    4.. => self.correlate_run::<4>(row, col, taps, bias, output, first),
                    2..=3 => self.correlate_run::<2>(row, col, taps, bias, output, first),
                    _ => self.correlate_run::<1>(row, col, taps, bias, output, first),
                };
            }
        }
    }

    /// The outputs at `RUN` neighbouring positions, which share every load of a tap.
    #[inline(always)]
    fn correlate_run<const RUN: usize>(
        &self,
        row: usize,
        col: usize,
        taps: &[Lanes],
        bias: &Lanes,
        output: &mut [f32],
        first: usize,
    ) -> usize {
        let (kernel, channels) = (self.conv.kernel, self.conv.channels);
        let mut sums = [*bias; RUN];
        for (ky, taps) in taps.chunks_exact(kernel).enumerate() {
            let line = &self.values[(row + ky) * self.side + col..][..kernel + RUN - 1];
            for (tap, x) in taps.iter().zip(line.array_windows::<RUN>()) {
                for (sum, x) in sums.iter_mut().zip(x) {
                    add_product(sum, x, tap);
                }
            }
        }
        let position = row * self.conv.layout.cell + col;
        for (output, sum) in output[position * channels..].chunks_exact_mut(channels).zip(&sums) {
            for (output, &sum) in output[first..].iter_mut().zip(sum) {
                *output = sum;
            }
        }
        RUN
    }

    /// Adds what the patch's output gradient says about the taps of the channels from `first` on.
    #[inline(always)]
    fn add_grad_weight(&mut self, grad: &[f32], first: usize, sums: &mut [Lanes]) {
        let (kernel, channels, cell) = (self.conv.kernel, self.conv.channels, self.conv.layout.cell);
        for (own, grad) in self.grads.iter_mut().zip(grad.chunks_exact(channels)) {
            *own = lanes(&grad[first..]);
        }
        for (tap, total) in sums.iter_mut().enumerate() {
            let mut sum = [0.0; LANES];
            for (row, grads) in self.grads.chunks_exact(cell).enumerate() {
                let start = (row + tap / kernel) * self.side + tap % kernel;
                for (x, grad) in self.values[start..].iter().zip(grads) {
                    add_product(&mut sum, x, grad);
                }
            }
            add(total, &sum);
        }
    }
}

/// `sum += a * b`, with the sum in registers.
#[inline(always)]
fn add_product(sum: &mut Lanes, a: &Lanes, b: &Lanes) {
    *sum = std::array::from_fn(|lane| sum[lane] + a[lane] * b[lane]);
}

/// The first [`LANES`] values, or as many as there are and zeros.
#[inline(always)]
fn lanes(values: &[f32]) -> Lanes {
    if let Some(lanes) = values.first_chunk() {
        return *lanes;
    }
    let mut lanes = [0.0; LANES];
    add(&mut lanes, values);
    lanes
}
