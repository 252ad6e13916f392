//! 8 bits to floats.

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

    /// `(value / 255 - mean) / std` of pixels `[H, W, C]`, channel by channel: `[C, H, W]`.
    ///
    /// # Panics
    /// If there is not one output for each pixel and channel.
    pub fn normalize(&self, pixels: &[u8], output: &mut [f32]) {
        assert!(pixels.len() == output.len() && output.len().is_multiple_of(self.channels()));
        match self.channels() {
            1 => self.normalize_pixels(pixels.as_chunks::<1>().0, output),
            3 => self.normalize_pixels(pixels.as_chunks::<3>().0, output),
            4 => self.normalize_pixels(pixels.as_chunks::<4>().0, output),
            channels => {
                let area = output.len() / channels;
                for (channel, (output, table)) in
                    output.chunks_exact_mut(area.max(1)).zip(self.tables()).enumerate()
                {
                    for (output, value) in
                        output.iter_mut().zip(pixels.iter().skip(channel).step_by(channels))
                    {
                        *output = table[usize::from(*value)];
                    }
                }
            }
        }
    }

    fn normalize_pixels<const CHANNELS: usize>(&self, pixels: &[[u8; CHANNELS]], output: &mut [f32]) {
        let channels = output.chunks_exact_mut(pixels.len().max(1));
        for (channel, (output, table)) in channels.zip(self.tables()).enumerate() {
            for (output, pixel) in output.iter_mut().zip(pixels) {
                *output = table[usize::from(pixel[channel])];
            }
        }
    }

    /// Of every channel what each value becomes.
    pub fn tables(&self) -> impl Iterator<Item = [f32; 256]> {
        let table =
            |(mean, std): (&f32, &f32)| std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_its_mean_and_deviation() {
        for channels in [1, 3, 4, 12] {
            let normalization = Normalization {
                mean: (0..channels).map(|channel| channel as f32 / 10.0).collect(),
                std: (0..channels).map(|channel| 1.0 + channel as f32).collect(),
            };
            let pixels: Vec<u8> = (0..2 * channels as u8).map(|value| value * 9).collect();
            let mut values = vec![0.0; pixels.len()];
            normalization.normalize(&pixels, &mut values);
            let expected = (0..channels).flat_map(|channel| [channel, channels + channel]).map(|at| {
                let channel = at % channels;
                (f32::from(pixels[at]) / 255.0 - channel as f32 / 10.0) / (1.0 + channel as f32)
            });
            assert_eq!(values, expected.collect::<Vec<_>>(), "{channels}");
        }
    }
}
