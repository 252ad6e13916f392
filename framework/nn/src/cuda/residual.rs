//! What a residual connection adds to its input: a branch, by channel and by sample times a factor.

use super::buffer::{unspecified, unspecified_in};
use super::module::{Grid, Source, arguments, source};
use super::storage::{Storage, stored};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("residual");

/// The sum of `x` and the output of a branch, `[B, N, C]`, times `gamma`, `[C]`, and times `drop_scale`, `[B]`.
#[allow(clippy::needless_pass_by_value)] // On the CPU it becomes the sum.
pub fn add_branch(
    branch: Buffer,
    x: &Values,
    gamma: Option<&Values>,
    drop_scale: Option<&Values>,
) -> Result<Buffer> {
    assert!(branch.len() == x.len() && x.storage() == Storage::F32);
    let (channels, samples) = (gamma.map_or(1, Values::len), drop_scale.map_or(1, Values::len));
    assert!(channels > 0 && samples > 0 && x.len().is_multiple_of(channels * samples));
    let sum = unspecified(x.len())?;
    let arguments = arguments![sum, branch, *x, gamma, drop_scale, channels, x.len() / samples, x.len()];
    let kernel = branch.storage().of(stored!("add_branch"));
    KERNELS.launch_stored(kernel, Grid::elements(x.len()), arguments)?;
    Ok(sum)
}

/// The gradient of the sum times `drop_scale`, as products take it.
pub fn scaled_grad(grad: &Values, drop_scale: &Values) -> Result<Buffer> {
    assert!(!drop_scale.is_empty() && grad.len().is_multiple_of(drop_scale.len()));
    assert_eq!(grad.storage(), Storage::F32);
    let storage = Storage::of_operands();
    let scaled = unspecified_in(storage, grad.len())?;
    let arguments = arguments![scaled, *grad, *drop_scale, grad.len() / drop_scale.len(), grad.len()];
    let kernel = storage.of(stored!("scaled_grad"));
    KERNELS.launch_stored(kernel, Grid::elements(grad.len()), arguments)?;
    Ok(scaled)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, in_bf16, on_card, rounded};
    use super::*;
    use crate::cpu::{Buffer as CpuBuffer, residual as cpu};
    use crate::testing::noise;

    #[test]
    fn sums_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        for (samples, tokens, channels) in [(1, 1, 1), (3, 7, 24), (2, 49, 256)] {
            let len = samples * tokens * channels;
            let ((card_branch, branch), x) = (rounded(&noise(1, len)), noise(2, len));
            let (gamma, drop_scale) = (noise(3, channels), noise(4, samples));
            let (card_x, card_gamma, card_drop_scale) = (on_card(&x), on_card(&gamma), on_card(&drop_scale));
            for (by_channel, by_sample) in [(true, true), (true, false), (false, true), (false, false)] {
                let expected = cpu::add_branch(
                    CpuBuffer::copy(&branch),
                    &x,
                    by_channel.then_some(&*gamma),
                    by_sample.then_some(&*drop_scale),
                );
                let factors = (by_channel.then_some(&*card_gamma), by_sample.then_some(&*card_drop_scale));
                for card_branch in [on_card(&branch), super::super::copy(&card_branch).unwrap()] {
                    let sum = add_branch(card_branch, &card_x, factors.0, factors.1).unwrap();
                    case.same(&sum, expected.as_ref().unwrap());
                }
            }
            let expected = cpu::scaled_grad(&x, &drop_scale).unwrap();
            case.same(&scaled_grad(&card_x, &card_drop_scale).unwrap(), &expected);
            let scaled = in_bf16(|| scaled_grad(&card_x, &card_drop_scale).unwrap());
            assert_eq!(scaled.storage(), Storage::Bf16);
            Case::bf16().same(&scaled, &expected);
        }
    }
}
