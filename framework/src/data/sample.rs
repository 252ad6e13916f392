//! One image with its targets.

use std::sync::Arc;

use image::RgbImage;

use super::{Instances, Target};

/// One image with its targets.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the image is called in messages: its path.
    pub id: String,
    /// The image.
    pub pixels: Pixels,
    /// What is to be predicted.
    pub target: Target,
    /// What it was before any transform.
    pub original: Original,
}

/// An image as it was read: what detections are compared with, and put out for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Original {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// The annotated objects.
    pub instances: Arc<Instances>,
    /// Its number in the annotations (COCO's `image_id`); where these give it none, the loader gives it its index in the dataset.
    pub image_id: Option<u64>,
}

impl Original {
    /// An image of a height and a width with the objects of a target that nothing has transformed.
    pub fn of(size: [usize; 2], target: &Target) -> Self {
        Self { size, instances: Arc::new(target.instances.clone()), image_id: None }
    }

    /// How much larger it is, down and across, than what the transforms made of it.
    pub fn scale(&self, transformed: [usize; 2]) -> [f64; 2] {
        std::array::from_fn(|axis| self.size[axis] as f64 / transformed[axis] as f64)
    }
}

impl Sample {
    /// An image as it was read.
    pub fn new(id: String, image: RgbImage, target: Target) -> Self {
        let original = Original::of([image.height() as usize, image.width() as usize], &target);
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
