//! Transforms: what happens to a sample before it is batched. All move boxes, masks and label maps with the
//! image.

mod center_crop;
mod color_jitter;
#[cfg(test)]
mod detection_golden;
mod fixed_size_crop;
#[cfg(test)]
mod mmseg_golden;
mod normalize;
mod opencv;
mod pad;
mod photo_metric_distortion;
mod pillow;
mod rand_augment;
mod random_crop;
mod random_erasing;
mod random_horizontal_flip;
mod random_resized_crop;
mod resize;
mod resize_range;
mod resize_scale;
mod resize_shortest_edge;
mod semantic_crop;

pub use center_crop::CenterCrop;
pub use color_jitter::{ColorJitter, Jitter};
pub use fixed_size_crop::FixedSizeCrop;
pub use normalize::Normalize;
pub use pad::Pad;
pub use photo_metric_distortion::PhotoMetricDistortion;
pub use rand_augment::RandAugment;
pub use random_crop::RandomCrop;
pub use random_erasing::{ErasingMode, RandomErasing};
pub use random_horizontal_flip::RandomHorizontalFlip;
pub use random_resized_crop::{CropVariant, RandomResizedCrop};
pub use resize::Resize;
pub use resize_range::ResizeRange;
pub use resize_scale::ResizeScale;
pub use resize_shortest_edge::ResizeShortestEdge;
pub use semantic_crop::SemanticCrop;

use convmae_framework::component::{Problem, SampleShape};
use convmae_framework::data::{CropBox, DataError, Interpolation, MAX_PIXELS, MAX_SIDE, Sample, Size};
use convmae_framework::random::Rng;
use rand::Rng as _;

/// What every transform of pixels asks of its input.
fn check_pixels(name: &str, input: SampleShape) -> Result<(), Problem> {
    if input.normalized {
        return Err(Problem::new("", format!("`{name}` works on pixels, but they are normalised before it"))
            .help(format!("move `{name}` before `Normalize`")));
    }
    Ok(())
}

/// What transforms of colours ask of their input besides.
fn check_rgb(name: &str, input: SampleShape) -> Result<(), Problem> {
    check_pixels(name, input)?;
    match input.channels {
        3 => Ok(()),
        channels => {
            Err(Problem::new("", format!("`{name}` works on RGB images, these have {channels} channels"))
                .help("remove it: other channels have no hue and no saturation"))
        }
    }
}

/// A size of zero pixels is nobody's wish, and one of more than [`MAX_PIXELS`] is beyond what is computed.
fn check_size(size: Size) -> Result<(), Problem> {
    let (height, width) = size.height_width();
    if height == 0 || width == 0 {
        return Err(Problem::new("size", "a size of 0 pixels").help("at least 1"));
    }
    if height > MAX_SIDE || width > MAX_SIDE || height as u64 * width as u64 > MAX_PIXELS {
        return Err(Problem::new("size", format!("a size of {height} x {width} is too large"))
            .help(format!("at most {MAX_SIDE} a side, and {MAX_PIXELS} pixels")));
    }
    Ok(())
}

/// Resizes the whole image with Pillow's bilinear filter, as detectron2; `transform` names who asks.
fn resize_bilinear(
    sample: Sample,
    (height, width): (usize, usize),
    transform: &str,
) -> Result<Sample, DataError> {
    if height == 0 || width == 0 {
        let reason = format!("too narrow: it would become {height} x {width}");
        return Err(sample.misfit(transform, &reason));
    }
    let (rows, columns) = sample.size();
    let whole = CropBox::whole(rows, columns);
    sample.crop_and_resize(whole, (height, width), Interpolation::Bilinear, transform)
}

/// Uniform between two bounds.
fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

#[cfg(test)]
mod testing {
    #![allow(clippy::panic)]

    use convmae_framework::component::Transform;
    use convmae_framework::data::{Pixels, Sample, Target};
    use convmae_framework::random::{self, Purpose};
    use image::{Rgb, RgbImage};

    /// A sample whose pixels tell their place.
    pub fn sample(height: u32, width: u32) -> Sample {
        let image =
            RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x / 256 * 16 + y / 256) as u8]));
        Sample::new("a.jpg".to_owned(), image, Target::default())
    }

    /// What the transform makes of it, by seed.
    pub fn apply(transform: &dyn Transform, sample: Sample, seed: u64) -> RgbImage {
        let mut rng = random::stream(Purpose::Augment, &[seed]);
        match transform.apply(sample, &mut rng).map(|sample| sample.pixels) {
            Ok(Pixels::Rgb(image)) => image,
            other => panic!("{other:?}"),
        }
    }

    /// The transform as a recipe states it.
    pub fn parse(json: &str) -> Box<dyn Transform> {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}"))
    }
}
