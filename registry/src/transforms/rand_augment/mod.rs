mod displace;
mod operation;
mod policy;

use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, Pixels, Sample};
use convmae_framework::random::Rng;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::operation::{Draw, Operation};
use self::policy::Policy;
use super::check_rgb;

/// A few random operations an image, `RandAugment` of timm 0.3.2 on Pillow images: the augmentation of MAE's
/// and ConvMAE's finetuning.
///
/// Each operation is one of 15, drawn with replacement, and is applied with a probability of 0.5:
/// `AutoContrast`, `Equalize`, `Invert`, `Rotate` (to 30 degrees), `Posterize` (to 0 bits), `Solarize`,
/// `SolarizeAdd` (to 110 levels), `Color`, `Contrast`, `Brightness`, `Sharpness` (by a factor of 0.1 to 1.9),
/// `ShearX`, `ShearY` (to 0.3), `TranslateX`, `TranslateY` (to 0.45 of the image). The magnitude, 0 to 10,
/// says how far each goes; half of those with a direction go the other way. Boxes, masks and label maps move
/// with the image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// The policy as timm writes it: `rand`, then parts in any order, joined by `-`. `mN`: the magnitude, 0
    /// to 10 (default 10). `nN`: operations an image (default 2). `mstdX`: standard deviation of the
    /// magnitude (default 0). `inc1`: operations whose effect grows with the magnitude; without it,
    /// `Posterize` and `Solarize` weaken with it and the factors of `Color`, `Contrast`, `Brightness` and
    /// `Sharpness` go from 0.1 to 1.9.
    pub policy: String,
    /// Colour that comes in where the image is moved away; by default the mean of ImageNet.
    pub fill: [u8; 3],
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { policy: "rand-m9-mstd0.5-inc1".to_owned(), fill: [124, 116, 104] }
    }
}

/// Probability of an operation that was drawn.
const PROBABILITY: f64 = 0.5;

#[typetag::serde]
impl Transform for RandAugment {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        sample.rgb("RandAugment")?;
        let policy = Policy::parse(&self.policy)
            .map_err(|problem| DataError::Transform(format!("`RandAugment`: {}", problem.message)))?;
        if let Pixels::Rgb(image) = &mut sample.pixels {
            for _ in 0..policy.operations {
                let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len() as u32) as usize];
                if rng.random::<f64>() < PROBABILITY {
                    let draw = Draw { magnitude: policy.magnitude(rng), negative: rng.random() };
                    let argument = operation.argument(draw, policy.increasing);
                    operation.apply(argument, self.fill, image, &mut sample.target);
                }
            }
        }
        Ok(sample)
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_rgb("RandAugment", input)?;
        Policy::parse(&self.policy)?;
        Ok(input)
    }
}

convmae_framework::register!(Transform: RandAugment);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::data::{Mask, Rle, Target};
    use convmae_framework::random::{self, Purpose};
    use image::{GrayImage, Luma};

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn the_default_is_the_policy_of_mae() {
        let default = serde_json::to_value(parse(r#"{ "type": "RandAugment" }"#)).unwrap();
        assert_eq!(default["policy"], "rand-m9-mstd0.5-inc1");
        assert_eq!(default["fill"], serde_json::json!([124, 116, 104]));
    }

    #[test]
    fn a_quarter_of_the_images_stay() {
        let augment = parse(r#"{ "type": "RandAugment" }"#);
        let Pixels::Rgb(before) = sample(24, 24).pixels else { return };
        let same = (0..1000).filter(|&seed| apply(&*augment, sample(24, 24), seed) == before).count();
        // A few operations change nothing of an image that has few levels.
        assert!((240..400).contains(&same), "{same}");
    }

    #[test]
    fn the_same_stream_gives_the_same_image() {
        let augment = parse(r#"{ "type": "RandAugment", "policy": "rand-m9-n4-mstd0.5" }"#);
        for seed in 0..50 {
            assert!(apply(&*augment, sample(20, 31), seed) == apply(&*augment, sample(20, 31), seed));
        }
    }

    #[test]
    fn masks_and_boxes_move_with_the_image() {
        let augment = parse(r#"{ "type": "RandAugment", "policy": "rand-m3-n4-inc1" }"#);
        for seed in 0..100 {
            let mask =
                GrayImage::from_fn(40, 30, |x, y| Luma([u8::from(x.min(y) > 9 && x.max(y) < 20) * 255]));
            let mut target = Target { semantic: Some(mask.clone()), ..Target::default() };
            target.instances.annotate(1, [10.0, 10.0, 20.0, 20.0], Mask::Rle(Rle::encode(&mask)));
            let mut rng = random::stream(Purpose::Augment, &[seed]);
            let moved = augment.apply(Sample { target, ..sample(30, 40) }, &mut rng).unwrap();
            let Some(Mask::Rle(runs)) = moved.target.instances.masks.first() else { continue };
            let [x0, y0, x1, y1] = moved.target.instances.boxes[0].map(|side| side as u32);
            for (x, y, value) in runs.decode().enumerate_pixels().filter(|pixel| pixel.2.0[0] == 255) {
                assert!((x0..x1).contains(&x) && (y0..y1).contains(&y));
                assert_eq!(moved.target.semantic.as_ref().unwrap().get_pixel(x, y), value);
            }
        }
    }

    #[test]
    fn after_normalize_and_with_an_unknown_policy_it_is_a_problem() {
        let augment = parse(r#"{ "type": "RandAugment" }"#);
        assert!(
            augment.output(SampleShape { size: None, normalized: true, ..SampleShape::default() }).is_err()
        );
        let augment = parse(r#"{ "type": "RandAugment", "policy": "rand-m9-q3" }"#);
        let problem = augment.output(SampleShape::default()).unwrap_err();
        assert_eq!((problem.key.as_str(), problem.message.contains("`q3`")), ("policy", true));
    }
}
