//! Rectified linear units.

use super::buffer::unspecified;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("relu");

/// `max(x, 0)`; what is not a number stays so.
pub fn forward(x: &Values) -> Result<Buffer> {
    let y = unspecified(x.len())?;
    KERNELS.launch("forward", Grid::elements(x.len()), arguments![y, *x, x.len()])?;
    Ok(y)
}

/// Replaces the gradient of the output by that of the input: none where `x <= 0`, as in PyTorch.
pub fn backward(grad: &mut Values, x: &Values) -> Result<()> {
    assert_eq!(grad.len(), x.len());
    KERNELS.launch("backward", Grid::elements(x.len()), arguments![*grad, *x, x.len()])
}

#[cfg(test)]
mod tests {
    use super::super::download;
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::relu as cpu;
    use crate::testing::noise;

    #[test]
    fn values_and_gradients_are_those_of_the_cpu() {
        let case = Case::exact("nothing is computed");
        for len in [0, 1, 257, 600_000] {
            let (mut x, grad) = (noise(1, len), noise(2, len));
            x.iter_mut().zip([0.0, f32::INFINITY, f32::NEG_INFINITY]).for_each(|(x, special)| *x = special);
            let card = on_card(&x);
            let (expected, actual) = (cpu::forward(&x).unwrap(), forward(&card).unwrap());
            assert_eq!(download(&actual).unwrap()[..], expected[..]);
            case.in_place(&grad, |grad| cpu::backward(grad, &x), |grad| backward(grad, &card));
        }
        assert!(download(&forward(&on_card(&[f32::NAN])).unwrap()).unwrap()[0].is_nan());
    }
}
