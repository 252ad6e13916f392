//! `ImageEnhance`: the image blended with what it is without brightness, contrast, colour or sharpness. A
//! factor of 1 leaves it, 0 takes all of the property, more than 1 exaggerates.

use image::RgbImage;

use super::levels::map;

/// `Image.blend`: from `without` at a factor of 0 to `value` at 1, cut off to whole levels.
fn blend(without: u8, value: u8, factor: f32) -> u8 {
    let without = f32::from(without);
    (without + factor * (f32::from(value) - without)) as u8
}

/// Luma of ITU-R 601-2, as `Image.convert("L")`.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// Towards black, or away from it.
pub fn brightness(image: &mut RgbImage, factor: f64) {
    map(image, |level| blend(0, level, factor as f32));
}

/// Towards the mean of the grey image, or away from it.
pub fn contrast(image: &mut RgbImage, factor: f64) {
    let sum: u64 = image.pixels().map(|pixel| u64::from(grey(pixel.0))).sum();
    let count = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / count as f64 + 0.5) as u8;
    map(image, |level| blend(mean, level, factor as f32));
}

/// Towards the grey image, or away from it.
pub fn color(image: &mut RgbImage, factor: f64) {
    for pixel in image.pixels_mut() {
        let grey = grey(pixel.0);
        pixel.0 = pixel.0.map(|value| blend(grey, value, factor as f32));
    }
}

/// Towards the mean of 3 x 3 pixels (the middle five times), or away from it; the outermost pixels stay.
pub fn sharpness(image: &mut RgbImage, factor: f64) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width < 3 || height < 3 {
        return;
    }
    let (stride, factor) = (3 * width, factor as f32);
    let original = image.as_raw().clone();
    let line = |y: usize| &original[y * stride..][..stride];
    for (y, row) in image.chunks_exact_mut(stride).enumerate().skip(1).take(height - 2) {
        let (above, here, below) = (line(y - 1), line(y), line(y + 1));
        for x in 3..stride - 3 {
            let three = |line: &[u8]| u32::from(line[x - 3]) + u32::from(line[x]) + u32::from(line[x + 3]);
            let sum = three(above) + three(here) + three(below) + 4 * u32::from(here[x]);
            // A thirteenth, rounded; never half way.
            let smooth = (2 * sum + 13) / 26;
            row[x] = blend(smooth as u8, here[x], factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(5, 4, |x, y| Rgb([(x * x * 15) as u8, (y * 70) as u8, 255 - (x * y * 20) as u8]))
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for change in [brightness, contrast, color, sharpness] {
            let mut changed = image();
            change(&mut changed, 1.0);
            assert!(changed == image());
        }
    }

    #[test]
    fn a_factor_of_zero_takes_it_all() {
        let zero = |change: fn(&mut RgbImage, f64)| {
            let mut changed = image();
            change(&mut changed, 0.0);
            changed
        };
        assert!(zero(brightness).iter().all(|&value| value == 0));
        assert!(zero(contrast).pixels().all(|pixel| pixel == zero(contrast).get_pixel(0, 0)));
        assert!(zero(color).pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]));
        assert_eq!(zero(sharpness).get_pixel(0, 2), image().get_pixel(0, 2));
        assert_ne!(zero(sharpness).get_pixel(1, 1), image().get_pixel(1, 1));
    }

    #[test]
    fn what_is_too_small_to_be_smoothed_stays() {
        let mut small = RgbImage::from_fn(2, 9, |_, y| Rgb([y as u8 * 20; 3]));
        let before = small.clone();
        sharpness(&mut small, 0.1);
        assert!(small == before);
    }
}
