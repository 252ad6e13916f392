//! Pixels to floats.

use super::{DataError, Pixels};

/// Per-channel mean and standard deviation of pixels in `[0, 1]`, one of each for every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// Mean of the channels.
    pub mean: Vec<f32>,
    /// Standard deviation of the channels.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Mean 0 and deviation 1 of a number of channels.
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Appends `(pixel / 255 - mean) / std` of every pixel to `values`, channel by channel.
    ///
    /// # Errors
    /// [`DataError::Transform`] if it is not of as many channels, or they are normalised already.
    pub fn append(&self, pixels: &Pixels, values: &mut Vec<f32>) -> Result<(), DataError> {
        if pixels.channels() != self.channels() {
            return Err(DataError::Transform(format!(
                "an image of {} channels cannot be normalised by {} means",
                pixels.channels(),
                self.channels()
            )));
        }
        match pixels {
            Pixels::Rgb(image) => self.append_pixels(image.as_raw().as_chunks::<3>().0, values),
            Pixels::Channels(raster) => match raster.channels() {
                1 => self.append_pixels(raster.as_raw().as_chunks::<1>().0, values),
                4 => self.append_pixels(raster.as_raw().as_chunks::<4>().0, values),
                channels => {
                    for (channel, table) in self.tables().enumerate() {
                        let of_channel = raster.as_raw().iter().skip(channel).step_by(channels);
                        values.extend(of_channel.map(|value| table[usize::from(*value)]));
                    }
                }
            },
            Pixels::Normalized { .. } => {
                return Err(DataError::Transform("the image is normalised twice".to_owned()));
            }
        }
        Ok(())
    }

    fn append_pixels<const CHANNELS: usize>(&self, pixels: &[[u8; CHANNELS]], values: &mut Vec<f32>) {
        values.reserve(CHANNELS * pixels.len());
        for (channel, table) in self.tables().enumerate() {
            values.extend(pixels.iter().map(|pixel| table[usize::from(pixel[channel])]));
        }
    }

    /// Of every channel what each value becomes.
    fn tables(&self) -> impl Iterator<Item = [f32; 256]> {
        let table =
            |(mean, std): (&f32, &f32)| std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Raster;
    use super::*;

    fn raster(channels: usize, pixel: &[u8]) -> Pixels {
        Raster::new(channels, (1, pixel.len() / channels), pixel.to_vec()).unwrap().into()
    }

    #[test]
    fn every_channel_has_its_mean_and_deviation() {
        for channels in [1, 3, 4, 12] {
            let normalization = Normalization {
                mean: (0..channels).map(|channel| channel as f32 / 10.0).collect(),
                std: (0..channels).map(|channel| 1.0 + channel as f32).collect(),
            };
            let pixels: Vec<u8> = (0..2 * channels as u8).map(|value| value * 9).collect();
            let mut values = Vec::new();
            normalization.append(&raster(channels, &pixels), &mut values).unwrap();
            let expected = (0..channels).flat_map(|channel| [channel, channels + channel]).map(|at| {
                let channel = at % channels;
                (f32::from(pixels[at]) / 255.0 - channel as f32 / 10.0) / (1.0 + channel as f32)
            });
            assert_eq!(values, expected.collect::<Vec<_>>(), "{channels}");
            let error = normalization.append(&raster(channels + 4, &vec![0; channels + 4]), &mut values);
            assert!(matches!(error, Err(DataError::Transform(_))), "{channels}");
        }
    }
}
