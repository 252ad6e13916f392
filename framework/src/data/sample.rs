//! One image with its targets.

use image::RgbImage;

use super::Target;

/// One image with its targets.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the image is called in messages: its path.
    pub id: String,
    /// The image.
    pub pixels: Pixels,
    /// What is to be predicted.
    pub target: Target,
    /// Height and width of the image as it was read, before any transform.
    pub original: [usize; 2],
}

impl Sample {
    /// An image as it was read.
    pub fn new(id: String, image: RgbImage, target: Target) -> Self {
        let original = [image.height() as usize, image.width() as usize];
        Self { id, pixels: Pixels::Rgb(image), target, original }
    }
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
