//! Kernels beside those of the CPU, on the same values.

use super::step_end::StepEnd;
use super::{Buffer, Values, download, operand, upload};
use crate::Result;
use crate::cpu::step_end;
use crate::device::{Precision, set_precision};
use crate::testing::{assert_close, wide};

/// Values in memory of the card.
pub fn on_card(values: &[f32]) -> Buffer {
    upload(values.to_vec()).unwrap()
}

/// What is computed where products take bf16.
pub fn in_bf16<R>(work: impl FnOnce() -> R) -> R {
    set_precision(Some(Precision::Bf16)).unwrap();
    let result = work();
    set_precision(None).unwrap();
    result
}

/// Values rounded to bf16, in memory of the card and in that of the host.
pub fn rounded(values: &[f32]) -> (Buffer, Vec<f32>) {
    let rounded = in_bf16(|| operand(&on_card(values)).unwrap().unwrap());
    let values = download(&rounded).unwrap();
    (rounded, values)
}

/// Ends of steps, on the CPU and on the card, that clip the gradient to some factor of it.
pub fn clipped(factor: f64) -> (step_end::StepEnd, StepEnd) {
    let (mut on_cpu, mut on_card) = (step_end::StepEnd::new().unwrap(), StepEnd::new().unwrap());
    // The norm is 1.
    let max_norm = Some(factor * (1.0 + 1e-6));
    on_cpu.finish(&[&[1.0]], &[], max_norm).unwrap();
    on_card.finish(&[&self::on_card(&[1.0])], &[], max_norm).unwrap();
    (on_cpu, on_card)
}

/// How closely a kernel follows that of the CPU: what may be off, relative to the largest value (at least 1).
#[derive(Clone, Copy)]
pub struct Case {
    tolerance: f64,
}

impl Case {
    /// The same bits; `_reason` says why.
    pub fn exact(_reason: &str) -> Self {
        Self { tolerance: 0.0 }
    }

    /// Off by at most `tolerance`; `_reason` says why it is.
    pub fn relative(tolerance: f64, _reason: &str) -> Self {
        Self { tolerance }
    }

    /// Off by what a result in bf16 is rounded by, with what is rounded on the way to it.
    pub fn bf16() -> Self {
        Self { tolerance: 1e-2 }
    }

    /// Compares what becomes of `values`.
    #[track_caller]
    pub fn in_place(
        self,
        values: &[f32],
        cpu: impl FnOnce(&mut [f32]) -> Result<()>,
        card: impl FnOnce(&mut Values) -> Result<()>,
    ) {
        let (mut expected, mut actual) = (values.to_vec(), on_card(values));
        cpu(&mut expected).unwrap();
        card(&mut actual).unwrap();
        self.same(&actual, &expected);
    }

    /// Compares results.
    #[track_caller]
    pub fn same(self, card: &Values, cpu: &[f32]) {
        assert_close(&download(card).unwrap(), &wide(cpu), self.tolerance);
    }
}
