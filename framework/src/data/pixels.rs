//! The pixels of an image on its way to a batch.

use image::{GrayImage, RgbImage};

use super::{DataError, Normalization, Raster};

/// An image on its way to a batch.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// As decoded, 8 bit RGB.
    Rgb(RgbImage),
    /// As decoded, 8 bits of another number of channels.
    Channels(Raster),
    /// Normalised, `[channels, height, width]`.
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

impl From<RgbImage> for Pixels {
    fn from(image: RgbImage) -> Self {
        Self::Rgb(image)
    }
}

impl From<Raster> for Pixels {
    fn from(raster: Raster) -> Self {
        match raster.channels() {
            3 => Self::Rgb(raster.to_rgb()),
            _ => Self::Channels(raster),
        }
    }
}

impl Pixels {
    /// Height and width in pixels.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Rgb(image) => (image.height() as usize, image.width() as usize),
            Self::Channels(raster) => raster.size(),
            Self::Normalized { height, width, .. } => (*height, *width),
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        match self {
            Self::Rgb(_) => 3,
            Self::Channels(raster) => raster.channels(),
            Self::Normalized { normalization, .. } => normalization.channels(),
        }
    }

    /// The bytes of pixels as decoded, `[height, width, channels]`, to be normalised.
    ///
    /// # Errors
    /// [`DataError::Transform`] if they are normalised already, or the normalisation is for other channels.
    pub fn bytes(&self, normalization: &Normalization) -> Result<&[u8], DataError> {
        if self.channels() != normalization.channels() {
            return Err(DataError::Transform(format!(
                "an image of {} channels cannot be normalised by {} means",
                self.channels(),
                normalization.channels()
            )));
        }
        match self {
            Self::Rgb(image) => Ok(image.as_raw()),
            Self::Channels(raster) => Ok(raster.as_raw()),
            Self::Normalized { .. } => Err(DataError::Transform("the image is normalised twice".to_owned())),
        }
    }

    /// The normalised values, `[channels, height, width]`.
    ///
    /// # Errors
    /// As [`Pixels::bytes`].
    pub fn normalized(&self, normalization: &Normalization) -> Result<Vec<f32>, DataError> {
        let bytes = self.bytes(normalization)?;
        let mut values = vec![0.0; bytes.len()];
        normalization.normalize(bytes, &mut values);
        Ok(values)
    }

    /// As many channels as a model takes: grey is repeated to RGB, RGB is weighed to grey as by Pillow, and
    /// alpha (the second of two channels, or the fourth of four) is left out.
    ///
    /// # Errors
    /// If another number of channels cannot become that one.
    pub fn with_channels(self, channels: usize) -> Result<Self, String> {
        match (self, channels) {
            (pixels, channels) if pixels.channels() == channels => Ok(pixels),
            (Self::Rgb(image), 1) => Ok(Self::Channels(grey(&image))),
            (Self::Channels(raster), 1) if raster.channels() == 2 => Ok(raster.first(1).into()),
            (Self::Channels(raster), 1) if raster.channels() == 4 => {
                Ok(Self::Channels(grey(&raster.to_rgb())))
            }
            (Self::Channels(raster), 3) if [1, 2, 4].contains(&raster.channels()) => {
                Ok(raster.to_rgb().into())
            }
            (pixels, _) => Err(format!("{} channels; `image_channels` is {channels}", pixels.channels())),
        }
    }

    /// Whether [`Self::with_channels`] leaves out alpha that is not opaque everywhere, so perhaps data.
    pub fn would_lose(&self, channels: usize) -> bool {
        let Self::Channels(raster) = self else { return false };
        let last = raster.channels() - 1;
        raster.channels() > channels
            && matches!(raster.channels(), 2 | 4)
            && raster.pixels().any(|pixel| pixel[last] != u8::MAX)
    }
}

/// Luma as Pillow's `convert("L")` computes it (ITU-R 601, 16 bits of fraction).
fn grey(image: &RgbImage) -> Raster {
    let luma = |pixel: &image::Rgb<u8>| {
        let [red, green, blue] = pixel.0.map(u32::from);
        ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
    };
    let values = image.pixels().map(luma).collect();
    GrayImage::from_raw(image.width(), image.height(), values).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::Rgb;

    use super::*;

    fn raster(channels: usize, pixel: &[u8]) -> Pixels {
        Raster::new(channels, (1, pixel.len() / channels), pixel.to_vec()).unwrap().into()
    }

    fn raw(pixels: &Pixels) -> &[u8] {
        match pixels {
            Pixels::Rgb(image) => image.as_raw(),
            Pixels::Channels(raster) => raster.as_raw(),
            Pixels::Normalized { .. } => &[],
        }
    }

    #[test]
    fn channels_become_those_of_the_model_where_that_is_clear() {
        let become_ =
            |pixels: Pixels, channels| pixels.with_channels(channels).map(|pixels| raw(&pixels).to_vec());
        let rgb = || Pixels::Rgb(RgbImage::from_pixel(1, 1, Rgb([10, 200, 30])));
        assert_eq!(become_(raster(1, &[7]), 3).unwrap(), [7, 7, 7]);
        // As of Pillow: Image.new("RGB", (1, 1), (10, 200, 30)).convert("L").getpixel((0, 0)).
        assert_eq!(become_(rgb(), 1).unwrap(), [124]);
        assert_eq!(become_(raster(4, &[10, 200, 30, 255]), 1).unwrap(), [124]);
        assert_eq!(become_(raster(4, &[1, 2, 3, 9]), 3).unwrap(), [1, 2, 3]);
        assert_eq!(become_(raster(2, &[7, 9]), 3).unwrap(), [7, 7, 7]);
        assert_eq!(become_(raster(2, &[7, 9]), 1).unwrap(), [7]);
        assert_eq!(become_(raster(4, &[1, 2, 3, 4]), 4).unwrap(), [1, 2, 3, 4]);
        for (pixels, channels) in [(rgb(), 4), (raster(12, &[0; 12]), 3), (raster(1, &[0]), 4)] {
            let expected = format!("{} channels; `image_channels` is {channels}", pixels.channels());
            assert_eq!(pixels.with_channels(channels).unwrap_err(), expected);
        }
    }

    #[test]
    fn pixels_of_other_channels_or_normalised_ones_are_not_normalised() {
        let normalization = Normalization::identity(1);
        let values = raster(1, &[0, 255]).normalized(&normalization).unwrap();
        assert_eq!(values, [0.0, 1.0]);
        let message = |pixels: Pixels| pixels.normalized(&normalization).unwrap_err().to_string();
        assert!(message(raster(3, &[0; 3])).contains("3 channels cannot be normalised by 1 means"));
        let again = Pixels::Normalized { values, height: 1, width: 2, normalization: normalization.clone() };
        assert!(message(again).contains("normalised twice"));
    }

    #[test]
    fn alpha_that_is_opaque_is_no_loss() {
        assert!(raster(4, &[1, 2, 3, 255, 1, 2, 3, 254]).would_lose(3));
        assert!(raster(2, &[1, 0]).would_lose(1));
        assert!(!raster(4, &[1, 2, 3, 255]).would_lose(3) && !raster(4, &[1, 2, 3, 0]).would_lose(4));
        assert!(!raster(1, &[0]).would_lose(3));
    }
}
