//! Samples stacked for a model.

use image::RgbImage;

use super::{DataError, Normalization, Pixels, Sample, Target};

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
    /// Height and width of every image; what lies beyond it, to the right and to the bottom, is padding.
    pub sizes: Vec<[usize; 2]>,
    /// Height and width of every image as it was read, before any transform.
    pub originals: Vec<[usize; 2]>,
    /// What the images are called in messages.
    pub ids: Vec<String>,
}

impl Batch {
    /// Images of one size, as they were read.
    pub fn new(
        images: Vec<f32>,
        (height, width): (usize, usize),
        normalization: Normalization,
        targets: Vec<Target>,
        ids: Vec<String>,
    ) -> Self {
        let sizes = vec![[height, width]; ids.len()];
        Self { images, height, width, normalization, targets, originals: sizes.clone(), sizes, ids }
    }

    /// Number of images, `B`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// One image of `[B, 3, height, width]` normalised values, as pixels.
    pub fn picture(&self, values: &[f32], image: usize) -> RgbImage {
        let area = self.height * self.width;
        let values = &values[image * 3 * area..][..3 * area];
        let Normalization { mean, std } = self.normalization;
        RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let at = y as usize * self.width + x as usize;
            let channel = |c: usize| {
                ((values[c * area + at] * std[c] + mean[c]) * 255.0).round().clamp(0.0, 255.0) as u8
            };
            image::Rgb([channel(0), channel(1), channel(2)])
        })
    }

    /// Stacks samples.
    ///
    /// # Errors
    /// [`DataError::Transform`] if there is no sample, an image is not normalised, or two differ in size.
    pub fn stack(samples: Vec<Sample>) -> Result<Self, DataError> {
        Self::assemble(samples, |id, pixels| match pixels {
            Pixels::Normalized { normalization, .. } => Ok(*normalization),
            Pixels::Rgb(_) => Err(DataError::Transform(format!(
                "{id}: the image is not normalised: end the transforms with `Normalize`"
            ))),
        })
    }

    /// Stacks samples of 8 bit pixels, normalised: what [`Self::stack`] makes of them after `Normalize`, without that any
    /// but the batch holds normalised values.
    ///
    /// # Errors
    /// [`DataError::Transform`] if there is no sample, an image is normalised already, or two differ in size.
    pub fn normalize_and_stack(
        samples: Vec<Sample>,
        normalization: Normalization,
    ) -> Result<Self, DataError> {
        Self::assemble(samples, |id, pixels| match pixels {
            Pixels::Rgb(_) => Ok(normalization),
            Pixels::Normalized { .. } => {
                Err(DataError::Transform(format!("{id}: the image is normalised twice")))
            }
        })
    }

    /// Stacks samples with the normalisation that `normalization` tells of each.
    fn assemble(
        samples: Vec<Sample>,
        normalization: impl Fn(&str, &Pixels) -> Result<Normalization, DataError>,
    ) -> Result<Self, DataError> {
        let mut batch: Option<Self> = None;
        let count = samples.len();
        for sample in samples {
            let (height, width) = sample.size();
            let Sample { id, pixels, target, original } = sample;
            let normalization = normalization(&id, &pixels)?;
            let batch = batch.get_or_insert_with(|| Self {
                images: Vec::with_capacity(count * 3 * height * width),
                height,
                width,
                normalization,
                targets: Vec::with_capacity(count),
                sizes: Vec::with_capacity(count),
                originals: Vec::with_capacity(count),
                ids: Vec::with_capacity(count),
            });
            if (height, width) != (batch.height, batch.width) {
                return Err(DataError::Transform(format!(
                    "images of one batch differ in size: {} is {} x {}, {id} is {height} x {width}: add `Resize` and \
                     `CenterCrop`, or `RandomResizedCrop`, to the transforms",
                    batch.ids[0], batch.height, batch.width
                )));
            }
            match pixels {
                Pixels::Normalized { values, .. } => batch.images.extend_from_slice(&values),
                Pixels::Rgb(image) => normalization.append(&image, &mut batch.images),
            }
            batch.targets.push(target);
            batch.sizes.push([height, width]);
            batch.originals.push(original);
            batch.ids.push(id);
        }
        batch.ok_or_else(|| DataError::Transform("a batch without samples".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample(id: &str, height: usize, width: usize, value: f32) -> Sample {
        let normalization = Normalization { mean: [0.5; 3], std: [0.5; 3] };
        let values = vec![value; 3 * height * width];
        Sample {
            id: id.to_owned(),
            pixels: Pixels::Normalized { values, height, width, normalization },
            target: Target { class: Some(value as usize), ..Target::default() },
            original: [height, width],
        }
    }

    #[test]
    fn samples_are_stacked_in_order() {
        let batch = Batch::stack(vec![sample("a", 1, 2, 0.0), sample("b", 1, 2, 1.0)]).unwrap();
        assert_eq!(batch.images, [[0.0; 6], [1.0; 6]].concat());
        assert_eq!((batch.len(), batch.height, batch.width), (2, 1, 2));
        assert_eq!(batch.targets[1].class, Some(1));
    }

    #[test]
    fn unequal_sizes_name_both_samples_and_the_way_out() {
        let error = Batch::stack(vec![sample("a.jpg", 4, 6, 0.0), sample("b.jpg", 4, 5, 0.0)]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("a.jpg is 4 x 6, b.jpg is 4 x 5: add `Resize`"), "{message}");
    }

    #[test]
    fn raw_pixels_are_refused() {
        let raw = Sample { pixels: Pixels::Rgb(image::RgbImage::new(1, 1)), ..sample("a.jpg", 1, 1, 0.0) };
        assert!(Batch::stack(vec![raw]).unwrap_err().to_string().contains("`Normalize`"));
    }
}
