//! What is to be predicted of an image: its class, its objects, the class of every pixel.

mod instances;
mod mask;
mod rle;

use image::GrayImage;

pub use instances::Instances;
pub use mask::Mask;
pub(super) use mask::bounds;
pub use rle::{Rle, RleError};

/// The label of a pixel that does not count.
pub const IGNORED: u8 = 255;

/// What is known of an image; every pipeline uses its part.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Index of the class of the image.
    pub class: Option<usize>,
    /// The class of the image that was mixed into this one, and its share.
    pub mixed: Option<Mixed>,
    /// The annotated objects.
    pub instances: Instances,
    /// The class of every pixel, or [`IGNORED`].
    pub semantic: Option<GrayImage>,
}

/// What was mixed into an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixed {
    /// Index of the class of the other image.
    pub class: usize,
    /// The other image's share of the label; that of the image's own class is the rest to 1.
    pub share: f32,
}
