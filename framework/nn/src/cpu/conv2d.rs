//! Convolution of maps `[B, H, W, C]`: shifted rows times the weight, a block of positions at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Matrix, Threads, gemm};
use super::{Buffer, Output};
use crate::Result;

/// Values of a block of shifted rows (4 MiB): they are multiplied while they are in the cache.
const BLOCK: usize = 1 << 20;

/// How a kernel moves over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Positions between neighbouring outputs.
    pub stride: usize,
    /// Zeros around the map.
    pub padding: usize,
    /// Positions between neighbouring taps.
    pub dilation: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1 }
    }
}

impl Window {
    /// Stride 1 and the padding that keeps the size of the map, for an odd kernel.
    pub fn same(kernel: usize) -> Self {
        Self { padding: kernel / 2, ..Self::default() }
    }

    /// The length of the output along one side, or `None` where the kernel does not fit.
    pub fn output(&self, input: usize, kernel: usize) -> Option<usize> {
        (input + 2 * self.padding)
            .checked_sub(self.dilation * (kernel - 1) + 1)
            .map(|rest| rest / self.stride + 1)
    }
}

/// A convolution of given size; its weights are `[O, C, k, k]`.
#[derive(Debug, Clone, Copy)]
pub struct Conv2d {
    /// Images, `B`.
    pub batch: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Channels of the input, `C`.
    pub in_channels: usize,
    /// Channels of the output, `O`.
    pub out_channels: usize,
    /// Side of the kernel, `k`.
    pub kernel: usize,
    /// How the kernel moves.
    pub window: Window,
}

impl Conv2d {
    /// For every output position and tap the row of the input that is read, or `None` for a zero: `[B * H' * W', k * k]`.
    pub fn sources(&self) -> Vec<Option<usize>> {
        let shifts = self.input_shifts();
        (0..shifts.positions()).flat_map(|position| shifts.sources(position).collect::<Vec<_>>()).collect()
    }

    /// `[O, k * k, C]` from `[O, C, k * k]`.
    fn taps_first(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.kernel * self.kernel;
        let mut packed = vec![0.0; weight.len()];
        for (index, &weight) in weight.iter().enumerate() {
            let (out_channel, channel) = (index / taps / self.in_channels, index / taps % self.in_channels);
            packed[(out_channel * taps + index % taps) * self.in_channels + channel] = weight;
        }
        packed
    }

    /// What the output positions read in the input.
    fn input_shifts(&self) -> Shifts {
        let Window { stride, padding, dilation } = self.window;
        let read = |side: usize| {
            Shifts::table(self.output[side], self.kernel, |position, tap| {
                let read = (position * stride + tap * dilation).checked_sub(padding)?;
                (read < self.input[side]).then_some(read)
            })
        };
        self.shifts(self.output, self.input, self.in_channels, [read(0), read(1)])
    }

    /// Which output positions read the input positions.
    fn output_shifts(&self) -> Shifts {
        let Window { stride, padding, dilation } = self.window;
        let read_by = |side: usize| {
            Shifts::table(self.input[side], self.kernel, |position, tap| {
                let first = (position + padding).checked_sub(tap * dilation)?;
                (first.is_multiple_of(stride) && first / stride < self.output[side]).then_some(first / stride)
            })
        };
        self.shifts(self.input, self.output, self.out_channels, [read_by(0), read_by(1)])
    }

    fn shifts(
        &self,
        to: [usize; 2],
        from: [usize; 2],
        channels: usize,
        table: [Vec<Option<usize>>; 2],
    ) -> Shifts {
        Shifts { batch: self.batch, to, from, channels, kernel: self.kernel, table }
    }
}

/// The output `[B, H', W', O]` of `x`, `[B, H, W, C]`.
pub fn forward(conv: &Conv2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Result<Buffer> {
    let shifts = conv.input_shifts();
    shifts.check(x, weight, conv.out_channels);
    let weight = conv.taps_first(weight);
    let mut output = vec![0.0; shifts.positions() * conv.out_channels];
    shifts.each_block(x, |positions, rows| {
        let output = &mut output[positions.start * conv.out_channels..positions.end * conv.out_channels];
        let weight = Matrix::new(&weight, conv.out_channels, shifts.width()).t();
        gemm(output, Output::Replace, 1.0, rows, weight, Threads::All);
    });
    if let Some(bias) = bias {
        output.par_chunks_mut(conv.out_channels).for_each(|row| super::reduce::add(row, bias));
    }
    Ok(output.into())
}

/// The gradient of the input: at each position the output's gradients where it was read, times the taps that read it.
pub fn grad_input(conv: &Conv2d, grad: &[f32], weight: &[f32]) -> Result<Buffer> {
    let shifts = conv.output_shifts();
    shifts.check(grad, weight, conv.in_channels);
    let taps = conv.kernel * conv.kernel;
    let mut transposed = vec![0.0; weight.len()];
    for (index, &weight) in weight.iter().enumerate() {
        let (out_channel, channel) = (index / taps / conv.in_channels, index / taps % conv.in_channels);
        transposed[(index % taps * conv.out_channels + out_channel) * conv.in_channels + channel] = weight;
    }
    let mut output = vec![0.0; shifts.positions() * conv.in_channels];
    shifts.each_block(grad, |positions, rows| {
        let output = &mut output[positions.start * conv.in_channels..positions.end * conv.in_channels];
        let weight = Matrix::new(&transposed, shifts.width(), conv.in_channels);
        gemm(output, Output::Replace, 1.0, rows, weight, Threads::All);
    });
    Ok(output.into())
}

/// The gradient of the weight, `[O, C, k, k]`.
pub fn grad_weight(conv: &Conv2d, x: &[f32], grad: &[f32]) -> Result<Buffer> {
    let shifts = conv.input_shifts();
    assert_eq!(grad.len(), shifts.positions() * conv.out_channels);
    let mut sums = vec![0.0; conv.out_channels * shifts.width()];
    shifts.each_block(x, |positions, rows| {
        let grad = &grad[positions.start * conv.out_channels..positions.end * conv.out_channels];
        let grad = Matrix::new(grad, positions.len(), conv.out_channels).t();
        gemm(&mut sums, Output::Add, 1.0, grad, rows, Threads::All);
    });
    let taps = conv.kernel * conv.kernel;
    let mut weight = vec![0.0; sums.len()];
    for (index, weight) in weight.iter_mut().enumerate() {
        let (out_channel, channel) = (index / taps / conv.in_channels, index / taps % conv.in_channels);
        *weight = sums[(out_channel * taps + index % taps) * conv.in_channels + channel];
    }
    Ok(weight.into())
}

/// For every position of one map the rows of another, one for each tap.
struct Shifts {
    batch: usize,
    to: [usize; 2],
    from: [usize; 2],
    channels: usize,
    kernel: usize,
    /// For both sides `[position, tap]`: where the tap reads, if that is within the map.
    table: [Vec<Option<usize>>; 2],
}

impl Shifts {
    fn table(
        positions: usize,
        kernel: usize,
        read: impl Fn(usize, usize) -> Option<usize>,
    ) -> Vec<Option<usize>> {
        (0..positions * kernel).map(|index| read(index / kernel, index % kernel)).collect()
    }

    fn positions(&self) -> usize {
        self.batch * self.to[0] * self.to[1]
    }

    /// Asserts the sizes of the map that is read and of the weight.
    fn check(&self, map: &[f32], weight: &[f32], channels: usize) {
        assert_eq!(map.len(), self.batch * self.from[0] * self.from[1] * self.channels);
        assert_eq!(weight.len(), self.width() * channels);
    }

    /// Values that are read for each position.
    fn width(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    fn sources(&self, position: usize) -> impl Iterator<Item = Option<usize>> {
        let (image, row, col) =
            (position / self.to[1] / self.to[0], position / self.to[1] % self.to[0], position % self.to[1]);
        (0..self.kernel * self.kernel).map(move |tap| {
            let row = self.table[0][row * self.kernel + tap / self.kernel]?;
            let col = self.table[1][col * self.kernel + tap % self.kernel]?;
            Some((image * self.from[0] + row) * self.from[1] + col)
        })
    }

    /// Calls `work` for blocks of positions, in order, with what they read in `map`: `[positions, k * k * channels]`.
    fn each_block(&self, map: &[f32], mut work: impl FnMut(Range<usize>, Matrix<'_>)) {
        let width = self.width();
        let length = (BLOCK / width).clamp(64, 4096).min(self.positions());
        let mut block = vec![0.0; length * width];
        for start in (0..self.positions()).step_by(length.max(1)) {
            let positions = start..(start + length).min(self.positions());
            let block = &mut block[..positions.len() * width];
            block.par_chunks_mut(width).enumerate().for_each(|(offset, row)| {
                for (values, source) in row.chunks_exact_mut(self.channels).zip(self.sources(start + offset))
                {
                    match source {
                        Some(source) => {
                            values.copy_from_slice(&map[source * self.channels..][..self.channels]);
                        }
                        None => values.fill(0.0),
                    }
                }
            });
            let rows = Matrix::new(block, positions.len(), width);
            work(positions, rows);
        }
    }
}
