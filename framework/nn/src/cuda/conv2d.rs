//! Convolution of maps `[B, H, W, C]`: shifted rows times the weight, a block of positions at a time.

use std::ops::Range;

use super::buffer::{unspecified, zeros};
use super::gemm::{Matrix, gemm};
use super::linear::affine;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Output, Values};
use crate::Result;

pub use crate::cpu::conv2d::{Conv2d, Window};

static KERNELS: Source = source!("conv2d");

/// Values of a block of shifted rows (128 MiB): products large enough for a card, in memory that it can spare.
const BLOCK: usize = 1 << 25;

/// The output `[B, H', W', O]` of `x`, `[B, H, W, C]`.
pub fn forward(conv: &Conv2d, x: &Values, weight: &Values, bias: Option<&Values>) -> Result<Buffer> {
    forward_blocks(conv, x, weight, bias, BLOCK)
}

fn forward_blocks(
    conv: &Conv2d,
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    block: usize,
) -> Result<Buffer> {
    let (shifts, outputs) = (Shifts::of_input(conv), conv.out_channels);
    assert_eq!(weight.len(), shifts.width() * outputs);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let (packed, taps) = (unspecified(weight.len())?, conv.kernel * conv.kernel);
    let arguments = arguments![packed, *weight, conv.in_channels, taps, weight.len()];
    KERNELS.launch("taps_first", Grid::elements(weight.len()), arguments)?;
    let mut y = unspecified(shifts.positions() * outputs)?;
    shifts.each_block(x, block, |positions, rows| {
        let mut y = y.slice_mut(positions.start * outputs..positions.end * outputs);
        affine(&mut y, None, rows, Matrix::new(&packed, outputs, shifts.width()).t(), bias)
    })?;
    Ok(y)
}

/// The gradient of the input: at each position the output's gradients where it was read, times the taps that read it.
pub fn grad_input(conv: &Conv2d, grad: &Values, weight: &Values) -> Result<Buffer> {
    grad_input_blocks(conv, grad, weight, BLOCK)
}

fn grad_input_blocks(conv: &Conv2d, grad: &Values, weight: &Values, block: usize) -> Result<Buffer> {
    let (shifts, channels) = (Shifts::of_output(conv), conv.in_channels);
    assert_eq!(weight.len(), shifts.width() * channels);
    let (packed, taps) = (unspecified(weight.len())?, conv.kernel * conv.kernel);
    let arguments = arguments![packed, *weight, channels, conv.out_channels, taps, weight.len()];
    KERNELS.launch("taps_outermost", Grid::elements(weight.len()), arguments)?;
    let mut grad_x = unspecified(shifts.positions() * channels)?;
    shifts.each_block(grad, block, |positions, rows| {
        let mut grad_x = grad_x.slice_mut(positions.start * channels..positions.end * channels);
        gemm(&mut grad_x, Output::Replace, rows, Matrix::new(&packed, shifts.width(), channels))
    })?;
    Ok(grad_x)
}

/// The gradient of the weight, `[O, C, k, k]`.
pub fn grad_weight(conv: &Conv2d, x: &Values, grad: &Values) -> Result<Buffer> {
    grad_weight_blocks(conv, x, grad, BLOCK)
}

fn grad_weight_blocks(conv: &Conv2d, x: &Values, grad: &Values, block: usize) -> Result<Buffer> {
    let (shifts, outputs) = (Shifts::of_input(conv), conv.out_channels);
    assert_eq!(grad.len(), shifts.positions() * outputs);
    let mut packed = zeros(outputs * shifts.width())?;
    shifts.each_block(x, block, |positions, rows| {
        let count = positions.len();
        let grad = grad.slice(positions.start * outputs..positions.end * outputs);
        gemm(&mut packed, Output::Add, Matrix::new(&grad, count, outputs).t(), rows)
    })?;
    let (weight, taps) = (unspecified(packed.len())?, conv.kernel * conv.kernel);
    let arguments = arguments![weight, packed, conv.in_channels, taps, weight.len()];
    KERNELS.launch("taps_last", Grid::elements(weight.len()), arguments)?;
    Ok(weight)
}

/// For every position of one map the rows of another, one for each tap.
struct Shifts<'a> {
    conv: &'a Conv2d,
    /// The size of the map of the positions.
    to: [usize; 2],
    /// The size of the map that is read.
    from: [usize; 2],
    channels: usize,
    /// Whether the positions are the input's.
    is_reverse: bool,
}

impl<'a> Shifts<'a> {
    /// What the output positions read in the input.
    fn of_input(conv: &'a Conv2d) -> Self {
        let &Conv2d { input, output, in_channels, .. } = conv;
        Self { conv, to: output, from: input, channels: in_channels, is_reverse: false }
    }

    /// Which output positions read the input positions.
    fn of_output(conv: &'a Conv2d) -> Self {
        let &Conv2d { input, output, out_channels, .. } = conv;
        Self { conv, to: input, from: output, channels: out_channels, is_reverse: true }
    }

    fn positions(&self) -> usize {
        self.conv.batch * self.to[0] * self.to[1]
    }

    /// Values that are read for each position.
    fn width(&self) -> usize {
        self.conv.kernel * self.conv.kernel * self.channels
    }

    /// Whether what is read is the map itself.
    fn is_identity(&self) -> bool {
        self.conv.kernel == 1 && self.conv.window.stride == 1 && self.conv.window.padding == 0
    }

    /// Calls `work` for blocks of positions, in order, with what they read in `map`: `[positions, k * k * channels]`.
    fn each_block(
        &self,
        map: &Values,
        block: usize,
        mut work: impl FnMut(Range<usize>, Matrix<'_>) -> Result<()>,
    ) -> Result<()> {
        let (positions, width) = (self.positions(), self.width());
        let Conv2d { batch, kernel, window, .. } = *self.conv;
        let Window { stride, padding, dilation } = window;
        let ([to_height, to_width], [from_height, from_width]) = (self.to, self.from);
        assert_eq!(map.len(), batch * from_height * from_width * self.channels);
        if self.is_identity() {
            return work(0..positions, Matrix::new(map, positions, width));
        }
        let length = (block / width.max(1)).clamp(1, positions.max(1));
        let rows = unspecified(length * width)?;
        for first in (0..positions).step_by(length) {
            let end = positions.min(first + length);
            let rows = rows.slice(0..(end - first) * width);
            let arguments = arguments![
                *rows,
                *map,
                to_height,
                to_width,
                from_height,
                from_width,
                self.channels,
                kernel,
                stride,
                padding,
                dilation,
                usize::from(self.is_reverse),
                first,
                rows.len()
            ];
            KERNELS.launch("shifted", Grid::elements(rows.len()), arguments)?;
            work(first..end, Matrix::new(&rows, end - first, width))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::conv2d as cpu;
    use crate::testing::noise;

    /// Kernel, stride, padding, dilation.
    const WINDOWS: [[usize; 4]; 6] =
        [[1, 1, 0, 1], [1, 2, 0, 1], [3, 1, 1, 1], [3, 2, 1, 1], [2, 2, 0, 1], [3, 1, 2, 2]];

    fn convolution(
        batch: usize,
        channels: [usize; 2],
        [kernel, stride, padding, dilation]: [usize; 4],
    ) -> Conv2d {
        let (input, window) = ([7, 5], Window { stride, padding, dilation });
        let output = input.map(|side| window.output(side, kernel).unwrap());
        let [in_channels, out_channels] = channels;
        Conv2d { batch, input, output, in_channels, out_channels, kernel, window }
    }

    #[test]
    fn outputs_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for (batch, channels) in [(0, [2, 3]), (1, [1, 1]), (3, [7, 40])] {
            for conv in WINDOWS.map(|window| convolution(batch, channels, window)) {
                let x = noise(1, batch * 35 * channels[0]);
                let grad = noise(2, batch * conv.output[0] * conv.output[1] * channels[1]);
                let weight = noise(3, channels[0] * channels[1] * conv.kernel * conv.kernel);
                let bias = noise(4, channels[1]);
                let (card_x, card_grad, card_weight) = (on_card(&x), on_card(&grad), on_card(&weight));
                let (card_bias, expected) = (on_card(&bias), cpu::forward(&conv, &x, &weight, Some(&bias)));
                case.same(
                    &forward(&conv, &card_x, &card_weight, Some(&*card_bias)).unwrap(),
                    &expected.unwrap(),
                );
                let without = cpu::forward(&conv, &x, &weight, None).unwrap();
                let grad_x = cpu::grad_input(&conv, &grad, &weight).unwrap();
                let grad_weight = cpu::grad_weight(&conv, &x, &grad).unwrap();
                // In one block, and in many with a short last one.
                for block in [BLOCK, 4 * 9 * 40] {
                    case.same(&forward_blocks(&conv, &card_x, &card_weight, None, block).unwrap(), &without);
                    case.same(&grad_input_blocks(&conv, &card_grad, &card_weight, block).unwrap(), &grad_x);
                    case.same(&grad_weight_blocks(&conv, &card_x, &card_grad, block).unwrap(), &grad_weight);
                }
            }
        }
    }
}
