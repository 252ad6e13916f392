//! Maps of another size: every row, then every column, of the output is a weighted sum of those of the input.

use super::buffer::{unspecified, upload_plain};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

pub use crate::cpu::resample::{Resample, Side};

static KERNELS: Source = source!("resample");

/// `[B, H', W', C]` from `[B, H, W, C]`.
pub fn forward(resample: &Resample, x: &Values, channels: usize) -> Result<Buffer> {
    let lines = apply(&resample.rows, x, resample.cols.inputs() * channels)?;
    apply(&resample.cols, &lines, channels)
}

/// The gradient of the input, `[B, H, W, C]`: each position gathers from the outputs that it is part of.
pub fn grad_input(resample: &Resample, grad: &Values, channels: usize) -> Result<Buffer> {
    let transposed = Resample { rows: resample.rows.transposed(), cols: resample.cols.transposed() };
    forward(&transposed, grad, channels)
}

/// `[N, outputs, width]` from `[N, inputs, width]`.
fn apply(side: &Side, x: &Values, width: usize) -> Result<Buffer> {
    let (inputs, outputs) = (side.inputs(), side.outputs());
    assert!(x.len().is_multiple_of(inputs * width));
    let y = unspecified(x.len() / inputs * outputs)?;
    let starts: Vec<u32> = side.starts().iter().map(|&start| start as u32).collect();
    let (sources, weights): (Vec<u32>, Vec<f32>) =
        side.taps().iter().map(|&(input, weight)| (input as u32, weight)).unzip();
    let (starts, sources, weights) =
        (upload_plain(&starts)?, upload_plain(&sources)?, upload_plain(&weights)?);
    let arguments = arguments![y, *x, starts, sources, weights, inputs, outputs, width, y.len()];
    KERNELS.launch("apply", Grid::elements(y.len()), arguments)?;
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::resample as cpu;
    use crate::testing::noise;

    #[test]
    fn maps_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        for (batch, channels, rows, cols) in [
            (0, 2, Side::linear(2, 3), Side::linear(3, 2)),
            (1, 1, Side::linear(1, 1), Side::linear(6, 2)),
            (2, 33, Side::linear(7, 13), Side::linear(5, 4)),
            (3, 24, Side::adaptive_average(7, 3), Side::adaptive_average(2, 6)),
        ] {
            let x = noise(1, batch * rows.inputs() * cols.inputs() * channels);
            let grad = noise(2, batch * rows.outputs() * cols.outputs() * channels);
            let resample = Resample { rows, cols };
            let y = forward(&resample, &on_card(&x), channels).unwrap();
            case.same(&y, &cpu::forward(&resample, &x, channels).unwrap());
            let grad_x = grad_input(&resample, &on_card(&grad), channels).unwrap();
            case.same(&grad_x, &cpu::grad_input(&resample, &grad, channels).unwrap());
        }
    }
}
