//! The end of a step: the norm of the gradient, what clips it, and whether there is an update at all, all of it on the card.

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DevicePtr as _, DeviceRepr};

use super::Values;
use super::buffer::{download_plain, scratch, upload_plain};
use super::card::card;
use super::module::{Argument, AsArgument, Blocks, Grid, Source, arguments, source};
use super::pinned::Pinned;
use super::storage::Storage;
use crate::Result;

pub use crate::cpu::step_end::Figures;

static KERNELS: Source = source!("step_end");

/// Whether the host reads what a step came to when the next one is under way: so the card is never idle.
pub const IS_LATE: bool = true;

/// What an update makes of the gradients: `grad_scale` and `found_inf` of PyTorch's fused optimizers.
#[derive(Debug)]
pub struct GradScale(CudaSlice<Scale>);

/// `GradScale` in `kernels/common.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Scale {
    factor: f32,
    found_inf: u32,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Scale {}

impl GradScale {
    /// Gradients as they are.
    pub fn one() -> Result<Self> {
        Ok(Self(upload_plain(&[Scale { factor: 1.0, found_inf: 0 }])?))
    }

    /// What gradients are multiplied by; none where a loss or the norm of a step was not finite, and nothing is to be updated any more.
    /// Waits for it.
    pub fn factor(&self) -> Result<Option<f32>> {
        let mut scale = [Scale { factor: 1.0, found_inf: 0 }];
        download_plain(&mut scale, &self.0)?;
        Ok((scale[0].found_inf == 0).then_some(scale[0].factor))
    }
}

/// `const GradScale *`.
impl AsArgument for GradScale {
    fn argument(&self) -> Argument {
        self.0.argument()
    }
}

/// Where steps end.
#[derive(Debug)]
pub struct StepEnd {
    scale: GradScale,
    /// For the next steps.
    spare: Vec<Pinned>,
}

/// [`Figures`] on their way.
#[derive(Debug)]
pub struct Readback {
    /// The square of the norm, and the losses.
    numbers: Pinned,
    losses: usize,
}

/// `Tensor` in `kernels/step_end.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensor {
    values: CUdeviceptr,
    count: u32,
    first_block: u32,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Tensor {}

impl StepEnd {
    /// Before the first step.
    pub fn new() -> Result<Self> {
        Ok(Self { scale: GradScale::one()?, spare: Vec::new() })
    }

    /// What optimizers take, of the last step that was ended.
    pub fn scale(&self) -> &GradScale {
        &self.scale
    }

    /// Ends a step: takes the norm of all gradients together, summed in double precision and in a fixed order, and what scales it down
    /// to `max_norm`, as `torch.nn.utils.clip_grad_norm_`. Losses have one value each. Where one of them or the norm is not finite,
    /// optimizers that take [`StepEnd::scale`] update nothing any more: the host learns of it when the next step is under way.
    pub fn finish(
        &mut self,
        grads: &[&Values],
        losses: &[&Values],
        max_norm: Option<f64>,
    ) -> Result<Readback> {
        let mut blocks = Blocks::default();
        let mut table = Vec::with_capacity(grads.len() + losses.len());
        for values in grads.iter().filter(|values| !values.is_empty()) {
            assert_eq!(values.storage(), Storage::F32);
            let (count, first_block) = (values.len() as u32, blocks.add(values.len()));
            table.push(Tensor { values: values.address(), count, first_block });
        }
        let tensors = table.len();
        table.extend(losses.iter().map(|loss| {
            assert_eq!((loss.len(), loss.storage()), (1, Storage::F32));
            Tensor { values: loss.address(), count: 1, first_block: 0 }
        }));
        let (on_card, grid) = (upload_plain(&table)?, Grid::items(blocks.count().max(1)));
        let (partial, numbers) = (scratch::<f64>(grid.blocks())?, scratch::<f64>(1 + losses.len())?);
        let (card, max_norm) = (card()?, max_norm.unwrap_or(f64::INFINITY));
        let arguments = arguments![
            numbers,
            self.scale,
            partial,
            *card.counters(1)?,
            on_card,
            tensors,
            losses.len(),
            max_norm
        ];
        KERNELS.launch("step_end", grid, arguments)?;
        let mut readback = Readback { numbers: self.spare(bytes(losses.len()))?, losses: losses.len() };
        let stream = *card.device.cu_stream();
        readback.numbers.copy_from(*numbers.device_ptr(), bytes(losses.len()), stream)?;
        Ok(readback)
    }

    /// What a step came to. Waits for it.
    pub fn read(&mut self, Readback { mut numbers, losses }: Readback) -> Result<Figures> {
        let (chunks, _) = numbers.bytes()?[..bytes(losses)].as_chunks();
        let mut values = chunks.iter().map(|&bytes| f64::from_ne_bytes(bytes));
        let grad_norm = values.next().unwrap_or_default().sqrt();
        let figures = Figures { losses: values.map(|loss| loss as f32).collect(), grad_norm };
        self.spare.push(numbers);
        Ok(figures)
    }

    /// Locked memory of at least so many bytes.
    fn spare(&mut self, bytes: usize) -> Result<Pinned> {
        match self.spare.pop().filter(|pinned| pinned.len() >= bytes) {
            Some(pinned) => Ok(pinned),
            None => Pinned::new(bytes),
        }
    }
}

/// What the norm and so many losses take.
fn bytes(losses: usize) -> usize {
    (1 + losses) * size_of::<f64>()
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_card;
    use super::*;
    use crate::cpu::step_end as cpu;
    use crate::testing::noise;

    #[test]
    fn norms_and_factors_are_those_of_the_cpu() {
        let mut end = StepEnd::new().unwrap();
        for lens in [&[][..], &[0], &[1], &[700, 0, 4096, 4097], &[600_001]] {
            let grads: Vec<_> = lens.iter().zip(3..).map(|(&len, seed)| noise(seed, len)).collect();
            let card_grads: Vec<_> = grads.iter().map(|values| on_card(values)).collect();
            let losses: Vec<_> = [0.1, -2.0].iter().map(|&loss| on_card(&[loss])).collect();
            for max_norm in [None, Some(0.3), Some(1e3)] {
                let mut cpu_end = cpu::StepEnd::new().unwrap();
                let slices: Vec<_> = grads.iter().map(Vec::as_slice).collect();
                let expected = cpu_end.finish(&slices, &[&[0.1], &[-2.0]], max_norm).unwrap();
                let expected = cpu_end.read(expected).unwrap();
                let values: Vec<&Values> = card_grads.iter().map(|values| &**values).collect();
                let losses: Vec<&Values> = losses.iter().map(|loss| &**loss).collect();
                let actual = end.finish(&values, &losses, max_norm).unwrap();
                let actual = end.read(actual).unwrap();
                assert_eq!(actual.losses, expected.losses);
                let difference = (actual.grad_norm - expected.grad_norm).abs();
                assert!(difference <= 1e-12 * expected.grad_norm, "{lens:?}: {actual:?} {expected:?}");
                let [actual, expected] =
                    [end.scale().factor(), cpu_end.scale().factor()].map(|factor| factor.unwrap().unwrap());
                assert!((actual - expected).abs() <= 1e-7 * expected, "{lens:?}: {actual} {expected}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_ends_all_updates() {
        let finish = |end: &mut StepEnd, grad: f32, loss: f32| {
            let readback = end.finish(&[&on_card(&[1.0, grad])], &[&on_card(&[loss])], None).unwrap();
            (end.read(readback).unwrap(), end.scale().factor().unwrap())
        };
        for (grad, loss) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN), (1.0, f32::INFINITY)] {
            let mut end = StepEnd::new().unwrap();
            assert_eq!(finish(&mut end, 0.0, 1.0).1, Some(1.0));
            let (figures, factor) = finish(&mut end, grad, loss);
            assert!(!figures.grad_norm.is_finite() || !figures.losses[0].is_finite());
            assert_eq!(factor, None);
            assert_eq!(finish(&mut end, 0.0, 1.0), (Figures { losses: vec![1.0], grad_norm: 1.0 }, None));
        }
    }
}
