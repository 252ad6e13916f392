//! Images as kernels read them.

use std::sync::Arc;

use super::Buffer;
use crate::images::Pixels;
use crate::{Result, Shape};

/// Normalised images.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// `[B, C, H, W]`.
    pub(super) values: Arc<Vec<f32>>,
    /// `[B, C, H, W]`.
    pub(super) shape: Shape,
}

/// Normalises pixels that fill a shape, `[B, C, H, W]`. Normalised ones are taken as they are.
pub fn upload(pixels: &Pixels, shape: Shape) -> Result<Uploaded> {
    let values = match pixels {
        Pixels::Floats(values) => Arc::clone(values),
        Pixels::Bytes(..) => Arc::new(pixels.normalized(shape).into_owned()),
    };
    Ok(Uploaded { values, shape })
}

/// The normalised values, `[B, C, H, W]`.
pub fn normalized(images: &Uploaded) -> Result<Buffer> {
    Ok(Buffer::copy(&images.values))
}
