//! One step of LARS (You, Gitman and Ginsburg) over all parameters.

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DeviceRepr};

use super::Values;
use super::buffer::{scratch, unspecified, upload_plain};
use super::module::{Blocks, CHUNK, Grid, Source, arguments, source};
use super::step_end::GradScale;
use crate::Result;
use crate::cpu::lars::LarsOperands;

pub use crate::cpu::lars::LarsStep;

static KERNELS: Source = source!("lars");

/// A parameter and its direction, of equal length.
pub type LarsTensor<'a> = LarsOperands<'a, Values>;

/// `Tensor` in `kernels/lars.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensor {
    values: CUdeviceptr,
    grad: CUdeviceptr,
    mu: CUdeviceptr,
    count: u32,
    first_block: u32,
    blocks: u32,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    trust: f64,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Tensor {}

/// Updates the values and the directions of all tensors, as `util/lars.py` of the official code. The norms stay on the card.
pub fn lars(tensors: Vec<LarsTensor<'_>>, scale: &GradScale) -> Result<()> {
    let mut blocks = Blocks::default();
    let mut table = Vec::with_capacity(tensors.len());
    for LarsTensor { values, grad, mu, at } in tensors {
        assert_eq!([grad.len(), mu.len()], [values.len(); 2]);
        if values.is_empty() {
            continue;
        }
        let LarsStep { lr, momentum, weight_decay, trust_coefficient } = at;
        table.push(Tensor {
            values: values.address(),
            grad: grad.address(),
            mu: mu.address(),
            count: values.len() as u32,
            first_block: blocks.add(values.len()),
            blocks: values.len().div_ceil(CHUNK) as u32,
            lr,
            momentum,
            weight_decay,
            trust: trust_coefficient.unwrap_or(0.0),
        });
    }
    let (on_card, count, grid) = (upload_plain(&table)?, table.len(), Grid::items(blocks.count()));
    // Two sums a block.
    let partial: CudaSlice<f64> = scratch(2 * grid.blocks())?;
    KERNELS.launch("sum_squares", grid, arguments![partial, on_card, count, *scale])?;
    let factors = unspecified(count)?;
    KERNELS.launch("trust", Grid::items(count), arguments![factors, partial, on_card])?;
    KERNELS.launch("lars", grid, arguments![on_card, count, factors, *scale])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, clipped, on_card};
    use super::*;
    use crate::cpu::lars as cpu;
    use crate::testing::noise;

    #[test]
    fn steps_of_several_tensors_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        let (cpu_end, end) = clipped(0.25);
        let lens = [(0, 1.0), (1, 1.0), (257, 1.0), (3 * CHUNK + 1, 1.0), (30, 0.0)];
        for trust_coefficient in [None, Some(0.01)] {
            let at = LarsStep { lr: 0.1, momentum: 0.9, weight_decay: 0.2, trust_coefficient };
            let tensor = |&(len, size): &(usize, f32)| {
                [noise(1, len).iter().map(|x| size * x).collect(), noise(2, len), noise(3, len)]
            };
            let mut expected: Vec<[Vec<f32>; 3]> = lens.iter().map(tensor).collect();
            let mut actual: Vec<_> =
                expected.iter().map(|tensor| tensor.each_ref().map(|values| on_card(values))).collect();
            let tensors =
                expected.iter_mut().map(|[values, grad, mu]| cpu::LarsTensor { values, grad, mu, at });
            cpu::lars(tensors.collect(), cpu_end.scale()).unwrap();
            let tensors = actual.iter_mut().map(|[values, grad, mu]| LarsTensor { values, grad, mu, at });
            lars(tensors.collect(), end.scale()).unwrap();
            for (actual, expected) in actual.iter().flatten().zip(expected.iter().flatten()) {
                case.same(actual, expected);
            }
        }
        lars(Vec::new(), end.scale()).unwrap();
    }
}
