//! Maps of another size: every row, then every column, of the output is a weighted sum of those of the input.

use rayon::prelude::*;

use super::Buffer;
use super::elementwise::CHUNK;
use super::simd::multiversion;
use crate::Result;
use crate::profile;

/// What one side of a map becomes: a sparse matrix `[outputs, inputs]`, by rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    inputs: usize,
    /// Where the weights of an output start, and where the last ones end: `[outputs + 1]`.
    starts: Vec<usize>,
    /// Inputs with their weights.
    taps: Vec<(usize, f32)>,
}

impl Side {
    /// PyTorch's adaptive average pooling: output `i` is the mean from `floor(i * inputs / outputs)` up to
    /// `ceil((i + 1) * inputs / outputs)`.
    pub fn adaptive_average(inputs: usize, outputs: usize) -> Self {
        Self::new(inputs, outputs, |output| {
            let bin = output * inputs / outputs..((output + 1) * inputs).div_ceil(outputs);
            let weight = 1.0 / bin.len() as f32;
            bin.map(move |input| (input, weight))
        })
    }

    /// PyTorch's linear interpolation with `align_corners=False`: output `i` lies at `(i + 0.5) * inputs / outputs - 0.5`, not
    /// below 0, between two inputs. Computed in `f32`, as there.
    pub fn linear(inputs: usize, outputs: usize) -> Self {
        let scale = inputs as f32 / outputs as f32;
        Self::new(inputs, outputs, |output| {
            let position = ((output as f32 + 0.5) * scale - 0.5).max(0.0);
            let below = (position as usize).min(inputs - 1);
            let above = (below + 1).min(inputs - 1);
            let share = (position - below as f32).min(1.0);
            [(below, 1.0 - share), (above, share)].into_iter().filter(|&(_, weight)| weight != 0.0)
        })
    }

    /// PyTorch's `nearest`: output `i` is the input `floor(i * inputs / outputs)`. Computed in `f32`, as there.
    pub fn nearest(inputs: usize, outputs: usize) -> Self {
        let scale = inputs as f32 / outputs as f32;
        Self::new(inputs, outputs, |output| {
            std::iter::once((((output as f32 * scale) as usize).min(inputs - 1), 1.0))
        })
    }

    /// PyTorch's cubic interpolation with `align_corners=False`: output `i` lies at `(i + 0.5) * inputs / outputs - 0.5`, between
    /// the second and the third of four inputs; the border counts for all beyond (Keys 1981, with a = -0.75). Computed in `f32`, as
    /// there.
    pub fn cubic(inputs: usize, outputs: usize) -> Self {
        const A: f32 = -0.75;
        let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
        let scale = inputs as f32 / outputs as f32;
        Self::new(inputs, outputs, |output| {
            let position = scale * (output as f32 + 0.5) - 0.5;
            let (second, part) = (position.floor() as isize, position - position.floor());
            let weights = [far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part)];
            let input = move |tap: isize| (second + tap).clamp(0, inputs as isize - 1) as usize;
            (-1..).map(input).zip(weights)
        })
    }

    fn new<I: Iterator<Item = (usize, f32)>>(
        inputs: usize,
        outputs: usize,
        of_output: impl Fn(usize) -> I,
    ) -> Self {
        let (mut starts, mut taps) = (vec![0], Vec::new());
        for output in 0..outputs {
            taps.extend(of_output(output));
            starts.push(taps.len());
        }
        Self { inputs, starts, taps }
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// For every output where its taps start, and then where the last ones end: `[outputs + 1]`.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Inputs with their weights, one output's behind the other's.
    pub fn taps(&self) -> &[(usize, f32)] {
        &self.taps
    }

    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    /// The matrix `[outputs, inputs]`, row-major.
    pub fn dense(&self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.outputs() * self.inputs];
        for output in 0..self.outputs() {
            for &(input, weight) in self.of(output) {
                matrix[output * self.inputs + input] += weight;
            }
        }
        matrix
    }

    /// From the gradients of the outputs to those of the inputs: the transposed matrix.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut columns = vec![Vec::new(); self.inputs];
        for output in 0..self.outputs() {
            for &(input, weight) in self.of(output) {
                columns[input].push((output, weight));
            }
        }
        Self::new(self.outputs(), self.inputs, |input| columns[input].iter().copied())
    }

    fn of(&self, output: usize) -> &[(usize, f32)] {
        &self.taps[self.starts[output]..self.starts[output + 1]]
    }

    /// `[N, outputs, width]` from `[N, inputs, width]`.
    fn apply(&self, x: &[f32], width: usize) -> Buffer {
        let (inputs, outputs) = (self.inputs * width, self.outputs());
        assert!(x.len().is_multiple_of(inputs));
        let mut y = Buffer::unspecified(x.len() / inputs * outputs * width);
        let lines = CHUNK.div_ceil(width);
        y.par_chunks_mut(lines * width).enumerate().for_each(|(chunk, y)| {
            for (line, y) in (chunk * lines..).zip(y.chunks_exact_mut(width)) {
                let x = &x[line / outputs * inputs..][..inputs];
                weighted_sum(y, x, self.of(line % outputs));
            }
        });
        y
    }
}

multiversion! {
    /// `y`, the sum of `weight * x[input]` over the taps, for lines of the length of `y`.
    fn weighted_sum(y: &mut [f32], x: &[f32], taps: &[(usize, f32)]) {
        let width = y.len();
        match *taps {
            [] => y.fill(0.0),
            [(input, weight)] => {
                for (y, x) in y.iter_mut().zip(&x[input * width..][..width]) {
                    *y = weight * x;
                }
            }
            [(first, a), (second, b), ref rest @ ..] => {
                let (first, second) = (&x[first * width..][..width], &x[second * width..][..width]);
                for ((y, first), second) in y.iter_mut().zip(first).zip(second) {
                    *y = a * first + b * second;
                }
                for &(input, weight) in rest {
                    for (y, x) in y.iter_mut().zip(&x[input * width..][..width]) {
                        *y += weight * x;
                    }
                }
            }
        }
    }
}

/// The rows and the columns of maps with their channels last.
#[derive(Debug, Clone)]
pub struct Resample {
    /// What the height becomes.
    pub rows: Side,
    /// What the width becomes.
    pub cols: Side,
}

/// `[B, H', W', C]` from `[B, H, W, C]`.
pub fn forward(resample: &Resample, x: &[f32], channels: usize) -> Result<Buffer> {
    let _span = profile::kernel("resample");
    Ok(resample.cols.apply(&resample.rows.apply(x, resample.cols.inputs * channels), channels))
}

/// The gradient of the input, `[B, H, W, C]`: each position gathers from the outputs that it is part of.
pub fn grad_input(resample: &Resample, grad: &[f32], channels: usize) -> Result<Buffer> {
    let _span = profile::kernel("resample gradient");
    let transposed = Resample { rows: resample.rows.transposed(), cols: resample.cols.transposed() };
    forward(&transposed, grad, channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_overlap_where_the_sides_do_not_divide() {
        let third = 1.0 / 3.0;
        assert_eq!(Side::adaptive_average(3, 2).dense(), [0.5, 0.5, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(Side::adaptive_average(3, 1).dense(), [third; 3]);
        let larger = Side::adaptive_average(2, 3).dense();
        assert_eq!(larger, [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
    }

    #[test]
    fn positions_are_centres_and_the_border_is_repeated() {
        let twice = [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0];
        assert_eq!(Side::linear(2, 4).dense(), twice);
        assert_eq!(Side::linear(4, 2).dense(), [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(Side::linear(1, 3).dense(), [1.0; 3]);
    }

    #[test]
    fn cubic_weights_reach_over_four_inputs_and_add_up_to_one() {
        // Halfway between two inputs, and a quarter beside one.
        assert_eq!(Side::cubic(4, 2).dense()[..4], [0.59375 - 0.09375, 0.59375, -0.09375, 0.0]);
        let [far, near, close, away] = [-0.105_468_75, 0.878_906_25, 0.261_718_75, -0.035_156_25];
        assert_eq!(Side::cubic(4, 8).dense()[3 * 4..4 * 4], [far, near, close, away]);
        assert_eq!(Side::cubic(3, 3).dense(), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(Side::cubic(1, 3).dense().iter().all(|weight| (weight - 1.0).abs() < 1e-6));
    }

    #[test]
    fn an_input_without_outputs_gets_no_gradient() {
        let shrink = Resample { rows: Side::linear(1, 1), cols: Side::linear(6, 2) };
        assert_eq!(forward(&shrink, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1).unwrap()[..], [2.0, 5.0]);
        assert_eq!(grad_input(&shrink, &[3.0, 7.0], 1).unwrap()[..], [0.0, 3.0, 0.0, 0.0, 7.0, 0.0]);
    }
}
