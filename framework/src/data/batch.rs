//! Samples stacked for a model.

use image::RgbImage;

use super::{DataError, Normalization, Original, Pixels, Sample, Size, Target};
use crate::nn::{self, Images};

/// `B` samples of one size, or padded to one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, channels, height, width]`.
    pub images: Images,
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
    /// Images of one size, which nothing has transformed: normalised values `[B, channels, height, width]`.
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
        let images = Images::from_vec(images, (ids.len(), normalization.channels(), height, width));
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

    /// An image as pixels without its padding: a single channel in grey, of more than three the first three.
    pub fn picture(&self, image: usize) -> RgbImage {
        self.picture_of(image, &self.images.image(image))
    }

    /// [`Batch::picture`] of other normalised values for that image, `[channels, height, width]`.
    pub fn picture_of(&self, image: usize, values: &[f32]) -> RgbImage {
        let (area, channels) = (self.height * self.width, self.channels());
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
        Self::assemble(samples, pad_to, Stack::Floats(Vec::new()), |id, pixels| match pixels {
            Pixels::Normalized { normalization, .. } => Ok(normalization.clone()),
            Pixels::Rgb(_) | Pixels::Channels(_) => Err(DataError::Transform(format!(
                "{id}: the image is not normalised: end the transforms with `Normalize`"
            ))),
        })
    }

    /// Stacks samples of 8 bit pixels that are to be normalised: what [`Self::stack`] makes of them after
    /// `Normalize`, but that nobody normalises them before the model reads them. What is padded holds 0 after it
    /// is normalised, which no 8 bits stand for: such batches are normalised here.
    ///
    /// # Errors
    /// [`DataError::Transform`] as [`Self::stack`], or if an image is normalised already.
    pub fn normalize_and_stack(
        samples: Vec<Sample>,
        normalization: &Normalization,
        pad_to: Option<Size>,
    ) -> Result<Self, DataError> {
        let pads = |size: Size| samples.iter().any(|sample| sample.size() != size.height_width());
        let stack =
            if pad_to.is_some_and(pads) { Stack::Floats(Vec::new()) } else { Stack::Bytes(Vec::new()) };
        Self::assemble(samples, pad_to, stack, |id, pixels| match pixels {
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
        mut stack: Stack,
        normalization: impl Fn(&str, &Pixels) -> Result<Normalization, DataError>,
    ) -> Result<Self, DataError> {
        let count = samples.len();
        let mut batch: Option<Self> = None;
        for sample in samples {
            let (rows, columns) = sample.size();
            let (height, width) = pad_to.map_or((rows, columns), Size::height_width);
            let Sample { id, pixels, target, original } = sample;
            let normalization = normalization(&id, &pixels)?;
            let shape = (count, normalization.channels(), height, width);
            let batch = batch.get_or_insert_with(|| Self {
                images: Images::from_vec(Vec::new(), shape),
                height,
                width,
                normalization: normalization.clone(),
                targets: Vec::with_capacity(count),
                sizes: Vec::with_capacity(count),
                originals: Vec::with_capacity(count),
                ids: Vec::with_capacity(count),
            });
            batch.check_alike(&id, (height, width), normalization.channels())?;
            if rows > height || columns > width {
                return Err(DataError::Transform(format!(
                    "{id} is {rows} x {columns}, too large to pad to {height} x {width} (`pad_to`): add a crop or a `Resize` \
                     to the transforms"
                )));
            }
            stack.push(pixels, &normalization, (height, width), count)?;
            batch.targets.push(target);
            batch.sizes.push([rows, columns]);
            batch.originals.push(original);
            batch.ids.push(id);
        }
        let Some(batch) = batch else {
            return Err(DataError::Transform("a batch without samples".to_owned()));
        };
        let shape = (count, batch.channels(), batch.height, batch.width);
        Ok(Self { images: Images::new(stack.finish(&batch.normalization), shape), ..batch })
    }

    /// Whether an image of that size and number of channels may be beside those that are there.
    fn check_alike(
        &self,
        id: &str,
        (height, width): (usize, usize),
        channels: usize,
    ) -> Result<(), DataError> {
        let first = self.ids.first().map_or(id, String::as_str);
        if (height, width) != (self.height, self.width) {
            return Err(DataError::Transform(format!(
                "images of one batch differ in size: {first} is {} x {}, {id} is {height} x {width}: add `Resize` and \
                 `CenterCrop`, or `RandomResizedCrop`, to the transforms, or pad them (`pad_to`)",
                self.height, self.width
            )));
        }
        if channels != self.channels() {
            return Err(DataError::Transform(format!(
                "images of one batch differ in channels: {first} has {}, {id} {channels}",
                self.channels()
            )));
        }
        Ok(())
    }
}

/// The pixels of a batch, image by image.
enum Stack {
    /// `[B, height, width, channels]`.
    Bytes(Vec<u8>),
    /// `[B, channels, height, width]`, normalised.
    Floats(Vec<f32>),
}

impl Stack {
    /// Appends one of `count` images, padded to a size.
    fn push(
        &mut self,
        pixels: Pixels,
        normalization: &Normalization,
        (height, width): (usize, usize),
        count: usize,
    ) -> Result<(), DataError> {
        let (size, len) = (pixels.size(), count * normalization.channels() * height * width);
        match self {
            Self::Bytes(bytes) => {
                bytes.reserve_exact(len.saturating_sub(bytes.len()));
                bytes.extend_from_slice(pixels.bytes(normalization)?);
            }
            Self::Floats(values) => {
                values.reserve_exact(len.saturating_sub(values.len()));
                let image = match pixels {
                    Pixels::Normalized { values, .. } => values,
                    pixels => pixels.normalized(normalization)?,
                };
                match size == (height, width) {
                    true => values.extend_from_slice(&image),
                    false => pad(&image, size, (height, width), values),
                }
            }
        }
        Ok(())
    }

    fn finish(self, normalization: &Normalization) -> nn::Pixels {
        match self {
            Self::Bytes(bytes) => nn::Pixels::Bytes(bytes.into(), normalization.clone()),
            Self::Floats(values) => nn::Pixels::Floats(values.into()),
        }
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
        assert_eq!(*batch.images.values(), [[0.0; 6], [1.0; 6]].concat());
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
        assert_eq!(*batch.images.values(), [[padded; 3].concat(), vec![1.0; 18]].concat());
        assert_eq!((batch.height, batch.width), (2, 3));
        assert_eq!(batch.sizes, [[1, 2], [2, 3]]);
        assert_eq!(batch.originals.iter().map(|original| original.size).collect::<Vec<_>>(), batch.sizes);
        assert_eq!(batch.targets[0].semantic.as_ref().unwrap().dimensions(), (2, 1));
        assert_eq!(batch.picture(0).dimensions(), (2, 1));
    }

    #[test]
    fn pixels_are_padded_after_they_are_normalised() {
        let normalization = Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] };
        let white = RgbImage::from_pixel(1, 1, image::Rgb([255; 3]));
        let white = Sample::new("a".to_owned(), white, Target::default());
        let stack = |size| {
            Batch::normalize_and_stack(vec![white.clone()], &normalization, Some(Size::HeightWidth(size)))
                .unwrap()
        };
        let padded = stack([1, 2]).images;
        assert!(matches!(padded.pixels(), nn::Pixels::Floats(_)));
        assert_eq!(*padded.values(), [2.0, 0.0].repeat(3));
        let whole = stack([1, 1]).images;
        assert!(matches!(whole.pixels(), nn::Pixels::Bytes(bytes, _) if **bytes == [255; 3]));
        assert_eq!(*whole.values(), [2.0; 3]);
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
