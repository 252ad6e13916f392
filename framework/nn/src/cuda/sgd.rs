//! A step of stochastic gradient descent.

use super::Values;
use super::module::{Grid, Source, arguments, source};
use crate::Result;

pub use crate::cpu::sgd::SgdStep;

static KERNELS: Source = source!("sgd");

/// Updates the values of one parameter, and its direction if there is momentum, in the order of operations of `torch.optim.SGD`.
pub fn sgd(values: &mut Values, grad: &Values, direction: Option<&mut Values>, at: SgdStep) -> Result<()> {
    let SgdStep { lr, momentum, enters, nesterov, weight_decay } = at;
    let (count, grid) = (values.len(), Grid::elements(values.len()));
    assert_eq!(grad.len(), count);
    let Some(direction) = direction else {
        return KERNELS.launch("plain", grid, arguments![*values, *grad, lr, weight_decay, count]);
    };
    assert_eq!(direction.len(), count);
    let nesterov = usize::from(nesterov);
    let arguments =
        arguments![*values, *grad, *direction, lr, momentum, enters, nesterov, weight_decay, count];
    KERNELS.launch("momentum", grid, arguments)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::sgd as cpu;
    use crate::testing::noise;

    #[test]
    fn steps_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        for len in [0, 1, 257, 600_000] {
            let (values, grad) = (noise(1, len), noise(2, len));
            let card_grad = on_card(&grad);
            for nesterov in [false, true] {
                let at = SgdStep { lr: 0.1, momentum: 0.9, enters: 0.5, nesterov, weight_decay: 0.2 };
                case.in_place(
                    &values,
                    |values| cpu::sgd(values, &grad, None, at),
                    |values| sgd(values, &card_grad, None, at),
                );
                let (mut direction, mut card_direction) = (noise(3, len), on_card(&noise(3, len)));
                case.in_place(
                    &values,
                    |values| cpu::sgd(values, &grad, Some(&mut direction), at),
                    |values| sgd(values, &card_grad, Some(&mut *card_direction), at),
                );
                case.same(&card_direction, &direction);
            }
        }
    }
}
