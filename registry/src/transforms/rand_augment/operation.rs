use convmae_framework::data::Target;
use image::RgbImage;

use super::super::pillow::affine::Affine;
use super::super::pillow::{enhance, levels};
use super::displace::displace;
use super::policy::MAX_MAGNITUDE;

/// One of timm's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

/// What is random about an operation.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// How strong it is, 0 to 10.
    pub magnitude: f64,
    /// Whether it goes the other way, if it has a direction.
    pub negative: bool,
}

impl Operation {
    /// All of them, in timm's order.
    pub const ALL: [Self; 15] = [
        Self::AutoContrast,
        Self::Equalize,
        Self::Invert,
        Self::Rotate,
        Self::Posterize,
        Self::Solarize,
        Self::SolarizeAdd,
        Self::Color,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// The number that the operation takes (timm's level functions): degrees, bits, a threshold, a factor, a
    /// part of the image. 0 for those that take none. `increasing` names the set of operations.
    pub fn argument(self, Draw { magnitude, negative }: Draw, increasing: bool) -> f64 {
        let level = magnitude / MAX_MAGNITUDE;
        let signed = |value: f64| if negative { -value } else { value };
        match self {
            Self::AutoContrast | Self::Equalize | Self::Invert => 0.0,
            Self::Rotate => signed(level * 30.0),
            Self::Posterize if increasing => 4.0 - (level * 4.0).trunc(),
            Self::Posterize => (level * 4.0).trunc(),
            Self::Solarize if increasing => 256.0 - (level * 256.0).trunc(),
            Self::Solarize => (level * 256.0).trunc(),
            Self::SolarizeAdd => (level * 110.0).trunc(),
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness if increasing => {
                1.0 + signed(level * 0.9)
            }
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness => level * 1.8 + 0.1,
            Self::ShearX | Self::ShearY => signed(level * 0.3),
            Self::TranslateX | Self::TranslateY => signed(level * 0.45),
        }
    }

    /// Changes an image; those that move it move its target, and put `fill` where nothing comes from.
    pub fn apply(self, argument: f64, fill: [u8; 3], image: &mut RgbImage, target: &mut Target) {
        let (width, height) = image.dimensions();
        let mut displace = |affine: Affine| displace(&affine, fill, image, target);
        match self {
            Self::Rotate => displace(Affine::rotation(argument, (width, height))),
            Self::ShearX => displace(Affine::shear_x(argument)),
            Self::ShearY => displace(Affine::shear_y(argument)),
            Self::TranslateX => displace(Affine::translation(argument * f64::from(width), 0.0)),
            Self::TranslateY => displace(Affine::translation(0.0, argument * f64::from(height))),
            Self::AutoContrast => levels::auto_contrast(image),
            Self::Equalize => levels::equalize(image),
            Self::Invert => levels::invert(image),
            Self::Posterize => levels::posterize(image, argument as u32),
            Self::Solarize => levels::solarize(image, argument as u32),
            Self::SolarizeAdd => levels::solarize_add(image, argument as u8),
            Self::Color => enhance::color(image, argument),
            Self::Contrast => enhance::contrast(image, argument),
            Self::Brightness => enhance::brightness(image, argument),
            Self::Sharpness => enhance::sharpness(image, argument),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::path::Path;

    use convmae_framework::data::read_rgb;
    use serde_json::Value;

    use super::*;

    /// The operation of a golden's name: `TranslateXRel`, `ColorIncreasing`.
    fn named(name: &str) -> Operation {
        let short = name.trim_end_matches("Increasing").trim_end_matches("Rel");
        let operation = Operation::ALL.into_iter().find(|operation| format!("{operation:?}") == short);
        operation.unwrap_or_else(|| panic!("{name}"))
    }

    fn goldens() -> (&'static Path, Value) {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/transforms/randaug"));
        let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
        (folder, serde_json::from_slice(&manifest).unwrap())
    }

    #[test]
    fn every_operation_equals_timm_and_pillow_in_every_bit() {
        let (folder, manifest) = goldens();
        let cases = manifest["randaug"].as_array().unwrap();
        for case in cases {
            let name = case["output"].as_str().unwrap();
            let operation = named(case["op"].as_str().unwrap());
            let magnitude = case["magnitude"].as_f64().unwrap_or(0.0);
            let draw = Draw { magnitude, negative: case["sign"] == -1 };
            let argument = operation.argument(draw, true);
            assert_eq!(argument, case["args"][0].as_f64().unwrap_or(0.0), "{name}");
            let mut image = read_rgb(&folder.join(case["input"].as_str().unwrap())).unwrap();
            operation.apply(argument, [124, 116, 104], &mut image, &mut Target::default());
            assert!(image == read_rgb(&folder.join(name)).unwrap(), "differs from {name}");
        }
        let covered = |operation| cases.iter().any(|case| named(case["op"].as_str().unwrap()) == operation);
        assert!(Operation::ALL.into_iter().all(covered));
    }

    #[test]
    fn the_order_is_that_of_timm() {
        let order = goldens().1["op_names_in_order"].clone();
        let order: Vec<_> =
            order.as_array().unwrap().iter().map(|name| named(name.as_str().unwrap())).collect();
        assert_eq!(order, Operation::ALL);
    }

    #[test]
    fn without_inc_the_levels_are_those_of_timms_other_set() {
        let argument =
            |operation: Operation, magnitude| operation.argument(Draw { magnitude, negative: true }, false);
        assert_eq!(argument(Operation::Posterize, 9.0), 3.0);
        assert_eq!(argument(Operation::Solarize, 9.0), 230.0);
        assert_eq!(argument(Operation::Color, 9.0), 9.0 / 10.0 * 1.8 + 0.1);
        assert_eq!(argument(Operation::Sharpness, 0.0), 0.1);
        assert_eq!(argument(Operation::Rotate, 9.0), -27.0);
    }
}
