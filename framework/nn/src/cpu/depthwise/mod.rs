//! Depthwise convolution on patch-sparse features.
//!
//! A patch is cut into squares of positions whose sums fit into registers. What a square reads lies in squares as well, its
//! neighbors, and of these only the present ones are visited: their lines are read once, straight from the features, and
//! used for every output that they reach. Everything that the machine's vectors decide is chosen in [`squares`].

mod correlate;
mod grad_weight;
mod square;
mod squares;
mod surroundings;

use rayon::prelude::*;

use self::correlate::Correlate;
use self::grad_weight::GradWeight;
pub use self::squares::Depthwise;
use super::Buffer;
use crate::{Result, profile};

/// The output, from a weight `[C, K, K]`, a bias `[C]` and what the input is multiplied by, `[B, P * cell * cell]`.
pub fn forward(
    conv: &Depthwise<'_>,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    visible: Option<&[f32]>,
) -> Result<Buffer> {
    let _span = profile::kernel("depthwise");
    let x = conv.padded(x, visible);
    Ok(conv.cropped(conv.vectorized(Correlate { x: &x, weight, flipped: false, bias })))
}

/// The gradient of the input: the gradient of the output correlated with the flipped kernel.
pub fn grad_input(
    conv: &Depthwise<'_>,
    grad: &[f32],
    weight: &[f32],
    visible: Option<&[f32]>,
) -> Result<Buffer> {
    let _span = profile::kernel("depthwise");
    let grad = conv.padded(grad, None);
    let mut output = conv.cropped(conv.vectorized(Correlate { x: &grad, weight, flipped: true, bias: None }));
    if let Some(visible) = visible {
        output.par_chunks_mut(conv.channels).zip(visible).for_each(|(row, &visible)| {
            for value in row {
                *value *= visible;
            }
        });
    }
    Ok(output)
}

/// The gradient of the weight, `[C, K, K]`.
pub fn grad_weight(conv: &Depthwise<'_>, x: &[f32], grad: &[f32], visible: Option<&[f32]>) -> Result<Buffer> {
    let _span = profile::kernel("depthwise");
    let grad = conv.padded(grad, None);
    Ok(conv.vectorized(GradWeight { x: &conv.padded(x, visible), grad: &grad }).into())
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::squares::Vectorized;
    use super::*;
    use crate::PatchLayout;
    use crate::testing::{assert_close, noise, wide};

    /// The instruction sets of this machine that [`Arch::new`] does not choose.
    fn other_machines() -> Vec<Arch> {
        #[allow(unused_mut)]
        let mut machines = vec![Arch::Scalar];
        #[cfg(target_arch = "x86_64")]
        machines.extend(pulp::x86::V3::try_new().map(Arch::V3));
        machines
    }

    #[test]
    fn every_instruction_set_gives_the_same_up_to_rounding() {
        for (cell, channels, kernel) in
            [(1, 16, 3), (2, 16, 5), (2, 64, 5), (4, 16, 3), (4, 32, 9), (8, 16, 7)]
        {
            let layout = PatchLayout::dense(2, 3, 2, cell);
            let conv = Depthwise { layout: &layout, channels, kernel };
            let (x, grad) = (noise(1, conv.rows() * channels), noise(2, conv.rows() * channels));
            let (weight, bias) = (noise(3, channels * kernel * kernel), noise(4, channels));
            let output = forward(&conv, &x, &weight, Some(&bias), None).unwrap();
            let grad_weight = grad_weight(&conv, &x, &grad, None).unwrap();
            for machine in other_machines() {
                let operation = Correlate { x: &x, weight: &weight, flipped: false, bias: Some(&bias) };
                let other = machine.dispatch(Vectorized { conv: &conv, operation });
                assert_close(&other, &wide(&output), 1e-5);
                let operation = GradWeight { x: &x, grad: &grad };
                let other = machine.dispatch(Vectorized { conv: &conv, operation });
                assert_close(&other, &wide(&grad_weight), 1e-5);
            }
        }
    }
}
