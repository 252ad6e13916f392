//! Samples stacked for a model.

use image::RgbImage;

use super::{DataError, Normalization, Original, Pixels, Sample, Size, Target};

/// `B` samples of one size, or padded to one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, channels, height, width]`, row-major, normalised.
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
    /// What every image was before any transform.
    pub originals: Vec<Original>,
    /// What the images are called in messages.
    pub ids: Vec<String>,
}

impl Batch {
    /// Images of one size, which nothing has transformed.
    pub fn new(
        images: Vec<f32>,
        (height, width): (usize, usize),
        normalization: Normalization,
        targets: Vec<Target>,
        ids: Vec<String>,
    ) -> Self {
        let size = [height, width];
        let originals = targets.iter().map(|target| Original::of(size, target)).collect();
        let sizes = vec![size; ids.len()];
        Self { images, height, width, normalization, targets, sizes, originals, ids }
    }

    /// Number of images, `B`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Channels of every image.
    pub fn channels(&self) -> usize {
        self.normalization.channels()
    }

    /// One image of `[B, channels, height, width]` normalised values, as pixels without its padding: a single
    /// channel in grey, of more than three the first three.
    pub fn picture(&self, values: &[f32], image: usize) -> RgbImage {
        let (area, channels) = (self.height * self.width, self.channels());
        let values = &values[image * channels * area..][..channels * area];
        let Normalization { mean, std } = &self.normalization;
        let [rows, columns] = self.sizes[image];
        RgbImage::from_fn(columns as u32, rows as u32, |x, y| {
            let at = y as usize * self.width + x as usize;
            let channel = |c: usize| {
                ((values[c * area + at] * std[c] + mean[c]) * 255.0).round().clamp(0.0, 255.0) as u8
            };
            image::Rgb(if channels < 3 { [channel(0); 3] } else { [channel(0), channel(1), channel(2)] })
        })
    }

    /// Stacks samples: of one size, or padded to `pad_to` with 0 to the right and to the bottom. Targets stay
    /// as they are.
    ///
    /// # Errors
    /// [`DataError::Transform`] if there is no sample, an image is not normalised, or two differ in size and
    /// are not padded, or one is larger than `pad_to`.
    pub fn stack(samples: Vec<Sample>, pad_to: Option<Size>) -> Result<Self, DataError> {
        Self::assemble(samples, pad_to, |id, pixels| match pixels {
            Pixels::Normalized { normalization, .. } => Ok(normalization.clone()),
            Pixels::Rgb(_) | Pixels::Channels(_) => Err(DataError::Transform(format!(
                "{id}: the image is not normalised: end the transforms with `Normalize`"
            ))),
        })
    }

    /// Stacks samples of 8 bit pixels, normalised: what [`Self::stack`] makes of them after `Normalize`,
    /// without that any but the batch holds normalised values.
    ///
    /// # Errors
    /// [`DataError::Transform`] as [`Self::stack`], or if an image is normalised already.
    pub fn normalize_and_stack(
        samples: Vec<Sample>,
        normalization: &Normalization,
        pad_to: Option<Size>,
    ) -> Result<Self, DataError> {
        Self::assemble(samples, pad_to, |id, pixels| match pixels {
            Pixels::Rgb(_) | Pixels::Channels(_) => Ok(normalization.clone()),
            Pixels::Normalized { .. } => {
                Err(DataError::Transform(format!("{id}: the image is normalised twice")))
            }
        })
    }

    /// Stacks samples with the normalisation that `normalization` tells of each.
    fn assemble(
        samples: Vec<Sample>,
        pad_to: Option<Size>,
        normalization: impl Fn(&str, &Pixels) -> Result<Normalization, DataError>,
    ) -> Result<Self, DataError> {
        let mut batch: Option<Self> = None;
        let count = samples.len();
        for sample in samples {
            let (rows, columns) = sample.size();
            let (height, width) = pad_to.map_or((rows, columns), Size::height_width);
            let Sample { id, pixels, target, original } = sample;
            let normalization = normalization(&id, &pixels)?;
            let batch = batch.get_or_insert_with(|| Self {
                images: Vec::with_capacity(count * normalization.channels() * height * width),
                height,
                width,
                normalization: normalization.clone(),
                targets: Vec::with_capacity(count),
                sizes: Vec::with_capacity(count),
                originals: Vec::with_capacity(count),
                ids: Vec::with_capacity(count),
            });
            if (height, width) != (batch.height, batch.width) {
                return Err(DataError::Transform(format!(
                    "images of one batch differ in size: {} is {} x {}, {id} is {height} x {width}: add `Resize` and \
                     `CenterCrop`, or `RandomResizedCrop`, to the transforms, or pad them (`pad_to`)",
                    batch.ids[0], batch.height, batch.width
                )));
            }
            if normalization.channels() != batch.channels() {
                return Err(DataError::Transform(format!(
                    "images of one batch differ in channels: {} has {}, {id} {}",
                    batch.ids[0],
                    batch.channels(),
                    normalization.channels()
                )));
            }
            if rows > height || columns > width {
                return Err(DataError::Transform(format!(
                    "{id} is {rows} x {columns}, too large to pad to {height} x {width} (`pad_to`): add a crop or a `Resize` \
                     to the transforms"
                )));
            }
            let start = batch.images.len();
            match pixels {
                Pixels::Normalized { values, .. } => batch.images.extend_from_slice(&values),
                pixels => normalization.append(&pixels, &mut batch.images)?,
            }
            if (rows, columns) != (height, width) {
                let image = batch.images.split_off(start);
                pad(&image, (rows, columns), (height, width), &mut batch.images);
            }
            batch.targets.push(target);
            batch.sizes.push([rows, columns]);
            batch.originals.push(original);
            batch.ids.push(id);
        }
        batch.ok_or_else(|| DataError::Transform("a batch without samples".to_owned()))
    }
}

/// Appends the channels of an image of rows and columns to `values`, enlarged by 0 to the right and to the
/// bottom.
fn pad(
    image: &[f32],
    (rows, columns): (usize, usize),
    (height, width): (usize, usize),
    values: &mut Vec<f32>,
) {
    for channel in image.chunks_exact(rows * columns) {
        for row in channel.chunks_exact(columns) {
            values.extend_from_slice(row);
            values.extend(std::iter::repeat_n(0.0, width - columns));
        }
        values.extend(std::iter::repeat_n(0.0, (height - rows) * width));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample(id: &str, height: usize, width: usize, value: f32) -> Sample {
        let normalization = Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] };
        let values = vec![value; 3 * height * width];
        Sample {
            id: id.to_owned(),
            pixels: Pixels::Normalized { values, height, width, normalization },
            target: Target { class: Some(value as usize), ..Target::default() },
            original: Original { size: [height, width], ..Original::default() },
        }
    }

    #[test]
    fn samples_are_stacked_in_order() {
        let batch = Batch::stack(vec![sample("a", 1, 2, 0.0), sample("b", 1, 2, 1.0)], None).unwrap();
        assert_eq!(batch.images, [[0.0; 6], [1.0; 6]].concat());
        assert_eq!((batch.len(), batch.height, batch.width), (2, 1, 2));
        assert_eq!(batch.targets[1].class, Some(1));
    }

    #[test]
    fn unequal_sizes_name_both_samples_and_the_way_out() {
        let error =
            Batch::stack(vec![sample("a.jpg", 4, 6, 0.0), sample("b.jpg", 4, 5, 0.0)], None).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("a.jpg is 4 x 6, b.jpg is 4 x 5: add `Resize`"), "{message}");
    }

    #[test]
    fn images_of_unequal_size_are_padded_and_keep_their_sizes() {
        let pad_to = Some(Size::HeightWidth([2, 3]));
        let mut small = sample("a", 1, 2, 5.0);
        small.target.semantic = Some(image::GrayImage::new(2, 1));
        let batch = Batch::stack(vec![small, sample("b", 2, 3, 1.0)], pad_to).unwrap();
        let padded = [5.0, 5.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(batch.images, [[padded; 3].concat(), vec![1.0; 18]].concat());
        assert_eq!((batch.height, batch.width), (2, 3));
        assert_eq!(batch.sizes, [[1, 2], [2, 3]]);
        assert_eq!(batch.originals.iter().map(|original| original.size).collect::<Vec<_>>(), batch.sizes);
        assert_eq!(batch.targets[0].semantic.as_ref().unwrap().dimensions(), (2, 1));
        assert_eq!(batch.picture(&batch.images, 0).dimensions(), (2, 1));
    }

    #[test]
    fn pixels_are_padded_after_they_are_normalised() {
        let normalization = Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] };
        let white = RgbImage::from_pixel(1, 1, image::Rgb([255; 3]));
        let white = Sample::new("a".to_owned(), white, Target::default());
        let batch =
            Batch::normalize_and_stack(vec![white], &normalization, Some(Size::HeightWidth([1, 2]))).unwrap();
        assert_eq!(batch.images, [2.0, 0.0].repeat(3));
    }

    #[test]
    fn an_image_too_large_to_pad_is_named() {
        let error = Batch::stack(vec![sample("a.jpg", 4, 6, 0.0)], Some(Size::Single(5))).unwrap_err();
        assert!(error.to_string().contains("a.jpg is 4 x 6, too large to pad to 5 x 5"), "{error}");
    }

    #[test]
    fn raw_pixels_are_refused() {
        let raw = Sample { pixels: Pixels::Rgb(image::RgbImage::new(1, 1)), ..sample("a.jpg", 1, 1, 0.0) };
        assert!(Batch::stack(vec![raw], None).unwrap_err().to_string().contains("`Normalize`"));
    }
}
