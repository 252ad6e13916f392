//! Images as kernels read them: in the form in which they were uploaded.

use std::sync::Arc;

use super::card::card;
use super::module::{Address, Grid, Source, arguments, source};
use super::uploads::Upload;
use super::{Buffer, unspecified};
use crate::images::Pixels;
use crate::{Result, Shape};

static KERNELS: Source = source!("images");

/// Images in memory of the card.
#[derive(Debug, Clone)]
pub struct Uploaded {
    upload: Arc<Upload>,
    form: Form,
    /// `[B, C, H, W]`.
    pub(super) shape: Shape,
}

/// As in `kernels/images.cuh`.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// `[B, H, W, C]`, behind a table for each channel of what each value stands for.
    Bytes,
    /// `[B, C, H, W]`.
    Floats,
}

/// The names of the kernels for each [`Form`].
macro_rules! pixels {
    ($name:literal) => {
        [concat!($name, "_bytes"), concat!($name, "_floats")]
    };
}
pub(super) use pixels;

/// Begins to upload pixels that fill a shape, `[B, C, H, W]`.
pub fn upload(pixels: &Pixels, shape: Shape) -> Result<Uploaded> {
    let card = card()?;
    let uploads = card.uploads()?;
    let (upload, form) = match pixels {
        Pixels::Bytes(values, normalization) => {
            let tables: Vec<f32> = normalization.tables().flatten().collect();
            (uploads.start(&[bytemuck::cast_slice(&tables), values])?, Form::Bytes)
        }
        Pixels::Floats(values) => (uploads.start(&[bytemuck::cast_slice(values)])?, Form::Floats),
    };
    Ok(Uploaded { upload, form, shape })
}

/// The normalised values, `[B, C, H, W]`.
pub fn normalized(images: &Uploaded) -> Result<Buffer> {
    let y = unspecified(images.shape.numel())?;
    let [values, tables] = images.addresses()?;
    let (_, channels, height, width) = images.shape.dims4()?;
    let arguments = arguments![y, values, tables, channels, height, width, y.len()];
    KERNELS.launch(images.kernel(pixels!("normalized")), Grid::elements(y.len()), arguments)?;
    Ok(y)
}

impl Uploaded {
    /// The kernel for images in this form, of those for each.
    pub(super) fn kernel(&self, [bytes, floats]: [&'static str; 2]) -> &'static str {
        match self.form {
            Form::Bytes => bytes,
            Form::Floats => floats,
        }
    }

    /// Where the pixels lie, and the tables, for a kernel that is launched next.
    pub(super) fn addresses(&self) -> Result<[Address; 2]> {
        let start = self.upload.address()?;
        let (_, channels, ..) = self.shape.dims4()?;
        let tables = (channels * 256 * size_of::<f32>()) as u64;
        Ok(match self.form {
            Form::Bytes => [Address(start + tables), Address(start)],
            Form::Floats => [Address(start), Address(0)],
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::Case;
    use super::*;
    use crate::Normalization;
    use crate::cpu::images as cpu;
    use crate::testing::noise;

    /// The same images for the card and for the CPU, in both forms.
    pub fn in_both_forms(shape: (usize, usize, usize, usize)) -> [(Uploaded, cpu::Uploaded); 2] {
        let shape = Shape::from(shape);
        let channels = shape[1];
        let normalization = Normalization { mean: noise(1, channels), std: vec![0.3; channels] };
        let bytes: Vec<u8> = (0..shape.numel()).map(|at| (at * 37 % 256) as u8).collect();
        let forms =
            [Pixels::Bytes(bytes.into(), normalization), Pixels::Floats(noise(2, shape.numel()).into())];
        forms.map(|pixels| (upload(&pixels, shape).unwrap(), cpu::upload(&pixels, shape).unwrap()))
    }

    #[test]
    fn images_are_normalised_as_on_the_cpu() {
        for shape in [(1, 3, 1, 1), (2, 3, 5, 7), (3, 1, 4, 9), (2, 12, 3, 2)] {
            for (card, processor) in in_both_forms(shape) {
                let expected = cpu::normalized(&processor).unwrap();
                Case::exact("from one table").same(&normalized(&card).unwrap(), &expected);
            }
        }
    }
}
