use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, IGNORED, Pixels, Sample, Size};
use convmae_framework::random::Rng;
use image::{GrayImage, Luma, imageops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_size;

/// Enlarges the image to a size, to the right and to the bottom, after `Normalize`: by the mean colour (0),
/// ignored (255) in the label map, as mmsegmentation's `Pad`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Side of the square that results, or `[height, width]`; no image may be larger.
    pub size: Size,
}

#[typetag::serde]
impl Transform for Pad {
    fn apply(&self, mut sample: Sample, _: &mut Rng) -> Result<Sample, DataError> {
        let (rows, columns) = sample.size();
        let (height, width) = self.size.height_width();
        if rows > height || columns > width {
            let reason = format!("too large to pad to {height} x {width}: add a crop or a `Resize` before");
            return Err(sample.misfit("Pad", &reason));
        }
        sample.check_maps("Pad")?;
        let Pixels::Normalized { values, height: was_high, width: was_wide, .. } = &mut sample.pixels else {
            let reason = "`Pad` works on normalised pixels: put it after `Normalize`";
            return Err(DataError::Transform(format!("{}: {reason}", sample.id)));
        };
        if (rows, columns) == (height, width) {
            return Ok(sample);
        }
        let mut padded = vec![0.0; values.len() / (rows * columns) * height * width];
        let channels = padded.chunks_exact_mut(height * width).zip(values.chunks_exact(rows * columns));
        for (to, from) in channels {
            for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(columns)) {
                to[..columns].copy_from_slice(from);
            }
        }
        (*values, *was_high, *was_wide) = (padded, height, width);
        let pad = |map: &GrayImage, fill: u8| {
            let mut padded = GrayImage::from_pixel(width as u32, height as u32, Luma([fill]));
            imageops::replace(&mut padded, map, 0, 0);
            padded
        };
        sample.target.instances.transform(|_, mask| {
            let stay = |corner| corner;
            mask.is_none_or(|mask| mask.transform((height, width), stay, |map| pad(map, 0)))
        });
        if let Some(map) = &mut sample.target.semantic {
            *map = pad(map, IGNORED);
        }
        Ok(sample)
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        if !input.normalized {
            return Err(Problem::new("", "`Pad` works on normalised pixels").help("put it after `Normalize`"));
        }
        check_size(self.size)?;
        let (height, width) = self.size.height_width();
        if let Some((rows, columns)) = input.size
            && (rows > height || columns > width)
        {
            let message = format!("{height} x {width}, but the images are {rows} x {columns}");
            return Err(Problem::new("size", message).help("a larger `size`, or a crop before `Normalize`"));
        }
        Ok(SampleShape { size: Some((height, width)), ..input })
    }
}

convmae_framework::register!(Transform: Pad);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::panic)]

    use convmae_framework::data::{Mask, Normalization, Rle};
    use convmae_framework::random::{self, Purpose};

    use super::super::testing::{parse, sample};
    use super::*;

    /// 2 x 1, every value 1, one object, labels 7.
    fn normalized() -> Sample {
        let normalization = Normalization::identity(3);
        let pixels = Pixels::Normalized { values: vec![1.0; 6], height: 2, width: 1, normalization };
        let mut sample = Sample { pixels, ..sample(2, 1) };
        let mask = GrayImage::from_pixel(1, 2, Luma([255]));
        sample.target.instances.annotate(0, [0.0, 0.0, 1.0, 2.0], Mask::Rle(Rle::encode(&mask)));
        sample.target.semantic = Some(GrayImage::from_pixel(1, 2, Luma([7])));
        sample
    }

    fn pad(sample: Sample, size: Size) -> Result<Sample, DataError> {
        Pad { size }.apply(sample, &mut random::stream(Purpose::Augment, &[]))
    }

    #[test]
    fn right_and_bottom_are_zero_and_ignored() {
        let padded = pad(normalized(), Size::HeightWidth([3, 2])).unwrap();
        let Pixels::Normalized { values, height: 3, width: 2, .. } = padded.pixels else { panic!("size") };
        assert_eq!(values, [[1.0, 0.0, 1.0, 0.0, 0.0, 0.0]; 3].concat());
        assert_eq!(padded.target.semantic.unwrap().as_raw(), &[7, 255, 7, 255, 255, 255]);
        let Mask::Rle(runs) = &padded.target.instances.masks[0] else { panic!("run lengths stay") };
        assert_eq!(runs.decode().as_raw(), &[255, 0, 255, 0, 0, 0]);
        assert_eq!(padded.target.instances.boxes, [[0.0, 0.0, 1.0, 2.0]]);
    }

    #[test]
    fn a_larger_image_is_the_fault_of_the_sample() {
        let error = pad(normalized(), Size::Single(1)).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("the image is 2 x 1; too large to pad to 1 x 1"), "{error}");
    }

    #[test]
    fn pixels_that_are_not_normalised_are_refused() {
        let error = pad(sample(2, 1), Size::Single(4)).unwrap_err();
        assert!(error.to_string().ends_with("put it after `Normalize`"), "{error}");
    }

    #[test]
    fn the_size_is_known_and_larger_images_are_a_problem() {
        let pad = parse(r#"{ "type": "Pad", "size": 64 }"#);
        let output =
            |size, normalized| pad.output(SampleShape { size, normalized, ..SampleShape::default() });
        assert_eq!(output(None, true).unwrap().size, Some((64, 64)));
        assert_eq!(output(Some((65, 1)), true).unwrap_err().key, "size");
        assert_eq!(output(None, false).unwrap_err().help.as_deref(), Some("put it after `Normalize`"));
    }
}
