use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, Pixels, Sample};
use convmae_framework::random::Rng;
use image::RgbImage;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::opencv::hsv;
use super::{between, check_rgb};

/// Changes brightness, contrast, saturation and hue, each in half of the images, as mmsegmentation's
/// `PhotoMetricDistortion` on `OpenCV`; the contrast before saturation and hue or after them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhotoMetricDistortion {
    /// Most that is added to all channels, of 255, either way.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub brightness_delta: f64,
    /// Smallest and largest factor of all channels.
    #[schemars(inner(range(min = 0.0)))]
    pub contrast_range: [f64; 2],
    /// Smallest and largest factor of the saturation.
    #[schemars(inner(range(min = 0.0)))]
    pub saturation_range: [f64; 2],
    /// Most that the hue is turned by, in steps of two degrees, either way (exclusive to the right).
    #[schemars(range(max = MAX_HUE))]
    pub hue_delta: u8,
}

impl Default for PhotoMetricDistortion {
    fn default() -> Self {
        Self {
            brightness_delta: 32.0,
            contrast_range: [0.5, 1.5],
            saturation_range: [0.5, 1.5],
            hue_delta: 18,
        }
    }
}

/// Half of the circle.
const MAX_HUE: u8 = (hsv::HUES / 2) as u8;

/// One change of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// What is added.
    Brightness(f32),
    /// The factor.
    Contrast(f32),
    /// The factor.
    Saturation(f32),
    /// Steps of two degrees.
    Hue(i32),
}

impl Step {
    pub(super) fn apply(self, image: &mut RgbImage) {
        match self {
            Self::Brightness(offset) => map_channels(image, &table(1.0, offset)),
            Self::Contrast(factor) => map_channels(image, &table(factor, 0.0)),
            Self::Saturation(factor) => {
                let table = table(factor, 0.0);
                map_hsv(image, |[h, s, v]| [h, table[usize::from(s)], v]);
            }
            Self::Hue(turn) => {
                map_hsv(image, |[h, s, v]| [(i32::from(h) + turn).rem_euclid(hsv::HUES) as u8, s, v]);
            }
        }
    }
}

/// What becomes of every value: cut to 0 to 255, then truncated.
fn table(factor: f32, offset: f32) -> [u8; 256] {
    std::array::from_fn(|value| (value as f32 * factor + offset).clamp(0.0, 255.0) as u8)
}

fn map_channels(image: &mut RgbImage, table: &[u8; 256]) {
    for value in &mut **image {
        *value = table[usize::from(*value)];
    }
}

fn map_hsv(image: &mut RgbImage, change: impl Fn([u8; 3]) -> [u8; 3]) {
    for pixel in image.pixels_mut() {
        pixel.0 = hsv::to_rgb(change(hsv::from_rgb(pixel.0)));
    }
}

impl PhotoMetricDistortion {
    /// The changes of one image, in order.
    fn draw(&self, rng: &mut Rng) -> impl Iterator<Item = Step> + use<> {
        let delta = self.brightness_delta;
        let uniform = |rng: &mut Rng, [low, high]: [f64; 2]| {
            rng.random::<bool>().then(|| between(rng, low, high) as f32)
        };
        let brightness = uniform(rng, [-delta, delta]).map(Step::Brightness);
        let contrast_first = rng.random::<bool>();
        let contrast = uniform(rng, self.contrast_range).map(Step::Contrast);
        let saturation = uniform(rng, self.saturation_range).map(Step::Saturation);
        let delta = i32::from(self.hue_delta);
        let turned = rng.random::<bool>() && delta > 0;
        let hue = turned.then(|| Step::Hue(rng.random_range(-delta..delta)));
        let steps = if contrast_first {
            [brightness, contrast, saturation, hue]
        } else {
            [brightness, saturation, hue, contrast]
        };
        steps.into_iter().flatten()
    }
}

#[typetag::serde]
impl Transform for PhotoMetricDistortion {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        sample.rgb("PhotoMetricDistortion")?;
        if let Pixels::Rgb(image) = &mut sample.pixels {
            self.draw(rng).for_each(|step| step.apply(image));
        }
        Ok(sample)
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_rgb("PhotoMetricDistortion", input)?;
        if !(0.0..=255.0).contains(&self.brightness_delta) {
            let message = format!("{} is no difference of brightness", self.brightness_delta);
            return Err(Problem::new("brightness_delta", message).help("from 0 to 255, such as 32"));
        }
        let ranges = [("contrast_range", self.contrast_range), ("saturation_range", self.saturation_range)];
        for (key, [low, high]) in ranges {
            if !(0.0 <= low && low <= high && high.is_finite()) {
                return Err(Problem::new(key, format!("[{low}, {high}] is no range of factors"))
                    .help("[smallest, largest], at least 0, such as [0.5, 1.5]"));
            }
        }
        if self.hue_delta > MAX_HUE {
            let message = format!("{} is more than half of the circle", self.hue_delta);
            return Err(Problem::new("hue_delta", message).help(format!("at most {MAX_HUE}, such as 18")));
        }
        Ok(input)
    }
}

convmae_framework::register!(Transform: PhotoMetricDistortion);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::random::{self, Purpose};

    use super::super::mmseg_golden::Golden;
    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn every_step_equals_mmsegmentation_in_every_bit() {
        let golden = Golden::read();
        for case in golden.cases("photometric") {
            let name = case.name();
            let mut image = golden.rgb(&format!("{name}.input"));
            for (operation, step) in case.distortion() {
                if let Some(step) = step {
                    step.apply(&mut image);
                }
                assert!(image == golden.rgb(&format!("{name}.after_{operation}")), "{name}: {operation}");
            }
        }
    }

    fn draws() -> Vec<Vec<Step>> {
        let parsed: PhotoMetricDistortion = serde_json::from_str("{}").unwrap();
        let draw = |seed| parsed.draw(&mut random::stream(Purpose::Augment, &[seed])).collect();
        (0..2000).map(draw).collect()
    }

    #[test]
    fn changes_fill_their_ranges() {
        let bounds = |value: fn(&Step) -> Option<f32>| {
            let values: Vec<_> = draws().iter().flatten().filter_map(value).collect();
            assert!((900..1100).contains(&values.len()), "{}", values.len());
            (values.iter().copied().fold(f32::MAX, f32::min), values.iter().copied().fold(f32::MIN, f32::max))
        };
        let near = |bounds: (f32, f32), low: f32, high: f32, slack: f32| {
            (low..low + slack).contains(&bounds.0) && (high - slack..=high).contains(&bounds.1)
        };
        let brightness = |step: &Step| if let Step::Brightness(by) = step { Some(*by) } else { None };
        assert!(near(bounds(brightness), -32.0, 32.0, 0.5));
        let contrast = |step: &Step| if let Step::Contrast(by) = step { Some(*by) } else { None };
        assert!(near(bounds(contrast), 0.5, 1.5, 0.01));
        let saturation = |step: &Step| if let Step::Saturation(by) = step { Some(*by) } else { None };
        assert!(near(bounds(saturation), 0.5, 1.5, 0.01));
        let hue = |step: &Step| if let Step::Hue(by) = step { Some(*by as f32) } else { None };
        assert!(near(bounds(hue), -18.0, 17.0, 0.5));
    }

    #[test]
    fn the_contrast_comes_before_the_colour_or_after_it() {
        let first = |steps: &Vec<Step>| matches!(steps[..], [.., Step::Contrast(_), Step::Hue(_)]);
        let last = |steps: &Vec<Step>| matches!(steps[..], [.., Step::Hue(_), Step::Contrast(_)]);
        let draws = draws();
        assert!(draws.iter().filter(|steps| first(steps)).count() > 80);
        assert!(draws.iter().filter(|steps| last(steps)).count() > 180);
    }

    #[test]
    fn without_ranges_only_the_way_through_hsv_is_left() {
        let distortion = parse(
            r#"{ "type": "PhotoMetricDistortion", "brightness_delta": 0, "contrast_range": [1, 1], "saturation_range": [1, 1],
                 "hue_delta": 0 }"#,
        );
        for seed in 0..20 {
            let (before, after) = (sample(9, 9), apply(&*distortion, sample(9, 9), seed));
            let before = before.rgb("").unwrap();
            assert!(before.as_raw().iter().zip(after.as_raw()).all(|(a, b)| a.abs_diff(*b) <= 1), "{seed}");
        }
    }

    #[test]
    fn ranges_that_are_none_are_problems() {
        for (key, value) in [
            ("brightness_delta", "-1"),
            ("brightness_delta", "256"),
            ("contrast_range", "[1.5, 0.5]"),
            ("saturation_range", "[-0.1, 0.5]"),
            ("hue_delta", "91"),
        ] {
            let distortion = parse(&format!(r#"{{ "type": "PhotoMetricDistortion", "{key}": {value} }}"#));
            assert_eq!(distortion.output(SampleShape::default()).unwrap_err().key, key);
        }
        assert!(parse(r#"{ "type": "PhotoMetricDistortion" }"#).output(SampleShape::default()).is_ok());
    }
}
