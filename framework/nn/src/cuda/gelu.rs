//! GELU with the exact normal distribution function (PyTorch's default, `approximate='none'`).

use super::buffer::unspecified_in;
use super::module::{Grid, Source, arguments, source};
use super::storage::stored;
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("gelu");

/// `x * P(X <= x)` for a standard normal `X`.
pub fn forward(x: &Values) -> Result<Buffer> {
    let y = unspecified_in(x.storage(), x.len())?;
    let kernel = x.storage().of(stored!("forward"));
    KERNELS.launch_stored(kernel, Grid::elements(x.len()), arguments![y, *x, x.len()])?;
    Ok(y)
}

/// Replaces the gradient of the output by that of the input, and the input by the output.
pub fn backward_and_recompute(grad: &mut Values, x: &mut Values) -> Result<()> {
    assert_eq!((grad.len(), grad.storage()), (x.len(), x.storage()));
    let kernel = x.storage().of(stored!("backward_and_recompute"));
    KERNELS.launch_stored(kernel, Grid::elements(x.len()), arguments![*grad, *x, x.len()])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::{Buffer as CpuBuffer, gelu as cpu};
    use crate::testing::noise;

    #[test]
    fn activations_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "another function for powers of two");
        for len in [0, 1, 257, 600_000] {
            let mut x: Vec<f32> = noise(1, len).iter().map(|x| 15.0 * x).collect();
            x.iter_mut().zip([0.0, 1e30, -1e30]).for_each(|(x, special)| *x = special);
            let grad = noise(2, len);
            case.same(&forward(&on_card(&x)).unwrap(), &cpu::forward(&x).unwrap());
            let (mut expected, mut again) = (CpuBuffer::copy(&grad), CpuBuffer::copy(&x));
            cpu::backward_and_recompute(&mut expected, &mut again).unwrap();
            let (mut actual, mut actual_again) = (on_card(&grad), on_card(&x));
            backward_and_recompute(&mut actual, &mut actual_again).unwrap();
            case.same(&actual, &expected);
            case.same(&actual_again, &again);
        }
    }
}
