//! Legends: which colour is which class.

use image::{Rgb, RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{ClassShare, color};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;
/// Height of a line in pixels.
const LINE: u32 = 18;
/// Side of a colour's square.
const SWATCH: u32 = 12;
/// Between a square and its name, between entries, and around all.
const GAP: u32 = 4;

/// A picture with the names of classes and their colours below it, in the given order; wider, if a name needs it.
pub fn with_legend(picture: &RgbImage, classes: &[ClassShare]) -> RgbImage {
    if classes.is_empty() {
        return picture.clone();
    }
    let labels: Vec<String> = classes.iter().map(ClassShare::label).collect();
    let width = labels.iter().map(|label| entry_width(label)).max().unwrap_or(0).max(picture.width());
    let places = lay_out(&labels, width);
    let lines = places.iter().map(|&(_, line)| line + 1).max().unwrap_or(0);
    let height = picture.height() + 2 * GAP + lines * LINE;
    let mut legend = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    imageops::replace(&mut legend, picture, 0, 0);
    for ((class, label), (x, line)) in classes.iter().zip(&labels).zip(places) {
        let y = picture.height() + GAP + line * LINE;
        let top = y + (LINE - SWATCH) / 2;
        for (column, row) in (0..SWATCH).flat_map(|column| (0..SWATCH).map(move |row| (column, row))) {
            legend.put_pixel(x + GAP + column, top + row, Rgb(color(class.index)));
        }
        write(&mut legend, label, x + GAP + SWATCH + GAP, y);
    }
    legend
}

/// Where the entries are: the first column of pixels, and the line. A line is filled before the next one.
fn lay_out(labels: &[String], width: u32) -> Vec<(u32, u32)> {
    let (mut x, mut line) = (0, 0);
    let place = |label: &String| {
        let entry = entry_width(label);
        if x > 0 && x + entry > width {
            (x, line) = (0, line + 1);
        }
        let place = (x, line);
        x += entry;
        place
    };
    labels.iter().map(place).collect()
}

fn entry_width(label: &str) -> u32 {
    GAP + SWATCH + GAP + (label.chars().count() * get_raster_width(WEIGHT, HEIGHT)) as u32 + GAP
}

/// Writes black text on white; a character that the font lacks becomes a `?`.
fn write(picture: &mut RgbImage, text: &str, mut x: u32, y: u32) {
    for character in text.chars() {
        let glyph = get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT));
        for (row, line) in glyph.iter().flat_map(|glyph| glyph.rows().enumerate()) {
            for (column, &ink) in line.iter().enumerate() {
                if let Some(pixel) = picture.get_pixel_mut_checked(x + column as u32, y + row as u32) {
                    pixel.0 = [255 - ink; 3];
                }
            }
        }
        x += get_raster_width(WEIGHT, HEIGHT) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(index: u8, name: &str) -> ClassShare {
        ClassShare { index, name: Some(name.to_owned()), share: 0.1 }
    }

    #[test]
    fn the_picture_stays_and_every_class_has_its_colour_and_name_below() {
        let picture = RgbImage::from_pixel(300, 20, Rgb([9; 3]));
        let classes = [class(2, "wall"), class(0, "sky"), class(7, "ground, earth")];
        let drawn = with_legend(&picture, &classes);
        assert_eq!(drawn.width(), 300);
        assert_eq!(imageops::crop_imm(&drawn, 0, 0, 300, 20).to_image(), picture);
        let below = imageops::crop_imm(&drawn, 0, 20, 300, drawn.height() - 20).to_image();
        for class in &classes {
            assert!(below.pixels().any(|pixel| pixel.0 == color(class.index)), "{class:?}");
        }
        let ink = |x: u32| (0..below.height()).any(|y| below.get_pixel(x, y).0 < [100; 3]);
        assert!((20..60).any(ink), "no text");
    }

    #[test]
    fn lines_are_filled_before_the_next_and_a_long_name_widens_the_picture() {
        let labels = ["wall", "sky", "ground"].map(str::to_owned);
        let width = entry_width("wall") + entry_width("sky");
        assert_eq!(lay_out(&labels, width), [(0, 0), (entry_width("wall"), 0), (0, 1)]);
        let drawn = with_legend(&RgbImage::new(4, 4), &[class(0, "a name longer than the picture is wide")]);
        assert_eq!(drawn.width(), entry_width("a name longer than the picture is wide"));
    }

    #[test]
    fn without_classes_there_is_no_legend_and_unknown_characters_do_not_matter() {
        let picture = RgbImage::new(4, 4);
        assert_eq!(with_legend(&picture, &[]), picture);
        with_legend(&picture, &[class(0, "\u{6d77}\u{1f30a}")]);
    }
}
