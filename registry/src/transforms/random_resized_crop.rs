use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, Interpolation, Sample, Size};
use convmae_framework::random::Rng;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{between, check_pixels, check_size};

/// A random part of the image, resized. As it is, the augmentation of MAE's pretraining (torchvision's
/// `RandomResizedCrop`); with `scale: [0.08, 1.0]` that of finetuning (timm's
/// `RandomResizedCropAndInterpolation`); with `variant: clamped`, too, that of MAE's linear probe.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Side of the square that results, or `[height, width]`.
    pub size: Size,
    /// Smallest and largest area of the part, as a fraction of the image's.
    #[serde(default = "default_scale")]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub scale: [f64; 2],
    /// Smallest and largest ratio of the part's width to its height.
    #[serde(default = "default_ratio")]
    pub ratio: [f64; 2],
    /// How pixels between pixels are found.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What happens to a part that is higher or wider than the image.
    #[serde(default)]
    pub variant: CropVariant,
}

/// What happens to a random part that is higher or wider than the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CropVariant {
    /// Another is drawn; after ten, it is the middle of the image (torchvision, timm).
    #[default]
    Torchvision,
    /// It is cut to the image, and its area and ratio are no longer those drawn (`util/crop.py` of MAE, after
    /// BYOL).
    Clamped,
}

fn default_scale() -> [f64; 2] {
    [0.2, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// Attempts at a part that lies within the image.
const ATTEMPTS: usize = 10;

impl RandomResizedCrop {
    /// The part of an image of the given size: area uniform in `scale`, ratio log-uniform in `ratio`, place
    /// uniform.
    fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> CropBox {
        match self.variant {
            CropVariant::Torchvision => (0..ATTEMPTS)
                .find_map(|_| {
                    let (rows, columns) = self.draw_size(height, width, rng);
                    let fits = (1..=height).contains(&rows) && (1..=width).contains(&columns);
                    fits.then(|| place(height, width, (rows, columns), rng))
                })
                .unwrap_or_else(|| self.middle(height, width)),
            CropVariant::Clamped => {
                let (rows, columns) = self.draw_size(height, width, rng);
                place(height, width, (rows.clamp(1, height), columns.clamp(1, width)), rng)
            }
        }
    }

    /// Rows and columns of a part, which may be more than the image has.
    fn draw_size(&self, height: usize, width: usize, rng: &mut Rng) -> (usize, usize) {
        let area = (height * width) as f64 * between(rng, self.scale[0], self.scale[1]);
        let [low, high] = self.ratio.map(f64::ln);
        let ratio = between(rng, low, high).exp();
        // Half to even, as Python's `round`.
        let side = |square: f64| square.sqrt().round_ties_even() as usize;
        (side(area / ratio), side(area * ratio))
    }

    /// The largest middle part with the ratio nearest to the image's (the last resort of torchvision's
    /// `get_params`).
    fn middle(&self, height: usize, width: usize) -> CropBox {
        let [low, high] = self.ratio;
        let ratio = width as f64 / height as f64;
        let (rows, columns) = if ratio < low {
            (((width as f64 / low).round_ties_even() as usize).clamp(1, height), width)
        } else if ratio > high {
            (height, ((height as f64 * high).round_ties_even() as usize).clamp(1, width))
        } else {
            (height, width)
        };
        CropBox { top: (height - rows) / 2, left: (width - columns) / 2, height: rows, width: columns }
    }
}

/// A part of the given size at a random place.
fn place(height: usize, width: usize, (rows, columns): (usize, usize), rng: &mut Rng) -> CropBox {
    let top = rng.random_range(0..=(height - rows) as u32) as usize;
    let left = rng.random_range(0..=(width - columns) as u32) as usize;
    CropBox { top, left, height: rows, width: columns }
}

#[typetag::serde]
impl Transform for RandomResizedCrop {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        let (height, width) = sample.size();
        let crop = self.draw(height, width, rng);
        sample.crop_and_resize(crop, self.size.height_width(), self.interpolation, "RandomResizedCrop")
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("RandomResizedCrop", input)?;
        check_size(self.size)?;
        let [low, high] = self.scale;
        if !(0.0 < low && low <= high && high <= 1.0) {
            return Err(Problem::new("scale", format!("[{low}, {high}] is no range of fractions"))
                .help("[smallest, largest], above 0 and at most 1, such as [0.2, 1.0]"));
        }
        let [low, high] = self.ratio;
        if !(0.0 < low && low <= high && high.is_finite()) {
            return Err(Problem::new("ratio", format!("[{low}, {high}] is no range of ratios"))
                .help("[smallest, largest] of width / height, such as [0.75, 1.3333]"));
        }
        Ok(SampleShape { size: Some(self.size.height_width()), ..input })
    }
}

convmae_framework::register!(Transform: RandomResizedCrop);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::random::{self, Purpose};
    use proptest::prelude::*;

    use super::super::testing::{apply, parse, sample};
    use super::*;

    fn crop(scale: [f64; 2], ratio: [f64; 2]) -> RandomResizedCrop {
        let (size, interpolation) = (Size::Single(32), Interpolation::Bicubic);
        RandomResizedCrop { size, scale, ratio, interpolation, variant: CropVariant::Torchvision }
    }

    fn clamped(crop: &RandomResizedCrop) -> RandomResizedCrop {
        RandomResizedCrop { variant: CropVariant::Clamped, ..crop.clone() }
    }

    #[test]
    fn defaults_are_those_of_mae() {
        let parsed = parse(r#"{ "type": "RandomResizedCrop", "size": 224 }"#);
        assert_eq!(parsed.output(SampleShape::default()).unwrap().size, Some((224, 224)));
        let json = serde_json::to_value(&parsed).unwrap();
        assert_eq!(json["scale"], serde_json::json!([0.2, 1.0]));
        assert_eq!(json["interpolation"], "bicubic");
    }

    #[test]
    fn areas_and_ratios_stay_in_their_ranges_and_fill_them() {
        let crop = crop([0.2, 1.0], default_ratio());
        let mut rng = random::stream(Purpose::Augment, &[1]);
        let boxes: Vec<_> = (0..2000).map(|_| crop.draw(300, 400, &mut rng)).collect();
        let areas = boxes.iter().map(|b| (b.height * b.width) as f64 / 120_000.0);
        let (low, high) = areas.fold((1.0_f64, 0.0_f64), |(low, high), area| (low.min(area), high.max(area)));
        assert!((0.195..0.22).contains(&low) && (0.95..1.0).contains(&high), "{low} {high}");
        assert!(boxes.iter().all(|b| (0.73..1.36).contains(&(b.width as f64 / b.height as f64))));
    }

    #[test]
    fn where_nothing_fits_it_is_the_middle() {
        let rng = &mut random::stream(Purpose::Augment, &[1]);
        let wide = crop([0.9, 1.0], default_ratio()).draw(30, 1000, rng);
        assert_eq!(wide, CropBox { top: 0, left: 480, height: 30, width: 40 });
        let tall = crop([0.9, 1.0], default_ratio()).draw(1000, 30, rng);
        assert_eq!(tall, CropBox { top: 480, left: 0, height: 40, width: 30 });
    }

    #[test]
    fn clamped_to_the_image_a_part_loses_area_instead() {
        let parse = |json: &str| serde_json::from_str::<RandomResizedCrop>(json).unwrap();
        let probe = parse(r#"{ "size": 224, "scale": [0.08, 1.0], "variant": "clamped" }"#);
        let rng = &mut random::stream(Purpose::Augment, &[1]);
        let boxes: Vec<_> = (0..1000).map(|_| probe.draw(30, 400, rng)).collect();
        // Of the ratios 3/4 to 4/3, only parts of at most 40 columns fit; the smallest part has 960 pixels.
        let whole_height = boxes.iter().filter(|part| part.height == 30).count();
        assert!(whole_height > 900, "{whole_height}");
        assert!(boxes.iter().any(|part| part.width > 100), "area is not drawn again");
    }

    #[test]
    fn where_every_part_fits_the_variants_agree() {
        let crop = crop([0.1, 0.5], default_ratio());
        for seed in 0..100 {
            let draw = |crop: &RandomResizedCrop| {
                crop.draw(100, 120, &mut random::stream(Purpose::Augment, &[seed]))
            };
            assert_eq!(draw(&crop), draw(&clamped(&crop)));
        }
    }

    #[test]
    fn ranges_that_are_none_are_problems() {
        let key = |crop: RandomResizedCrop| crop.output(SampleShape::default()).unwrap_err().key;
        assert_eq!(key(crop([0.0, 1.0], default_ratio())), "scale");
        assert_eq!(key(crop([1.0, 0.2], default_ratio())), "scale");
        assert_eq!(key(crop([f64::NAN, 1.0], default_ratio())), "scale");
        assert_eq!(key(crop([0.2, 1.0], [0.0, 1.0])), "ratio");
    }

    #[test]
    fn the_result_has_the_size_asked_for() {
        assert_eq!(apply(&crop([0.2, 1.0], default_ratio()), sample(7, 500), 3).dimensions(), (32, 32));
    }

    proptest! {
        #[test]
        fn the_part_lies_within_any_image(
            height in 1_usize..3000, width in 1_usize..3000, seed: u64,
            scale in (0.0001_f64..=1.0, 0.0001_f64..=1.0), ratio in (0.01_f64..100.0, 0.01_f64..100.0),
        ) {
            let crop = crop([scale.0.min(scale.1), scale.0.max(scale.1)], [ratio.0.min(ratio.1), ratio.0.max(ratio.1)]);
            let mut rng = random::stream(Purpose::Augment, &[seed]);
            prop_assert!(crop.draw(height, width, &mut rng).within(height, width));
            prop_assert!(clamped(&crop).draw(height, width, &mut rng).within(height, width));
        }
    }
}
