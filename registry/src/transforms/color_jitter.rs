use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, Pixels, Sample};
use convmae_framework::random::Rng;
use image::RgbImage;
use rand::seq::SliceRandom as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pillow::{enhance, hue};
use super::{between, check_rgb};

/// Changes brightness, contrast, saturation and hue by random amounts in random order, as torchvision's
/// `ColorJitter` on Pillow images.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// Brightness is multiplied by a factor from `1 - brightness` (at least 0) to `1 + brightness`; or
    /// `[smallest, largest]` factor.
    pub brightness: Jitter,
    /// Likewise the difference to the mean of the grey image.
    pub contrast: Jitter,
    /// Likewise the difference to the grey image.
    pub saturation: Jitter,
    /// The hue is turned by `-hue` to `hue` of the circle, at most 0.5; or by `[smallest, largest]`.
    pub hue: Jitter,
}

/// How far a property of colour goes: one number, either way, or `[smallest, largest]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Jitter {
    /// By at most this much, either way.
    Amount(#[schemars(range(min = 0.0))] f64),
    /// From the first to the second.
    Range([f64; 2]),
}

impl Default for Jitter {
    fn default() -> Self {
        Self::Amount(0.0)
    }
}

/// One of the four properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Property {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

impl Property {
    const ALL: [Self; 4] = [Self::Brightness, Self::Contrast, Self::Saturation, Self::Hue];

    fn key(self) -> &'static str {
        match self {
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Saturation => "saturation",
            Self::Hue => "hue",
        }
    }

    /// The value that changes nothing, the smallest and the largest.
    fn limits(self) -> (f64, f64, f64) {
        if self == Self::Hue { (0.0, -0.5, 0.5) } else { (1.0, 0.0, f64::MAX) }
    }

    fn change(self, image: &mut RgbImage, value: f64) {
        match self {
            Self::Brightness => enhance::brightness(image, value),
            Self::Contrast => enhance::contrast(image, value),
            Self::Saturation => enhance::color(image, value),
            Self::Hue => hue::shift_hue(image, value),
        }
    }
}

impl ColorJitter {
    fn jitter(&self, property: Property) -> Jitter {
        match property {
            Property::Brightness => self.brightness,
            Property::Contrast => self.contrast,
            Property::Saturation => self.saturation,
            Property::Hue => self.hue,
        }
    }

    /// The range to draw from; none if the property is left as it is.
    fn range(&self, property: Property) -> Option<[f64; 2]> {
        let (unchanged, smallest, _) = property.limits();
        let range = match self.jitter(property) {
            Jitter::Range(range) => range,
            Jitter::Amount(amount) if property == Property::Hue => [-amount, amount],
            Jitter::Amount(amount) => [(unchanged - amount).max(smallest), unchanged + amount],
        };
        (range != [unchanged; 2]).then_some(range)
    }
}

#[typetag::serde]
impl Transform for ColorJitter {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        sample.rgb("ColorJitter")?;
        if let Pixels::Rgb(image) = &mut sample.pixels {
            let mut properties = Property::ALL;
            properties.shuffle(rng);
            for property in properties {
                if let Some([low, high]) = self.range(property) {
                    property.change(image, between(rng, low, high));
                }
            }
        }
        Ok(sample)
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_rgb("ColorJitter", input)?;
        for property in Property::ALL {
            let (_, smallest, largest) = property.limits();
            let Some([low, high]) = self.range(property) else { continue };
            let negative = matches!(self.jitter(property), Jitter::Amount(amount) if amount < 0.0);
            if negative || !(smallest <= low && low <= high && high <= largest) {
                let help = if property == Property::Hue {
                    "a number from 0 to 0.5, or [smallest, largest] from -0.5 to 0.5"
                } else {
                    "a number of at least 0, such as 0.4, or [smallest, largest] factor, such as [0.6, 1.4]"
                };
                let message = format!("[{low}, {high}] is no range of {}", property.key());
                return Err(Problem::new(property.key(), message).help(help));
            }
        }
        Ok(input)
    }
}

convmae_framework::register!(Transform: ColorJitter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use convmae_framework::data::read_rgb;

    use super::super::testing::{apply, parse, sample};
    use super::*;

    fn golden(name: &str) -> RgbImage {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/transforms/color_jitter");
        read_rgb(&Path::new(folder).join(format!("{name}.png"))).unwrap()
    }

    #[test]
    fn each_property_equals_torchvision_on_pillow_in_every_bit() {
        for (property, value) in [
            ("brightness", "0.6"),
            ("brightness", "1.37"),
            ("contrast", "0.6"),
            ("contrast", "1.37"),
            ("saturation", "0"),
            ("saturation", "1.37"),
            ("hue", "-0.5"),
            ("hue", "-0.13"),
            ("hue", "0.1"),
        ] {
            let jitter = parse(&format!(r#"{{ "type": "ColorJitter", "{property}": [{value}, {value}] }}"#));
            let image = golden("source");
            let sample = Sample { pixels: Pixels::Rgb(image), ..sample(1, 1) };
            assert!(
                apply(&*jitter, sample, 0) == golden(&format!("{property}_{value}")),
                "{property} {value}"
            );
        }
    }

    #[test]
    fn by_default_nothing_changes() {
        let jitter = parse(r#"{ "type": "ColorJitter" }"#);
        assert!(apply(&*jitter, sample(9, 9), 0) == *sample(9, 9).rgb("").unwrap());
    }

    #[test]
    fn factors_fill_their_range() {
        let jitter = parse(r#"{ "type": "ColorJitter", "brightness": 0.4 }"#);
        let white = |seed| {
            let pixels = Pixels::Rgb(RgbImage::from_pixel(1, 1, image::Rgb([100; 3])));
            apply(&*jitter, Sample { pixels, ..sample(1, 1) }, seed).get_pixel(0, 0).0[0]
        };
        let values: Vec<_> = (0..300).map(white).collect();
        assert!(values.iter().all(|value| (60..=140).contains(value)));
        assert!(values.iter().any(|value| *value < 65) && values.iter().any(|value| *value > 135));
    }

    #[test]
    fn the_order_is_random() {
        let jitter = parse(r#"{ "type": "ColorJitter", "brightness": [1.9, 1.9], "contrast": [0.3, 0.3] }"#);
        let first = |seed| apply(&*jitter, sample(200, 250), seed).get_pixel(240, 190).0;
        let results: std::collections::BTreeSet<_> = (0..40).map(first).collect();
        assert_eq!(results.len(), 2);
    }

    #[test]
    fn ranges_that_are_none_are_problems() {
        for (json, key) in [
            (r#"{ "type": "ColorJitter", "brightness": -0.1 }"#, "brightness"),
            (r#"{ "type": "ColorJitter", "contrast": [-0.1, 1.0] }"#, "contrast"),
            (r#"{ "type": "ColorJitter", "saturation": [1.2, 0.8] }"#, "saturation"),
            (r#"{ "type": "ColorJitter", "hue": 0.6 }"#, "hue"),
        ] {
            assert_eq!(parse(json).output(SampleShape::default()).unwrap_err().key, key);
        }
        let factor = parse(r#"{ "type": "ColorJitter", "brightness": 1.5, "hue": [-0.5, 0.5] }"#);
        assert!(factor.output(SampleShape::default()).is_ok());
    }
}
