//! Concatenation of channels.

use super::buffer::unspecified;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("concat");

/// Rows `[N, C_i]` beside each other, `[N, sum of C_i]`.
pub fn forward(inputs: &[Buffer], channels: &[usize]) -> Result<Buffer> {
    let width: usize = channels.iter().sum();
    let output = unspecified(inputs.iter().map(|input| input.len()).sum())?;
    let mut start = 0;
    for (input, &channels) in inputs.iter().zip(channels) {
        assert_eq!(input.len() * width, output.len() * channels);
        let arguments = arguments![output, *input, width, start, channels, input.len()];
        KERNELS.launch("join", Grid::elements(input.len()), arguments)?;
        start += channels;
    }
    Ok(output)
}

/// The gradients of the inputs: rows `[N, sum of C_i]` taken apart.
pub fn backward(grad: &Values, channels: &[usize]) -> Result<Vec<Buffer>> {
    let width: usize = channels.iter().sum();
    assert!(grad.len().is_multiple_of(width));
    let mut start = 0;
    let part = |&channels: &usize| {
        let own = unspecified(grad.len() / width * channels)?;
        let arguments = arguments![own, *grad, width, start, channels, own.len()];
        KERNELS.launch("part", Grid::elements(own.len()), arguments)?;
        start += channels;
        Ok(own)
    };
    channels.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::concat as cpu;
    use crate::testing::noise;

    #[test]
    fn rows_are_joined_and_taken_apart_as_on_the_cpu() {
        let case = Case::exact("copies");
        for (rows, channels) in [(0, vec![1]), (1, vec![2]), (7, vec![3, 1, 40]), (500, vec![96, 7])] {
            let inputs: Vec<_> =
                (0..).zip(&channels).map(|(seed, &width)| noise(seed, rows * width)).collect();
            let on_cpu: Vec<_> = inputs.iter().map(|input| input.clone().into()).collect();
            let on_card: Vec<_> = inputs.iter().map(|input| on_card(input)).collect();
            let joined = forward(&on_card, &channels).unwrap();
            case.same(&joined, &cpu::forward(&on_cpu, &channels).unwrap());
            for (part, input) in backward(&joined, &channels).unwrap().iter().zip(&inputs) {
                case.same(part, input);
            }
        }
    }
}
