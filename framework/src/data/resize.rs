//! Resizing exactly as Pillow does: separable convolution in 8 bit fixed point (`src/libImaging/Resample.c`).

use image::{GrayImage, RgbImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CropBox;

/// How pixels between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// A triangle filter.
    Bilinear,
    /// Keys' cubic filter with a = -0.5.
    #[default]
    Bicubic,
}

impl Interpolation {
    /// Half the filter's width when enlarging.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// Fractional bits of a weight: with 8 bits of pixel and 2 bits of headroom for the cubic's overshoot, 32 in all.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The pixels and weights behind every output position of one axis.
struct Taps {
    /// First pixel and number of pixels, by output position.
    spans: Vec<(usize, usize)>,
    /// Weights by output position, `width` apart.
    weights: Vec<i32>,
    width: usize,
}

impl Taps {
    fn new(input: usize, output: usize, interpolation: Interpolation) -> Self {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = interpolation.support() * stretch;
        let width = support.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(output);
        let mut weights = vec![0; output * width];
        let mut row = Vec::with_capacity(width);
        for (position, fixed) in weights.chunks_exact_mut(width).enumerate() {
            let centre = (position as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            row.clear();
            row.extend(
                (first..end)
                    .map(|pixel| interpolation.weight((pixel as f64 - centre + 0.5) * (1.0 / stretch))),
            );
            let total: f64 = row.iter().sum();
            for (fixed, weight) in fixed.iter_mut().zip(&row) {
                let scaled = weight / total * f64::from(1 << PRECISION_BITS);
                // Half away from zero, as the cast in C.
                *fixed = (scaled + 0.5_f64.copysign(scaled)) as i32;
            }
            spans.push((first, end - first));
        }
        Self { spans, weights, width }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let rows = self.weights.chunks_exact(self.width);
        self.spans.iter().zip(rows).map(|(&(first, count), weights)| (first, &weights[..count]))
    }
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes the part of `image` within `crop`; pixels outside are not used.
///
/// # Panics
/// If `crop` does not lie within the image; see [`CropBox::within`]. A side of zero gives an empty image.
pub fn resize(
    image: &RgbImage,
    crop: CropBox,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> RgbImage {
    assert!(crop.within(image.height() as usize, image.width() as usize), "crop outside of the image");
    if height == 0 || width == 0 {
        return RgbImage::new(width as u32, height as u32);
    }
    let stride = image.width() as usize * 3;
    let start = crop.left * 3;
    let rows = image.as_raw().chunks_exact(stride).skip(crop.top).take(crop.height);
    let rows = rows.map(|row| &row[start..start + crop.width * 3]);

    let narrow = if crop.width == width {
        rows.collect::<Vec<_>>().concat()
    } else {
        resize_rows(rows, &Taps::new(crop.width, width, interpolation), crop)
    };
    let pixels = if crop.height == height {
        narrow
    } else {
        resize_columns(&narrow, width * 3, &Taps::new(crop.height, height, interpolation))
    };
    RgbImage::from_raw(width as u32, height as u32, pixels).unwrap_or_default()
}

/// The horizontal pass.
fn resize_rows<'a>(rows: impl Iterator<Item = &'a [u8]>, taps: &Taps, crop: CropBox) -> Vec<u8> {
    let mut output = Vec::with_capacity(crop.height * taps.spans.len() * 3);
    // Four channels wide, so that a pixel is one vector.
    let mut wide = vec![[0_i32; 4]; crop.width];
    for row in rows {
        for (wide, pixel) in wide.iter_mut().zip(row.chunks_exact(3)) {
            *wide = [i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2]), 0];
        }
        for (first, weights) in taps.iter() {
            let mut sum = [HALF; 4];
            for (pixel, &weight) in wide[first..].iter().zip(weights) {
                for channel in 0..4 {
                    sum[channel] += pixel[channel] * weight;
                }
            }
            output.extend_from_slice(&[clip(sum[0]), clip(sum[1]), clip(sum[2])]);
        }
    }
    output
}

/// The vertical pass over rows of `stride` bytes.
fn resize_columns(input: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut output = Vec::with_capacity(taps.spans.len() * stride);
    let mut sums = vec![HALF; stride];
    for (first, weights) in taps.iter() {
        sums.fill(HALF);
        for (row, &weight) in input.chunks_exact(stride).skip(first).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        output.extend(sums.iter().map(|&sum| clip(sum)));
    }
    output
}

/// Resizes a map of labels within `crop` to the nearest label, as Pillow's `NEAREST`.
///
/// # Panics
/// If `crop` does not lie within the map.
pub fn nearest(map: &GrayImage, crop: CropBox, height: usize, width: usize) -> GrayImage {
    assert!(crop.within(map.height() as usize, map.width() as usize), "crop outside of the map");
    let positions = |input: usize, output: usize| -> Vec<usize> {
        let scale = input as f64 / output as f64;
        (0..output).map(|position| (((position as f64 + 0.5) * scale) as usize).min(input - 1)).collect()
    };
    let columns = positions(crop.width, width);
    let stride = map.width() as usize;
    let mut output = Vec::with_capacity(height * width);
    for row in positions(crop.height, height) {
        let start = (crop.top + row) * stride + crop.left;
        let row = &map.as_raw()[start..start + crop.width];
        output.extend(columns.iter().map(|&column| row[column]));
    }
    GrayImage::from_raw(width as u32, height as u32, output).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn golden(name: &str) -> RgbImage {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/transforms/");
        image::open(format!("{folder}{name}")).unwrap().to_rgb8()
    }

    fn whole(image: &RgbImage) -> CropBox {
        CropBox::whole(image.height() as usize, image.width() as usize)
    }

    #[test]
    fn shrinking_is_pillows_to_the_bit() {
        let source = golden("chelsea.png");
        let resized = resize(&source, whole(&source), 128, 192, Interpolation::Bicubic);
        let crop = image::imageops::crop_imm(&resized, 40, 8, 112, 112).to_image();
        assert!(crop == golden("chelsea_r128_c112.png"));
    }

    #[test]
    fn enlarging_a_crop_is_pillows_to_the_bit() {
        let source = golden("chelsea.png");
        let crop = CropBox { top: 150, left: 240, height: 50, width: 61 };
        let resized = resize(&source, crop, 224, 224, Interpolation::Bicubic);
        assert!(resized == golden("chelsea_rrc_2.png"));
    }

    #[test]
    fn pixels_outside_of_the_crop_are_not_used() {
        let source = golden("chelsea.png");
        let crop = CropBox { top: 20, left: 30, height: 40, width: 50 };
        let alone = image::imageops::crop_imm(&source, 30, 20, 50, 40).to_image();
        let expected = resize(&alone, whole(&alone), 17, 96, Interpolation::Bicubic);
        assert!(resize(&source, crop, 17, 96, Interpolation::Bicubic) == expected);
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let source = golden("chelsea_r128_c112.png");
        assert!(resize(&source, whole(&source), 112, 112, Interpolation::Bilinear) == source);
    }

    #[test]
    fn nearest_doubles_and_halves_labels() {
        let map = GrayImage::from_raw(2, 1, vec![3, 7]).unwrap();
        let double = nearest(&map, CropBox::whole(1, 2), 2, 4);
        assert_eq!(double.as_raw(), &[3, 3, 7, 7, 3, 3, 7, 7]);
        assert_eq!(nearest(&double, CropBox::whole(2, 4), 1, 2).as_raw(), map.as_raw());
    }

    proptest! {
        #[test]
        fn a_constant_image_stays_constant(
            height in 1_u32..40, width in 1_u32..40, to in (1_usize..60, 1_usize..60), value: u8, bicubic: bool,
        ) {
            let interpolation = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let image = RgbImage::from_pixel(width, height, image::Rgb([value; 3]));
            let resized = resize(&image, whole(&image), to.0, to.1, interpolation);
            prop_assert_eq!(resized.dimensions(), (to.1 as u32, to.0 as u32));
            prop_assert!(resized.as_raw().iter().all(|&pixel| pixel == value));
        }
    }
}
