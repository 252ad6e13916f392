//! A step of LARS (You, Gitman and Ginsburg).

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, unspecified};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

pub use crate::cpu::lars::LarsStep;

static KERNELS: Source = source!("lars");

/// Updates the values and the direction `mu` of one parameter, as `util/lars.py` of the official code. The norms stay on the card.
pub fn lars(values: &mut Values, grad: &Values, mu: &mut Values, at: LarsStep) -> Result<()> {
    let LarsStep { lr, momentum, weight_decay, trust_coefficient } = at;
    let count = values.len();
    assert_eq!([grad.len(), mu.len()], [count; 2]);
    let scale =
        trust_coefficient.map(|coefficient| trust(values, grad, weight_decay, coefficient)).transpose()?;
    let arguments = arguments![*values, *grad, *mu, scale.as_deref(), lr, momentum, weight_decay, count];
    KERNELS.launch("lars", Grid::elements(count), arguments)
}

/// What the decayed gradient is multiplied by, `[1]`.
fn trust(values: &Values, grad: &Values, weight_decay: f32, coefficient: f64) -> Result<Buffer> {
    let (count, grid) = (values.len(), Grid::elements(values.len()));
    let partial: CudaSlice<f64> = scratch(2 * grid.blocks())?;
    KERNELS.launch("sum_squares", grid, arguments![partial, *values, *grad, weight_decay, count])?;
    let scale = unspecified(1)?;
    KERNELS.launch("trust", Grid::one(), arguments![scale, partial, coefficient, grid.blocks()])?;
    Ok(scale)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::lars as cpu;
    use crate::testing::noise;

    #[test]
    fn steps_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        for (len, size) in [(0, 1.0), (1, 1.0), (257, 1.0), (600_000, 1.0), (30, 0.0)] {
            let (values, grad) = (noise(1, len).iter().map(|x| size * x).collect::<Vec<_>>(), noise(2, len));
            let card_grad = on_card(&grad);
            for trust_coefficient in [None, Some(0.01)] {
                let at = LarsStep { lr: 0.1, momentum: 0.9, weight_decay: 0.2, trust_coefficient };
                let (mut mu, mut card_mu) = (noise(3, len), on_card(&noise(3, len)));
                case.in_place(
                    &values,
                    |values| cpu::lars(values, &grad, &mut mu, at),
                    |values| lars(values, &card_grad, &mut card_mu, at),
                );
                case.same(&card_mu, &mu);
            }
        }
    }
}
