//! One step of an exponential moving average over all parameters, in one launch.

use cudarc::driver::DeviceRepr;
use cudarc::driver::sys::CUdeviceptr;

use super::Values;
use super::buffer::upload_plain;
use super::module::{Blocks, Grid, Source, arguments, source};
use crate::Result;
use crate::cpu::ema::EmaOperands;

static KERNELS: Source = source!("ema");

/// An average and the parameter that it follows, of equal length.
pub type EmaTensor<'a> = EmaOperands<'a, Values>;

/// `Tensor` in `kernels/ema.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensor {
    average: CUdeviceptr,
    values: CUdeviceptr,
    count: u32,
    first_block: u32,
    keep: f32,
    take: f32,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Tensor {}

/// `average = decay * average + (1 - decay) * values`, for all tensors.
pub fn ema(tensors: Vec<EmaTensor<'_>>) -> Result<()> {
    let mut blocks = Blocks::default();
    let mut table = Vec::with_capacity(tensors.len());
    for EmaOperands { average, values, decay } in tensors {
        assert_eq!(average.len(), values.len());
        if values.is_empty() {
            continue;
        }
        table.push(Tensor {
            average: average.address(),
            values: values.address(),
            count: values.len() as u32,
            first_block: blocks.add(values.len()),
            keep: decay as f32,
            take: (1.0 - decay) as f32,
        });
    }
    let on_card = upload_plain(&table)?;
    KERNELS.launch("ema", Grid::items(blocks.count()), arguments![on_card, table.len()])
}

#[cfg(test)]
mod tests {
    use super::super::module::CHUNK;
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::ema as cpu;
    use crate::testing::noise;

    #[test]
    fn averages_of_several_tensors_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "a product and a sum may be rounded as one");
        let lens = [(0, 0.9), (1, 0.9), (257, 0.0), (3 * CHUNK + 1, 0.99)];
        let mut expected: Vec<_> = lens.iter().map(|&(len, _)| noise(1, len)).collect();
        let values: Vec<_> = lens.iter().map(|&(len, _)| noise(2, len)).collect();
        let mut actual: Vec<_> = expected.iter().map(|average| on_card(average)).collect();
        let of_cpu = expected.iter_mut().zip(&values).zip(lens);
        let of_cpu = of_cpu.map(|((average, values), (_, decay))| EmaOperands {
            average: average.as_mut_slice(),
            values: values.as_slice(),
            decay,
        });
        cpu::ema(of_cpu.collect()).unwrap();
        let values: Vec<_> = values.iter().map(|values| on_card(values)).collect();
        let of_card = actual.iter_mut().zip(&values).zip(lens);
        let of_card = of_card.map(|((average, values), (_, decay))| EmaOperands {
            average: &mut **average,
            values: &**values,
            decay,
        });
        ema(of_card.collect()).unwrap();
        for (actual, expected) in actual.iter().zip(&expected) {
            case.same(actual, expected);
        }
        ema(Vec::new()).unwrap();
    }
}
