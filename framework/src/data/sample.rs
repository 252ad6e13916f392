//! One image with what is known of it.

use image::{GrayImage, RgbImage};

/// One image with what is known of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the image is called in messages: its path.
    pub id: String,
    /// The image.
    pub pixels: Pixels,
    /// What is to be predicted.
    pub target: Target,
}

/// An image on its way to a batch.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// As decoded, 8 bit RGB.
    Rgb(RgbImage),
    /// Normalised, `[3, height, width]`.
    Normalized {
        /// Row-major values, channel by channel.
        values: Vec<f32>,
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// How they were normalised.
        normalization: Normalization,
    },
}

/// Per-channel mean and standard deviation of pixels in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

impl Normalization {
    /// Appends `(pixel / 255 - mean) / std` of every pixel to `values`, channel by channel.
    pub fn append(&self, image: &RgbImage, values: &mut Vec<f32>) {
        let (pixels, _) = image.as_raw().as_chunks::<3>();
        values.reserve(3 * pixels.len());
        for (channel, (mean, std)) in self.mean.into_iter().zip(self.std).enumerate() {
            let table: [f32; 256] = std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std);
            values.extend(pixels.iter().map(|pixel| table[usize::from(pixel[channel])]));
        }
    }
}

/// The label of a pixel that does not count.
pub const IGNORED: u8 = 255;

/// What is known of an image; every pipeline uses its part.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Index of the class of the image.
    pub class: Option<usize>,
    /// The class of the image that was mixed into this one, and its share.
    pub mixed: Option<Mixed>,
    /// The objects in it.
    pub instances: Vec<Instance>,
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

/// An object in an image.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Index of its class.
    pub class: usize,
    /// `[x0, y0, x1, y1]` in pixels, the end exclusive.
    pub bbox: [f32; 4],
    /// 255 where the object is, 0 elsewhere; as large as the image.
    pub mask: GrayImage,
}
