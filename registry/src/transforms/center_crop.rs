use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, Interpolation, Sample, Size};
use convmae_framework::random::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_pixels, check_size};

/// Keeps the middle of the image, as torchvision's `CenterCrop`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Side of the square that is kept, or `[height, width]`.
    pub size: Size,
}

impl CenterCrop {
    fn fits(&self, (height, width): (usize, usize)) -> bool {
        let (rows, columns) = self.size.height_width();
        rows <= height && columns <= width
    }
}

#[typetag::serde]
impl Transform for CenterCrop {
    fn apply(&self, sample: Sample, _: &mut Rng) -> Result<Sample, DataError> {
        sample.check_pixels("CenterCrop")?;
        let (height, width) = self.size.height_width();
        if !self.fits(sample.size()) {
            let reason = format!("too small for a crop of {height} x {width}: add a `Resize` before");
            return Err(sample.misfit("CenterCrop", &reason));
        }
        // Half to even, as Python's `round`.
        let offset = |input: usize, output: usize| ((input - output) as f64 / 2.0).round_ties_even() as usize;
        let (rows, columns) = sample.size();
        let crop = CropBox { top: offset(rows, height), left: offset(columns, width), height, width };
        sample.crop_and_resize(crop, (height, width), Interpolation::default(), "CenterCrop")
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("CenterCrop", input)?;
        check_size(self.size)?;
        let (height, width) = self.size.height_width();
        if let Some((rows, columns)) = input.size
            && !self.fits((rows, columns))
        {
            let message = format!("a crop of {height} x {width} from images of {rows} x {columns}");
            return Err(Problem::new("size", message)
                .help(format!("at most {rows} x {columns}, or a `Resize` before `CenterCrop`")));
        }
        Ok(SampleShape { size: Some((height, width)), ..input })
    }
}

convmae_framework::register!(Transform: CenterCrop);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn offsets_round_half_to_even() {
        let crop = parse(r#"{ "type": "CenterCrop", "size": [4, 5] }"#);
        // (9 - 4) / 2 = 2.5 -> 2, (12 - 5) / 2 = 3.5 -> 4
        let image = apply(&*crop, sample(9, 12), 0);
        assert_eq!((image.dimensions(), image.get_pixel(0, 0).0), ((5, 4), [4, 2, 0]));
    }

    #[test]
    fn a_crop_larger_than_the_image_is_refused() {
        let crop = CenterCrop { size: Size::Single(8) };
        let small = SampleShape { size: Some((8, 7)), normalized: false, ..SampleShape::default() };
        assert_eq!(crop.output(small).unwrap_err().message, "a crop of 8 x 8 from images of 8 x 7");
        let mut rng = convmae_framework::random::stream(convmae_framework::random::Purpose::Augment, &[]);
        let error = crop.apply(sample(8, 7), &mut rng).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        let error = error.to_string();
        assert!(
            error.contains("the image is 8 x 7; too small for a crop of 8 x 8: add a `Resize`"),
            "{error}"
        );
    }
}
