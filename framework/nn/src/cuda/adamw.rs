//! One step of `AdamW` over all parameters, in one launch.

use cudarc::driver::DeviceRepr;
use cudarc::driver::sys::CUdeviceptr;

use super::Values;
use super::buffer::upload_plain;
use super::module::{Blocks, Grid, Source, arguments, source};
use super::step_end::GradScale;
use crate::Result;
use crate::cpu::adamw::{AdamwOperands, Factors};

pub use crate::cpu::adamw::AdamwStep;

static KERNELS: Source = source!("adamw");

/// A parameter and its moments, all of equal length.
pub type AdamwTensor<'a> = AdamwOperands<'a, Values>;

/// `Tensor` in `kernels/adamw.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensor {
    values: CUdeviceptr,
    grad: CUdeviceptr,
    exp_avg: CUdeviceptr,
    exp_avg_sq: CUdeviceptr,
    count: u32,
    first_block: u32,
    factors: Factors,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Tensor {}

/// Updates the values and moments of all tensors, in the order of operations of `torch.optim.AdamW`: decay, moments, bias-corrected
/// step.
pub fn adamw(tensors: Vec<AdamwTensor<'_>>, scale: &GradScale) -> Result<()> {
    let mut blocks = Blocks::default();
    let mut table = Vec::with_capacity(tensors.len());
    for AdamwTensor { values, grad, exp_avg, exp_avg_sq, at } in tensors {
        assert_eq!([grad.len(), exp_avg.len(), exp_avg_sq.len()], [values.len(); 3]);
        if values.is_empty() {
            continue;
        }
        table.push(Tensor {
            values: values.address(),
            grad: grad.address(),
            exp_avg: exp_avg.address(),
            exp_avg_sq: exp_avg_sq.address(),
            count: values.len() as u32,
            first_block: blocks.add(values.len()),
            factors: Factors::new(at),
        });
    }
    let on_card = upload_plain(&table)?;
    KERNELS.launch("adamw", Grid::items(blocks.count()), arguments![on_card, table.len(), *scale])
}

#[cfg(test)]
mod tests {
    use super::super::module::CHUNK;
    use super::super::testing::{Case, clipped, on_card};
    use super::*;
    use crate::cpu::adamw as cpu;
    use crate::testing::noise;

    #[test]
    fn steps_of_several_tensors_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        let lens = [1, 0, CHUNK, 3 * CHUNK + 1, 7];
        let state = |seed: u64| -> Vec<[Vec<f32>; 4]> {
            let tensor = |(index, len): (u64, &usize)| {
                let squares = noise(seed + 4 * index + 3, *len).iter().map(|x| x * x).collect();
                let [values, grad, exp_avg] = [0, 1, 2].map(|part| noise(seed + 4 * index + part, *len));
                [values, grad, exp_avg, squares]
            };
            (0..).zip(&lens).map(tensor).collect()
        };
        let mut expected = state(1);
        let mut actual: Vec<_> =
            expected.iter().map(|tensor| tensor.each_ref().map(|values| on_card(values))).collect();
        let (cpu_end, end) = clipped(0.25);
        // Each with a step of its own.
        let at = |index: usize, step: u64| {
            let (lr, weight_decay) = (0.1 / (index + 1) as f64, 0.5 * index as f64);
            AdamwStep { lr, betas: [0.9, 0.95], eps: 1e-8, weight_decay, step }
        };
        for step in [1, 2] {
            let tensors =
                expected.iter_mut().enumerate().map(|(index, [values, grad, exp_avg, exp_avg_sq])| {
                    cpu::AdamwTensor { values, grad, exp_avg, exp_avg_sq, at: at(index, step) }
                });
            cpu::adamw(tensors.collect(), cpu_end.scale()).unwrap();
            let tensors =
                actual.iter_mut().enumerate().map(|(index, [values, grad, exp_avg, exp_avg_sq])| {
                    AdamwTensor { values, grad, exp_avg, exp_avg_sq, at: at(index, step) }
                });
            adamw(tensors.collect(), end.scale()).unwrap();
        }
        for (actual, expected) in actual.iter().flatten().zip(expected.iter().flatten()) {
            case.same(actual, expected);
        }
        adamw(Vec::new(), end.scale()).unwrap();
    }
}
