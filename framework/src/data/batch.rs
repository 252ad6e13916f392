//! Samples stacked for a model.

use super::{Normalization, Target};

/// `B` samples of one size.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, 3, height, width]`, row-major, normalised.
    pub images: Vec<f32>,
    /// Height of every image in pixels.
    pub height: usize,
    /// Width of every image in pixels.
    pub width: usize,
    /// How the images were normalised.
    pub normalization: Normalization,
    /// What is to be predicted, per image.
    pub targets: Vec<Target>,
    /// What the images are called in messages.
    pub ids: Vec<String>,
}

impl Batch {
    /// Number of images, `B`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
