//! Images of any number of channels.

use image::{GrayImage, RgbImage};

use super::resize::resize_channels;
use super::{CropBox, Interpolation};

/// An image of 8 bits a value: `[height, width, channels]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    channels: usize,
    height: usize,
    width: usize,
    values: Vec<u8>,
}

impl Raster {
    /// An image of values, channels last; none if they are not as many as the shape says.
    pub fn new(channels: usize, (height, width): (usize, usize), values: Vec<u8>) -> Option<Self> {
        let is_image = channels > 0 && values.len() == channels * height * width;
        is_image.then_some(Self { channels, height, width, values })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Height and width in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// `[height, width, channels]`.
    pub fn as_raw(&self) -> &[u8] {
        &self.values
    }

    /// The pixels, each with its channels.
    pub fn pixels(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.values.chunks_exact(self.channels)
    }

    /// Resizes the part within `crop`, exactly as Pillow does it channel by channel.
    pub(super) fn resize(
        &self,
        crop: CropBox,
        height: usize,
        width: usize,
        interpolation: Interpolation,
    ) -> Self {
        let (values, size) = (&self.values, (self.height, self.width));
        let values = resize_channels(values, self.channels, size, crop, (height, width), interpolation);
        Self { channels: self.channels, height, width, values }
    }

    /// Mirrors left and right.
    pub(super) fn flip_horizontal(&mut self) {
        for row in self.values.chunks_exact_mut(self.channels * self.width) {
            for column in 0..self.width / 2 {
                let (left, right) = row.split_at_mut((self.width - 1 - column) * self.channels);
                left[column * self.channels..][..self.channels].swap_with_slice(&mut right[..self.channels]);
            }
        }
    }

    /// On a larger image of a single value, with its corner at `top` and `left`.
    pub(super) fn pad(&self, (height, width): (usize, usize), top: usize, left: usize, value: u8) -> Self {
        let mut padded = vec![value; self.channels * height * width];
        let rows = padded.chunks_exact_mut(self.channels * width).skip(top);
        for (to, from) in rows.zip(self.values.chunks_exact(self.channels * self.width)) {
            to[left * self.channels..][..from.len()].copy_from_slice(from);
        }
        Self { channels: self.channels, height, width, values: padded }
    }

    /// The first channels only.
    pub(super) fn first(&self, channels: usize) -> Self {
        let values = self.pixels().flat_map(|pixel| pixel[..channels].iter().copied()).collect();
        Self { channels, values, ..*self }
    }

    /// For a person: a single channel in grey, of more than three the first three, of two the first.
    pub fn to_rgb(&self) -> RgbImage {
        let rgb =
            |pixel: &[u8]| if self.channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
        let values = self.pixels().flat_map(rgb).collect();
        RgbImage::from_raw(self.width as u32, self.height as u32, values).unwrap_or_default()
    }
}

impl From<RgbImage> for Raster {
    fn from(image: RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Self { channels: 3, height: height as usize, width: width as usize, values: image.into_raw() }
    }
}

impl From<GrayImage> for Raster {
    fn from(image: GrayImage) -> Self {
        let (width, height) = image.dimensions();
        Self { channels: 1, height: height as usize, width: width as usize, values: image.into_raw() }
    }
}

#[cfg(test)]
mod tests {
    use image::imageops;

    use super::*;

    /// Whose values are their index.
    fn raster(channels: usize, height: usize, width: usize) -> Raster {
        let values = (0..channels * height * width).map(|at| at as u8).collect();
        Raster { channels, height, width, values }
    }

    #[test]
    fn what_is_done_to_three_channels_is_done_as_to_rgb() {
        let (raster, crop) = (raster(3, 7, 9), CropBox { top: 1, left: 2, height: 5, width: 6 });
        let resized = raster.resize(crop, 4, 11, Interpolation::Bicubic);
        assert_eq!(
            resized,
            super::super::resize(&raster.to_rgb(), crop, 4, 11, Interpolation::Bicubic).into()
        );
        let mut flipped = raster.clone();
        flipped.flip_horizontal();
        assert_eq!(flipped, imageops::flip_horizontal(&raster.to_rgb()).into());
    }

    #[test]
    fn channels_are_resized_each_by_itself() {
        let (raster, crop) = (raster(12, 5, 4), CropBox { top: 0, left: 1, height: 5, width: 3 });
        let resized = raster.resize(crop, 3, 7, Interpolation::Bilinear);
        for channel in 0..12 {
            let of = |raster: &Raster| -> Vec<u8> { raster.pixels().map(|pixel| pixel[channel]).collect() };
            let alone = Raster { channels: 1, values: of(&raster), ..raster };
            assert_eq!(of(&resized), alone.resize(crop, 3, 7, Interpolation::Bilinear).values, "{channel}");
        }
    }

    #[test]
    fn padding_surrounds_the_pixels() {
        let padded = raster(2, 1, 2).pad((3, 4), 1, 1, 9);
        assert_eq!(padded.as_raw()[8..16], [9, 9, 0, 1, 2, 3, 9, 9]);
        assert!(padded.as_raw()[..8].iter().chain(&padded.as_raw()[16..]).all(|&value| value == 9));
    }

    #[test]
    fn a_person_sees_grey_or_the_first_three_channels() {
        assert_eq!(raster(1, 1, 2).to_rgb().as_raw(), &[0, 0, 0, 1, 1, 1]);
        assert_eq!(raster(4, 1, 2).to_rgb().as_raw(), &[0, 1, 2, 4, 5, 6]);
        assert_eq!(Raster::new(4, (1, 2), vec![0; 7]), None);
    }
}
