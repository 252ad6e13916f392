//! How values are stored: in `f32`, or rounded to bf16.
//!
//! With [`Precision::Bf16`] products take bf16 and add up in `f32`, as under PyTorch's `autocast`. What goes from one product of a block to
//! the next is stored in bf16; inputs and outputs of blocks, statistics, parameters and their gradients in `f32`.

use cudarc::driver::DeviceRepr;
use cudarc::driver::sys::CUdeviceptr;

use super::buffer::{unspecified_in, upload_plain};
use super::module::{Blocks, Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;
use crate::device::{self, Precision};

static KERNELS: Source = source!("storage");

/// How values are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// In 4 bytes.
    #[default]
    F32,
    /// In 2 bytes: the upper half of an `f32`, rounded.
    Bf16,
}

impl Storage {
    /// What products take.
    pub fn of_operands() -> Self {
        match device::precision() {
            Precision::F32 | Precision::Tf32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The kernel for values that are stored so, of those for each.
    pub fn of(self, [f32, bf16]: [&'static str; 2]) -> &'static str {
        match self {
            Self::F32 => f32,
            Self::Bf16 => bf16,
        }
    }
}

/// The names of the kernels for each [`Storage`].
macro_rules! stored {
    ($($name:expr),+) => {
        [concat!($($name),+, "_f32"), concat!($($name),+, "_bf16")]
    };
}
pub(super) use stored;

/// The values as products take them; none if they are stored so.
pub fn operand(values: &Values) -> Result<Option<Buffer>> {
    match Storage::of_operands() == Storage::Bf16 && values.storage() == Storage::F32 {
        true => convert(values, Storage::Bf16, "to_bf16").map(Some),
        false => Ok(None),
    }
}

/// Whether the values are stored as products take them, and not in `f32`.
pub fn is_rounded(values: &Values) -> bool {
    values.storage() == Storage::Bf16
}

/// A tensor and where it goes, in `kernels/storage.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Rounding {
    from: CUdeviceptr,
    to: CUdeviceptr,
    count: u32,
    first_block: u32,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Rounding {}

/// Writes the values of each pair's first to its second, as products take them, in one launch.
pub fn round_all(pairs: Vec<(&Values, &mut Values)>) -> Result<()> {
    let (mut blocks, mut table) = (Blocks::default(), Vec::with_capacity(pairs.len()));
    for (from, to) in pairs {
        assert_eq!((from.len(), from.storage(), to.storage()), (to.len(), Storage::F32, Storage::Bf16));
        let (count, first_block) = (from.len() as u32, blocks.add(from.len()));
        if count > 0 {
            table.push(Rounding { from: from.address(), to: to.address(), count, first_block });
        }
    }
    if table.is_empty() {
        return Ok(());
    }
    let on_card = upload_plain(&table)?;
    KERNELS.launch("round_all", Grid::items(blocks.count()), arguments![on_card, table.len()])
}

/// [`operand`] of a buffer, which may have been computed with it. It is taken from there.
pub fn take_operand(values: &mut Buffer) -> Result<Option<Buffer>> {
    values.take_kept_operand().map_or_else(|| operand(values), |operand| Ok(Some(operand)))
}

/// The values in `f32`.
pub fn single(values: Buffer) -> Result<Buffer> {
    match values.storage() {
        Storage::F32 => Ok(values),
        Storage::Bf16 => widened(&values),
    }
}

/// [`single`] of borrowed values, in bf16.
pub(super) fn widened(values: &Values) -> Result<Buffer> {
    convert(values, Storage::F32, "to_f32")
}

fn convert(values: &Values, to: Storage, kernel: &'static str) -> Result<Buffer> {
    let converted = unspecified_in(to, values.len())?;
    let arguments = arguments![converted, *values, values.len()];
    KERNELS.launch_stored(kernel, Grid::elements(values.len()), arguments)?;
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::super::module::CHUNK;
    use super::super::testing::{in_bf16, on_card};
    use super::super::{copy, download};
    use super::*;
    use crate::testing::noise;

    /// The nearest bf16, and of two the one that ends with 0.
    #[test]
    fn values_are_rounded_to_the_nearest() {
        let values = [1.0, -0.0, 1.003_906_3, 1.011_718_8, 3.4e38, f32::INFINITY, f32::NAN, 1e-40, 0.1];
        let (infinity, smallest) = (f32::INFINITY, f32::from_bits(0x0001_0000));
        let expected = [1.0, -0.0, 1.0, 1.015_625, infinity, infinity, f32::NAN, smallest, 0.100_097_656];
        let rounded = in_bf16(|| operand(&on_card(&values)).unwrap().unwrap());
        assert_eq!((rounded.storage(), rounded.len()), (Storage::Bf16, values.len()));
        let found = download(&single(copy(&rounded).unwrap()).unwrap()).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{found} {expected}"
            );
        }
        // They come down as they are.
        assert_eq!(download(&rounded).unwrap()[..4], expected[..4]);
    }

    #[test]
    fn all_are_rounded_as_each_is() {
        let tensors = [1, 0, CHUNK, 3 * CHUNK + 1, 7].map(|len| on_card(&noise(len as u64, len)));
        in_bf16(|| {
            let mut rounded = tensors.each_ref().map(|x| unspecified_in(Storage::Bf16, x.len()).unwrap());
            round_all(tensors.iter().map(|x| &**x).zip(rounded.iter_mut().map(|y| &mut **y)).collect())
                .unwrap();
            for (x, rounded) in tensors.iter().zip(&rounded) {
                let expected = operand(x).unwrap().unwrap();
                assert_eq!(download(rounded).unwrap(), download(&expected).unwrap());
            }
        });
        round_all(Vec::new()).unwrap();
    }

    #[test]
    fn what_products_take_as_it_is_is_not_copied() {
        assert!(operand(&on_card(&[1.0])).unwrap().is_none());
        in_bf16(|| {
            let rounded = operand(&on_card(&[1.0])).unwrap().unwrap();
            assert!(operand(&rounded).unwrap().is_none());
        });
    }
}
