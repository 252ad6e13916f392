//! Normalised images, and the crops, resized and flipped versions of them that a model is given.

use convmae_framework::data::Batch;
use convmae_framework::nn::{self, Tape, Tensor, ops};

/// A normalised image: `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub values: Vec<f32>,
    pub height: usize,
    pub width: usize,
}

impl Image {
    /// An image of a batch, without its padding.
    pub fn of(batch: &Batch, at: usize) -> Self {
        let [height, width] = batch.sizes[at];
        let image = batch.images.image(at);
        let rows = image.chunks_exact(batch.width);
        let inside = rows.enumerate().filter(|(row, _)| row % batch.height < height);
        Self { values: inside.flat_map(|(_, row)| &row[..width]).copied().collect(), height, width }
    }

    /// Interpolated bilinearly to another size.
    pub fn resized(self, height: usize, width: usize) -> nn::Result<Self> {
        if (height, width) == (self.height, self.width) {
            return Ok(self);
        }
        // Every channel is a map of its own.
        let channels = self.values.len() / (self.height * self.width).max(1);
        let maps = Tensor::from_vec(self.values, (channels, self.height, self.width, 1), &Tape::none())?;
        let values = ops::resize_bilinear(maps, (height, width))?.to_vec()?;
        Ok(Self { values, height, width })
    }

    /// With left and right exchanged.
    pub fn flipped(mut self) -> Self {
        self.values.chunks_exact_mut(self.width).for_each(<[f32]>::reverse);
        self
    }

    /// Appends the window of `height` x `width` pixels that starts at a row and a column. Beyond the image it
    /// is 0, the mean colour.
    pub fn append_window(
        &self,
        (top, left): (usize, usize),
        (height, width): (usize, usize),
        values: &mut Vec<f32>,
    ) {
        let inside = width.min(self.width - left);
        for channel in self.values.chunks_exact(self.height * self.width) {
            for row in top..top + height {
                if row < self.height {
                    values.extend_from_slice(&channel[row * self.width + left..][..inside]);
                    values.extend(std::iter::repeat_n(0.0, width - inside));
                } else {
                    values.extend(std::iter::repeat_n(0.0, width));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Values that tell their place.
    fn image(height: usize, width: usize) -> Image {
        Image { values: (0..3 * height * width).map(|at| at as f32).collect(), height, width }
    }

    #[test]
    fn a_window_beyond_the_image_is_filled_with_zeros() {
        let mut values = Vec::new();
        image(2, 3).append_window((1, 1), (2, 3), &mut values);
        let channel = |first: f32| [first, first + 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(values, [channel(4.0), channel(10.0), channel(16.0)].concat());
    }

    #[test]
    fn an_image_of_a_batch_has_no_padding() {
        let mut batch = super::super::testing::batch(2, 3, 4);
        batch.sizes[1] = [2, 3];
        let whole = Image::of(&Batch { sizes: vec![[3, 4]; 2], ..batch.clone() }, 1);
        let found = Image::of(&batch, 1);
        assert_eq!((found.height, found.width), (2, 3));
        for (channel, whole) in found.values.chunks(6).zip(whole.values.chunks(12)) {
            assert_eq!(channel, [&whole[..3], &whole[4..7]].concat());
        }
    }

    #[test]
    fn mirroring_twice_changes_nothing_and_once_exchanges_columns() {
        let flipped = image(2, 3).flipped();
        assert_eq!(flipped.values[..6], [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        assert_eq!(flipped.flipped(), image(2, 3));
    }

    #[test]
    fn channels_are_resized_apart_from_each_other() {
        let flat = Image { values: [[1.0; 6], [2.0; 6], [3.0; 6]].concat(), height: 2, width: 3 };
        let resized = flat.resized(3, 5).unwrap();
        assert_eq!((resized.height, resized.width), (3, 5));
        assert_eq!(resized.values, [[1.0; 15], [2.0; 15], [3.0; 15]].concat());
    }
}
