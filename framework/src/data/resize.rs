//! Resizing exactly as Pillow does: separable convolution in 8 bit fixed point (`src/libImaging/Resample.c`).

use image::{GrayImage, RgbImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CropBox;
use crate::nn::simd::multiversion;

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

/// Fractional bits of a weight: with 8 bits of pixel and 2 bits of headroom for the cubic's overshoot, 32 in
/// all.
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

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let rows = self.weights.chunks_exact(self.width);
        self.spans.iter().zip(rows).map(|(&(first, count), weights)| (first, &weights[..count]))
    }
}

#[inline(always)]
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
    let size = (image.height() as usize, image.width() as usize);
    let pixels = resize_channels(image.as_raw(), 3, size, crop, (height, width), interpolation);
    RgbImage::from_raw(width as u32, height as u32, pixels).unwrap_or_default()
}

/// [`resize`] of `[rows, columns, channels]`.
pub(super) fn resize_channels(
    values: &[u8],
    channels: usize,
    (rows, columns): (usize, usize),
    crop: CropBox,
    (height, width): (usize, usize),
    interpolation: Interpolation,
) -> Vec<u8> {
    assert!(crop.within(rows, columns), "crop outside of the image");
    if height == 0 || width == 0 {
        return Vec::new();
    }
    let start = crop.left * channels;
    let rows = values.chunks_exact(columns * channels).skip(crop.top).take(crop.height);
    let rows: Vec<_> = rows.map(|row| &row[start..start + crop.width * channels]).collect();

    let narrow = if crop.width == width {
        rows.concat()
    } else {
        resize_rows(&rows, channels, width, &Taps::new(crop.width, width, interpolation))
    };
    if crop.height == height {
        narrow
    } else {
        resize_columns(&narrow, width * channels, &Taps::new(crop.height, height, interpolation))
    }
}

/// Rows that the horizontal pass takes at once. With fewer, the compiler makes vectors of neighbouring taps
/// instead, which takes several times as long.
const ROWS: usize = 16;

/// Channels that the horizontal pass takes at once.
const CHANNELS: usize = 4;

/// One column of [`ROWS`] rows.
type Column = [[u8; CHANNELS]; ROWS];

/// The horizontal pass.
fn resize_rows(rows: &[&[u8]], channels: usize, width: usize, taps: &Taps) -> Vec<u8> {
    let mut output = vec![0; rows.len() * width * channels];
    let mut wide = vec![Column::default(); rows.first().map_or(0, |row| row.len() / channels)];
    let mut narrow = vec![Column::default(); width];
    for (rows, output) in rows.chunks(ROWS).zip(output.chunks_mut(ROWS * width * channels)) {
        for first in (0..channels).step_by(CHANNELS) {
            let part = first..channels.min(first + CHANNELS);
            for (at, row) in rows.iter().enumerate() {
                for (column, pixel) in wide.iter_mut().zip(row.chunks_exact(channels)) {
                    column[at][..part.len()].copy_from_slice(&pixel[part.clone()]);
                }
            }
            weigh_columns(&wide, taps, &mut narrow);
            for (at, row) in output.chunks_exact_mut(width * channels).enumerate() {
                for (pixel, column) in row.chunks_exact_mut(channels).zip(&narrow) {
                    pixel[part.clone()].copy_from_slice(&column[at][..part.len()]);
                }
            }
        }
    }
    output
}

multiversion! {
    /// Every column of `output` from those of `input`.
    fn weigh_columns(input: &[Column], taps: &Taps, output: &mut [Column]) {
        for ((first, weights), output) in taps.iter().zip(output) {
            let mut sums = [HALF; 4 * ROWS];
            for (column, &weight) in input[first..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(column.as_flattened()) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in output.as_flattened_mut().iter_mut().zip(sums) {
                *value = clip(sum);
            }
        }
    }
}

/// The vertical pass over rows of `stride` bytes.
fn resize_columns(input: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut output = vec![0; taps.spans.len() * stride];
    for ((first, weights), output) in taps.iter().zip(output.chunks_exact_mut(stride)) {
        weigh_rows(&input[first * stride..], weights, output);
    }
    output
}

/// Bytes of a row whose sums are in registers at once.
const TILE: usize = 64;

multiversion! {
    /// One row from the first of `input`, which are as long.
    fn weigh_rows(input: &[u8], weights: &[i32], output: &mut [u8]) {
        let stride = output.len();
        let (tiles, rest) = output.as_chunks_mut::<TILE>();
        let done = tiles.len() * TILE;
        for (at, tile) in tiles.iter_mut().enumerate() {
            let mut sums = [HALF; TILE];
            for (row, &weight) in input.chunks_exact(stride).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(&row[at * TILE..(at + 1) * TILE]) {
                    *sum += i32::from(value) * weight;
                }
            }
            *tile = sums.map(clip);
        }
        for (at, value) in rest.iter_mut().enumerate() {
            let column = input[done + at..].iter().step_by(stride);
            *value = clip(column.zip(weights).fold(HALF, |sum, (&value, &weight)| sum + i32::from(value) * weight));
        }
    }
}

/// Resizes a map of labels within `crop` to the nearest label, as Pillow's `NEAREST`.
///
/// # Panics
/// If `crop` does not lie within the map.
pub fn nearest(map: &GrayImage, crop: CropBox, height: usize, width: usize) -> GrayImage {
    assert!(crop.within(map.height() as usize, map.width() as usize), "crop outside of the map");
    let positions = |input: usize, output: usize| -> Vec<usize> {
        let scale = input as f64 / output as f64;
        // Summed up as in Pillow, whose rounding decides where a position lies between two labels.
        let sum = std::iter::successors(Some(scale * 0.5), |position| Some(position + scale));
        sum.take(output).map(|position| (position as usize).min(input - 1)).collect()
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

    /// Pillow's resampling written down plainly: every output from its definition, one pass after the other.
    fn by_definition(
        image: &RgbImage,
        crop: CropBox,
        to: (usize, usize),
        interpolation: Interpolation,
    ) -> RgbImage {
        let weigh = |taps: &Taps, position: usize, value: &dyn Fn(usize) -> u8| {
            let (first, count) = taps.spans[position];
            let weights = &taps.weights[position * taps.width..][..count];
            clip((0..count).fold(HALF, |sum, tap| sum + i32::from(value(first + tap)) * weights[tap]))
        };
        let columns = Taps::new(crop.width, to.1, interpolation);
        let narrow = RgbImage::from_fn(to.1 as u32, crop.height as u32, |x, y| {
            image::Rgb(std::array::from_fn(|channel| {
                let pixel = |at| image.get_pixel((crop.left + at) as u32, crop.top as u32 + y);
                weigh(&columns, x as usize, &|at| pixel(at)[channel])
            }))
        });
        let rows = Taps::new(crop.height, to.0, interpolation);
        RgbImage::from_fn(to.1 as u32, to.0 as u32, |x, y| {
            image::Rgb(std::array::from_fn(|channel| {
                weigh(&rows, y as usize, &|at| narrow.get_pixel(x, at as u32)[channel])
            }))
        })
    }

    proptest! {
        #[test]
        fn every_pixel_follows_the_definition(
            size in (1_usize..70, 1_usize..70), shrunk in (0.0_f64..1.0, 0.0_f64..1.0), at in (0.0_f64..1.0, 0.0_f64..1.0),
            to in (1_usize..80, 1_usize..80), bicubic: bool, seed: u32,
        ) {
            let noise = |x: u32, y: u32, c: u32| {
                let mixed = (seed ^ (x * 3 + c)).wrapping_mul(0x9e37_79b9) ^ (y + 1).wrapping_mul(0x85eb_ca6b);
                (mixed.wrapping_mul(0xc2b2_ae35) >> 24) as u8
            };
            let image = RgbImage::from_fn(size.1 as u32, size.0 as u32, |x, y| {
                image::Rgb([noise(x, y, 0), noise(x, y, 1), noise(x, y, 2)])
            });
            let part = |side: usize, shrunk: f64| ((side as f64 * shrunk) as usize).clamp(1, side);
            let (height, width) = (part(size.0, shrunk.0), part(size.1, shrunk.1));
            let place = |room: usize, at: f64| (room as f64 * at) as usize;
            let crop = CropBox { top: place(size.0 - height, at.0), left: place(size.1 - width, at.1), height, width };
            let interpolation = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let expected = by_definition(&image, crop, to, interpolation);
            prop_assert!(resize(&image, crop, to.0, to.1, interpolation) == expected);
        }

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
