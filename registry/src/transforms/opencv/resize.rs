//! `cv::resize` of 8 bit images (`modules/imgproc/src/resize.cpp`).

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

/// `INTER_LINEAR`.
pub fn linear(image: &RgbImage, height: usize, width: usize) -> RgbImage {
    let columns = Taps::all(image.width() as usize, width, true);
    let rows = Taps::all(image.height() as usize, height, false);
    let stride = image.width() as usize * 3;
    let mut output = Vec::with_capacity(height * width * 3);
    // The latest even and odd row, resized.
    let mut lines = [(None, vec![0; width * 3]), (None, vec![0; width * 3])];
    for Taps { at, weights } in rows {
        for row in at {
            let (held, line) = &mut lines[row % 2];
            if *held != Some(row) {
                resize_row(&image.as_raw()[row * stride..][..stride], &columns, line);
                *held = Some(row);
            }
        }
        let [above, below] = at.map(|row| &lines[row % 2].1);
        output.extend(above.iter().zip(below).map(|(above, below)| {
            let weighed = |sum: i32, weight: i32| ((sum >> 4) * weight) >> 16;
            ((weighed(*above, weights[0]) + weighed(*below, weights[1]) + 2) >> 2) as u8
        }));
    }
    RgbImage::from_raw(width as u32, height as u32, output).unwrap_or_default()
}

/// Weighted sums of one row.
fn resize_row(row: &[u8], columns: &[Taps], line: &mut [i32]) {
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
    use image::Rgb;
    use proptest::prelude::*;

    use super::super::super::mmseg_golden::Golden;
    use super::*;

    #[test]
    fn images_and_label_maps_are_resized_as_by_opencv_to_the_bit() {
        let golden = Golden::read();
        for case in golden.cases("resize") {
            let name = case.name();
            let (height, width) = case.pair("out_hw");
            let image = linear(&golden.rgb(&format!("{name}.image")), height, width);
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
            let image = linear(&RgbImage::from_pixel(width, height, Rgb([value; 3])), to.0, to.1);
            prop_assert_eq!(image.dimensions(), (to.1 as u32, to.0 as u32));
            prop_assert!(image.as_raw().iter().all(|&pixel| pixel.abs_diff(value) <= 1));
        }

        #[test]
        fn the_same_size_changes_nothing(height in 1_usize..40, width in 1_usize..40, seed: u8) {
            let pixel = |x: u32, y: u32| (x * 31 + y * 17) as u8 ^ seed;
            let image = RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb([pixel(x, y), pixel(y, x), seed]));
            prop_assert!(linear(&image, height, width) == image);
        }
    }
}
