//! Pictures of what speaks for a class, and where.

use convmae_framework::data::{CropBox, Interpolation, resize};
use image::{Rgb, RgbImage};

/// Values on a grid of (rows, columns) as heat over an image in grey: black is the smallest of the image's
/// values, white the largest. The grid covers (height, width), of which the image is the upper left part.
pub fn overlay(
    image: &RgbImage,
    values: &[f32],
    (rows, cols): (usize, usize),
    (height, width): (usize, usize),
) -> RgbImage {
    let (low, high) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    // Of equal values none is hot; not a number becomes 0 in the cast.
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    let heat = RgbImage::from_fn(cols as u32, rows as u32, |x, y| {
        Rgb([((values[y as usize * cols + x as usize] - low) * scale) as u8; 3])
    });
    let whole = CropBox::whole(rows, cols);
    let heat = resize(&heat, whole, height, width, Interpolation::Bilinear);
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue] = image.get_pixel(x, y).0.map(u32::from);
        let grey = (299 * red + 587 * green + 114 * blue) / 1000;
        let heat = u32::from(heat.get_pixel(x, y)[0]);
        // From black over red and yellow to white.
        let colour = [0, 255, 510].map(|start| (3 * heat).saturating_sub(start).min(255));
        Rgb(colour.map(|channel| u32::midpoint(grey, channel) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_patch_is_white_and_the_coldest_black_over_grey() {
        let image = RgbImage::from_pixel(8, 4, Rgb([100; 3]));
        let picture = overlay(&image, &[-3.0, 5.0], (1, 2), (4, 8));
        assert_eq!((picture.get_pixel(0, 0).0, picture.get_pixel(7, 3).0), ([50; 3], [177; 3]));
        for flat in [[2.0; 2], [f32::NAN; 2]] {
            assert_eq!(*overlay(&image, &flat, (1, 2), (4, 8)).get_pixel(7, 3), Rgb([50; 3]));
        }
    }

    #[test]
    fn the_heat_of_padding_is_left_out() {
        let whole = RgbImage::from_pixel(8, 4, Rgb([100; 3]));
        let heat = overlay(&whole, &[-3.0, 5.0], (1, 2), (4, 8));
        let part = overlay(&RgbImage::from_pixel(5, 3, Rgb([100; 3])), &[-3.0, 5.0], (1, 2), (4, 8));
        assert_eq!(part, image::imageops::crop_imm(&heat, 0, 0, 5, 3).to_image());
    }
}
