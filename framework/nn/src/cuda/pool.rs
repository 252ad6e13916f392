//! Means over tokens.

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, unspecified};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("pool");

/// The mean over the tokens of each image: from `[B, tokens, channels]` to `[B, channels]`, summed in double precision.
pub fn mean_tokens(x: &Values, tokens: usize, channels: usize) -> Result<Buffer> {
    assert!(x.len().is_multiple_of(tokens * channels));
    let batch = x.len() / (tokens * channels);
    let (mean, count) = (unspecified(batch * channels)?, batch * channels);
    let sums: CudaSlice<f64> = scratch(count)?;
    let arguments = arguments![sums, *x, batch * tokens, channels];
    KERNELS.launch("sum_tokens", Grid::columns(channels, batch, 1), arguments)?;
    KERNELS.launch("divide", Grid::elements(count), arguments![mean, sums, tokens, count])?;
    Ok(mean)
}

/// The gradient of [`mean_tokens`] with respect to `x`: every token gets its part of its image's, `grad` `[B, channels]`.
pub fn mean_tokens_grad(grad: &Values, tokens: usize, channels: usize) -> Result<Buffer> {
    assert!(grad.len().is_multiple_of(channels));
    let output = unspecified(grad.len() * tokens)?;
    let arguments = arguments![output, *grad, tokens, channels, output.len()];
    KERNELS.launch("mean_tokens_grad", Grid::elements(output.len()), arguments)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::pool as cpu;
    use crate::testing::noise;

    #[test]
    fn means_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-7, "rounded once, from sums in double precision");
        for (batch, tokens, channels) in [(0, 2, 3), (1, 1, 1), (3, 49, 33), (2, 1000, 24)] {
            let (x, grad) = (noise(1, batch * tokens * channels), noise(2, batch * channels));
            let mean = mean_tokens(&on_card(&x), tokens, channels).unwrap();
            case.same(&mean, &cpu::mean_tokens(&x, tokens, channels).unwrap());
            let grad_x = mean_tokens_grad(&on_card(&grad), tokens, channels).unwrap();
            case.same(&grad_x, &cpu::mean_tokens_grad(&grad, tokens, channels).unwrap());
        }
    }
}
