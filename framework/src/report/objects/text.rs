//! Names in pictures, in a bitmap font.

use std::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_9X15_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable as _, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Baseline, Text};
use image::RgbImage;

use super::fill;

/// Pictures with a longer side get larger letters.
const SMALL: u32 = 400;
/// A side of so many pixels has letters of their own size; of twice as many, twice as large ones.
const NORMAL: u32 = 800;

/// Writes a text into a field of a colour above the corner of a box, or below it at the upper border of the image.
pub fn label(image: &mut RgbImage, text: &str, [x, y]: [i64; 2], color: [u8; 3]) {
    if text.is_empty() {
        return;
    }
    let longest = image.width().max(image.height());
    let (font, factor): (&MonoFont<'_>, _) = if longest <= SMALL {
        (&FONT_6X10, 1)
    } else {
        (&FONT_9X15_BOLD, i64::from((longest / NORMAL).max(1)))
    };
    let letter = font.character_size;
    let width = i64::from(letter.width) * factor * text.chars().count() as i64 + 2 * factor;
    let height = i64::from(letter.height) * factor;
    let left = x.min(i64::from(image.width()) - width).max(0);
    let top = if y >= height { y - height } else { y.max(0) };
    fill(image, [left, top, left + width, top + height], color);
    let [red, green, blue] = color.map(u32::from);
    let is_bright = 299 * red + 587 * green + 114 * blue > 128_000;
    let mut letters =
        Letters { image, factor, corner: [left + factor, top], color: [if is_bright { 0 } else { 255 }; 3] };
    let style = MonoTextStyle::new(font, BinaryColor::On);
    let Ok(_) = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut letters);
}

/// Where letters are drawn: every pixel of theirs becomes a square.
struct Letters<'a> {
    image: &'a mut RgbImage,
    factor: i64,
    corner: [i64; 2],
    color: [u8; 3],
}

impl OriginDimensions for Letters<'_> {
    fn size(&self) -> Size {
        Size::new(self.image.width(), self.image.height())
    }
}

impl DrawTarget for Letters<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, color) in pixels {
            if color.is_on() {
                let [left, top] = [
                    self.corner[0] + i64::from(x) * self.factor,
                    self.corner[1] + i64::from(y) * self.factor,
                ];
                fill(self.image, [left, top, left + self.factor, top + self.factor], self.color);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// The rows of a picture of `I`, `#` where the letter is.
    fn drawn(side: u32, corner: [i64; 2]) -> RgbImage {
        let mut image = RgbImage::from_pixel(side, side, Rgb([100; 3]));
        label(&mut image, "I", corner, [0, 0, 128]);
        image
    }

    fn count(image: &RgbImage, color: [u8; 3]) -> usize {
        image.pixels().filter(|pixel| pixel.0 == color).count()
    }

    #[test]
    fn letters_grow_with_the_picture() {
        let (small, normal, large) = (drawn(100, [5, 50]), drawn(800, [5, 50]), drawn(1700, [5, 50]));
        let letters = [&small, &normal, &large].map(|image| count(image, [255; 3]));
        assert!(letters[0] > 8 && letters[1] > letters[0] && letters[2] == 4 * letters[1], "{letters:?}");
        assert_eq!(letters[0] + count(&small, [0, 0, 128]), 8 * 10);
    }

    #[test]
    fn a_text_stays_in_the_picture() {
        let whole = count(&drawn(100, [5, 50]), [255; 3]);
        for corner in [[99, 50], [-9, -9], [50, 3]] {
            assert_eq!(count(&drawn(100, corner), [255; 3]), whole, "{corner:?}");
        }
    }

    #[test]
    fn a_bright_field_has_dark_letters() {
        let mut image = RgbImage::new(100, 100);
        label(&mut image, "I", [5, 50], [224, 224, 192]);
        assert!(count(&image, [0; 3]) > 100 * 100 - 80 && count(&image, [255; 3]) == 0);
    }
}
