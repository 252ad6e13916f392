//! Label maps, the class of every pixel, as pictures.

mod legend;
mod palette;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use image::{GrayImage, RgbImage};
use serde::Serialize;

use crate::component::Picture;
use crate::data::{CropBox, IGNORED, Interpolation, nearest, resize};

pub use legend::with_legend;
pub use palette::color;

/// A class of pixels and how much of an image it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassShare {
    /// Its index.
    pub index: u8,
    /// Its name, where names are known.
    pub name: Option<String>,
    /// Its share of the pixels, 0 to 1.
    pub share: f64,
}

impl ClassShare {
    /// The classes in a label map, the largest first; of equal ones that of the smaller index.
    pub fn of(map: &GrayImage, names: &[String]) -> Vec<Self> {
        let mut counts = [0_u64; 256];
        map.as_raw().iter().for_each(|&class| counts[usize::from(class)] += 1);
        let present = (0..IGNORED).filter(|&class| counts[usize::from(class)] > 0);
        let mut shares: Vec<_> = present
            .map(|index| Self {
                index,
                name: names.get(usize::from(index)).cloned(),
                share: counts[usize::from(index)] as f64 / map.as_raw().len() as f64,
            })
            .collect();
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }

    /// Its name, or `class 7`.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("class {}", self.index))
    }
}

/// Longest side of a picture for the report.
const LONGEST: u32 = 320;

/// For the report: an image, the predicted label map over it, and the right one over it if that is known; with legends.
pub fn pictures(
    image: RgbImage,
    prediction: &GrayImage,
    label: Option<&GrayImage>,
    names: &[String],
) -> Vec<Picture> {
    let image = reduced(image);
    let drawn = |caption: &str, map: &GrayImage| {
        let drawn = with_legend(&overlay(image.clone(), map), &ClassShare::of(map, names));
        Picture { caption: caption.to_owned(), image: drawn }
    };
    let prediction = drawn("prediction", prediction);
    let label = label.map(|label| drawn("label", label));
    let original = Picture { caption: "original".to_owned(), image };
    [original, prediction].into_iter().chain(label).collect()
}

/// An image whose longest side is [`LONGEST`] at most.
fn reduced(image: RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= LONGEST {
        return image;
    }
    let side = |side: u32| (side * LONGEST / longest).max(1) as usize;
    let whole = CropBox::whole(height as usize, width as usize);
    resize(&image, whole, side(height), side(width), Interpolation::Bilinear)
}

/// The colours of a label map, half transparent, over an image. A map of another size is taken to be of the whole image.
pub fn overlay(mut image: RgbImage, map: &GrayImage) -> RgbImage {
    let size = |width: u32, height: u32| (height as usize, width as usize);
    let ((height, width), (rows, cols)) =
        (size(image.width(), image.height()), size(map.width(), map.height()));
    let resized = (rows, cols) != (height, width) && rows * cols > 0;
    let resized = resized.then(|| nearest(map, CropBox::whole(rows, cols), height, width));
    let map = resized.as_ref().unwrap_or(map);
    for (pixel, &class) in image.pixels_mut().zip(map.as_raw()) {
        if class != IGNORED {
            let color = color(class);
            pixel.0 = std::array::from_fn(|channel| u8::midpoint(pixel.0[channel], color[channel]));
        }
    }
    image
}

/// Writes a label map as a PNG with a palette: its values are the classes, its colours those of [`overlay`], and what is
/// [`IGNORED`] is transparent.
///
/// # Errors
/// If the file cannot be written.
pub fn save(map: &GrayImage, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    encode(map, &mut file)?;
    file.flush()
}

fn encode(map: &GrayImage, file: impl Write) -> io::Result<()> {
    let mut encoder = png::Encoder::new(file, map.width(), map.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette((0..=IGNORED).flat_map(color).collect::<Vec<u8>>());
    encoder.set_trns((0..=IGNORED).map(|class| if class == IGNORED { 0 } else { 255 }).collect::<Vec<u8>>());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(map.as_raw())?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{Luma, Rgb};

    use super::*;
    use crate::data::read_labels;

    fn map(values: &[u8]) -> GrayImage {
        GrayImage::from_raw(values.len() as u32, 1, values.to_vec()).unwrap()
    }

    #[test]
    fn classes_are_listed_by_area_and_without_what_is_ignored() {
        let names = ["sky".to_owned(), "sea".to_owned()];
        let shares = ClassShare::of(&map(&[1, 7, 7, 0, 255, 1, 7, 255]), &names);
        let found: Vec<_> = shares.iter().map(|class| (class.label(), class.share)).collect();
        assert_eq!(found, [("class 7".into(), 0.375), ("sea".into(), 0.25), ("sky".into(), 0.125)]);
        assert!(ClassShare::of(&map(&[255; 4]), &names).is_empty());
    }

    #[test]
    fn an_overlay_is_half_transparent_and_leaves_what_is_ignored() {
        let image = RgbImage::from_pixel(2, 1, Rgb([100; 3]));
        let drawn = overlay(image.clone(), &map(&[3, 255]));
        assert_eq!(drawn.get_pixel(0, 0).0, color(3).map(|channel| u8::midpoint(100, channel)));
        assert_eq!(drawn.get_pixel(1, 0).0, [100; 3]);
        // A map of the same image at another size.
        assert_eq!(overlay(image, &map(&[3, 3, 255, 255])), drawn);
    }

    #[test]
    fn a_saved_map_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.png");
        let map = GrayImage::from_fn(16, 16, |x, y| Luma([(16 * y + x) as u8]));
        save(&map, &path).unwrap();
        assert_eq!(read_labels(&path).unwrap(), map);
        let shown = image::open(&path).unwrap().into_rgba8();
        assert_eq!(shown.get_pixel(5, 0).0[..3], color(5));
        assert_eq!((shown.get_pixel(14, 15).0[3], shown.get_pixel(15, 15).0[3]), (255, 0));
        assert!(save(&map, &folder.path().join("none/labels.png")).is_err());
    }

    #[test]
    fn pictures_are_small_enough_for_a_page() {
        let image = RgbImage::new(2048, 512);
        let rows = pictures(image, &GrayImage::new(683, 512), Some(&GrayImage::new(2048, 512)), &[]);
        let captions: Vec<_> = rows.iter().map(|picture| picture.caption.as_str()).collect();
        assert_eq!(captions, ["original", "prediction", "label"]);
        assert!(rows.iter().all(|picture| picture.image.width() == 320));
        assert_eq!(rows[0].image.height(), 80);
        assert!(rows[1].image.height() > 80, "the legend");
    }
}
