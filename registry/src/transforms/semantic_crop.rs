use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, IGNORED, Interpolation, Sample, Size};
use convmae_framework::random::Rng;
use image::GrayImage;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_pixels, check_size};

/// Keeps a part of fixed size from anywhere in the image, preferably one in which no class prevails, as
/// mmsegmentation's `RandomCrop`. A smaller image stays as it is: end the transforms with `Pad`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SemanticCrop {
    /// Side of the square that is kept, or `[height, width]`.
    pub size: Size,
    /// The share of the labelled pixels that one class must stay below; if it does not, another part is
    /// drawn, up to ten times. 1 takes the first one.
    #[serde(default = "default_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub cat_max_ratio: f64,
}

fn default_ratio() -> f64 {
    0.75
}

/// How often a part is looked at; one drawn after that is taken as it is.
const CHECKS: usize = 10;
impl SemanticCrop {
    /// The first part that `draw` yields in which no class prevails, or the one after [`CHECKS`].
    pub(super) fn choose(&self, labels: Option<&GrayImage>, mut draw: impl FnMut() -> CropBox) -> CropBox {
        let mut part = draw();
        if let Some(labels) = labels.filter(|_| self.cat_max_ratio < 1.0) {
            for _ in 0..CHECKS {
                if self.is_mixed(labels, part) {
                    break;
                }
                part = draw();
            }
        }
        part
    }

    /// Whether a part has several classes and none prevails.
    fn is_mixed(&self, labels: &GrayImage, part: CropBox) -> bool {
        let mut counts = [0_usize; 256];
        let rows = labels.as_raw().chunks_exact(labels.width() as usize);
        for row in rows.skip(part.top).take(part.height) {
            for &label in &row[part.left..part.left + part.width] {
                counts[usize::from(label)] += 1;
            }
        }
        let counts = &counts[..usize::from(IGNORED)];
        let (total, most) = counts.iter().fold((0, 0), |(sum, most), &count| (sum + count, count.max(most)));
        let classes = counts.iter().filter(|&&count| count > 0).count();
        classes > 1 && (most as f64 / total as f64) < self.cat_max_ratio
    }
}

#[typetag::serde]
impl Transform for SemanticCrop {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        sample.check_pixels("SemanticCrop")?;
        sample.check_maps("SemanticCrop")?;
        let (rows, columns) = sample.size();
        let (height, width) = self.size.height_width();
        let (height, width) = (height.min(rows), width.min(columns));
        let part = self.choose(sample.target.semantic.as_ref(), || {
            let top = rng.random_range(0..=(rows - height) as u32) as usize;
            let left = rng.random_range(0..=(columns - width) as u32) as usize;
            CropBox { top, left, height, width }
        });
        sample.crop_and_resize(part, (height, width), Interpolation::default(), "SemanticCrop")
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("SemanticCrop", input)?;
        check_size(self.size)?;
        if !(0.0..=1.0).contains(&self.cat_max_ratio) {
            return Err(Problem::new("cat_max_ratio", format!("{} is no share", self.cat_max_ratio))
                .help("between 0 and 1, such as 0.75"));
        }
        let (height, width) = self.size.height_width();
        let size = input.size.map(|(rows, columns)| (rows.min(height), columns.min(width)));
        Ok(SampleShape { size, ..input })
    }
}

convmae_framework::register!(Transform: SemanticCrop);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::Luma;

    use super::super::testing::{apply, parse, sample};
    use super::*;

    fn crop(cat_max_ratio: f64) -> SemanticCrop {
        SemanticCrop { size: Size::Single(4), cat_max_ratio }
    }

    /// How many parts are drawn of labels that are all `label`, but `other` in column 0.
    fn draws(crop: &SemanticCrop, label: u8, other: u8) -> usize {
        let labels = GrayImage::from_fn(4, 4, |x, _| Luma([if x == 0 { other } else { label }]));
        let mut draws = 0;
        crop.choose(Some(&labels), || {
            draws += 1;
            CropBox::whole(4, 4)
        });
        draws
    }

    #[test]
    fn a_part_in_which_one_class_prevails_is_drawn_again() {
        assert_eq!(draws(&crop(0.75), 1, 2), 11, "a share of 0.75 is not below it");
        assert_eq!(draws(&crop(0.76), 1, 2), 1);
        assert_eq!(draws(&crop(0.99), 1, 1), 11, "one class alone");
        assert_eq!(draws(&crop(0.99), 1, 255), 11, "ignored pixels are no class");
        assert_eq!(draws(&crop(0.99), 255, 255), 11, "nothing is labelled");
        assert_eq!(draws(&crop(1.0), 1, 1), 1);
    }

    #[test]
    fn every_offset_comes_up_without_labels() {
        let crop = parse(r#"{ "type": "SemanticCrop", "size": 6 }"#);
        let corners: std::collections::BTreeSet<_> =
            (0..200).map(|seed| apply(&*crop, sample(8, 7), seed).get_pixel(0, 0).0).collect();
        assert_eq!(corners.len(), 3 * 2);
    }

    #[test]
    fn a_smaller_image_stays_as_it_is() {
        let crop = parse(r#"{ "type": "SemanticCrop", "size": [6, 4] }"#);
        assert_eq!(apply(&*crop, sample(3, 9), 0).dimensions(), (4, 3));
        let shape = |size| {
            crop.output(SampleShape { size, normalized: false, ..SampleShape::default() }).unwrap().size
        };
        assert_eq!((shape(Some((3, 9))), shape(None)), (Some((3, 4)), None));
    }

    #[test]
    fn a_label_map_of_another_size_is_the_fault_of_the_sample() {
        let mut labelled = sample(8, 8);
        labelled.target.semantic = Some(GrayImage::new(4, 9));
        let mut rng = convmae_framework::random::stream(convmae_framework::random::Purpose::Augment, &[]);
        let error = crop(0.75).apply(labelled, &mut rng).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("8 x 8; its mask or label map is 9 x 4"), "{error}");
    }

    #[test]
    fn a_share_beyond_one_is_a_problem() {
        assert_eq!(crop(1.5).output(SampleShape::default()).unwrap_err().key, "cat_max_ratio");
        assert_eq!(crop(f64::NAN).output(SampleShape::default()).unwrap_err().key, "cat_max_ratio");
    }
}
