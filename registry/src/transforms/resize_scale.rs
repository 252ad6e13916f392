use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, MAX_PIXELS, MAX_SIDE, Sample, Size};
use convmae_framework::random::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{between, check_pixels, check_size, resize_bilinear};

/// Resizes the image to fit into a random multiple of a size, keeping its proportions, as detectron2's
/// `ResizeScale`: bilinear for the image, nearest for label maps and masks of pixels. With `FixedSizeCrop`
/// behind it, large scale jitter (Ghiasi et al. 2021).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeScale {
    /// Side of the square that the image fits into at a scale of 1, or `[height, width]`.
    pub size: Size,
    /// Smallest and largest multiple of `size`.
    #[serde(default = "large_scale_jitter")]
    pub scale: [f64; 2],
}

fn large_scale_jitter() -> [f64; 2] {
    [0.1, 2.0]
}

impl ResizeScale {
    /// Height and width of an image of `rows` x `columns`, rounded half to even as NumPy does.
    pub(super) fn shape(&self, (rows, columns): (usize, usize), scale: f64) -> (usize, usize) {
        let (height, width) = self.size.height_width();
        let factor = (height as f64 * scale / rows as f64).min(width as f64 * scale / columns as f64);
        let side = |side: usize| (side as f64 * factor).round_ties_even() as usize;
        (side(rows), side(columns))
    }

    /// Resizes for a given multiple of `size`.
    pub(super) fn resize(&self, sample: Sample, scale: f64) -> Result<Sample, DataError> {
        let shape = self.shape(sample.size(), scale);
        resize_bilinear(sample, shape, "ResizeScale")
    }
}

#[typetag::serde]
impl Transform for ResizeScale {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        let [low, high] = self.scale;
        self.resize(sample, between(rng, low, high))
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("ResizeScale", input)?;
        check_size(self.size)?;
        let [low, high] = self.scale;
        if !(0.0 < low && low <= high && high.is_finite()) {
            return Err(Problem::new("scale", format!("[{low}, {high}] is no range of scales"))
                .help("[smallest, largest] multiple of `size`, such as [0.1, 2.0]"));
        }
        let (height, width) = self.size.height_width();
        let [height, width] = [height, width].map(|side| side as f64 * high);
        if height.max(width) > MAX_SIDE as f64 || height * width > MAX_PIXELS as f64 {
            return Err(Problem::new("scale", format!("up to {height} x {width} is too large"))
                .help(format!("at most {MAX_SIDE} a side, and {MAX_PIXELS} pixels")));
        }
        Ok(SampleShape { size: None, ..input })
    }
}

convmae_framework::register!(Transform: ResizeScale);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn scales_fill_the_range() {
        let resize = parse(r#"{ "type": "ResizeScale", "size": 20, "scale": [0.5, 2.0] }"#);
        let widths: Vec<_> = (0..200).map(|seed| apply(&*resize, sample(30, 40), seed).width()).collect();
        assert_eq!((widths.iter().min(), widths.iter().max()), (Some(&10), Some(&40)));
    }

    #[test]
    fn halves_are_rounded_to_even() {
        let resize = ResizeScale { size: Size::Single(100), scale: [1.0; 2] };
        assert_eq!(resize.shape((5, 200), 1.0), (2, 100));
        assert_eq!(resize.shape((7, 200), 1.0), (4, 100));
    }

    #[test]
    fn an_image_that_would_vanish_is_the_fault_of_the_sample() {
        let error = ResizeScale { size: Size::Single(64), scale: [0.1; 2] }.resize(sample(1, 200), 0.1);
        let error = error.unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("too narrow: it would become 0 x 6"), "{error}");
    }

    #[test]
    fn sizes_and_scales_that_are_none_are_problems() {
        let key = |side, scale| {
            let resize = ResizeScale { size: Size::Single(side), scale };
            resize.output(SampleShape::default()).unwrap_err().key
        };
        assert_eq!(key(0, [0.1, 2.0]), "size");
        assert_eq!(key(64, [0.0, 2.0]), "scale");
        assert_eq!(key(64, [2.0, 0.1]), "scale");
        assert_eq!(key(64, [0.1, f64::NAN]), "scale");
        assert_eq!(key(1024, [0.1, 100.0]), "scale");
    }
}
