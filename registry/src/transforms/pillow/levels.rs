//! Point operations by lookup table, as `ImageOps` does them with `Image.point`.

use image::RgbImage;

/// What each level becomes.
type Table = [u8; 256];

fn table(level: impl Fn(u8) -> u8) -> Table {
    std::array::from_fn(|from| level(from as u8))
}

/// Maps all channels by the same rule.
pub(super) fn map(image: &mut RgbImage, level: impl Fn(u8) -> u8) {
    let table = table(level);
    for value in image.iter_mut() {
        *value = table[usize::from(*value)];
    }
}

/// Maps each channel by a table from its histogram; those without one stay.
fn map_by_histogram(image: &mut RgbImage, rule: impl Fn(&[usize; 256]) -> Option<Table>) {
    let mut histograms = [[0; 256]; 3];
    for pixel in image.pixels() {
        for (histogram, value) in histograms.iter_mut().zip(pixel.0) {
            histogram[usize::from(value)] += 1;
        }
    }
    let tables = histograms.map(|histogram| rule(&histogram).unwrap_or_else(|| table(|level| level)));
    for pixel in image.pixels_mut() {
        for (value, table) in pixel.0.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
}

/// The negative.
pub fn invert(image: &mut RgbImage) {
    map(image, |level| 255 - level);
}

/// Inverts the levels from `threshold` on.
pub fn solarize(image: &mut RgbImage, threshold: u32) {
    map(image, |level| if u32::from(level) < threshold { level } else { 255 - level });
}

/// Makes the dark half of the levels brighter (timm's `solarize_add`).
pub fn solarize_add(image: &mut RgbImage, add: u8) {
    map(image, |level| if level < 128 { level.saturating_add(add) } else { level });
}

/// Keeps the highest bits only.
pub fn posterize(image: &mut RgbImage, bits: u32) {
    let mask = !(0xff_u8.checked_shr(bits).unwrap_or(0));
    map(image, |level| level & mask);
}

/// Stretches each channel to all of 0..=255.
pub fn auto_contrast(image: &mut RgbImage) {
    map_by_histogram(image, |histogram| {
        let low = histogram.iter().position(|&count| count > 0)?;
        let high = histogram.iter().rposition(|&count| count > 0)?;
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        (low < high).then(|| table(|level| (f64::from(level) * scale + offset) as u8))
    });
}

/// Makes the levels of each channel about equally frequent.
pub fn equalize(image: &mut RgbImage) {
    map_by_histogram(image, |histogram| {
        let total: usize = histogram.iter().sum();
        let last = histogram.iter().rfind(|&&count| count > 0)?;
        let step = (total - last) / 255;
        let mut below = step / 2;
        let mut equalized = [0; 256];
        for (level, count) in equalized.iter_mut().zip(histogram) {
            *level = below.checked_div(step)?.min(255) as u8;
            below += count;
        }
        Some(equalized)
    });
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn levels(change: impl Fn(&mut RgbImage)) -> Vec<u8> {
        let mut image = RgbImage::from_fn(256, 1, |x, _| Rgb([x as u8; 3]));
        change(&mut image);
        image.pixels().map(|pixel| pixel.0[0]).collect()
    }

    #[test]
    fn the_extremes_of_every_rule() {
        assert!(levels(|image| posterize(image, 0)).iter().all(|&level| level == 0));
        assert_eq!(levels(|image| posterize(image, 8)), (0..=255).collect::<Vec<_>>());
        assert_eq!(levels(|image| posterize(image, 2))[255], 0b1100_0000);
        assert_eq!(levels(|image| solarize(image, 256)), (0..=255).collect::<Vec<_>>());
        assert_eq!(levels(|image| solarize(image, 0)), levels(invert));
        assert_eq!(levels(|image| solarize_add(image, 110))[126..130], [236, 237, 128, 129]);
    }

    #[test]
    fn contrast_that_is_full_stays() {
        assert_eq!(levels(auto_contrast), (0..=255).collect::<Vec<_>>());
    }

    #[test]
    fn one_colour_stays_one_colour() {
        let plain = RgbImage::from_pixel(9, 9, Rgb([7, 200, 0]));
        let mut image = plain.clone();
        auto_contrast(&mut image);
        equalize(&mut image);
        assert!(image == plain);
    }
}
