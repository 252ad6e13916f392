//! One step of stochastic gradient descent over all parameters, in one launch.

use cudarc::driver::DeviceRepr;
use cudarc::driver::sys::CUdeviceptr;

use super::Values;
use super::buffer::upload_plain;
use super::module::{Blocks, Grid, Source, arguments, source};
use super::step_end::GradScale;
use crate::Result;
use crate::cpu::sgd::SgdOperands;

pub use crate::cpu::sgd::SgdStep;

static KERNELS: Source = source!("sgd");

/// A parameter and its direction, of equal length.
pub type SgdTensor<'a> = SgdOperands<'a, Values>;

/// `Tensor` in `kernels/sgd.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensor {
    values: CUdeviceptr,
    grad: CUdeviceptr,
    direction: CUdeviceptr,
    count: u32,
    first_block: u32,
    lr: f32,
    momentum: f32,
    enters: f32,
    weight_decay: f32,
    nesterov: u64,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Tensor {}

/// Updates the values of all tensors, and the directions of those that have momentum, in the order of operations of
/// `torch.optim.SGD`.
pub fn sgd(tensors: Vec<SgdTensor<'_>>, scale: &GradScale) -> Result<()> {
    let mut blocks = Blocks::default();
    let mut table = Vec::with_capacity(tensors.len());
    for SgdTensor { values, grad, direction, at } in tensors {
        assert_eq!(grad.len(), values.len());
        assert!(direction.as_ref().is_none_or(|direction| direction.len() == values.len()));
        if values.is_empty() {
            continue;
        }
        let SgdStep { lr, momentum, enters, nesterov, weight_decay } = at;
        table.push(Tensor {
            values: values.address(),
            grad: grad.address(),
            direction: direction.map_or(0, |direction| direction.address()),
            count: values.len() as u32,
            first_block: blocks.add(values.len()),
            lr,
            momentum,
            enters,
            weight_decay,
            nesterov: u64::from(nesterov),
        });
    }
    let on_card = upload_plain(&table)?;
    KERNELS.launch("sgd", Grid::items(blocks.count()), arguments![on_card, table.len(), *scale])
}

#[cfg(test)]
mod tests {
    use super::super::module::CHUNK;
    use super::super::testing::{Case, clipped, on_card};
    use super::*;
    use crate::cpu::sgd as cpu;
    use crate::testing::noise;

    #[test]
    fn steps_of_several_tensors_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        let (cpu_end, end) = clipped(0.25);
        for has_momentum in [false, true] {
            for nesterov in [false, true] {
                let at = SgdStep { lr: 0.1, momentum: 0.9, enters: 0.5, nesterov, weight_decay: 0.2 };
                let lens = [0, 1, 257, 3 * CHUNK + 1];
                let mut expected: Vec<[Vec<f32>; 3]> =
                    lens.iter().map(|&len| [1, 2, 3].map(|seed| noise(seed, len))).collect();
                let mut actual: Vec<_> =
                    expected.iter().map(|tensor| tensor.each_ref().map(|values| on_card(values))).collect();
                let tensors = expected.iter_mut().map(|[values, grad, direction]| {
                    let direction = has_momentum.then_some(direction.as_mut_slice());
                    cpu::SgdTensor { values, grad, direction, at }
                });
                cpu::sgd(tensors.collect(), cpu_end.scale()).unwrap();
                let tensors = actual.iter_mut().map(|[values, grad, direction]| {
                    let direction = has_momentum.then_some(&mut **direction);
                    SgdTensor { values, grad, direction, at }
                });
                sgd(tensors.collect(), end.scale()).unwrap();
                for (actual, expected) in actual.iter().flatten().zip(expected.iter().flatten()) {
                    case.same(actual, expected);
                }
            }
        }
        sgd(Vec::new(), end.scale()).unwrap();
    }
}
