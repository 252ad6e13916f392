//! `cv::resize` of 8 bit images (`modules/imgproc/src/resize.cpp`).

use convmae_framework::data::{Pixels, Raster};
use image::{GrayImage, RgbImage};

/// A weight of 1 in fixed point.
const ONE: f32 = 2048.0;

/// The two neighbours of an output position along one axis, and their weights.
struct Taps {
    at: [usize; 2],
    weights: [i32; 2],
}

impl Taps {
    /// Those of all output positions. Columns beyond the edge are the edge (`clamped`); rows beyond it are,
    /// too, but keep their weights, which rounds differently.
    fn all(input: usize, output: usize, clamped: bool) -> Vec<Self> {
        let scale = input as f64 / output as f64;
        let last = input as i64 - 1;
        let taps = (0..output).map(|position| {
            let source = ((position as f64 + 0.5) * scale - 0.5) as f32;
            let first = source.floor() as i64;
            let inside = (0..last).contains(&first);
            let fraction = if clamped && !inside { 0.0 } else { source - source.floor() };
            Self {
                at: [first, first + 1].map(|at| at.clamp(0, last) as usize),
                weights: [1.0 - fraction, fraction].map(|weight| (weight * ONE).round_ties_even() as i32),
            }
        });
        taps.collect()
    }
}

/// `INTER_LINEAR` of pixels that are not normalised.
pub fn linear(pixels: Pixels, size: (usize, usize)) -> Pixels {
    let from = pixels.size();
    match &pixels {
        Pixels::Rgb(image) => {
            let values = linear_values(image.as_raw(), 3, from, size);
            RgbImage::from_raw(size.1 as u32, size.0 as u32, values).unwrap_or_default().into()
        }
        Pixels::Channels(raster) => {
            let values = linear_values(raster.as_raw(), raster.channels(), from, size);
            Raster::new(raster.channels(), size, values).map_or(pixels, Pixels::from)
        }
        Pixels::Normalized { .. } => pixels,
    }
}

/// `[rows, columns, channels]` to `[height, width, channels]`.
fn linear_values(
    values: &[u8],
    channels: usize,
    (rows, columns): (usize, usize),
    (height, width): (usize, usize),
) -> Vec<u8> {
    let stride = columns * channels;
    let columns = Taps::all(columns, width, true);
    let rows = Taps::all(rows, height, false);
    let mut output = Vec::with_capacity(height * width * channels);
    // The latest even and odd row, resized.
    let mut lines = [(None, vec![0; width * channels]), (None, vec![0; width * channels])];
    for Taps { at, weights } in rows {
        for row in at {
            let (held, line) = &mut lines[row % 2];
            if *held != Some(row) {
                resize_row(&values[row * stride..][..stride], channels, &columns, line);
                *held = Some(row);
            }
        }
        let [above, below] = at.map(|row| &lines[row % 2].1);
        output.extend(above.iter().zip(below).map(|(above, below)| {
            let weighed = |sum: i32, weight: i32| ((sum >> 4) * weight) >> 16;
            ((weighed(*above, weights[0]) + weighed(*below, weights[1]) + 2) >> 2) as u8
        }));
    }
    output
}

/// Weighted sums of one row.
fn resize_row(row: &[u8], channels: usize, columns: &[Taps], line: &mut [i32]) {
    if channels == 3 {
        return resize_row_of_rgb(row, columns, line);
    }
    for (sums, Taps { at, weights }) in line.chunks_exact_mut(channels).zip(columns) {
        let [left, right] = at.map(|column| &row[column * channels..][..channels]);
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum = i32::from(*left) * weights[0] + i32::from(*right) * weights[1];
        }
    }
}

/// [`resize_row`], whose loop over channels the compiler unrolls.
fn resize_row_of_rgb(row: &[u8], columns: &[Taps], line: &mut [i32]) {
    let (pixels, _) = row.as_chunks::<3>();
    let (sums, _) = line.as_chunks_mut::<3>();
    for (sum, Taps { at, weights }) in sums.iter_mut().zip(columns) {
        let [left, right] = at.map(|column| pixels[column].map(i32::from));
        *sum = std::array::from_fn(|channel| left[channel] * weights[0] + right[channel] * weights[1]);
    }
}

/// `INTER_NEAREST`.
pub fn nearest(map: &GrayImage, height: usize, width: usize) -> GrayImage {
    let positions = |input: u32, output: usize| -> Vec<usize> {
        // The reciprocal of the reciprocal: on a few positions, input / output gives another.
        let scale = 1.0 / (output as f64 / f64::from(input));
        (0..output).map(|position| ((position as f64 * scale) as usize).min(input as usize - 1)).collect()
    };
    let columns = positions(map.width(), width);
    let stride = map.width() as usize;
    let mut output = Vec::with_capacity(height * width);
    for row in positions(map.height(), height) {
        let row = &map.as_raw()[row * stride..][..stride];
        output.extend(columns.iter().map(|&column| row[column]));
    }
    GrayImage::from_raw(width as u32, height as u32, output).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use image::Rgb;
    use proptest::prelude::*;

    use super::super::super::mmseg_golden::Golden;
    use super::*;

    fn rgb(image: RgbImage, height: usize, width: usize) -> RgbImage {
        match linear(image.into(), (height, width)) {
            Pixels::Rgb(image) => image,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_channels_are_resized_each_as_one_of_rgb() {
        let values: Vec<u8> = (0..5 * 4 * 4).map(|at| (at * 37 % 256) as u8).collect();
        let Pixels::Channels(resized) =
            linear(Raster::new(4, (5, 4), values.clone()).unwrap().into(), (3, 7))
        else {
            panic!("four channels stay four")
        };
        for channel in 0..4 {
            let of_channel = values.iter().skip(channel).step_by(4).flat_map(|&value| [value; 3]).collect();
            let alone = rgb(RgbImage::from_raw(4, 5, of_channel).unwrap(), 3, 7);
            let found = resized.pixels().map(|pixel| pixel[channel]);
            assert!(found.eq(alone.pixels().map(|pixel| pixel.0[0])), "{channel}");
        }
    }

    #[test]
    fn images_and_label_maps_are_resized_as_by_opencv_to_the_bit() {
        let golden = Golden::read();
        for case in golden.cases("resize") {
            let name = case.name();
            let (height, width) = case.pair("out_hw");
            let image = rgb(golden.rgb(&format!("{name}.image")), height, width);
            assert!(image == golden.rgb(&format!("{name}.image_out")), "{name}: image");
            let label = nearest(&golden.labels(&format!("{name}.label")), height, width);
            assert!(label == golden.labels(&format!("{name}.label_out")), "{name}: label");
        }
    }

    proptest! {
        #[test]
        fn a_constant_image_stays_constant(
            height in 1_u32..40, width in 1_u32..40, to in (1_usize..60, 1_usize..60), value: u8,
        ) {
            let image = rgb(RgbImage::from_pixel(width, height, Rgb([value; 3])), to.0, to.1);
            prop_assert_eq!(image.dimensions(), (to.1 as u32, to.0 as u32));
            prop_assert!(image.as_raw().iter().all(|&pixel| pixel.abs_diff(value) <= 1));
        }

        #[test]
        fn the_same_size_changes_nothing(height in 1_usize..40, width in 1_usize..40, seed: u8) {
            let pixel = |x: u32, y: u32| (x * 31 + y * 17) as u8 ^ seed;
            let image = RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb([pixel(x, y), pixel(y, x), seed]));
            prop_assert!(rgb(image.clone(), height, width) == image);
        }
    }
}
